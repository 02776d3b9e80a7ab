"""An observer that appends what happened to each message to a file, one JSON object per line.

    python examples/audit.py 127.0.0.1:7003 --file audit.jsonl
    warp --observer audit=127.0.0.1:7003 …

A batch is acknowledged once it is on the disk (fsync). What the proxy sends again after a reconnect or a crash is
recognised by its event id and not written twice, also across a restart of this program: the ids of the file's last lines
are read at the start, and a line that a crash cut in the middle is removed (it was never acknowledged).
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from warp_hook import Batch, Event, Hook, Outcome, argument_parser, run_from

# More than the proxy can have unacknowledged from one worker (8,192), with room for many workers.
REMEMBERED_IDS = 262_144


class AuditLog:
    """The file, which one process may have. `append` is called by one thread at a time or guarded by its caller."""

    def __init__(self, path: Path) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{path} is in use by another process") from None
        self._recover()

    def append(self, events: list[Event]) -> int:
        """Writes those events that are new and forces them to the disk; how many that were. Raises OSError."""
        fresh = {event.id: event for event in events if event.id not in self._ids}
        if fresh:
            size = os.fstat(self._file).st_size
            try:
                _write_all(self._file, b"".join(line(event) for event in fresh.values()))
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)  # nothing of a batch that is not acknowledged
                raise
            self._remember(fresh)
        return len(fresh)

    def close(self) -> None:
        """Gives the file back."""
        os.close(self._file)

    def _recover(self) -> None:
        size = 0
        with os.fdopen(os.dup(self._file), "rb") as lines:
            lines.seek(0)
            for octets in lines:
                if not octets.endswith(b"\n"):
                    break
                size += len(octets)
                self._remember({json.loads(octets)["id"]: None})
        os.ftruncate(self._file, size)

    def _remember(self, ids: dict[str, Event] | dict[str, None]) -> None:
        self._ids.update(dict.fromkeys(ids))
        while len(self._ids) > REMEMBERED_IDS:
            self._ids.popitem(last=False)


def line(event: Event) -> bytes:
    """One event as a JSON line. Octets of a peer are text where they are UTF-8, with U+FFFD where they are not."""
    record: dict[str, object] = {
        "id": event.id,
        "at": event.occurred_at.ToJsonString(),
        "connection_id": event.connection_id,
        "kind": event.WhichOneof("kind"),
    }
    match event.WhichOneof("kind"):
        case "after_transaction":
            done = event.after_transaction
            record |= {
                "client": done.session.client.ip,
                "destination": done.session.destination.ip,
                "source_ip": done.session.route.source_ip,
                "from": done.mail_from.address,
                "to": [
                    {"address": one.address.address, "code": one.final_reply.code, "class": one.final_reply.reply_class}
                    for one in done.recipients
                ],
                "outcome": outcome_word(done.outcome),
                "reply": done.final_reply.text.decode("utf-8", "replace"),
                "octets": done.message_octets,
                "message_id": done.message_id.decode("utf-8", "replace"),
                "filters": [
                    {"hook": one.hook, "verdict": one.verdict, "score": one.score, "failure": one.failure}
                    for one in done.filters
                ],
            }
        case "gap":
            gap = event.gap
            record |= {"first_sequence": gap.first_sequence, "count": gap.count, "reason": gap.reason}
        case "notice":
            notice = event.notice
            record |= {"code": notice.code, "text": notice.text, "fields": dict(notice.fields)}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def make_hook(log: AuditLog) -> Hook:
    """The hook that writes to this log."""
    hook = Hook("audit", version="1.0")

    # Plain functions run in a thread, so that the disk holds nobody up. Each stream has one batch in hand at a time; with
    # several workers or proxies there are several streams, hence the lock.
    lock = Lock()

    @hook.observer(events=["after_transaction"])
    def store(batch: Batch) -> None:
        with lock:
            log.append(list(batch.events))

    return hook


def _write_all(file: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(file, view) :]


def outcome_word(number: int) -> str:
    """`accepted`, `filtered`, …; a number that this program does not know yet is given as `outcome-N`."""
    try:
        return Outcome.Name(number).removeprefix("OUTCOME_").lower()
    except ValueError:
        return f"outcome-{number}"


def main() -> None:
    """Runs the hook as the command line says."""
    parser = argument_parser(__doc__)
    parser.add_argument("--file", type=Path, required=True, help="where the lines go (made if missing, mode 0600)")
    arguments = parser.parse_args()
    try:
        log = AuditLog(arguments.file)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"audit: {arguments.file}: {error!r}")
    try:
        run_from(make_hook(log), arguments)
    finally:
        log.close()


if __name__ == "__main__":
    main()
