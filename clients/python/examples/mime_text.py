"""The texts of a message, as a reader would see them: parts decoded, in Unicode, HTML without its tags.

A walker of its own, since hostile mail is the point: every input gives texts or TooDeep, in time linear to its size.
Broken structure is read in the way that shows most (a multipart without its boundary is text, a missing end is the end
of the message, what is around the parts is text too), for a mail client may read it so as well. RFC 2045-2047, 2231.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

MAX_DEPTH = 32
MAX_PARTS = 2_000
MAX_HEADER_LINES = 20_000
MAX_OCTETS = 128 * 1024 * 1024  # of decoded parts, all together

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_PARAMETER = re.compile(rb';\s*([^\s=;"]{1,64})\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
_ENCODED_WORD = re.compile(rb"=\?([^?\s]{1,64})\?([bBqQ])\?([^?\r\n]*)\?=")
_BETWEEN_WORDS = re.compile(rb"\?=[ \t]+=\?")
_BLOCK_TAG = re.compile(r"</?(?:p|div|br|hr|td|th|tr|li|table|h[1-6])\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_LONG_REFERENCE = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{7,})")  # no character; int() refuses very long ones
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\s]")
_CHARSET = re.compile(
    r"us-ascii|utf-?(?:7|8|16|32)(?:-?[bl]e)?|iso-8859-\d{1,2}|windows-\d{3,4}|cp\d{3,4}|koi8-[ru]|gb2312|gbk|gb18030"
    r"|big5|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|shift_jis|macintosh"
)
# Fields that a person writes; in the others long numbers are ids and times.
_WRITTEN = {b"subject", b"comments", b"keywords", b"from", b"to", b"cc", b"reply-to", b"content-description"}
_NAMED = {b"content-type", b"content-disposition"}


class TooDeep(Exception):
    """More parts, or more deeply nested, than anybody writes: what is in them was not looked at."""


@dataclass
class _Budget:
    parts: int = MAX_PARTS
    octets: int = MAX_OCTETS

    def spend(self, octets: int) -> None:
        self.parts -= 1
        self.octets -= octets
        if self.parts < 0 or self.octets < 0:
            raise TooDeep("too many parts")


def texts(message: bytes) -> Iterator[str]:
    """Every text of an RFC 5322 message: of the header what people write, then each part. Raises TooDeep."""
    return _entity(message, b"text/plain", 0, _Budget())


def _entity(octets: bytes, default_type: bytes, depth: int, budget: _Budget) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise TooDeep("parts inside parts inside parts")
    budget.spend(len(octets))
    header, body = _split(octets)
    fields = _fields(header)
    for name, value in fields:
        if name in _WRITTEN or name in _NAMED:
            yield _words(value)
    media, parameters = _media_type(_first(fields, b"content-type") or default_type)
    encoding = _first(fields, b"content-transfer-encoding").strip().lower()
    boundary = _boundary(parameters)
    if media.startswith(b"multipart/") and boundary:
        inner = b"message/rfc822" if media == b"multipart/digest" else b"text/plain"
        delimited = body if boundary in body else _decoded(body, encoding)
        yield from _parts(delimited, boundary, inner, depth, budget)
    elif media in (b"message/rfc822", b"message/global"):
        yield from _entity(_decoded(body, encoding), b"text/plain", depth + 1, budget)
    else:
        yield from _leaf(body, encoding, media, parameters.get(b"charset", b""))


def _parts(body: bytes, boundary: bytes, inner: bytes, depth: int, budget: _Budget) -> Iterator[str]:
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    start, is_part = 0, False
    for found in delimiter.finditer(body):
        yield from _segment(body[start : found.start()], is_part, inner, depth, budget)
        start, is_part = found.end(), found[1] is None
    yield from _segment(body[start:], is_part, inner, depth, budget)


def _segment(octets: bytes, is_part: bool, inner: bytes, depth: int, budget: _Budget) -> Iterator[str]:
    if is_part:
        yield from _entity(re.sub(rb"\A\r?\n", b"", octets, count=1), inner, depth + 1, budget)
    elif octets.strip():  # before the first part or behind the last
        yield octets.decode("latin-1")


def _leaf(body: bytes, encoding: bytes, media: bytes, charset: bytes) -> Iterator[str]:
    decoded = _decoded(body, encoding)
    if encoding == b"base64" and _NO_BASE64.search(body):
        yield body.decode("latin-1")  # it says base64 and is something else
    if not media.startswith((b"text/", b"message/", b"multipart/")) and not _looks_like_text(decoded):
        return
    for text in _unicode(decoded, charset):
        yield text
        if media == b"text/html":
            yield _without_tags(text)


def _split(octets: bytes) -> tuple[bytes, bytes]:
    empty_line = re.match(rb"\r?\n", octets)
    if empty_line:
        return b"", octets[empty_line.end() :]
    end = _HEADER_END.search(octets)
    return (octets[: end.start()], octets[end.end() :]) if end else (octets, b"")


def _fields(header: bytes) -> list[tuple[bytes, bytes]]:
    if header.count(b"\n") > MAX_HEADER_LINES:
        raise TooDeep("too many header fields")
    fields = []
    for line in re.split(rb"\r?\n", _FOLD.sub(b" ", header)):
        name, colon, value = line.partition(b":")
        # A line that is no field is read as text, for that is how it is shown.
        fields.append((name.strip().lower(), value) if colon else (b"comments", line))
    return fields


def _first(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for field, value in fields if field == name), b"")


def _media_type(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """`type/subtype` in lower case, and the parameters; the first of two with one name."""
    value = value[:16384]
    parameters: dict[bytes, bytes] = {}
    for name, text in _PARAMETER.findall(value):
        text = re.sub(rb"\\(.)", rb"\1", text[1:-1]) if text[:1] == b'"' == text[-1:] and len(text) > 1 else text.strip()
        parameters.setdefault(name.lower(), text)
    return value.partition(b";")[0].strip().lower(), parameters


def _boundary(parameters: dict[bytes, bytes]) -> bytes:
    """The boundary, also where RFC 2231 wrote it in pieces (`boundary*0=…; boundary*1*=…`)."""
    if b"boundary" in parameters:
        return parameters[b"boundary"].rstrip()
    pieces = []
    for number in range(16):
        plain = parameters.get(b"boundary*%d" % number)
        encoded = parameters.get(b"boundary*%d*" % number)
        if plain is None and encoded is None:
            break
        pieces.append(plain if plain is not None else unquote_to_bytes(encoded or b""))
    joined = b"".join(pieces) or unquote_to_bytes(parameters.get(b"boundary*", b""))
    return joined.rpartition(b"'")[2].rstrip()  # charset'language'value


def _decoded(body: bytes, encoding: bytes) -> bytes:
    if encoding == b"base64":
        return _base64(body)
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    return body


def _base64(body: bytes) -> bytes:
    """Whatever of it is base64: other octets are skipped, and what follows padding is decoded too (some readers do)."""
    pieces = []
    for piece in re.split(rb"=+", re.sub(rb"[^A-Za-z0-9+/=]", b"", body)):
        whole = len(piece) - (len(piece) % 4 == 1)  # one left over is less than an octet
        pieces.append(binascii.a2b_base64(piece[:whole] + b"=" * (-whole % 4)))
    return b"".join(pieces)


def _unicode(octets: bytes, charset: bytes) -> Iterator[str]:
    """The text in its charset; where that is wide or escaped, also as it is (for the label may be wrong)."""
    name = charset.decode("latin-1").strip().lower()
    if octets.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        name = "utf-32"
    elif octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        name = "utf-16"
    if not _CHARSET.fullmatch(name):
        name = "utf-8"
    if name.startswith(("utf-16", "utf16", "utf-32", "utf32", "utf-7", "utf7", "iso-2022", "cp")):
        yield octets.decode("latin-1")
    try:
        yield octets.decode(name, "replace")
    except (LookupError, ValueError):  # a charset that Python lacks, or a decoder that ignores "replace"
        yield octets.decode("latin-1")


def _words(value: bytes) -> str:
    """A field's value with its encoded words (RFC 2047) decoded."""

    def decode(word: re.Match[bytes]) -> bytes:
        text = word[3].replace(b"_", b" ")
        octets = _base64(word[3]) if word[2] in b"bB" else binascii.a2b_qp(text)
        return list(_unicode(octets, word[1].partition(b"*")[0]))[-1].encode("utf-8", "replace")

    return _ENCODED_WORD.sub(decode, _BETWEEN_WORDS.sub(b"?==?", value)).decode("utf-8", "replace")


def _without_tags(text: str) -> str:
    return html.unescape(_LONG_REFERENCE.sub(" ", _TAG.sub("", _BLOCK_TAG.sub("\n", text))))


def _looks_like_text(octets: bytes) -> bool:
    beginning = octets[:1024]
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return not re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]", beginning)
