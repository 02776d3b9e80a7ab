"""The builders: what they make, and what they refuse before the proxy would."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

import warp_hook as w
from warp_hook.v1 import hook_pb2 as pb


def test_score_tags_and_note_stand_beside_any_verdict() -> None:
    beside = {"score": 2.5, "tags": ["a", "b"], "note": "why"}
    for verdict in (
        w.relay(**beside),
        w.reject(**beside),
        w.add_header(w.insert("X", "y"), **beside),
        w.replace(b"a: b\r\n\r\n", **beside),
        w.discard(**beside),
    ):
        assert (verdict.score, list(verdict.tags), verdict.note) == (2.5, ["a", "b"], "why")


def test_verdicts_name_their_arm_even_when_it_is_empty() -> None:
    assert w.relay().WhichOneof("verdict") == "relay"
    assert w.discard().WhichOneof("verdict") == "discard"
    assert w.replace(b"").WhichOneof("verdict") == "replace"


def test_reject_fills_in_the_enhanced_code() -> None:
    assert w.reject().reject == pb.Reject(code=550, enhanced_code="5.7.1", text="Message rejected")
    assert w.reject(451).reject.enhanced_code == "4.7.1"
    assert w.refuse(451, "4.3.2", "Later").refuse == pb.Reject(code=451, enhanced_code="4.3.2", text="Later")


def test_header_edits_keep_their_order() -> None:
    edits = w.add_header(w.remove("X-A"), w.insert("X-A", "1"), w.add("X-B", "2"), w.set_field("X-C", "3", 2)).add_header.edits
    assert [edit.WhichOneof("edit") for edit in edits] == ["remove", "insert", "add", "set"]
    assert edits[3].set == pb.SetField(name="X-C", value="3", occurrence=2)
    assert edits[0].remove == pb.RemoveField(name="X-A", occurrence=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: w.reject(250),
        lambda: w.reject(99),
        lambda: w.reject(421),
        lambda: w.reject(521),
        lambda: w.reject(600),
        lambda: w.reject(550, "4.7.1"),
        lambda: w.reject(550, "5.7"),
        lambda: w.reject(text=""),
        lambda: w.reject(text="a\r\nb"),
        lambda: w.reject(text="ä"),
        lambda: w.reject(text="a" * 401),
        lambda: w.refuse(250),
        lambda: w.insert("X\r\nBcc", "a"),
        lambda: w.insert("X Y", "a"),
        lambda: w.insert("X:", "a"),
        lambda: w.insert("", "a"),
        lambda: w.insert("X\u00e4", "a"),
        lambda: w.add("X", "a\r\n\r\nbody"),
        lambda: w.set_field("X", "a\0"),
        lambda: w.set_field("X", "a", -1),
        lambda: w.remove("X", -1),
        lambda: w.add_header(),
        lambda: w.replace(b"a\nb"),
        lambda: w.replace(b"a\rb\r\n"),
        lambda: w.replace(b"a\r"),
        lambda: w.relay(score=math.nan),
        lambda: w.relay(score=math.inf),
        lambda: w.relay(tags="spam"),
        lambda: w.use_pool(""),
        lambda: w.use_source_ip(""),
    ],
)
def test_builders_refuse_what_the_proxy_would(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        build()


def test_a_long_and_a_stuffed_looking_replacement_are_fine() -> None:
    assert w.replace(b"a: b\r\n\r\n.\r\n..\r\n").replace.message.endswith(b"..\r\n")
    assert w.add_header(w.insert("X", "ä" * 5_000)).add_header.edits[0].insert.value.startswith("ä")
