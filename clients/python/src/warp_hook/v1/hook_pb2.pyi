import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_AFTER_COMM: _ClassVar[Capability]
    CAPABILITY_AFTER_CONN: _ClassVar[Capability]
    CAPABILITY_BEFORE_RELAY: _ClassVar[Capability]
    CAPABILITY_AFTER_TRANSACTION: _ClassVar[Capability]
    CAPABILITY_SELECT_ROUTE: _ClassVar[Capability]

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_CLIENT_TO_PROXY: _ClassVar[Direction]
    DIRECTION_PROXY_TO_SERVER: _ClassVar[Direction]
    DIRECTION_SERVER_TO_PROXY: _ClassVar[Direction]
    DIRECTION_PROXY_TO_CLIENT: _ClassVar[Direction]
    DIRECTION_CLIENT_TO_SERVER: _ClassVar[Direction]
    DIRECTION_SERVER_TO_CLIENT: _ClassVar[Direction]
    DIRECTION_PROXY: _ClassVar[Direction]

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_UNSPECIFIED: _ClassVar[Origin]
    ORIGIN_UPSTREAM: _ClassVar[Origin]
    ORIGIN_WARP: _ClassVar[Origin]
    ORIGIN_HOOK: _ClassVar[Origin]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_ACCEPTED: _ClassVar[Outcome]
    OUTCOME_DEFERRED: _ClassVar[Outcome]
    OUTCOME_REFUSED: _ClassVar[Outcome]
    OUTCOME_FILTERED: _ClassVar[Outcome]
    OUTCOME_DISCARDED: _ClassVar[Outcome]
    OUTCOME_ABANDONED: _ClassVar[Outcome]
    OUTCOME_UNKNOWN: _ClassVar[Outcome]
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_AFTER_COMM: Capability
CAPABILITY_AFTER_CONN: Capability
CAPABILITY_BEFORE_RELAY: Capability
CAPABILITY_AFTER_TRANSACTION: Capability
CAPABILITY_SELECT_ROUTE: Capability
DIRECTION_UNSPECIFIED: Direction
DIRECTION_CLIENT_TO_PROXY: Direction
DIRECTION_PROXY_TO_SERVER: Direction
DIRECTION_SERVER_TO_PROXY: Direction
DIRECTION_PROXY_TO_CLIENT: Direction
DIRECTION_CLIENT_TO_SERVER: Direction
DIRECTION_SERVER_TO_CLIENT: Direction
DIRECTION_PROXY: Direction
ORIGIN_UNSPECIFIED: Origin
ORIGIN_UPSTREAM: Origin
ORIGIN_WARP: Origin
ORIGIN_HOOK: Origin
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_ACCEPTED: Outcome
OUTCOME_DEFERRED: Outcome
OUTCOME_REFUSED: Outcome
OUTCOME_FILTERED: Outcome
OUTCOME_DISCARDED: Outcome
OUTCOME_ABANDONED: Outcome
OUTCOME_UNKNOWN: Outcome

