"""A filter that refuses messages with payment card numbers (data loss prevention).

    python examples/dlp.py 127.0.0.1:7002
    warp --filter dlp=127.0.0.1:7002 …

Looked at: the subject and other fields that people write, every text part (nested, base64 or quoted-printable, in any
usual charset, HTML without its tags), and attachments that look like text. Not looked at: archives, PDF, images. What
cannot be inspected within bounds (parts nested over 32 deep, thousands of parts, millions of digit groups) is refused
too: otherwise that would be the way around the filter.
"""

from __future__ import annotations

from card_numbers import Budget, TooMuch, find
from mime_text import TooDeep, texts

from warp_hook import BlockingMessage, Envelope, Hook, Verdict, argument_parser, reject, relay, run_from

# Eight at once: each has its message in memory, and Python looks at one at a time anyway.
hook = Hook("dlp", version="1.0", concurrency=8)


@hook.filter
def check(envelope: Envelope, message: BlockingMessage) -> Verdict:
    """A plain function: it computes, so it runs in a thread of its own and delays nobody's heartbeat."""
    budget = Budget()
    try:
        found = any(find(text, budget) for text in texts(message.read()))
    except (TooDeep, TooMuch) as error:
        return reject(554, "5.7.1", "Message cannot be inspected", tags=["uninspectable"], note=str(error))
    if found:
        # The number itself is in no reply, log or event.
        return reject(550, "5.7.1", "Message contains a payment card number", tags=["card-number"])
    partly = envelope.truncated or envelope.header_only
    return relay(tags=["partly-inspected"] if partly else [])


if __name__ == "__main__":
    run_from(hook, argument_parser(__doc__).parse_args())
