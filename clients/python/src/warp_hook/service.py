"""The four calls of HookService, made from a hook's functions.

Describe answers from the event loop, always. Observe acknowledges a batch after its functions have returned, and
heartbeats at once, with what is acknowledged by then. BeforeRelay reads no more of the message than its function asks
for, and answers when that returns. A function that raises ends its call with INTERNAL; the reason stays in our log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, cast

import grpc
import grpc.aio

from .hook import Batch, Hook, is_async
from .message import BlockingMessage, Message
from .observing import ObserveStream
from .threads import Threads, ended_with
from .v1 import hook_pb2 as pb
from .v1 import hook_pb2_grpc
from .verdicts import Route, Verdict

Context = grpc.aio.ServicerContext[Any, Any]

log = logging.getLogger("warp_hook")


class Service(hook_pb2_grpc.HookServiceServicer):
    """One hook's service. `stopping`: open Observe streams end after the batch in hand."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._stopping = asyncio.Event()
        self._places = asyncio.Semaphore(hook.concurrency)
        # Of their own for each role: neither a flood of messages nor a slow store takes the others' threads.
        self._filter_threads = Threads("filter", hook.concurrency)
        self._parser_threads = Threads("parser", 4)
        self._observer_threads = Threads("observer", 32)
        self._route_threads = Threads("route", 32)

    def stop(self) -> None:
        """Ends the open Observe streams (cleanly: the proxy reconnects and sends again what wasn't acknowledged)."""
        self._stopping.set()

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        log.info("warp %s (%s) connected as %s", request.warp_version, request.source.proxy, request.hook_name)
        return self._hook.describe()

    async def Observe(self, requests: AsyncIterator[pb.ObserveRequest], context: Context) -> None:
        if not self._hook.observes:
            await _unimplemented(context, f"{self._hook.name} observes nothing")
        stream = ObserveStream(self._handle, context.write, self._stopping)
        try:
            await stream.run(requests)
        except Exception:
            log.exception("events were not stored; the proxy will send them again")
            await context.abort(grpc.StatusCode.INTERNAL, "the observer failed; the hook's log says why")

    async def BeforeRelay(self, requests: AsyncIterator[pb.BeforeRelayRequest], context: Context) -> Verdict:
        if self._hook.filter_function is None:
            await _unimplemented(context, f"{self._hook.name} is no filter")
        async with self._places:
            first = await anext(aiter(requests), None)
            if first is None or first.WhichOneof("part") != "envelope":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first part of a message is its envelope")
            message = Message(_chunks(requests), self._parser_threads, self._hook.max_message_octets)
            try:
                return _checked(await self._filter(first.envelope, message))
            except Exception:
                log.exception("no verdict on transaction %s", first.envelope.transaction_id)
                await context.abort(grpc.StatusCode.INTERNAL, "the filter failed; the hook's log says why")

    async def SelectRoute(self, request: pb.SelectRouteRequest, context: Context) -> Route:
        function = self._hook.route_function
        if function is None:
            await _unimplemented(context, f"{self._hook.name} chooses no routes")
        try:
            return await self._call(self._route_threads, function, request) or Route()
        except Exception:
            log.exception("no route for transaction %s", request.transaction_id)
            await context.abort(grpc.StatusCode.INTERNAL, "the choice of route failed; the hook's log says why")

    async def _filter(self, envelope: pb.Envelope, message: Message) -> object:
        function = cast("Callable[..., Any]", self._hook.filter_function)
        if is_async(function):
            return await _awaited(function(envelope, message))
        blocking = BlockingMessage(message, asyncio.get_running_loop())
        try:
            return await self._filter_threads.run(function, envelope, blocking)
        finally:
            blocking.close()

    async def _handle(self, batch: Batch) -> None:
        for observer in self._hook.observers:
            await self._call(self._observer_threads, observer, batch)
        for event in batch.events if self._hook.event_handlers else ():
            kind = event.WhichOneof("kind")
            for handler in self._hook.event_handlers.get(kind or "", ()):
                await self._call(self._observer_threads, handler, event, getattr(event, kind))

    async def _call(self, threads: Threads, function: Callable[..., Any], *args: object) -> Any:
        return await _awaited(function(*args)) if is_async(function) else await threads.run(function, *args)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    """What an async function returned. What it raises of those that mean something else to the loop is its failure."""
    try:
        return await awaitable
    except (asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # the proxy has given up, or the server stops
        raise ended_with(error) from error


async def _chunks(requests: AsyncIterator[pb.BeforeRelayRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise ValueError("after the envelope come chunks of the message, and nothing else")
        yield request.chunk


def _checked(verdict: object) -> Verdict:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"a filter returns a verdict, relay() for one; this one returned {verdict!r}")
    return verdict


async def _unimplemented(context: Context, text: str) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)
    raise AssertionError("abort returned")
