"""Messages: read lazily, in any split, and parsed whatever they contain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from warp_hook import Message, MessageTooComplex, MessageTooLong
from warp_hook.message import parse, parse_header
from warp_hook.threads import Threads


class Source:
    """A message in pieces; remembers how many were asked for."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.read += 1
            yield piece


def message(*pieces: bytes, max_octets: int = 0) -> Message:
    return Message(aiter(Source(*pieces)), Threads("test", 2), max_octets)


async def test_reads_nothing_before_it_is_asked() -> None:
    source = Source(b"a: b\r\n", b"\r\n", b"body")
    held = Message(aiter(source), Threads("test", 1))
    assert source.read == 0
    assert await held.read_header() == b"a: b\r\n"
    assert source.read == 2, "the header's end is known, so the body stays unread"
    assert await held.read() == b"a: b\r\n\r\nbody"
    assert await held.read() == b"a: b\r\n\r\nbody"


@pytest.mark.parametrize(
    ("octets", "header"),
    [
        (b"a: b\r\nc: d\r\n\r\nbody\r\n\r\n", b"a: b\r\nc: d\r\n"),
        (b"\r\nbody\r\n\r\n", b""),
        (b"a: b\r\n", b"a: b\r\n"),
        (b"a: b", b"a: b"),
        (b"", b""),
        (b"a: b\n\nstill header\r\n\r\n", b"a: b\n\nstill header\r\n"),
    ],
)
async def test_finds_the_header_at_any_split(octets: bytes, header: bytes) -> None:
    for at in range(len(octets) + 1):
        held = message(octets[:at], octets[at:])
        assert await held.read_header() == header
        assert await held.read() == octets
    assert await message(*(octets[at : at + 1] for at in range(len(octets)))).read_header() == header


async def test_iterating_hands_out_everything_once_also_behind_the_header() -> None:
    held = message(b"a: b\r\n\r\nx", b"y", b"z")
    await held.read_header()
    assert b"".join([chunk async for chunk in held]) == b"a: b\r\n\r\nxyz"
    with pytest.raises(RuntimeError, match="handed out"):
        await held.read()


async def test_more_than_the_limit_is_an_error() -> None:
    assert await message(b"12345", b"678", max_octets=8).read() == b"12345678"
    with pytest.raises(MessageTooLong, match="8 octets"):
        await message(b"12345", b"6789", max_octets=8).read()


async def test_parses_headers_and_parts() -> None:
    held = message(b"Subject: =?utf-8?q?=C3=A4?=\r\nContent-Transfer-Encoding: base64\r\n", b"\r\naGk=\r\n")
    assert (await held.headers())["Subject"] == "ä"
    parsed = await held.email()
    assert parsed.get_content() == "hi"
    assert await held.email() is parsed


HOSTILE = [
    b"",
    b"\0" * 100,
    b"\xff\xfe\xfd: \x80\r\n\r\n\xff",
    b"Subject: =?utf-8?b?////?=\r\n =?x?q?=ZZ?=\r\n\r\n",
    b"From: <<<>>>@@,,\"\r\nTo: (((\r\nDate: never\r\nMessage-ID: [\r\nContent-Type: ;;\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=\"\r\n\r\n--\r\n",
    b"Content-Disposition: attachment; filename*0*=x''%; filename*1=\r\n\r\n",
    b"To: " + b"(" * 5_000 + b"\r\n\r\n",
    b"A: " + b"x" * 1_000_000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("octets", HOSTILE, ids=range(len(HOSTILE)))
def test_broken_fields_are_given_as_text_and_never_raise(octets: bytes) -> None:
    for parsed in (parse(octets), parse_header(octets)):
        for name in parsed.keys():
            assert isinstance(str(parsed[name]), str)


def test_mutated_fields_never_raise() -> None:
    chance = random.Random(1)
    seed = b"".join(HOSTILE[3:7])
    for _ in range(500):
        octets = bytearray(seed)
        for _ in range(6):
            octets[chance.randrange(len(octets))] = chance.choice(b"()<>@,;:\\\"[]=?\r\n\0 \xffaZ")
        parsed = parse_header(bytes(octets))
        assert all(isinstance(str(value), str) for _, value in parsed.items())


def test_parts_nested_beyond_the_parser_are_too_complex() -> None:
    octets = b""
    for level in range(3_000):
        octets += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
    with pytest.raises(MessageTooComplex):
        parse(octets)


async def test_ten_megabytes_are_parsed_without_stopping_the_loop() -> None:
    octets = b"Content-Type: text/plain\r\n\r\n" + b"line of text\r\n" * 700_000
    turns = 0

    async def heart() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.005)

    beating = asyncio.create_task(heart())
    parsed = await message(*(octets[at : at + 65536] for at in range(0, len(octets), 65536))).email()
    beating.cancel()
    assert len(parsed.get_payload()) > 9_000_000
    assert turns > 5, "heartbeats go on while a message is parsed"
