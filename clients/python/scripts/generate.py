"""Generates src/warp_hook/v1 from the protocol's .proto, or (--check) says whether what is there is fresh.

The .proto is given to protoc under the path that the stubs have in this package (-I VIRTUAL=REAL), so that the
generated imports need no rewriting; names and numbers on the wire come from its `package` line and stay as they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT.parent.parent / "proto" / "warp" / "hook" / "v1"
TARGET = ROOT / "src" / "warp_hook" / "v1"
FILES = ("hook_pb2.py", "hook_pb2.pyi", "hook_pb2_grpc.py")


def generate(out: Path) -> None:
    """Writes the stubs below `out`, as warp_hook/v1/…; raises RuntimeError when protoc does not like the .proto."""
    include = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-Iwarp_hook/v1={PROTO}",
            f"-I{include}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            "warp_hook/v1/hook.proto",
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc ended with {status}")


def stale() -> list[str]:
    """The committed files that differ from what would be generated now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "warp_hook" / "v1"
        return [name for name in FILES if not _same(fresh / name, TARGET / name)]


def _same(left: Path, right: Path) -> bool:
    return right.exists() and left.read_bytes() == right.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the Python stubs of the hook protocol.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the committed stubs are stale")
    if parser.parse_args().check:
        names = stale()
        for name in names:
            print(f"{TARGET.relative_to(ROOT) / name} is stale: run python scripts/generate.py", file=sys.stderr)
        return 1 if names else 0
    generate(ROOT / "src")
    return 0


if __name__ == "__main__":
    sys.exit(main())
