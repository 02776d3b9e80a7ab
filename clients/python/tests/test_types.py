"""The package is typed: mypy is content with it, and tells an author of a wrong function what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[1]


def test_package_and_examples_are_typed_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    output, errors, status = api.run(["--cache-dir=/dev/null", "--no-error-summary"])
    assert (output, errors, status) == ("", "", 0)


HOOK = """
from warp_hook import *
hook = Hook("typed")
@hook.filter
async def waiting(envelope: Envelope, message: Message) -> Verdict:
    return relay() if await message.read() else reject()
@hook.filter
def blocking(envelope: Envelope, message: BlockingMessage) -> Verdict:
    return replace(message.read())
@hook.observer
async def store(batch: Batch) -> None: ...
@hook.observer(events=["after_conn"])
def store_conn(batch: Batch) -> None: ...
@hook.on_notice
def notice(event: Event, notice: Notice) -> None: ...
@hook.select_route
async def route(request: SelectRouteRequest) -> Route | None: ...
"""
WRONG = """
@hook.filter
async def no_verdict(envelope: Envelope, message: Message) -> bool: ...
@hook.filter
def not_awaited(envelope: Envelope, message: Message) -> Verdict: ...
@hook.observer
async def two_arguments(batch: Batch, event: Event) -> None: ...
@hook.on_notice
def other_record(event: Event, notice: AfterConn) -> None: ...
@hook.select_route
def no_route(request: SelectRouteRequest) -> str: ...
"""


def test_mypy_tells_right_functions_from_wrong_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "hooks.py").write_text(HOOK + WRONG)
    arguments = ["--cache-dir=/dev/null", "--no-error-summary", "--strict", "--config-file=", str(tmp_path / "hooks.py")]
    monkeypatch.setenv("MYPYPATH", str(ROOT / "src"))
    output, errors, _ = api.run(arguments)
    assert errors == ""
    complaints = [line for line in output.splitlines() if "[type-var]" in line]
    lines = [int(line.split("hooks.py:")[1].split(":")[0]) for line in complaints]
    assert sorted(set(lines)) == [HOOK.count("\n") + 2 * at for at in range(1, 6)], output
