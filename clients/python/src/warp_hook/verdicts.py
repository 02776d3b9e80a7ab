"""What a filter answers, and where a message shall go out: one builder for each arm of the protocol.

Each builder checks what the proxy would refuse (codes, field names, CR/LF/NUL), so that a mistake shows up as a
ValueError in the hook's own log and not only as "invalid" in the proxy's. Beside any verdict a score, tags and a note
may be given: they go into the proxy's events and log, never to the peer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from .v1 import hook_pb2 as pb

Verdict = pb.BeforeRelayResponse
Route = pb.SelectRouteResponse

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_FIELD_NAME = re.compile(r"[!-9;-~]+")
_PRINTABLE = re.compile(r"[ -~]*")
_REPLY_TEXT_LIMIT = 400


def relay(*, score: float = 0.0, tags: Iterable[str] = (), note: str = "") -> Verdict:
    """Pass the message on as it is."""
    return _beside(Verdict(relay=pb.Relay()), score, tags, note)


def reject(
    code: int = 550,
    enhanced_code: str = "",
    text: str = "Message rejected",
    *,
    score: float = 0.0,
    tags: Iterable[str] = (),
    note: str = "",
) -> Verdict:
    """Refuse the message: the client gets `CODE ENHANCED TEXT`.

    `code` is 4xx or 5xx, but not 421 or 521 (those speak of the connection). `enhanced_code` (RFC 3463) begins with
    the same digit; empty: `4.7.1` or `5.7.1`. `text` is printable US-ASCII, at most 400 octets.
    """
    return _beside(Verdict(reject=_reject(code, enhanced_code, text)), score, tags, note)


def add_header(*edits: pb.HeaderEdit, score: float = 0.0, tags: Iterable[str] = (), note: str = "") -> Verdict:
    """Pass the message on with its header edited: `insert`, `add`, `set_field` and `remove`, applied in order."""
    if not edits:
        raise ValueError("add_header needs at least one edit; to change nothing, answer relay()")
    return _beside(Verdict(add_header=pb.AddHeader(edits=edits)), score, tags, note)


def replace(message: bytes, *, score: float = 0.0, tags: Iterable[str] = (), note: str = "") -> Verdict:
    """Send this message instead: RFC 5322 octets with CRLF lines, not dot-stuffed, without the final dot."""
    if re.search(rb"(?<!\r)\n|\r(?!\n)", message):
        raise ValueError("a replacement has CRLF line ends only; this one has a bare CR or LF")
    return _beside(Verdict(replace=pb.Replace(message=message)), score, tags, note)


def discard(*, score: float = 0.0, tags: Iterable[str] = (), note: str = "") -> Verdict:
    """Answer 250 and throw the message away: only where `envelope.discard_allowed`, otherwise it is a failure."""
    return _beside(Verdict(discard=pb.Discard()), score, tags, note)


def insert(name: str, value: str) -> pb.HeaderEdit:
    """A field on top of the header (this alone leaves a DKIM signature valid). `value` is unfolded: the proxy folds."""
    return pb.HeaderEdit(insert=pb.Field(name=_name(name), value=_value(value)))


def add(name: str, value: str) -> pb.HeaderEdit:
    """A field at the end of the header section."""
    return pb.HeaderEdit(add=pb.Field(name=_name(name), value=_value(value)))


def set_field(name: str, value: str, occurrence: int = 1) -> pb.HeaderEdit:
    """Give a field another value: the `occurrence`th from the top, 0 for all of them; where there is none, it is added."""
    return pb.HeaderEdit(set=pb.SetField(name=_name(name), value=_value(value), occurrence=_occurrence(occurrence)))


def remove(name: str, occurrence: int = 0) -> pb.HeaderEdit:
    """Take a field out: the `occurrence`th from the top, 0 for all of them."""
    return pb.HeaderEdit(remove=pb.RemoveField(name=_name(name), occurrence=_occurrence(occurrence)))


def use_pool(name: str) -> Route:
    """Send from an address of this pool: one of `request.pools`."""
    if not name:
        raise ValueError("a pool has a name; to leave the choice to the proxy's rules, return None")
    return Route(pool=name)


def use_source_ip(ip: str) -> Route:
    """Send from this address, which must be one of the proxy's host."""
    if not ip:
        raise ValueError("a source IP is an address; to leave the choice to the proxy's rules, return None")
    return Route(source_ip=ip)


def refuse(code: int = 451, enhanced_code: str = "", text: str = "Message refused") -> Route:
    """Do not send this transaction at all; the limits are those of `reject`."""
    return Route(refuse=_reject(code, enhanced_code, text))


def _beside(verdict: Verdict, score: float, tags: Iterable[str], note: str) -> Verdict:
    if not math.isfinite(score):
        raise ValueError(f"a score is a finite number, not {score}")
    if isinstance(tags, str):
        raise ValueError(f"tags are a list of words, not one text: {tags!r}")
    verdict.score = score
    verdict.tags.extend(tags)
    verdict.note = note
    return verdict


def _reject(code: int, enhanced_code: str, text: str) -> pb.Reject:
    if not 400 <= code <= 599 or code in (421, 521):
        raise ValueError(f"a rejection has a code of 4xx or 5xx, but not 421 or 521; this is {code}")
    enhanced = enhanced_code or f"{code // 100}.7.1"
    if not _ENHANCED.fullmatch(enhanced) or enhanced[0] != str(code)[0]:
        raise ValueError(f"{enhanced!r} is no enhanced status code for {code} (RFC 3463: {code // 100}.x.y)")
    if not text or not _PRINTABLE.fullmatch(text) or len(text) > _REPLY_TEXT_LIMIT:
        raise ValueError(f"the text of a reply is 1 to {_REPLY_TEXT_LIMIT} printable US-ASCII characters: {text[:80]!r}")
    return pb.Reject(code=code, enhanced_code=enhanced, text=text)


def _name(name: str) -> str:
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no field name (RFC 5322: printable US-ASCII without colon and space)")
    return name


def _value(value: str) -> str:
    if re.search(r"[\r\n\0]", value):
        raise ValueError(f"a field's value has no CR, LF or NUL (the proxy folds): {value[:80]!r}")
    return value


def _occurrence(occurrence: int) -> int:
    if occurrence < 0:
        raise ValueError(f"an occurrence counts from 1, 0 means all; this is {occurrence}")
    return occurrence
