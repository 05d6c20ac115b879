"""What travels over a live connection (INTERFACES §9): operations of clients, frames of the server, close codes.

Border: pure. A frame's items are JSON text that is rendered once and shared by everybody who gets it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from schemas.live import CHANNELS

MAX_ITEMS_CHARS: Final = 32 * 1024
"""Items of one snapshot or replay frame; a single larger item travels alone."""

MAX_FRAME_CHARS: Final = 128 * 1024
"""Items of one frame of events; a single larger item travels alone."""

_MAX_TOKEN_CHARS: Final = 4_096
_MAX_FILTER_IDS: Final = 1_000
_MAX_ID_CHARS: Final = 64
_MAX_ID: Final = 2**53
_FINAL_TEXT: Final = 0x81
_TWO_BYTE_LENGTH, _EIGHT_BYTE_LENGTH = 126, 127
_MAX_TWO_BYTES: Final = 0xFFFF


class CloseCode(IntEnum):
    """3000-3499: come back after `retry_ms` with the cursor; 3500-3999: do not."""

    SERVER_ERROR = 3000
    DRAINING = 3001
    SLOW = 3008
    RATE_LIMITED = 3009
    TOO_MANY_CONNECTIONS = 3010
    RESYNC = 3011
    UNAUTHORIZED = 3500
    BAD_REQUEST = 3501
    AUTH_TIMEOUT = 3502
    REVOKED = 3503
    TOO_MANY_ERRORS = 3504


class Code(StrEnum):
    """What is wrong with a message, for programs."""

    MALFORMED = "malformed"
    UNKNOWN_OP = "unknown_op"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_CHANNEL = "unknown_channel"
    INVALID_FILTER = "invalid_filter"
    UNAUTHENTICATED = "unauthenticated"
    RATE_LIMITED = "rate_limited"
    MISSING_PERMISSION = "missing_permission"
    DUPLICATE_ID = "duplicate_id"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    UNKNOWN_ID = "unknown_id"


class BadMessage(Exception):
    """A message of a client that cannot be taken.

    Attributes:
        code: a stable name for programs.
        ref: JSON text of the message's `id`, `null` if it has none.
    """

    def __init__(self, code: Code, message: str, ref: str = "null") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.ref = ref


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a subscription is narrowed to; fields narrow together, ids within a field widen. Empty: everything."""

    sensor_id: tuple[str, ...] | str = ()
    site_id: tuple[str, ...] | str = ()
    unit_id: tuple[str, ...] | str = ()

    def ids(self) -> dict[str, list[str]]:
        """The fields that narrow, each with its ids."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: [value] if isinstance(value, str) else list(value) for name, value in found.items() if value}


class Criteria:
    """A filter ready to be asked; equal filters are equal."""

    __slots__ = ("_key", "sensors", "sites", "units")

    def __init__(self, wanted: Filter | None = None) -> None:
        ids = {} if wanted is None else wanted.ids()
        self.sensors, self.sites, self.units = (
            frozenset(ids[name]) if name in ids else None for name in ("sensor_id", "site_id", "unit_id")
        )
        self._key = (self.sensors, self.sites, self.units)

    def passes(self, sensor_id: str | None, site_id: str | None, unit_id: str | None) -> bool:
        """Whether what comes from there is wanted."""
        return (
            (self.sensors is None or sensor_id in self.sensors)
            and (self.sites is None or site_id in self.sites)
            and (self.units is None or unit_id in self.units)
        )

    @property
    def narrows(self) -> dict[str, list[str]]:
        """Fields and ids, for a query."""
        named = zip(("sensor_id", "site_id", "unit_id"), self._key, strict=True)
        return {name: sorted(ids) for name, ids in named if ids is not None}

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Criteria) and self._key == other._key


class Auth(msgspec.Struct, tag_field="op", tag="auth"):
    """The first message, or a fresh credential later."""

    token: str


class Subscribe(msgspec.Struct, tag_field="op", tag="subscribe"):
    """Asks for a channel, from a cursor on or with a snapshot."""

    id: int | str
    channel: str
    filter: Filter | None = None
    cursor: str | None = None


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe"):
    """Ends a subscription."""

    id: int | str


class Ping(msgspec.Struct, tag_field="op", tag="ping"):
    """Asks for a pong."""


class Pong(msgspec.Struct, tag_field="op", tag="pong"):
    """Answers a ping; the server asks with WebSocket's own pings, so this does nothing."""


Operation = Auth | Subscribe | Unsubscribe | Ping | Pong
_decoder: Final[msgspec.json.Decoder[Operation]] = msgspec.json.Decoder(Operation)


class _Outline(msgspec.Struct):
    op: object = None
    id: object = None


def decode(text: str) -> Operation:
    """A client's message.

    Raises:
        BadMessage: it is not JSON, no operation, or has a wrong field.
    """
    try:
        operation = _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise _explained(text, error) from None
    except (msgspec.DecodeError, RecursionError):
        raise BadMessage(Code.MALFORMED, "the message is not JSON; send one JSON object per text message") from None
    _require_sane(operation)
    return operation


def _explained(text: str, error: msgspec.ValidationError) -> BadMessage:
    """What is wrong with a message that is JSON."""
    known = ("auth", "subscribe", "unsubscribe", "ping", "pong")
    try:
        outline = msgspec.json.decode(text, type=_Outline)
    except msgspec.DecodeError:
        return BadMessage(Code.MALFORMED, "the message is not a JSON object; send one JSON object per text message")
    ref = ref_of(outline.id) if isinstance(outline.id, (int, str)) else "null"
    if outline.op not in known:
        return BadMessage(Code.UNKNOWN_OP, f"op is none of {', '.join(known)}", ref)
    return BadMessage(Code.INVALID_MESSAGE, str(error)[:200], ref)


