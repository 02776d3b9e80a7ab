"""Hooks for warp, the outbound transparent SMTP proxy.

    from warp_hook import Envelope, Hook, Message, Verdict, add_header, insert

    hook = Hook("tagger", version="1.0")

    @hook.filter
    async def check(envelope: Envelope, message: Message) -> Verdict:
        return add_header(insert("X-Checked", "yes"))

    hook.run("127.0.0.1:7001")

A filter, an observer and a choice of route are each one function, `async` or not; this package makes a gRPC server of
them, with Describe, acknowledgements, health checks and a graceful stop. What the fields of an envelope or an event
mean stands in the protocol: proto/warp/hook/v1/hook.proto.
"""

from .hook import Batch, Hook
from .message import BlockingMessage, Message, MessageTooComplex, MessageTooLong
from .server import Server, Tls, argument_parser, run_from, serve
from .v1.hook_pb2 import (
    AfterComm,
    AfterConn,
    AfterTransaction,
    Capability,
    Envelope,
    Event,
    Gap,
    HeaderEdit,
    Notice,
    Outcome,
    SelectRouteRequest,
)
from .verdicts import (
    Route,
    Verdict,
    add,
    add_header,
    discard,
    insert,
    refuse,
    reject,
    relay,
    remove,
    replace,
    set_field,
    use_pool,
    use_source_ip,
)

__all__ = [
    "AfterComm",
    "AfterConn",
    "AfterTransaction",
    "Batch",
    "BlockingMessage",
    "Capability",
    "Envelope",
    "Event",
    "Gap",
    "HeaderEdit",
    "Hook",
    "Message",
    "MessageTooComplex",
    "MessageTooLong",
    "Notice",
    "Outcome",
    "Route",
    "SelectRouteRequest",
    "Server",
    "Tls",
    "Verdict",
    "add",
    "add_header",
    "argument_parser",
    "discard",
    "insert",
    "refuse",
    "reject",
    "relay",
    "remove",
    "replace",
    "run_from",
    "serve",
    "set_field",
    "use_pool",
    "use_source_ip",
]
