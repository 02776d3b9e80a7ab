"""The examples as their users run them: programs on an address, ended by SIGTERM; and what each decides."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import audit
import grpc.aio
import header_tagger
import pytest
import route
from conftest import Running, batch, parts

from warp_hook import add_header, insert, refuse, remove, use_pool
from warp_hook.v1 import hook_pb2 as pb
from warp_hook.v1 import hook_pb2_grpc

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STEP = 15


@asynccontextmanager
async def program(name: str, *arguments: str, address: str = "127.0.0.1:0") -> AsyncIterator[Any]:
    """An example as a process: gives a stub. At the end it gets SIGTERM and must leave with status 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / f"{name}.py"), address, *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), STEP)).decode()
        assert " listens on " in line, line + (await process.stderr.read()).decode()
        async with grpc.aio.insecure_channel(line.rpartition(" listens on ")[2].strip()) as channel:
            yield hook_pb2_grpc.HookServiceStub(channel)  # type: ignore[no-untyped-call]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), STEP) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# ------------------------------------------------------------- header tagger


async def test_header_tagger_replaces_the_score_with_its_own(tmp_path: Path) -> None:
    async with program("header_tagger", address=f"unix:{tmp_path}/tagger.sock") as stub:
        assert (await stub.Describe(pb.DescribeRequest())).header_only
        good = b"From: a@b\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <x@y>\r\nSubject: Hi\r\nX-Spam-Score: -99\r\n\r\n"
        verdict = await stub.BeforeRelay(parts(good))
        assert verdict == add_header(remove("X-Spam-Score"), insert("X-Spam-Score", "0.0"))
        verdict = await stub.BeforeRelay(parts(b"Subject: BUY THIS NOW\r\n\r\n"))
        assert verdict.add_header.edits[1].insert.value == "5.0"
        assert (verdict.score, list(verdict.tags)) == (5.0, ["no-date", "no-from", "no-message-id", "shouting"])


@pytest.mark.parametrize(
    "octets",
    [b"", b"\0\xff\xfe", b"From: <<<\r\nSubject: =?utf-8?b?//?=\r\nDate: never\r\n\r\n", b"Subject: " + b"A" * 10_000_000],
    ids=["empty", "no text", "broken fields", "10 MB of subject"],
)
async def test_header_tagger_scores_whatever_comes(running: Running, octets: bytes) -> None:
    async with running(header_tagger.hook) as client:
        verdict = await client.verdict(octets)
    assert verdict.WhichOneof("verdict") == "add_header" and verdict.score > 0


# --------------------------------------------------------------------- audit


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def acknowledged(stub: Any, *requests: pb.ObserveRequest) -> list[int]:
    return [answer.acked_sequence async for answer in stub.Observe(iter(requests))]


async def test_audit_writes_each_event_once_also_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with program("audit", "--file", str(file)) as stub:
        assert await acknowledged(stub, batch(1, 2), batch(3)) == [2, 3]
        assert await acknowledged(stub, batch(2, 3, 4)) == [4], "sent again after a reconnect"
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open("ab") as cut:
        cut.write(b'{"id":"ID5","at":"20')  # the machine died here
    async with program("audit", "--file", str(file)) as stub:
        assert await acknowledged(stub, batch(4, 5, 6)) == [6]
    assert [line["id"] for line in lines(file)] == ["ID1", "ID2", "ID3", "ID4", "ID5", "ID6"]


async def test_audit_streams_of_two_workers_share_the_file(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with program("audit", "--file", str(file)) as stub:
        one = [batch(*range(first, first + 50)) for first in range(1, 1001, 50)]
        two = [batch(*range(first, first + 50)) for first in range(501, 1501, 50)]
        await asyncio.gather(acknowledged(stub, *one), acknowledged(stub, *two))
    assert sorted(int(line["id"][2:]) for line in lines(file)) == list(range(1, 1501))


def test_audit_acknowledges_nothing_that_it_could_not_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = audit.AuditLog(tmp_path / "audit.jsonl")
    log.append(list(batch(1).events))

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError):
            log.append(list(batch(1, 2).events))
    assert log.append(list(batch(1, 2).events)) == 1
    log.close()
    assert [line["id"] for line in lines(tmp_path / "audit.jsonl")] == ["ID1", "ID2"]