def _require_sane(operation: Operation) -> None:
    """Bounds that types cannot say."""
    if isinstance(operation, Auth) and len(operation.token) > _MAX_TOKEN_CHARS:
        raise BadMessage(Code.INVALID_MESSAGE, f"token has more than {_MAX_TOKEN_CHARS} characters")
    if isinstance(operation, (Subscribe, Unsubscribe)):
        is_long = isinstance(operation.id, str) and len(operation.id) > _MAX_ID_CHARS
        if is_long or (isinstance(operation.id, int) and abs(operation.id) > _MAX_ID):
            raise BadMessage(
                Code.INVALID_MESSAGE, f"id is a number up to 2^53 or a text up to {_MAX_ID_CHARS} characters"
            )
    if isinstance(operation, Subscribe):
        _require_channel(operation)


def _require_channel(operation: Subscribe) -> None:
    ref = ref_of(operation.id)
    if operation.channel not in CHANNELS:
        raise BadMessage(Code.UNKNOWN_CHANNEL, f"channel is none of {', '.join(CHANNELS)}", ref)
    ids = {} if operation.filter is None else operation.filter.ids()
    if ids and operation.channel in {"usage", "jobs"}:
        raise BadMessage(Code.INVALID_FILTER, f"channel {operation.channel} has no filter; leave it out", ref)
    if sum(map(len, ids.values())) > _MAX_FILTER_IDS:
        raise BadMessage(
            Code.INVALID_FILTER, f"a filter names at most {_MAX_FILTER_IDS} ids; subscribe several times", ref
        )


def ref_of(value: object) -> str:
    """JSON text of a client's `id`."""
    return msgspec.json.encode(value).decode()


class Message:
    """A server's frame that several may get: the part after `id` is rendered once, whole frames once per `id`.

    Args:
        op: what it is.
        tail: the rest as JSON text, beginning with a comma unless empty.
        cursor: where it leaves the subscription, if it moves it.
    """

    __slots__ = ("_frames", "_wires", "cursor", "op", "tail")

    def __init__(self, op: str, tail: str, cursor: str | None = None) -> None:
        self.op = op
        self.tail = tail
        self.cursor = cursor
        self._frames: dict[str, str] = {}
        self._wires: dict[str, bytes] = {}

    def frame(self, ref: str) -> str:
        """The frame of INTERFACES §9 for a subscription's id."""
        found = self._frames.get(ref)
        if found is None:
            found = self._frames[ref] = f'{{"op":"{self.op}","id":{ref}{self.tail}}}'
        return found

    def wire(self, ref: str) -> bytes:
        """The same frame as it travels over a WebSocket: a server's frames are not masked, so all get the same bytes."""
        found = self._wires.get(ref)
        if found is None:
            found = self._wires[ref] = _text_frame(self.frame(ref).encode())
        return found

    def content(self) -> str:
        """The same as JSON object without an id, for doors that have their own way to say what it belongs to."""
        return f'{{"op":"{self.op}"{self.tail}}}'


def _text_frame(payload: bytes) -> bytes:
    """An unmasked text message in one frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < _TWO_BYTE_LENGTH:
        return bytes((_FINAL_TEXT, size)) + payload
    if size <= _MAX_TWO_BYTES:
        return struct.pack(">BBH", _FINAL_TEXT, _TWO_BYTE_LENGTH, size) + payload
    return struct.pack(">BBQ", _FINAL_TEXT, _EIGHT_BYTE_LENGTH, size) + payload


def event(cursor: str, items: Iterable[str]) -> Message:
    """Things that happened."""
    return Message("event", f',"cursor":"{cursor}","items":[{",".join(items)}]', cursor)


def snapshot(items: Iterable[str], *, more: bool) -> Message:
    """One page of how things stand."""
    return Message("snapshot", f',"items":[{",".join(items)}],"more":{"true" if more else "false"}')


def sync(cursor: str) -> Message:
    """From here on events follow as they happen."""
    return Message("sync", f',"cursor":"{cursor}"', cursor)


def unrecoverable(reason: str) -> Message:
    """The cursor cannot be honoured; a snapshot follows."""
    return Message("unrecoverable", f',"reason":"{reason}"')


def ready(tenant_id: str, retry_ms: int) -> str:
    """Authenticated."""
    return f'{{"op":"ready","tenant_id":"{tenant_id}","retry_ms":{retry_ms}}}'


def failure(code: str, message: str, ref: str = "null", retry_ms: int | None = None) -> str:
    """Something was refused."""
    retry = "" if retry_ms is None else f',"retry_ms":{retry_ms}'
    return f'{{"op":"error","id":{ref},"code":"{code}","message":{ref_of(message)}{retry}}}'


PONG: Final = '{"op":"pong"}'


def pages(items: Sequence[str], limit: int = MAX_ITEMS_CHARS) -> Iterator[list[str]]:
    """Items in frames of bounded size; at least one page, which may be empty."""
    page: list[str] = []
    size = 0
    for item in items:
        if page and size + len(item) > limit:
            yield page
            page, size = [], 0
        page.append(item)
        size += len(item)
    yield page
