"""Serving a hook: addresses, TLS, the standard health service, and a graceful stop.

Addresses are `unix:/path` or `host:port` (`[::1]:7001` for IPv6; port 0 takes a free one), as in the proxy's
`--filter NAME=ADDRESS`. The proxy wants TLS for TCP to anything but loopback. HTTP/2 pings are needed nowhere: the
protocol has heartbeats of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from .hook import Hook
from .service import Service
from .v1 import hook_pb2, hook_pb2_grpc

SERVICE_NAME = hook_pb2.DESCRIPTOR.services_by_name["HookService"].full_name
_SOCKET_MODE = 0o660

log = logging.getLogger("warp_hook")


@dataclass(frozen=True)
class Tls:
    """PEM files. With `client_ca` only a proxy whose certificate that CA signed may connect."""

    cert: str | os.PathLike[str]
    key: str | os.PathLike[str]
    client_ca: str | os.PathLike[str] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Reads the files. Raises OSError where one can't be read."""
        return grpc.ssl_server_credentials(
            [(Path(self.key).read_bytes(), Path(self.cert).read_bytes())],
            root_certificates=Path(self.client_ca).read_bytes() if self.client_ca else None,
            require_client_auth=self.client_ca is not None,
        )


class Server:
    """A hook on its addresses: `async with Server(hook, "127.0.0.1:0") as server: …`, or start() and stop()."""

    def __init__(self, hook: Hook, *addresses: str, tls: Tls | None = None, grace: float = 10.0) -> None:
        if not addresses:
            raise ValueError("a server needs an address: unix:/path or host:port")
        self.addresses: list[str] = []
        self._hook = hook
        self._wanted = addresses
        self._tls = tls
        self._grace = grace
        self._health = health_aio.HealthServicer()
        self._service: Service | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listens; `addresses` then has the ports that were taken. Raises OSError where an address can't be had."""
        service = Service(self._hook)
        # Without so_reuseport=0 a second server on the same port would silently share its calls with the first.
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        hook_pb2_grpc.add_HookServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        credentials = self._tls.credentials() if self._tls else None
        self.addresses = [_bind(server, address, credentials) for address in self._wanted]
        await server.start()
        for name in ("", SERVICE_NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._service, self._server = service, server

    async def stop(self) -> None:
        """Takes no new calls, ends Observe streams after the batch in hand, gives filters `grace` seconds."""
        if self._server is None or self._service is None:
            return
        server, self._server = self._server, None
        await self._health.enter_graceful_shutdown()
        self._service.stop()
        await server.stop(self._grace)
        for address in self.addresses:
            if address.startswith("unix:"):
                Path(address.removeprefix("unix:")).unlink(missing_ok=True)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(
    hook: Hook,
    *addresses: str,
    tls: Tls | None = None,
    grace: float = 10.0,
    on_listening: Callable[[list[str]], None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, or until cancelled; then stops gracefully.

    `on_listening` gets the addresses once it listens; without it they are printed on stderr. Raises OSError where an
    address can't be had.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        async with Server(hook, *addresses, tls=tls, grace=grace) as server:
            (on_listening or _announce(hook))(server.addresses)
            await ended.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run(hook: Hook, *addresses: str, tls: Tls | None = None, grace: float = 10.0) -> None:
    """`serve` for a program that does nothing else. An address that can't be had ends it with exit status 1."""
    if not logging.root.handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(hook, *addresses, tls=tls, grace=grace))
    except OSError as error:
        sys.exit(f"{hook.name}: {error}")


def argument_parser(description: str | None = None) -> argparse.ArgumentParser:
    """A parser with the arguments that every hook server has; add your own, then give the result to `run_from`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="+", metavar="ADDRESS", help="unix:/path or host:port")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key (PEM)")
    parser.add_argument("--tls-client-ca", metavar="FILE", help="only proxies with a certificate of this CA (PEM)")
    return parser


def run_from(hook: Hook, arguments: argparse.Namespace) -> None:
    """Runs a hook as an `argument_parser` was told."""
    cert, key, client_ca = arguments.tls_cert, arguments.tls_key, arguments.tls_client_ca
    if bool(cert) != bool(key) or (client_ca and not cert):
        sys.exit(f"{hook.name}: --tls-cert and --tls-key go together (--tls-client-ca needs both)")
    run(hook, *arguments.address, tls=Tls(cert, key, client_ca) if cert else None)


def _announce(hook: Hook) -> Callable[[list[str]], None]:
    def announce(addresses: list[str]) -> None:
        for address in addresses:
            print(f"{hook.name} listens on {address}", file=sys.stderr, flush=True)

    return announce


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    path = address.removeprefix("unix:") if address.startswith("unix:") else None
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: in use, not an address of this host, or not permitted") from error
    if path is not None:
        os.chmod(path, _SOCKET_MODE)
        return address
    host = address.rpartition(":")[0]
    return f"{host}:{port}"