def test_audit_lines_are_json_whatever_the_octets(tmp_path: Path) -> None:
    transaction = pb.AfterTransaction(
        session=pb.Session(client=pb.Endpoint(ip="192.0.2.1"), destination=pb.Endpoint(ip="192.0.2.2")),
        mail_from=pb.Address(address="a\ufffd@b"),
        recipients=[pb.Recipient(address=pb.Address(address="c@d"), final_reply=pb.Reply(code=250, reply_class="accepted"))],
        final_reply=pb.Reply(text=b'250 "ok"\r\n\xff\0'),
        message_id=b"<\xc3\x28@x>",
        outcome=pb.OUTCOME_ACCEPTED,
        filters=[pb.FilterOutcome(hook="dlp", verdict="relay", score=1.5)],
    )
    octets = audit.line(pb.Event(id="I", after_transaction=transaction))
    assert octets.count(b"\n") == 1
    record = json.loads(octets)
    assert record["to"] == [{"address": "c@d", "code": 250, "class": "accepted"}]
    assert (record["outcome"], record["reply"], record["message_id"]) == ("accepted", '250 "ok"\r\n\ufffd\0', "<\ufffd(@x>")
    assert record["filters"] == [{"hook": "dlp", "verdict": "relay", "score": 1.5, "failure": ""}]
    gap = json.loads(audit.line(pb.Event(id="G", gap=pb.Gap(first_sequence=3, count=7, reason="full"))))
    assert (gap["kind"], gap["count"], gap["reason"]) == ("gap", 7, "full")
    assert audit.outcome_word(99) == "outcome-99"


def test_audit_file_belongs_to_one_process(tmp_path: Path) -> None:
    log = audit.AuditLog(tmp_path / "audit.jsonl")
    with pytest.raises(OSError, match="in use"):
        audit.AuditLog(tmp_path / "audit.jsonl")
    log.close()


def test_audit_remembers_a_bounded_number_of_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "REMEMBERED_IDS", 10)
    log = audit.AuditLog(tmp_path / "audit.jsonl")
    log.append(list(batch(*range(1, 31)).events))
    assert log.append(list(batch(*range(21, 31)).events)) == 0
    assert len(log._ids) == 10
    log.close()


# --------------------------------------------------------------------- route


async def test_route_sends_bulk_mail_to_its_pool() -> None:
    arguments = ["--bulk-domain", "News.example", "--suspended", "bad.example"]
    async with program("route", *arguments) as stub:

        async def asked(sender: str, *pools: str) -> Any:
            return await stub.SelectRoute(pb.SelectRouteRequest(mail_from=pb.Address(address=sender), pools=pools))

        assert await asked("x@news.example", "shared", "bulk") == use_pool("bulk")
        assert (await asked("x@news.example", "shared")).WhichOneof("route") is None, "no such pool in the proxy"
        assert (await asked("x@else.example", "bulk")).WhichOneof("route") is None
        assert (await asked("", "bulk")).WhichOneof("route") is None
        assert await asked('"a@b"@BAD.example', "bulk") == refuse(451, "4.7.1", "Sender is suspended for now")


def test_route_never_answers_from_an_address_without_domain() -> None:
    for address in ("@", "nobody", "\ufffd\0@", "a@" + "b" * 100_000):
        request = pb.SelectRouteRequest(mail_from=pb.Address(address=address), pools=["bulk"])
        assert route.choose(request, {"news.example"}, {"bad.example"}, "bulk") is None


# --------------------------------------------------------------- the programs


async def test_a_program_says_what_is_wrong_with_its_address_or_arguments() -> None:
    for arguments, words in (
        (["header_tagger.py", "unix:/nowhere/at/all.sock"], "cannot listen on unix:/nowhere/at/all.sock"),
        (["header_tagger.py", "127.0.0.1:0", "--tls-cert", "x"], "--tls-cert and --tls-key go together"),
        (["header_tagger.py", "127.0.0.1:0", "--tls-cert", "/no/x", "--tls-key", "/no/y"], "No such file"),
        (["header_tagger.py"], "the following arguments are required: ADDRESS"),
    ):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=EXAMPLES, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), STEP)
        assert process.returncode in (1, 2) and words in errors.decode(), errors.decode()
        assert "Traceback" not in errors.decode()


async def test_dlp_refuses_as_a_program() -> None:
    async with program("dlp") as stub:
        verdict = await stub.BeforeRelay(parts(b"Subject: x\r\n\r\nCard 4111 1111 1111 1111\r\n"))
        assert (verdict.reject.code, verdict.reject.text) == (550, "Message contains a payment card number")
        assert (await stub.BeforeRelay(parts(b"\r\n" + b"ok\r\n" * 2_500_000))).WhichOneof("verdict") == "relay"
