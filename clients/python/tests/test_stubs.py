"""The committed stubs are those that the protocol's .proto gives now."""

import generate


def test_committed_stubs_are_fresh() -> None:
    assert generate.stale() == [], "run: python scripts/generate.py"