class DescribeRequest(_message.Message):
    __slots__ = ("warp_version", "hook_name", "source")
    WARP_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOOK_NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    warp_version: str
    hook_name: str
    source: Source
    def __init__(self, warp_version: _Optional[str] = ..., hook_name: _Optional[str] = ..., source: _Optional[_Union[Source, _Mapping]] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("name", "version", "capabilities", "max_message_octets", "header_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_OCTETS_FIELD_NUMBER: _ClassVar[int]
    HEADER_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    max_message_octets: int
    header_only: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ..., max_message_octets: _Optional[int] = ..., header_only: _Optional[bool] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("proxy", "worker", "epoch")
    PROXY_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    proxy: str
    worker: int
    epoch: str
    def __init__(self, proxy: _Optional[str] = ..., worker: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class ObserveRequest(_message.Message):
    __slots__ = ("source", "events")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    source: Source
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, source: _Optional[_Union[Source, _Mapping]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class ObserveResponse(_message.Message):
    __slots__ = ("acked_sequence",)
    ACKED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    acked_sequence: int
    def __init__(self, acked_sequence: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "sequence", "occurred_at", "connection_id", "after_comm", "after_transaction", "after_conn", "gap", "notice")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_COMM_FIELD_NUMBER: _ClassVar[int]
    AFTER_TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    AFTER_CONN_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    id: str
    sequence: int
    occurred_at: _timestamp_pb2.Timestamp
    connection_id: str
    after_comm: AfterComm
    after_transaction: AfterTransaction
    after_conn: AfterConn
    gap: Gap
    notice: Notice
    def __init__(self, id: _Optional[str] = ..., sequence: _Optional[int] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., connection_id: _Optional[str] = ..., after_comm: _Optional[_Union[AfterComm, _Mapping]] = ..., after_transaction: _Optional[_Union[AfterTransaction, _Mapping]] = ..., after_conn: _Optional[_Union[AfterConn, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("first_sequence", "count", "reason")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    count: int
    reason: str
    def __init__(self, first_sequence: _Optional[int] = ..., count: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("code", "text", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AfterComm(_message.Message):
    __slots__ = ("direction", "data", "truncated", "transaction_id", "leg", "redacted", "origin", "tls", "code")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    direction: Direction
    data: bytes
    truncated: bool
    transaction_id: str
    leg: int
    redacted: bool
    origin: Origin
    tls: bool
    code: str
    def __init__(self, direction: _Optional[_Union[Direction, str]] = ..., data: _Optional[bytes] = ..., truncated: _Optional[bool] = ..., transaction_id: _Optional[str] = ..., leg: _Optional[int] = ..., redacted: _Optional[bool] = ..., origin: _Optional[_Union[Origin, str]] = ..., tls: _Optional[bool] = ..., code: _Optional[str] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("ip", "port")
    IP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ip: str
    port: int
    def __init__(self, ip: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class Tls(_message.Message):
    __slots__ = ("encrypted", "version", "cipher", "peer_name", "verified", "reason", "policy")
    ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CIPHER_FIELD_NUMBER: _ClassVar[int]
    PEER_NAME_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    encrypted: bool
    version: str
    cipher: str
    peer_name: str
    verified: bool
    reason: str
    policy: str
    def __init__(self, encrypted: _Optional[bool] = ..., version: _Optional[str] = ..., cipher: _Optional[str] = ..., peer_name: _Optional[str] = ..., verified: _Optional[bool] = ..., reason: _Optional[str] = ..., policy: _Optional[str] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("source_ip", "pool", "rule", "tier", "pinned")
    SOURCE_IP_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    source_ip: str
    pool: str
    rule: str
    tier: str
    pinned: bool
    def __init__(self, source_ip: _Optional[str] = ..., pool: _Optional[str] = ..., rule: _Optional[str] = ..., tier: _Optional[str] = ..., pinned: _Optional[bool] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("connection_id", "client", "destination", "helo", "esmtp", "downstream_tls", "upstream_tls", "auth_user", "route", "source", "greeting", "provider")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    HELO_FIELD_NUMBER: _ClassVar[int]
    ESMTP_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_TLS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_TLS_FIELD_NUMBER: _ClassVar[int]
    AUTH_USER_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    GREETING_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    client: Endpoint
    destination: Endpoint
    helo: bytes
    esmtp: bool
    downstream_tls: Tls
    upstream_tls: Tls
    auth_user: str
    route: Route
    source: Source
    greeting: bytes
    provider: str
    def __init__(self, connection_id: _Optional[str] = ..., client: _Optional[_Union[Endpoint, _Mapping]] = ..., destination: _Optional[_Union[Endpoint, _Mapping]] = ..., helo: _Optional[bytes] = ..., esmtp: _Optional[bool] = ..., downstream_tls: _Optional[_Union[Tls, _Mapping]] = ..., upstream_tls: _Optional[_Union[Tls, _Mapping]] = ..., auth_user: _Optional[str] = ..., route: _Optional[_Union[Route, _Mapping]] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., greeting: _Optional[bytes] = ..., provider: _Optional[str] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("address", "raw")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    address: str
    raw: bytes
    def __init__(self, address: _Optional[str] = ..., raw: _Optional[bytes] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("code", "enhanced_code", "text", "origin", "reply_class", "latency", "hook")
    CODE_FIELD_NUMBER: _ClassVar[int]
    ENHANCED_CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    REPLY_CLASS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    HOOK_FIELD_NUMBER: _ClassVar[int]
    code: int
    enhanced_code: str
    text: bytes
    origin: Origin
    reply_class: str
    latency: _duration_pb2.Duration
    hook: str
    def __init__(self, code: _Optional[int] = ..., enhanced_code: _Optional[str] = ..., text: _Optional[bytes] = ..., origin: _Optional[_Union[Origin, str]] = ..., reply_class: _Optional[str] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., hook: _Optional[str] = ...) -> None: ...

class Recipient(_message.Message):
    __slots__ = ("address", "rcpt_reply", "final_reply")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RCPT_REPLY_FIELD_NUMBER: _ClassVar[int]
    FINAL_REPLY_FIELD_NUMBER: _ClassVar[int]
    address: Address
    rcpt_reply: Reply
    final_reply: Reply
    def __init__(self, address: _Optional[_Union[Address, _Mapping]] = ..., rcpt_reply: _Optional[_Union[Reply, _Mapping]] = ..., final_reply: _Optional[_Union[Reply, _Mapping]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("connect", "greeting", "ehlo", "tls", "mail", "rcpt", "data", "end_of_data", "filter", "elapse_ms")
    CONNECT_FIELD_NUMBER: _ClassVar[int]
    GREETING_FIELD_NUMBER: _ClassVar[int]
    EHLO_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    MAIL_FIELD_NUMBER: _ClassVar[int]
    RCPT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    END_OF_DATA_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ELAPSE_MS_FIELD_NUMBER: _ClassVar[int]
    connect: _duration_pb2.Duration
    greeting: _duration_pb2.Duration
    ehlo: _duration_pb2.Duration
    tls: _duration_pb2.Duration
    mail: _duration_pb2.Duration
    rcpt: _duration_pb2.Duration
    data: _duration_pb2.Duration
    end_of_data: _duration_pb2.Duration
    filter: _duration_pb2.Duration
    elapse_ms: int
    def __init__(self, connect: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., greeting: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ehlo: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tls: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., mail: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rcpt: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., data: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end_of_data: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., filter: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., elapse_ms: _Optional[int] = ...) -> None: ...

class FilterOutcome(_message.Message):
    __slots__ = ("hook", "verdict", "score", "tags", "failure", "on_failure", "duration", "shadow", "reply", "note")
    HOOK_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    hook: str
    verdict: str
    score: float
    tags: _containers.RepeatedScalarFieldContainer[str]
    failure: str
    on_failure: str
    duration: _duration_pb2.Duration
    shadow: bool
    reply: Reply
    note: str
    def __init__(self, hook: _Optional[str] = ..., verdict: _Optional[str] = ..., score: _Optional[float] = ..., tags: _Optional[_Iterable[str]] = ..., failure: _Optional[str] = ..., on_failure: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., shadow: _Optional[bool] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., note: _Optional[str] = ...) -> None: ...

class AfterTransaction(_message.Message):
    __slots__ = ("transaction_id", "session", "mail_from", "recipients", "mail_reply", "data_reply", "final_reply", "message_octets", "filters", "timing", "outcome", "bdat", "recipients_omitted", "message_id")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MAIL_FROM_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    MAIL_REPLY_FIELD_NUMBER: _ClassVar[int]
    DATA_REPLY_FIELD_NUMBER: _ClassVar[int]
    FINAL_REPLY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_OCTETS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    BDAT_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_OMITTED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    session: Session
    mail_from: Address
    recipients: _containers.RepeatedCompositeFieldContainer[Recipient]
    mail_reply: Reply
    data_reply: Reply
    final_reply: Reply
    message_octets: int
    filters: _containers.RepeatedCompositeFieldContainer[FilterOutcome]
    timing: Timing
    outcome: Outcome
    bdat: bool
    recipients_omitted: int
    message_id: bytes
    def __init__(self, transaction_id: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., mail_from: _Optional[_Union[Address, _Mapping]] = ..., recipients: _Optional[_Iterable[_Union[Recipient, _Mapping]]] = ..., mail_reply: _Optional[_Union[Reply, _Mapping]] = ..., data_reply: _Optional[_Union[Reply, _Mapping]] = ..., final_reply: _Optional[_Union[Reply, _Mapping]] = ..., message_octets: _Optional[int] = ..., filters: _Optional[_Iterable[_Union[FilterOutcome, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., bdat: _Optional[bool] = ..., recipients_omitted: _Optional[int] = ..., message_id: _Optional[bytes] = ...) -> None: ...

class AfterConn(_message.Message):
    __slots__ = ("session", "mail_from", "mail_to", "elapse_ms", "transactions", "legs", "octets_in", "octets_out", "duration", "closed_by", "close_reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MAIL_FROM_FIELD_NUMBER: _ClassVar[int]
    MAIL_TO_FIELD_NUMBER: _ClassVar[int]
    ELAPSE_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    OCTETS_IN_FIELD_NUMBER: _ClassVar[int]
    OCTETS_OUT_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CLOSED_BY_FIELD_NUMBER: _ClassVar[int]
    CLOSE_REASON_FIELD_NUMBER: _ClassVar[int]
    session: Session
    mail_from: Address
    mail_to: _containers.RepeatedCompositeFieldContainer[Address]
    elapse_ms: int
    transactions: int
    legs: int
    octets_in: int
    octets_out: int
    duration: _duration_pb2.Duration
    closed_by: str
    close_reason: bytes
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., mail_from: _Optional[_Union[Address, _Mapping]] = ..., mail_to: _Optional[_Iterable[_Union[Address, _Mapping]]] = ..., elapse_ms: _Optional[int] = ..., transactions: _Optional[int] = ..., legs: _Optional[int] = ..., octets_in: _Optional[int] = ..., octets_out: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., closed_by: _Optional[str] = ..., close_reason: _Optional[bytes] = ...) -> None: ...

class BeforeRelayRequest(_message.Message):
    __slots__ = ("envelope", "chunk")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    envelope: Envelope
    chunk: bytes
    def __init__(self, envelope: _Optional[_Union[Envelope, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("transaction_id", "session", "mail_from", "recipients", "message_octets", "truncated", "header_only", "earlier", "time_left", "smtputf8", "eight_bit", "discard_allowed", "max_octets")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MAIL_FROM_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_OCTETS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    HEADER_ONLY_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_FIELD_NUMBER: _ClassVar[int]
    SMTPUTF8_FIELD_NUMBER: _ClassVar[int]
    EIGHT_BIT_FIELD_NUMBER: _ClassVar[int]
    DISCARD_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    MAX_OCTETS_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    session: Session
    mail_from: Address
    recipients: _containers.RepeatedCompositeFieldContainer[Address]
    message_octets: int
    truncated: bool
    header_only: bool
    earlier: _containers.RepeatedCompositeFieldContainer[FilterOutcome]
    time_left: _duration_pb2.Duration
    smtputf8: bool
    eight_bit: bool
    discard_allowed: bool
    max_octets: int
    def __init__(self, transaction_id: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., mail_from: _Optional[_Union[Address, _Mapping]] = ..., recipients: _Optional[_Iterable[_Union[Address, _Mapping]]] = ..., message_octets: _Optional[int] = ..., truncated: _Optional[bool] = ..., header_only: _Optional[bool] = ..., earlier: _Optional[_Iterable[_Union[FilterOutcome, _Mapping]]] = ..., time_left: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., smtputf8: _Optional[bool] = ..., eight_bit: _Optional[bool] = ..., discard_allowed: _Optional[bool] = ..., max_octets: _Optional[int] = ...) -> None: ...

class BeforeRelayResponse(_message.Message):
    __slots__ = ("relay", "reject", "add_header", "replace", "discard", "score", "tags", "note")
    RELAY_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    ADD_HEADER_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    relay: Relay
    reject: Reject
    add_header: AddHeader
    replace: Replace
    discard: Discard
    score: float
    tags: _containers.RepeatedScalarFieldContainer[str]
    note: str
    def __init__(self, relay: _Optional[_Union[Relay, _Mapping]] = ..., reject: _Optional[_Union[Reject, _Mapping]] = ..., add_header: _Optional[_Union[AddHeader, _Mapping]] = ..., replace: _Optional[_Union[Replace, _Mapping]] = ..., discard: _Optional[_Union[Discard, _Mapping]] = ..., score: _Optional[float] = ..., tags: _Optional[_Iterable[str]] = ..., note: _Optional[str] = ...) -> None: ...

class Relay(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Reject(_message.Message):
    __slots__ = ("code", "enhanced_code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    ENHANCED_CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: int
    enhanced_code: str
    text: str
    def __init__(self, code: _Optional[int] = ..., enhanced_code: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class AddHeader(_message.Message):
    __slots__ = ("edits",)
    EDITS_FIELD_NUMBER: _ClassVar[int]
    edits: _containers.RepeatedCompositeFieldContainer[HeaderEdit]
    def __init__(self, edits: _Optional[_Iterable[_Union[HeaderEdit, _Mapping]]] = ...) -> None: ...

class HeaderEdit(_message.Message):
    __slots__ = ("add", "insert", "set", "remove")
    ADD_FIELD_NUMBER: _ClassVar[int]
    INSERT_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    add: Field
    insert: Field
    set: SetField
    remove: RemoveField
    def __init__(self, add: _Optional[_Union[Field, _Mapping]] = ..., insert: _Optional[_Union[Field, _Mapping]] = ..., set: _Optional[_Union[SetField, _Mapping]] = ..., remove: _Optional[_Union[RemoveField, _Mapping]] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class SetField(_message.Message):
    __slots__ = ("name", "value", "occurrence")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    OCCURRENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    occurrence: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., occurrence: _Optional[int] = ...) -> None: ...

class RemoveField(_message.Message):
    __slots__ = ("name", "occurrence")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OCCURRENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    occurrence: int
    def __init__(self, name: _Optional[str] = ..., occurrence: _Optional[int] = ...) -> None: ...

class Replace(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    def __init__(self, message: _Optional[bytes] = ...) -> None: ...

class Discard(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SelectRouteRequest(_message.Message):
    __slots__ = ("transaction_id", "session", "mail_from", "recipient", "sender", "score", "tier", "pools")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MAIL_FROM_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    session: Session
    mail_from: Address
    recipient: Address
    sender: str
    score: float
    tier: str
    pools: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, transaction_id: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., mail_from: _Optional[_Union[Address, _Mapping]] = ..., recipient: _Optional[_Union[Address, _Mapping]] = ..., sender: _Optional[str] = ..., score: _Optional[float] = ..., tier: _Optional[str] = ..., pools: _Optional[_Iterable[str]] = ...) -> None: ...

class SelectRouteResponse(_message.Message):
    __slots__ = ("pool", "source_ip", "refuse")
    POOL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IP_FIELD_NUMBER: _ClassVar[int]
    REFUSE_FIELD_NUMBER: _ClassVar[int]
    pool: str
    source_ip: str
    refuse: Reject
    def __init__(self, pool: _Optional[str] = ..., source_ip: _Optional[str] = ..., refuse: _Optional[_Union[Reject, _Mapping]] = ...) -> None: ...
