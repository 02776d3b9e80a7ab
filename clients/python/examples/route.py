"""A choice of the way out: bulk mail leaves from a pool of its own, and a suspended sender is refused.

    python examples/route.py 127.0.0.1:7004 --bulk-pool bulk --bulk-domain news.example --suspended bad.example
    warp --hook route=127.0.0.1:7004 --config warp.yaml

The proxy waits 200 ms for the answer and then goes by its own rules: nothing here may be slow. Returning None leaves the
transaction to those rules as well.
"""

from __future__ import annotations

import argparse

from warp_hook import Hook, Route, SelectRouteRequest, argument_parser, refuse, run_from, use_pool


def choose(request: SelectRouteRequest, bulk_domains: set[str], suspended: set[str], bulk_pool: str) -> Route | None:
    """By the domain of MAIL FROM; the null sender (bounces) is always left to the rules."""
    domain = request.mail_from.address.rpartition("@")[2].lower()
    if not domain:
        return None
    if domain in suspended:
        return refuse(451, "4.7.1", "Sender is suspended for now")
    if domain in bulk_domains and bulk_pool in request.pools:
        return use_pool(bulk_pool)
    return None


def make_hook(arguments: argparse.Namespace) -> Hook:
    """The hook with these settings."""
    hook = Hook("route", version="1.0")
    bulk = {domain.lower() for domain in arguments.bulk_domain}
    suspended = {domain.lower() for domain in arguments.suspended}

    @hook.select_route
    async def select(request: SelectRouteRequest) -> Route | None:
        return choose(request, bulk, suspended, arguments.bulk_pool)

    return hook


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--bulk-pool", default="bulk", help="pool in the proxy's configuration (default: bulk)")
    parser.add_argument("--bulk-domain", action="append", default=[], metavar="DOMAIN", help="sender domain; repeatable")
    parser.add_argument("--suspended", action="append", default=[], metavar="DOMAIN", help="sender domain; repeatable")
    return parser


if __name__ == "__main__":
    arguments = parser().parse_args()
    run_from(make_hook(arguments), arguments)
