"""What the tests share: a running hook and a client of it, speaking the protocol's own calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from warp_hook import Hook, Server, Tls, Verdict
from warp_hook.v1 import hook_pb2 as pb
from warp_hook.v1 import hook_pb2_grpc

CHUNK = 64 * 1024


class Client:
    """The proxy's side of one hook."""

    def __init__(self, channel: grpc.aio.Channel, server: Server) -> None:
        self.channel = channel
        self.server = server
        self.stub: Any = hook_pb2_grpc.HookServiceStub(channel)  # type: ignore[no-untyped-call]

    async def verdict(self, message: bytes = b"\r\n", envelope: pb.Envelope | None = None) -> Verdict:
        """The answer to BeforeRelay; raises grpc.aio.AioRpcError."""
        return await self.stub.BeforeRelay(parts(message, envelope), timeout=20)


def parts(message: bytes, envelope: pb.Envelope | None = None) -> Iterable[pb.BeforeRelayRequest]:
    yield pb.BeforeRelayRequest(envelope=envelope or pb.Envelope(transaction_id="T1"))
    for at in range(0, len(message), CHUNK):
        yield pb.BeforeRelayRequest(chunk=message[at : at + CHUNK])


def batch(*sequences: int, epoch: str = "E1") -> pb.ObserveRequest:
    """A batch of AfterTransaction events; the id of each follows from its sequence."""
    events = [
        pb.Event(id=f"ID{sequence}", sequence=sequence, after_transaction=pb.AfterTransaction(transaction_id="T1"))
        for sequence in sequences
    ]
    return pb.ObserveRequest(source=pb.Source(proxy="test", worker=1, epoch=epoch), events=events)


Running = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def running() -> Running:
    """`async with running(hook) as client`: the hook on a free port, and a client of it."""

    @asynccontextmanager
    async def run(
        hook: Hook,
        address: str = "127.0.0.1:0",
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        grace: float = 5.0,
    ) -> AsyncIterator[Client]:
        async with Server(hook, address, tls=tls, grace=grace) as server:
            target = server.addresses[0]
            channel = (
                grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
            )
            async with channel:
                yield Client(channel, server)

    return run
