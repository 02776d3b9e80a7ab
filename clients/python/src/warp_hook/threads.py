"""Threads for functions that are not `async`: one thread for each call, at most `limit` at once, further calls wait.

No pool is shared between filters, observers and routes, and no thread is held by an open stream, so neither can eat the
others'. A call that the proxy gave up on frees its place at once, though its function may still run: such functions are
counted, and more than `ABANDONED_LIMIT` of them are an error and not one more thread. The threads are daemons: a
function that never returns does not keep a stopped server alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

ABANDONED_LIMIT = 256


class Threads:
    """Runs plain functions beside the event loop."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._places = asyncio.Semaphore(limit)
        self._abandoned = 0

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result, or what it raised. Cancelling frees the place, not the thread."""
        async with self._places:
            if self._abandoned >= ABANDONED_LIMIT:
                raise RuntimeError(f"{self._abandoned} {self._name} functions hang after the proxy gave up on them")
            loop = asyncio.get_running_loop()
            future: asyncio.Future[R] = loop.create_future()
            context = contextvars.copy_context()

            def work() -> None:
                try:
                    outcome = _settle(future, context.run(function, *args, **kwargs))
                except BaseException as error:
                    outcome = _fail(future, error)
                try:
                    loop.call_soon_threadsafe(finish, outcome)
                except RuntimeError:
                    pass  # the loop is closed: the server has stopped, and nobody waits for this any more

            def finish(outcome: Callable[[], None]) -> None:
                if future.cancelled():
                    self._abandoned -= 1
                else:
                    outcome()

            threading.Thread(target=work, name=f"warp-hook-{self._name}", daemon=True).start()
            try:
                return await future
            except asyncio.CancelledError:
                if future.cancelled():
                    self._abandoned += 1
                raise


def _settle(future: asyncio.Future[R], result: R) -> Callable[[], None]:
    return lambda: future.set_result(result)


def _fail(future: asyncio.Future[R], error: BaseException) -> Callable[[], None]:
    if isinstance(error, (StopIteration, asyncio.CancelledError, SystemExit, KeyboardInterrupt)):
        wrapped = ended_with(error)  # these mean something else to the loop
        wrapped.__cause__ = error
        error = wrapped
    failure = error
    return lambda: future.set_exception(failure)


def ended_with(error: BaseException) -> RuntimeError:
    """In place of what a hook's function must not end with."""
    return RuntimeError(f"a hook's function ended with {error!r}")
