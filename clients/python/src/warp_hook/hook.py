"""What a hook consists of: its functions, by what they are for, and what Describe says of them.

Each function may be `async` or plain; a plain one runs in a thread (threads.py). A function that raises is a failure of
the hook: a filter's message is treated by the proxy's `on_failure`, an observer's batch is not acknowledged and comes
again.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, overload

from .message import BlockingMessage, Message
from .v1 import hook_pb2 as pb
from .verdicts import Route, Verdict

if TYPE_CHECKING:
    from .server import Tls


@dataclass(frozen=True)
class Batch:
    """Events in the order in which they happened, of one proxy's worker."""

    source: pb.Source
    events: Sequence[pb.Event]


AsyncFilter = Callable[[pb.Envelope, Message], Awaitable[Verdict]]
BlockingFilter = Callable[[pb.Envelope, BlockingMessage], Verdict]
Observer = Callable[[Batch], Awaitable[None]] | Callable[[Batch], None]
RouteSelector = Callable[[pb.SelectRouteRequest], Awaitable[Route | None]] | Callable[[pb.SelectRouteRequest], Route | None]

FilterT = TypeVar("FilterT", bound=AsyncFilter | BlockingFilter)
ObserverT = TypeVar("ObserverT", bound=Observer)
RouteT = TypeVar("RouteT", bound=RouteSelector)
CommT = TypeVar("CommT", bound=Callable[[pb.Event, pb.AfterComm], Awaitable[None] | None])
TransactionT = TypeVar("TransactionT", bound=Callable[[pb.Event, pb.AfterTransaction], Awaitable[None] | None])
ConnT = TypeVar("ConnT", bound=Callable[[pb.Event, pb.AfterConn], Awaitable[None] | None])
GapT = TypeVar("GapT", bound=Callable[[pb.Event, pb.Gap], Awaitable[None] | None])
NoticeT = TypeVar("NoticeT", bound=Callable[[pb.Event, pb.Notice], Awaitable[None] | None])
HandlerT = TypeVar("HandlerT", bound=Callable[..., Awaitable[None] | None])

EVENT_CAPABILITIES = {
    "after_comm": pb.CAPABILITY_AFTER_COMM,
    "after_transaction": pb.CAPABILITY_AFTER_TRANSACTION,
    "after_conn": pb.CAPABILITY_AFTER_CONN,
}


class Hook:
    """A hook server's functions. `name` and `version` are what the proxy logs.

    `max_message_octets`: a longer message arrives cut, with `envelope.truncated`; 0: no limit. `header_only`: the proxy
    need not send bodies. `concurrency`: how many messages are looked at at once (each may be in memory whole); further
    calls wait, unread.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "",
        max_message_octets: int = 0,
        header_only: bool = False,
        concurrency: int = 64,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1; this is {concurrency}")
        self.name = name
        self.version = version
        self.max_message_octets = max_message_octets
        self.header_only = header_only
        self.concurrency = concurrency
        self.filter_function: AsyncFilter | BlockingFilter | None = None
        self.route_function: RouteSelector | None = None
        self.observers: list[Observer] = []
        self.event_handlers: dict[str, list[Callable[..., Awaitable[None] | None]]] = {}
        self._events: set[str] = set()

    def filter(self, function: FilterT) -> FilterT:
        """The function that gives the verdict: `(envelope, message) -> Verdict`. One for each hook."""
        if self.filter_function is not None:
            raise ValueError(f"{self.name} has a filter already: the chain is made in the proxy, of several hooks")
        self.filter_function = function
        return function

    @overload
    def observer(self, function: ObserverT) -> ObserverT: ...
    @overload
    def observer(self, *, events: Iterable[str]) -> Callable[[ObserverT], ObserverT]: ...
    def observer(
        self, function: ObserverT | None = None, *, events: Iterable[str] = tuple(EVENT_CAPABILITIES)
    ) -> ObserverT | Callable[[ObserverT], ObserverT]:
        """A function that is given each batch of events: `(batch) -> None`. Its return acknowledges them.

        `@hook.observer` wants all kinds, `@hook.observer(events=["after_transaction"])` only those named; gaps and
        notices always come. The same event may come twice (after a reconnect): `event.id` says that it is the same.
        """
        kinds = set(events)
        unknown = kinds - EVENT_CAPABILITIES.keys()
        if unknown:
            raise ValueError(f"no kinds of events: {sorted(unknown)}; there are {sorted(EVENT_CAPABILITIES)}")

        def register(function: ObserverT) -> ObserverT:
            self._events |= kinds
            self.observers.append(function)
            return function

        return register if function is None else register(function)

    def on_comm(self, function: CommT) -> CommT:
        """Called for each command line, reply and note: `(event, comm) -> None`."""
        return self._on("after_comm", function)

    def on_transaction(self, function: TransactionT) -> TransactionT:
        """Called at the end of each transaction: `(event, transaction) -> None`."""
        return self._on("after_transaction", function)

    def on_conn(self, function: ConnT) -> ConnT:
        """Called at the end of each connection: `(event, conn) -> None`."""
        return self._on("after_conn", function)

    def on_gap(self, function: GapT) -> GapT:
        """Called where the proxy had to drop events: `(event, gap) -> None`."""
        return self._on("gap", function)

    def on_notice(self, function: NoticeT) -> NoticeT:
        """Called for what the operator should know: `(event, notice) -> None`."""
        return self._on("notice", function)

    def select_route(self, function: RouteT) -> RouteT:
        """The function that chooses the way out: `(request) -> Route | None`; None leaves it to the rules."""
        if self.route_function is not None:
            raise ValueError(f"{self.name} chooses routes already")
        self.route_function = function
        return function

    @property
    def observes(self) -> bool:
        """Whether there is a function for events."""
        return bool(self.observers or self.event_handlers)

    def describe(self) -> pb.DescribeResponse:
        """The answer to Describe: the capabilities are those that functions are there for."""
        capabilities = [EVENT_CAPABILITIES[kind] for kind in EVENT_CAPABILITIES if kind in self._events]
        if self.observes and not capabilities:  # only gaps or notices: they come with any kind
            capabilities.append(pb.CAPABILITY_AFTER_CONN)
        if self.filter_function is not None:
            capabilities.append(pb.CAPABILITY_BEFORE_RELAY)
        if self.route_function is not None:
            capabilities.append(pb.CAPABILITY_SELECT_ROUTE)
        return pb.DescribeResponse(
            name=self.name,
            version=self.version,
            capabilities=capabilities,
            max_message_octets=self.max_message_octets,
            header_only=self.header_only,
        )

    def run(self, *addresses: str, tls: Tls | None = None, grace: float = 10.0) -> None:
        """Serves until SIGTERM or SIGINT: see `serve`."""
        from .server import run

        run(self, *addresses, tls=tls, grace=grace)

    def _on(self, kind: str, function: HandlerT) -> HandlerT:
        if kind in EVENT_CAPABILITIES:
            self._events.add(kind)
        self.event_handlers.setdefault(kind, []).append(function)
        return function


def is_async(function: Callable[..., object]) -> bool:
    """Whether calling it gives an awaitable: also for objects with an `async def __call__` and partials."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))
