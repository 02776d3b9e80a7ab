"""The DLP example: every message of testdata/dlp, and hostile ones too large to keep there."""

from __future__ import annotations

import base64
import random
import time
from pathlib import Path

import pytest
from card_numbers import Budget, TooMuch, find, is_card_number
from dlp import check
from mime_text import TooDeep, texts

from warp_hook import Envelope, Verdict

TESTDATA = Path(__file__).resolve().parents[2] / "testdata" / "dlp"
MESSAGES = sorted(TESTDATA.glob("*/*.eml"))
CARD = b"4111 1111 1111 1111"


class WholeMessage:
    """What `check` uses of a BlockingMessage."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def read(self) -> bytes:
        return self._octets


def verdict_on(octets: bytes, envelope: Envelope | None = None) -> Verdict:
    return check(envelope or Envelope(), WholeMessage(octets))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", MESSAGES, ids=[f"{path.parent.name}/{path.stem}" for path in MESSAGES])
def test_gives_the_verdict_that_the_folder_names(path: Path) -> None:
    verdict = verdict_on(path.read_bytes())
    assert verdict.WhichOneof("verdict") == path.parent.name
    if path.parent.name == "reject":
        assert (verdict.reject.code, list(verdict.tags)) == (550, ["card-number"])
        assert "4111" not in verdict.reject.text + verdict.note, "the number must not be in the reply"


def test_there_are_messages_to_try() -> None:
    assert len(MESSAGES) > 50


def nested(depth: int) -> bytes:
    message = CARD
    for level in range(depth):
        message = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%s\r\n--b%d--\r\n" % (
            level,
            level,
            (b"\r\n" if level == 0 else b"") + message,
            level,
        )
    return message


def test_looks_through_thirty_levels_of_parts() -> None:
    assert verdict_on(nested(30)).reject.text == "Message contains a payment card number"


@pytest.mark.parametrize("depth", [100, 5_000])
def test_refuses_parts_nested_too_deeply_to_inspect(depth: int) -> None:
    verdict = verdict_on(nested(depth))
    assert (verdict.reject.code, list(verdict.tags)) == (554, ["uninspectable"])


def test_refuses_more_parts_than_it_inspects() -> None:
    verdict = verdict_on(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000)
    assert list(verdict.tags) == ["uninspectable"]


def test_says_so_when_the_proxy_sent_only_a_part() -> None:
    assert list(verdict_on(b"\r\nHi\r\n", Envelope(truncated=True)).tags) == ["partly-inspected"]


MEGABYTES = 10 * 1024 * 1024
LARGE = {
    "text": b"\r\n" + b"The quick brown fox jumps over 13 lazy dogs.\r\n" * (MEGABYTES // 46) + CARD,
    "base64": b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(b"lorem ipsum " * 640_000 + CARD),
    "one line": b"\r\n" + b"a" * MEGABYTES + CARD,
    "digits": b"\r\n" + b"4" * MEGABYTES + b" x " + CARD,
    "angle brackets": b"Content-Type: text/html\r\n\r\n" + b"<" * MEGABYTES + CARD,
    "quoted printable": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * MEGABYTES + b" \r\n" + CARD,
    "equals signs": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"AA=" * (MEGABYTES // 3) + base64.b64encode(CARD),
    "NUL": b"\r\n" + b"\0" * MEGABYTES + CARD,
    "invalid UTF-8": b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + b"\xc3\xff" * (MEGABYTES // 2) + b" " + CARD,
    "boundaries": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b" * (MEGABYTES // 3) + b"\r\n" + CARD,
    "subject": b"Subject: " + b"=?utf-8?q?" * (MEGABYTES // 10) + b" " + CARD + b"\r\n\r\n",
    "parameters": b"Content-Type: text/plain" + b';a="' * (MEGABYTES // 4) + b"\r\n\r\n" + CARD,
    "references": b"Content-Type: text/html\r\n\r\n" + b"&#" * (MEGABYTES // 2) + b" " + CARD,
}


@pytest.mark.parametrize("kind", LARGE)
def test_finds_the_number_behind_ten_megabytes_in_time(kind: str) -> None:
    started = time.monotonic()
    assert list(verdict_on(LARGE[kind]).tags) == ["card-number"]
    assert time.monotonic() - started < 20, "a hostile message must not hold a filter past the proxy's 30 s"


def test_refuses_ten_megabytes_of_digit_groups_in_time() -> None:
    started = time.monotonic()
    assert list(verdict_on(b"\r\n" + b"4 " * (MEGABYTES // 2)).tags) == ["uninspectable"]
    assert time.monotonic() - started < 20


def test_refuses_a_header_of_a_million_fields() -> None:
    assert list(verdict_on(b"a:\r\n" * 1_000_000).tags) == ["uninspectable"]


def test_any_octets_give_texts_or_too_deep() -> None:
    chance = random.Random(6)
    pieces = [path.read_bytes() for path in MESSAGES]
    for _ in range(3_000):
        octets = bytearray(chance.choice(pieces))
        for _ in range(chance.randrange(1, 12)):
            at = chance.randrange(len(octets) + 1)
            match chance.randrange(3):
                case 0:
                    octets[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(4)))
                case 1:
                    del octets[at : at + chance.randrange(16)]
                case _:
                    other = chance.choice(pieces)
                    octets[at:at] = other[chance.randrange(len(other) + 1) :]
        try:
            for text in texts(bytes(octets)):
                assert isinstance(text, str)
        except TooDeep:
            pass


@pytest.mark.parametrize(
    "digits",
    ["4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005"]
    + ["371449635398431", "30569309025904", "6011111111111117", "3530111333300000", "6200000000000005"],
)
def test_knows_the_issuers_test_numbers_and_no_neighbour_of_them(digits: str) -> None:
    assert is_card_number(digits)
    for other in range(10):
        if other != int(digits[-1]):
            assert not is_card_number(digits[:-1] + str(other))


def test_counts_each_number_once() -> None:
    assert find("4111111111111111 5555 5555 5555 4444", Budget()) == 2


def test_budget_is_an_error_and_no_clean_bill() -> None:
    with pytest.raises(TooMuch):
        find("4 " * 100, Budget(10))
