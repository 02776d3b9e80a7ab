"""The message of one BeforeRelay call: RFC 5322 octets with CRLF lines, not dot-stuffed, read as they arrive.

Nothing is read before it is asked for, so a filter that decides by the envelope or the header section answers without
waiting for the rest. What `read`, `read_header` and the parsers have read is kept; iterating hands chunks out and keeps
nothing. `Message` is for `async` functions, `BlockingMessage` has the same methods for plain ones (in a thread).
"""

from __future__ import annotations

import asyncio
import email.parser
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any, TypeVar, cast

from .threads import Threads

T = TypeVar("T")


class MessageTooLong(Exception):
    """More octets came than the hook said that it takes (`max_message_octets`)."""


class MessageTooComplex(ValueError):
    """The message's parts are nested deeper than Python's parser can follow."""


class TolerantPolicy(EmailPolicy):
    """`email.policy.default`, but a field that Python's header parser cannot read is given as its raw text."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """The parsed field; where its parser raises, the text of the field without line ends."""
        try:
            return super().header_fetch_parse(name, value)
        except Exception:  # whatever it raises (IndexError and others have been seen) is about this text alone
            return str(value).replace("\r", "").replace("\n", "")


POLICY = TolerantPolicy()


class Message:
    """One message, for an `async` filter."""

    def __init__(self, chunks: AsyncIterator[bytes], threads: Threads, max_octets: int = 0) -> None:
        self._chunks = chunks
        self._threads = threads
        self._max_octets = max_octets
        self._kept = bytearray()
        self._octets = 0
        self._ended = False
        self._streamed = False
        self._email: EmailMessage | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The message from its beginning, in chunks of at most 64 KiB. Can be done once."""
        self._refuse_second_reading()
        self._streamed = True
        if self._kept:
            yield bytes(self._kept)
            self._kept.clear()
        while (chunk := await self._next()) is not None:
            yield chunk

    async def read(self) -> bytes:
        """The whole message."""
        self._refuse_second_reading()
        while (chunk := await self._next()) is not None:
            self._kept += chunk
        return bytes(self._kept)

    async def read_header(self) -> bytes:
        """The header section with the CRLF of its last line, without the empty line; all there is, where none follows."""
        self._refuse_second_reading()
        searched = 0
        while (end := _header_end(self._kept, searched)) < 0:
            searched = len(self._kept)
            chunk = await self._next()
            if chunk is None:
                return bytes(self._kept)
            self._kept += chunk
        return bytes(self._kept[:end])

    async def email(self) -> EmailMessage:
        """The whole message, parsed (in a thread, once). Raises MessageTooComplex; broken fields come as raw text."""
        if self._email is None:
            octets = await self.read()
            self._email = await self._threads.run(parse, octets)
        return self._email

    async def headers(self) -> EmailMessage:
        """The header section, parsed; the message's body need not have arrived."""
        return parse_header(await self.read_header())

    async def _next(self) -> bytes | None:
        if self._ended:
            return None
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            return None
        self._octets += len(chunk)
        if self._max_octets and self._octets > self._max_octets:
            raise MessageTooLong(f"more than {self._max_octets} octets came, which is the limit that Describe gave")
        return chunk

    def _refuse_second_reading(self) -> None:
        if self._streamed:
            raise RuntimeError("this message was handed out in chunks and is gone; call read() instead of iterating")


class BlockingMessage:
    """One message, for a filter that is a plain function: the methods of `Message`, which wait. Use it in its thread."""

    def __init__(self, message: Message, loop: asyncio.AbstractEventLoop) -> None:
        self._message = message
        self._loop = loop
        self._closed = False
        self._waiting: Future[Any] | None = None

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._message.__aiter__()

        async def following() -> bytes | None:
            return await anext(chunks, None)

        while (chunk := self._wait(following)) is not None:
            yield chunk

    def read(self) -> bytes:
        """The whole message."""
        return self._wait(self._message.read)

    def read_header(self) -> bytes:
        """The header section with the CRLF of its last line, without the empty line; all there is, where none follows."""
        return self._wait(self._message.read_header)

    def email(self) -> EmailMessage:
        """The whole message, parsed (once). Raises MessageTooComplex; broken fields come as raw text."""
        return self._wait(self._message.email)

    def headers(self) -> EmailMessage:
        """The header section, parsed; the message's body need not have arrived."""
        return self._wait(self._message.headers)

    def close(self) -> None:
        """The call is over: a function that waits for the message, or asks for it later, gets a `CancelledError` (of
        `concurrent.futures`). Called in the loop's thread."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _wait(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._closed:
            raise CancelledError("the proxy no longer waits for this verdict")
        waiting = asyncio.run_coroutine_threadsafe(start(), self._loop)
        self._waiting = waiting
        if self._closed:  # close() came between the two lines above and did not see what to cancel
            waiting.cancel()
        return waiting.result()


def parse(octets: bytes) -> EmailMessage:
    """A message as `email.message.EmailMessage`, tolerant of broken fields. Raises MessageTooComplex."""
    try:
        return _parse(octets)
    except RecursionError:
        raise MessageTooComplex("the message's parts are nested too deeply") from None


def parse_header(octets: bytes) -> EmailMessage:
    """A header section as `email.message.EmailMessage` without a body."""
    return _parse(octets, headersonly=True)


def _parse(octets: bytes, *, headersonly: bool = False) -> EmailMessage:
    parser = email.parser.BytesParser(EmailMessage, policy=POLICY)
    return cast(EmailMessage, parser.parsebytes(octets, headersonly=headersonly))


def _header_end(octets: bytearray, searched: int) -> int:
    """Where the header section ends (behind the CRLF of its last line), or -1 while that isn't known."""
    if octets.startswith(b"\r\n"):
        return 0
    at = octets.find(b"\r\n\r\n", max(0, searched - 3))
    return at + 2 if at >= 0 else -1
