"""A hook behind a real gRPC connection: what the proxy sees of it, also when its functions fail, hang or are slow."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from conftest import Client, Running, batch, parts
from grpc_health.v1 import health_pb2, health_pb2_grpc

import warp_hook.observing
from warp_hook import (
    AfterTransaction,
    Batch,
    BlockingMessage,
    Envelope,
    Event,
    Hook,
    Message,
    Route,
    SelectRouteRequest,
    Server,
    Tls,
    Verdict,
    add_header,
    insert,
    refuse,
    reject,
    relay,
    use_pool,
    use_source_ip,
)
from warp_hook.v1 import hook_pb2 as pb

MEGABYTES = 10 * 1024 * 1024
STEP = 10  # seconds that no step of a test takes


def status(error: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> tuple[grpc.StatusCode, str]:
    return error.value.code(), error.value.details() or ""


# ------------------------------------------------------------------ Describe


async def test_describe_names_what_there_are_functions_for(running: Running) -> None:
    hook = Hook("mine", version="2.1", max_message_octets=1000, header_only=True)

    @hook.filter
    async def check(envelope: Envelope, message: Message) -> Verdict:
        return relay()

    @hook.on_transaction
    async def store(event: Event, transaction: AfterTransaction) -> None:
        pass

    @hook.select_route
    async def select(request: SelectRouteRequest) -> None:
        return None

    async with running(hook) as client:
        answer = await client.stub.Describe(pb.DescribeRequest(warp_version="1"))
    assert (answer.name, answer.version, answer.max_message_octets, answer.header_only) == ("mine", "2.1", 1000, True)
    assert list(answer.capabilities) == [
        pb.CAPABILITY_AFTER_TRANSACTION,
        pb.CAPABILITY_BEFORE_RELAY,
        pb.CAPABILITY_SELECT_ROUTE,
    ]


def test_an_observer_wants_all_events_or_those_it_names() -> None:
    everything, some = Hook("a"), Hook("b")

    @everything.observer
    async def all_kinds(batch: Batch) -> None: ...

    @some.observer(events=["after_conn"])
    def one_kind(batch: Batch) -> None: ...

    assert list(everything.describe().capabilities) == [1, 4, 2]
    assert list(some.describe().capabilities) == [pb.CAPABILITY_AFTER_CONN]
    with pytest.raises(ValueError, match="after_lunch"):
        some.observer(events=["after_lunch"])


def test_a_hook_has_one_filter_and_one_choice_of_route() -> None:
    hook = Hook("a")
    hook.filter(lambda envelope, message: relay())
    hook.select_route(lambda request: None)
    with pytest.raises(ValueError, match="filter already"):
        hook.filter(lambda envelope, message: relay())
    with pytest.raises(ValueError, match="routes already"):
        hook.select_route(lambda request: None)


async def test_what_a_hook_does_not_do_is_unimplemented(running: Running) -> None:
    async with running(Hook("idle")) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.verdict()
        assert status(error) == (grpc.StatusCode.UNIMPLEMENTED, "idle is no filter")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.stub.SelectRoute(pb.SelectRouteRequest())
        assert status(error)[0] == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async for _ in client.stub.Observe(iter([batch(1)])):
                pass
        assert status(error)[0] == grpc.StatusCode.UNIMPLEMENTED


# ----------------------------------------------------------------- filtering


def both_kinds(check: Callable[[bytes], Verdict]) -> list[Hook]:
    """One hook with an `async` filter and one with a plain one, that look at the whole message."""
    waiting, blocking = Hook("async"), Hook("plain")

    @waiting.filter
    async def check_async(envelope: Envelope, message: Message) -> Verdict:
        return check(await message.read())

    @blocking.filter
    def check_plain(envelope: Envelope, message: BlockingMessage) -> Verdict:
        return check(message.read())

    return [waiting, blocking]


async def test_a_filter_sees_the_whole_message_and_its_verdict_comes_back(running: Running) -> None:
    octets = bytes(range(256)) * 1024  # 256 KiB of everything, NUL and bare newlines too
    seen: list[bytes] = []

    def check(message: bytes) -> Verdict:
        seen.append(message)
        return add_header(insert("X-Octets", str(len(message))), score=1.5, tags=["t"], note="n")

    for hook in both_kinds(check):
        async with running(hook) as client:
            verdict = await client.verdict(octets)
        assert verdict == add_header(insert("X-Octets", "262144"), score=1.5, tags=["t"], note="n")
    assert seen == [octets, octets]


async def test_an_empty_message_is_one(running: Running) -> None:
    for hook in both_kinds(lambda message: reject(text=f"{len(message)} octets")):
        async with running(hook) as client:
            assert (await client.verdict(b"")).reject.text == "0 octets"


async def test_ten_megabytes_go_through_both_kinds_of_filter(running: Running) -> None:
    for hook in both_kinds(lambda message: reject(text=f"{len(message)} octets")):
        async with running(hook) as client:
            assert (await client.verdict(b"x" * MEGABYTES)).reject.text == f"{MEGABYTES} octets"


async def test_a_plain_filter_can_iterate_and_parse(running: Running) -> None:
    hook = Hook("plain")

    @hook.filter
    def check(envelope: Envelope, message: BlockingMessage) -> Verdict:
        subject = message.headers()["Subject"]
        assert message.email()["Subject"] == subject
        assert message.read_header() == b"Subject: hello\r\n"
        return reject(text=f"{subject} {sum(len(chunk) for chunk in message)}")

    async with running(hook) as client:
        verdict = await client.verdict(b"Subject: hello\r\n\r\n" + b"x" * 200_000)
    assert verdict.reject.text == "hello 200018"


@pytest.mark.parametrize("plain", [False, True])
async def test_an_early_answer_does_not_wait_for_the_message(running: Running, plain: bool) -> None:
    hook = Hook("early")
    if plain:

        @hook.filter
        def check(envelope: Envelope, message: BlockingMessage) -> Verdict:
            return reject(text=message.read_header().decode().strip())

    else:

        @hook.filter
        async def check_async(envelope: Envelope, message: Message) -> Verdict:
            return reject(text=(await message.read_header()).decode().strip())

    async with running(hook) as client:
        call = client.stub.BeforeRelay()
        await call.write(pb.BeforeRelayRequest(envelope=pb.Envelope()))
        await call.write(pb.BeforeRelayRequest(chunk=b"A: b\r\n\r\nand the rest never comes"))
        verdict = await asyncio.wait_for(call, STEP)  # no half-close
    assert verdict.reject.text == "A: b"


async def test_an_answer_from_the_envelope_leaves_ten_megabytes_unread(running: Running) -> None:
    hook = Hook("early")

    @hook.filter
    async def check(envelope: Envelope, message: Message) -> Verdict:
        return reject(text=envelope.mail_from.address)

    async with running(hook) as client:
        envelope = pb.Envelope(mail_from=pb.Address(address="a@b"))
        for _ in range(5):
            assert (await client.verdict(b"x" * MEGABYTES, envelope)).reject.text == "a@b"


@pytest.mark.parametrize("plain", [False, True])
async def test_a_filter_that_raises_is_a_failure_and_tells_the_peer_nothing(
    running: Running, plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: bytes) -> Verdict:
        raise KeyError("secret of the inside")

    async with running(both_kinds(fail)[plain]) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.verdict()
    code, details = status(error)
    assert code == grpc.StatusCode.INTERNAL and "secret" not in details
    assert "secret of the inside" in caplog.text and "T1" in caplog.text


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
async def test_a_filter_that_ends_with_what_means_something_else_to_the_loop_is_a_failure_at_once(
    running: Running, error: type[BaseException], plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: bytes) -> Verdict:
        raise error

    async with running(both_kinds(fail)[plain]) as client:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await asyncio.wait_for(client.verdict(), STEP)
            assert status(failure)[0] == grpc.StatusCode.INTERNAL
    assert error.__name__ in caplog.text


async def test_an_observer_whose_task_was_cancelled_ends_the_stream_with_an_error(running: Running) -> None:
    hook = Hook("store")

    @hook.observer
    async def store(batch: Batch) -> None:
        task = asyncio.create_task(asyncio.sleep(STEP))
        task.cancel()
        await task

    async with running(hook) as client:
        stream = client.stub.Observe()
        await stream.write(batch(1))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asyncio.wait_for(answers(stream, 1), STEP)
        assert status(error)[0] == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("answer", [None, True, "relay", pb.Relay()])
async def test_what_is_no_verdict_is_a_failure(running: Running, answer: Any) -> None:
    for hook in both_kinds(lambda message: answer):
        async with running(hook) as client:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await client.verdict()
            assert status(error)[0] == grpc.StatusCode.INTERNAL


async def test_a_plain_filter_that_stops_iterating_oddly_is_a_failure_too(running: Running) -> None:
    def stop(message: bytes) -> Verdict:
        raise StopIteration

    async with running(both_kinds(stop)[1]) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.verdict()
        assert status(error)[0] == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [pb.BeforeRelayRequest(chunk=b"no envelope")],
        [pb.BeforeRelayRequest()],
        [pb.BeforeRelayRequest(envelope=pb.Envelope()), pb.BeforeRelayRequest(envelope=pb.Envelope())],
        [pb.BeforeRelayRequest(envelope=pb.Envelope()), pb.BeforeRelayRequest()],
    ],
)
async def test_a_conversation_out_of_order_is_an_error(running: Running, sent: list[pb.BeforeRelayRequest]) -> None:
    async with running(both_kinds(lambda message: relay())[0]) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.stub.BeforeRelay(iter(sent), timeout=STEP)
        assert status(error)[0] in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)


async def test_more_than_the_hook_said_it_takes_is_a_failure(running: Running) -> None:
    hook = Hook("small", max_message_octets=1000)

    @hook.filter
    async def check(envelope: Envelope, message: Message) -> Verdict:
        return reject(text=f"{len(await message.read())} octets")

    async with running(hook) as client:
        assert (await client.verdict(b"x" * 1000)).reject.text == "1000 octets"
        with pytest.raises(grpc.aio.AioRpcError):
            await client.verdict(b"x" * 1001)


async def test_only_so_many_messages_are_looked_at_at_once(running: Running) -> None:
    hook = Hook("two at once", concurrency=2)
    now = most = 0

    @hook.filter
    async def check(envelope: Envelope, message: Message) -> Verdict:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await message.read()
        await asyncio.sleep(0.01)
        now -= 1
        return relay()

    async with running(hook) as client:
        verdicts = await asyncio.gather(*(client.verdict(b"x" * 100_000) for _ in range(12)))
    assert len(verdicts) == 12 and most == 2


# ------------------------------------------------------------ no starvation


class Gate:
    """Holds the plain functions that pass through it, and opens for all of them at the end of a test."""

    def __init__(self) -> None:
        self.inside = 0
        self.open = threading.Event()

    def wait(self) -> None:
        self.inside += 1
        self.open.wait(60)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(STEP):
        while not condition():
            await asyncio.sleep(0.005)


async def test_plain_filters_answer_beside_hanging_observers_on_many_streams(running: Running) -> None:
    hook, gate = Hook("both"), Gate()

    @hook.observer
    def store(batch: Batch) -> None:
        gate.wait()

    @hook.filter
    def check(envelope: Envelope, message: BlockingMessage) -> Verdict:
        return reject(text=f"{len(message.read())} octets")

    async with running(hook, grace=0.1) as client:
        streams = [client.stub.Observe() for _ in range(64)]
        for stream in streams:
            await stream.write(batch(1))
        await until(lambda: gate.inside >= 32)
        for _ in range(20):
            assert (await asyncio.wait_for(client.verdict(b"x" * 100_000), STEP)).reject.text == "100000 octets"
        gate.open.set()


async def test_filters_that_hang_past_their_deadline_free_their_place(running: Running) -> None:
    hook, gate = Hook("hangs", concurrency=2), Gate()

    @hook.filter
    def check(envelope: Envelope, message: BlockingMessage) -> Verdict:
        if envelope.transaction_id == "hang":
            gate.wait()
        return relay()

    async with running(hook, grace=0.1) as client:
        for _ in range(3):
            calls = [client.stub.BeforeRelay(parts(b"", pb.Envelope(transaction_id="hang")), timeout=0.2) for _ in "ab"]
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call
                assert status(error)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        assert gate.inside == 6
        assert (await asyncio.wait_for(client.verdict(), STEP)).WhichOneof("verdict") == "relay"
        gate.open.set()


async def test_a_plain_filter_is_told_when_the_client_has_left(running: Running) -> None:
    hook, ended = Hook("waits"), threading.Event()

    @hook.filter
    def check(envelope: Envelope, message: BlockingMessage) -> Verdict:
        try:
            message.read()  # its end never comes
        finally:
            ended.set()
        return relay()

    async with running(hook) as client:
        call = client.stub.BeforeRelay()
        await call.write(pb.BeforeRelayRequest(envelope=pb.Envelope()))
        await asyncio.sleep(0.05)
        call.cancel()
        assert await asyncio.to_thread(ended.wait, STEP)


# ----------------------------------------------------------------- observing


async def answers(stream: Any, count: int) -> list[int]:
    return [(await asyncio.wait_for(stream.read(), STEP)).acked_sequence for _ in range(count)]


@pytest.mark.parametrize("plain", [False, True])
async def test_a_batch_is_acknowledged_after_its_function_returned(running: Running, plain: bool) -> None:
    hook, gate, stored = Hook("store"), Gate(), list[str]()

    def take(batch: Batch) -> None:
        stored.extend(event.id for event in batch.events)

    if plain:

        @hook.observer
        def store(batch: Batch) -> None:
            gate.wait()
            take(batch)

    else:

        @hook.observer
        async def store_async(batch: Batch) -> None:
            assert (batch.source.proxy, batch.source.worker, batch.source.epoch) == ("test", 1, "E1")
            await asyncio.to_thread(gate.wait)
            take(batch)

    async with running(hook) as client:
        stream = client.stub.Observe()
        await stream.write(batch(1, 2, 3))
        await until(lambda: gate.inside == 1)
        await stream.write(pb.ObserveRequest())  # a heartbeat while the first batch is in hand
        assert await answers(stream, 1) == [0], "answered, and nothing is acknowledged that isn't stored"
        assert stored == []
        gate.open.set()
        assert await answers(stream, 1) == [3]
        assert stored == ["ID1", "ID2", "ID3"]
        await stream.write(pb.ObserveRequest())
        assert await answers(stream, 1) == [3]


async def test_a_function_that_raises_ends_the_stream_without_an_acknowledgement(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    hook, calls = Hook("store"), list[list[int]]()

    @hook.observer
    def store(batch: Batch) -> None:
        calls.append([event.sequence for event in batch.events])
        if len(calls) == 2:
            raise OSError("disk full")

    async with running(hook) as client:
        stream = client.stub.Observe()
        await stream.write(batch(1))
        assert await answers(stream, 1) == [1]
        await stream.write(batch(2))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await answers(stream, 1)
        assert status(error) == (grpc.StatusCode.INTERNAL, "the observer failed; the hook's log says why")
        assert "disk full" in caplog.text
        again = client.stub.Observe()
        await again.write(batch(2, 3))
        assert await answers(again, 1) == [3]
    assert calls == [[1], [2], [2, 3]]


async def test_a_slow_function_repeats_the_last_acknowledgement(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warp_hook.observing, "REPEAT_AFTER_SECONDS", 0.02)
    hook, gate = Hook("slow"), Gate()

    @hook.observer
    def store(batch: Batch) -> None:
        if batch.events[0].sequence == 2:
            gate.wait()

    async with running(hook) as client:
        stream = client.stub.Observe()
        await stream.write(batch(1))
        await stream.write(batch(2))
        assert await answers(stream, 3) == [1, 1, 1]
        gate.open.set()
        async with asyncio.timeout(STEP):
            while (await answers(stream, 1)) == [1]:
                pass


async def test_each_kind_of_event_reaches_its_function_in_order(running: Running) -> None:
    hook, seen = Hook("kinds"), list[str]()

    @hook.on_comm
    async def comm(event: Event, record: Any) -> None:
        seen.append(f"comm {record.data.decode()}")

    @hook.on_transaction
    def transaction(event: Event, record: AfterTransaction) -> None:
        seen.append(f"transaction {record.transaction_id}")

    @hook.on_conn
    def conn(event: Event, record: Any) -> None:
        seen.append(f"conn {event.connection_id}")

    @hook.on_gap
    async def gap(event: Event, record: Any) -> None:
        seen.append(f"gap {record.count}")

    @hook.on_notice
    def notice(event: Event, record: Any) -> None:
        seen.append(f"notice {record.code}")

    events = [
        pb.Event(sequence=1, gap=pb.Gap(first_sequence=1, count=4)),
        pb.Event(sequence=5, after_comm=pb.AfterComm(data=b"QUIT")),
        pb.Event(sequence=6, after_transaction=pb.AfterTransaction(transaction_id="T")),
        pb.Event(sequence=7, connection_id="C", after_conn=pb.AfterConn()),
        pb.Event(sequence=8, notice=pb.Notice(code="hook_down")),
        pb.Event(sequence=9),  # of a kind that this version does not know
    ]
    async with running(hook) as client:
        stream = client.stub.Observe()
        await stream.write(pb.ObserveRequest(events=events))
        assert await answers(stream, 1) == [9]
    assert seen == ["gap 4", "comm QUIT", "transaction T", "conn C", "notice hook_down"]


async def test_half_close_acknowledges_all_that_came_and_ends_cleanly(running: Running) -> None:
    hook, stored = Hook("store"), list[int]()

    @hook.observer
    async def store(batch: Batch) -> None:
        await asyncio.sleep(0.01)
        stored.extend(event.sequence for event in batch.events)

    async with running(hook) as client:
        stream = client.stub.Observe(iter([batch(n) for n in range(1, 21)]))
        acks = [answer.acked_sequence async for answer in stream]
        assert await stream.code() == grpc.StatusCode.OK
    assert stored == acks == list(range(1, 21))


async def test_ten_thousand_events_are_stored_in_order(running: Running) -> None:
    hook, stored = Hook("store"), list[int]()

    @hook.observer
    def store(batch: Batch) -> None:
        stored.extend(event.sequence for event in batch.events)

    async with running(hook) as client:
        requests = [batch(*range(first, first + 100)) for first in range(1, 10_001, 100)]
        acks = [answer.acked_sequence async for answer in client.stub.Observe(iter(requests))]
    assert stored == list(range(1, 10_001)) and acks[-1] == 10_000


# -------------------------------------------------------------------- routes


async def test_a_route_is_a_pool_an_address_a_refusal_or_left_to_the_rules(running: Running) -> None:
    hook = Hook("route")
    routes: dict[str, Route | None] = {
        "pool": use_pool("bulk"),
        "ip": use_source_ip("192.0.2.1"),
        "refuse": refuse(451, "4.7.1", "no"),
        "none": None,
    }

    @hook.select_route
    def select(request: SelectRouteRequest) -> Route | None:
        return routes[request.sender]

    async with running(hook) as client:
        for sender, route in routes.items():
            assert await client.stub.SelectRoute(pb.SelectRouteRequest(sender=sender)) == (route or Route())
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.stub.SelectRoute(pb.SelectRouteRequest(sender="unknown"))
        assert status(error)[0] == grpc.StatusCode.INTERNAL


# ------------------------------------------------------- serving and stopping


async def test_health_is_that_of_the_server_and_of_the_service(running: Running) -> None:
    async with running(Hook("healthy")) as client:
        stub: Any = health_pb2_grpc.HealthStub(client.channel)
        for service in ("", "warp.hook.v1.HookService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert status(error)[0] == grpc.StatusCode.NOT_FOUND


async def test_stopping_ends_streams_cleanly_and_lets_a_filter_finish(running: Running) -> None:
    hook, gate, stored = Hook("both"), Gate(), list[int]()

    @hook.filter
    def check(envelope: Envelope, message: BlockingMessage) -> Verdict:
        gate.wait()
        return reject(text="finished")

    @hook.observer
    def store(batch: Batch) -> None:
        stored.extend(event.sequence for event in batch.events)

    async with running(hook) as client:
        stream = client.stub.Observe()
        await stream.write(batch(1))
        assert await answers(stream, 1) == [1]
        verdict = asyncio.ensure_future(client.verdict())
        await until(lambda: gate.inside == 1)
        stopping = asyncio.create_task(client.server.stop())
        assert await asyncio.wait_for(stream.read(), STEP) is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asyncio.wait_for(client.verdict(), STEP)
        assert status(error)[0] == grpc.StatusCode.UNAVAILABLE
        gate.open.set()
        assert (await asyncio.wait_for(verdict, STEP)).reject.text == "finished"
        await asyncio.wait_for(stopping, STEP)


async def test_a_unix_socket_is_for_its_group_and_goes_with_the_server(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "hook.sock"
    async with running(both_kinds(lambda message: relay())[0], f"unix:{path}") as client:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        assert (await client.verdict()).WhichOneof("verdict") == "relay"
    assert not path.exists()


async def test_a_stale_unix_socket_is_taken_over(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "hook.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with running(both_kinds(lambda message: relay())[0], f"unix:{path}") as client:
        assert (await client.verdict()).WhichOneof("verdict") == "relay"


async def test_a_port_in_use_is_an_error_and_not_shared() -> None:
    async with Server(Hook("first"), "127.0.0.1:0") as first:
        with pytest.raises(OSError, match="cannot listen"):
            await Server(Hook("second"), first.addresses[0]).start()
    with pytest.raises(OSError, match="cannot listen"):
        await Server(Hook("third"), "unix:/nowhere/at/all.sock").start()
    with pytest.raises(ValueError):
        Server(Hook("fourth"))


def certificate(folder: Path, name: str, issuer: str | None = None) -> None:
    """NAME.key and NAME.crt, self-signed or signed by ISSUER, for 127.0.0.1."""
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\n" if issuer else "basicConstraints=critical,CA:TRUE\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"]
    subprocess.run([*new, "-keyout", f"{name}.key", "-out", f"{name}.csr"], cwd=folder, check=True, capture_output=True)
    sign = ["-signkey", f"{name}.key"] if issuer is None else ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-CAcreateserial"]
    arguments = ["openssl", "x509", "-req", "-in", f"{name}.csr", "-days", "2", *sign, "-extfile", "extensions"]
    subprocess.run([*arguments, "-out", f"{name}.crt"], cwd=folder, check=True, capture_output=True)


async def test_tls_and_a_client_certificate(running: Running, tmp_path: Path) -> None:
    for name, issuer in (("ca", None), ("server", "ca"), ("proxy", "ca")):
        certificate(tmp_path, name, issuer)

    def read(name: str) -> bytes:
        return (tmp_path / name).read_bytes()

    hook = both_kinds(lambda message: relay())[0]
    server_only = grpc.ssl_channel_credentials(read("ca.crt"))
    mutual = grpc.ssl_channel_credentials(read("ca.crt"), read("proxy.key"), read("proxy.crt"))
    cert, key, ca = tmp_path / "server.crt", tmp_path / "server.key", tmp_path / "ca.crt"
    async with running(hook, tls=Tls(cert, key), credentials=server_only) as client:
        assert (await client.verdict()).WhichOneof("verdict") == "relay"
    async with running(hook, tls=Tls(cert, key, ca), credentials=mutual) as client:
        assert (await client.verdict()).WhichOneof("verdict") == "relay"
    async with running(hook, tls=Tls(cert, key, ca), credentials=server_only) as client:
        await _is_unavailable(client)
    async with running(hook, tls=Tls(cert, key)) as client:  # in plaintext
        await _is_unavailable(client)


async def _is_unavailable(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await client.verdict()
    assert status(error)[0] == grpc.StatusCode.UNAVAILABLE
