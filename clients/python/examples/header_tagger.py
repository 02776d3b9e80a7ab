"""A filter that scores each message by a few simple signs and writes the score into X-Spam-Score.

    python examples/header_tagger.py 127.0.0.1:7001
    warp --filter tagger=127.0.0.1:7001 …

It looks at the header section only, so the proxy need not send bodies, and the verdict comes before a large message
has been sent. Whatever a client had written into the field is replaced: a score that anybody can send means nothing.
"""

from __future__ import annotations

from email.message import EmailMessage

from warp_hook import Envelope, Hook, Message, Verdict, add_header, argument_parser, insert, remove, run_from

FIELD = "X-Spam-Score"

hook = Hook("header-tagger", version="1.0", header_only=True)


@hook.filter
async def tag(envelope: Envelope, message: Message) -> Verdict:
    """Scores, and replaces the field; the signs that were seen become the verdict's tags."""
    signs = seen(envelope, await message.headers())
    score = sum(signs.values())
    return add_header(remove(FIELD), insert(FIELD, f"{score:.1f}"), score=score, tags=sorted(signs))


def seen(envelope: Envelope, headers: EmailMessage) -> dict[str, float]:
    """The signs that this message shows, with their points."""
    subject = str(headers.get("Subject", ""))
    letters = [letter for letter in subject if letter.isalpha()]
    signs = {
        "no-date": (headers.get("Date") is None, 1.0),
        "no-from": (headers.get("From") is None, 2.0),
        "no-message-id": (headers.get("Message-ID") is None, 0.5),
        "no-subject": (not subject.strip(), 0.5),
        "shouting": (len(letters) >= 8 and all(letter.isupper() for letter in letters), 1.5),
        "many-recipients": (len(envelope.recipients) > 50, 1.0),
    }
    return {name: points for name, (shown, points) in signs.items() if shown}


if __name__ == "__main__":
    run_from(hook, argument_parser(__doc__).parse_args())
