"""Entries: an event with its place in the log, as canonical bytes.

The stored bytes are what is hashed. ``parse_entry(encode_entry(x)) == x`` and ``encode_entry(parse_entry(b))
== b``: whatever this module would not have written, it does not read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from audit.canonical import Json, dumps, loads
from audit.catalogue import EventType
from audit.errors import EventError
from audit.event import Actor, ActorKind, AuditEvent, ObjectRef, Outcome, PolicyRef, Purpose, require_time

VERSION: Final = 1  # the "v" of every entry; another value is an error, never skipped
MAX_BODY: Final = 16 * 1024  # bytes

QUERY_COLUMNS: Final = (
    "seq", "t", "id", "type", "outcome", "actor", "patient", "object_kind", "object_id", "org",
)  # fmt: skip

Column: TypeAlias = "str | int | None"
_Fields: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, its sequence number (leaf index, from 0) and the log's time in microseconds since 1970."""

    seq: int
    t: int
    event: AuditEvent

    def columns(self) -> tuple[Column, ...]:
        """Return the values of ``QUERY_COLUMNS``, by which the store finds the entry."""
        event = self.event
        kind, object_id = (event.object.kind, event.object.id) if event.object else (None, None)
        return (
            self.seq, self.t, event.id, event.type.value, event.outcome.value, event.actor.id, event.patient,
            kind, object_id, event.org,
        )  # fmt: skip


def encode_entry(entry: Entry) -> bytes:
    """Return the canonical bytes, at most 16 KiB. Raises EventError if ``seq`` or ``t`` are out of range."""
    require_time("t", entry.t)
    require_time("seq", entry.seq)
    event = entry.event
    fields: dict[str, Json] = {
        "v": VERSION,
        "seq": entry.seq,
        "t": entry.t,
        "id": event.id,
        "type": event.type.value,
        "outcome": event.outcome.value,
        "actor": _actor_fields(event.actor),
    }
    if event.node is not None:
        fields["src"] = {"node": event.node}
    if event.object is not None:
        fields["object"] = {"kind": event.object.kind, "id": event.object.id}
    if event.policy is not None:
        fields["policy"] = {"set": event.policy.set_hash, "ids": event.policy.ids}
    if event.purpose is not None:
        fields["purpose"] = event.purpose.value
    if event.n != 1:
        fields["n"] = event.n
    if event.te is not None:
        fields["te"] = event.te
    for name, value in (
        ("reason", event.reason),
        ("patient", event.patient),
        ("org", event.org),
        ("site", event.site),
        ("grant", event.grant),
        ("req", event.request_id),
    ):
        if value is not None:
            fields[name] = value
    return dumps(fields)


def parse_entry(body: bytes) -> Entry:
    """Parse stored bytes. Raises EventError unless they are exactly what ``encode_entry`` writes."""
    if len(body) > MAX_BODY:
        raise EventError(f"an entry has {len(body)} bytes, more than {MAX_BODY}")
    try:
        fields = _mapping(loads(body), "an entry")
        entry = _entry(fields)
        same = encode_entry(entry) == body
    except (ValueError, RecursionError) as exc:  # both JSON parsers raise subclasses of ValueError
        raise EventError(f"an entry of {len(body)} bytes is no JSON of the schema") from exc
    if not same:
        raise EventError(f"an entry of {len(body)} bytes is not canonical or has an unknown field")
    return entry


def _entry(fields: _Fields) -> Entry:
    if _integer(fields, "v") != VERSION:
        raise EventError(f"an entry is not of version {VERSION}")
    return Entry(_integer(fields, "seq"), _integer(fields, "t"), _event(fields))


def _event(fields: _Fields) -> AuditEvent:
    purpose = _optional_string(fields, "purpose")
    return AuditEvent(
        id=_string(fields, "id"),
        type=EventType(_string(fields, "type")),
        outcome=Outcome(_string(fields, "outcome")),
        actor=_actor(_mapping(fields.get("actor"), "actor")),
        reason=_optional_string(fields, "reason"),
        object=_object(_mapping(fields["object"], "object")) if "object" in fields else None,
        patient=_optional_string(fields, "patient"),
        org=_optional_string(fields, "org"),
        site=_optional_string(fields, "site"),
        purpose=None if purpose is None else Purpose(purpose),
        grant=_optional_string(fields, "grant"),
        policy=_policy(_mapping(fields["policy"], "policy")) if "policy" in fields else None,
        node=_string(_mapping(fields["src"], "src"), "node") if "src" in fields else None,
        request_id=_optional_string(fields, "req"),
        n=_integer(fields, "n") if "n" in fields else 1,
        te=_integer(fields, "te") if "te" in fields else None,
    )


def _actor(fields: _Fields) -> Actor:
    mfa = fields.get("mfa")
    if mfa is not None and not isinstance(mfa, bool):
        raise EventError("mfa is not true or false")
    return Actor(
        id=_string(fields, "id"),
        kind=ActorKind(_string(fields, "kind")),
        roles=_strings(fields, "roles") if "roles" in fields else (),
        device=_optional_string(fields, "device"),
        session=_optional_string(fields, "session"),
        mfa=mfa,
        on_behalf=_optional_string(fields, "on_behalf"),
    )


def _actor_fields(actor: Actor) -> dict[str, Json]:
    fields: dict[str, Json] = {"id": actor.id, "kind": actor.kind.value}
    if actor.roles:
        fields["roles"] = actor.roles
    if actor.device is not None:
        fields["device"] = actor.device
    if actor.session is not None:
        fields["session"] = actor.session
    if actor.mfa is not None:
        fields["mfa"] = actor.mfa
    if actor.on_behalf is not None:
        fields["on_behalf"] = actor.on_behalf
    return fields


def _object(fields: _Fields) -> ObjectRef:
    return ObjectRef(_string(fields, "kind"), _string(fields, "id"))


def _policy(fields: _Fields) -> PolicyRef:
    return PolicyRef(_string(fields, "set"), _strings(fields, "ids"))


def _mapping(value: object, name: str) -> _Fields:
    if not isinstance(value, dict):
        raise EventError(f"{name} is no object")
    return value


def _string(fields: _Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise EventError(f"{name} is no string")
    return value


def _optional_string(fields: _Fields, name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value  # a null does not come out again, so it is refused as not canonical
    raise EventError(f"{name} is no string")


def _strings(fields: _Fields, name: str) -> tuple[str, ...]:
    values = fields.get(name)
    if not isinstance(values, list):
        raise EventError(f"{name} is no list")
    for value in values:
        if not isinstance(value, str):
            raise EventError(f"{name} holds something that is no string")
    return tuple(values)


def _integer(fields: _Fields, name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise EventError(f"{name} is no integer")
    return value
