"""One Observe stream: batches are handled one after the other, while reading goes on so that heartbeats are answered.

An acknowledgement says that everything up to that sequence is stored; so it is sent after the functions have returned,
and a heartbeat during a slow one is answered with the sequence before it. What is read ahead is bounded by what the
proxy may have unacknowledged in flight (8,192 events or 8 MiB): past it we stop reading. A proxy that hears nothing for
45 s takes us for dead, and one that waits for acknowledgements sends no heartbeat: so the last one is repeated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from .hook import Batch
from .v1 import hook_pb2 as pb

READ_AHEAD_EVENTS = 8192
READ_AHEAD_OCTETS = 9 * 1024 * 1024
REPEAT_AFTER_SECONDS = 15.0


class ObserveStream:
    """`handle` stores a batch, `write` sends a response, `stopping` ends the stream after the batch in hand."""

    def __init__(
        self,
        handle: Callable[[Batch], Awaitable[None]],
        write: Callable[[pb.ObserveResponse], Awaitable[None]],
        stopping: asyncio.Event,
    ) -> None:
        self._handle = handle
        self._write = write
        self._stopping = stopping
        self._writing = asyncio.Lock()
        self._pending: deque[tuple[pb.ObserveRequest, int]] = deque()
        self._pending_events = 0
        self._pending_octets = 0
        self._changed = asyncio.Condition()
        self._ended = False
        self._acked = 0

    async def run(self, requests: AsyncIterator[pb.ObserveRequest]) -> None:
        """Until the proxy half-closes or the server stops. Raises what a handler or the stream raised."""
        reader = asyncio.create_task(self._read(requests))
        worker = asyncio.create_task(self._work())
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({reader, worker, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done() or reader.done():  # handle what is in hand (after half-close: all that has come)
                await self._end(drop=stop.done())
                await worker
            if worker.done():
                worker.result()
            if reader.done():
                reader.result()
        finally:
            for task in (reader, worker, stop):
                task.cancel()
            await asyncio.gather(reader, worker, stop, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[pb.ObserveRequest]) -> None:
        async for request in requests:
            if not request.events:
                await self._acknowledge()
                continue
            octets = request.ByteSize()
            async with self._changed:
                await self._changed.wait_for(self._has_room)
                self._pending.append((request, octets))
                self._pending_events += len(request.events)
                self._pending_octets += octets
                self._changed.notify_all()

    async def _work(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._pending) or self._ended)
                if not self._pending:
                    return
                request, octets = self._pending.popleft()
            await self._patiently(self._handle(Batch(request.source, request.events)))
            self._acked = max(self._acked, max(event.sequence for event in request.events))
            await self._acknowledge()
            async with self._changed:
                self._pending_events -= len(request.events)
                self._pending_octets -= octets
                self._changed.notify_all()

    async def _patiently(self, handling: Awaitable[None]) -> None:
        """Waits for a handler, repeating the last acknowledgement while it takes long."""
        task = asyncio.ensure_future(handling)
        try:
            while not (await asyncio.wait({task}, timeout=REPEAT_AFTER_SECONDS))[0]:
                await self._acknowledge()
        finally:
            task.cancel()  # nothing, where it is done
        task.result()

    async def _end(self, *, drop: bool) -> None:
        async with self._changed:
            if drop:
                self._pending.clear()
            self._ended = True
            self._changed.notify_all()

    async def _acknowledge(self) -> None:
        async with self._writing:
            await self._write(pb.ObserveResponse(acked_sequence=self._acked))

    def _has_room(self) -> bool:
        return not self._pending_events or (
            self._pending_events < READ_AHEAD_EVENTS and self._pending_octets < READ_AHEAD_OCTETS
        )
