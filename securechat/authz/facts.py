"""A profile as the engine's request and entities, in Cedar's JSON form.

The ids say only what is one's own: the principal is ``self`` of the organisation ``own``, the resource
is ``it``.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from securechat.authz.model import RESOURCE_OF, ResourceKind
from securechat.authz.profile import Profile

JsonValue = bool | int | str | list["JsonValue"] | dict[str, "JsonValue"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def cedar_request(profile: Profile) -> dict[str, JsonValue]:
    """Return the request that has ``profile``. Raises OverflowError for a time past the year 9999."""
    when = _EPOCH + timedelta(minutes=profile.minute)
    return {
        "principal": _uid("User", "self"),
        "action": _uid("Action", profile.action.value),
        "resource": _uid(RESOURCE_OF[profile.action].value, "it"),
        "context": {
            "now": {"__extn": {"fn": "datetime", "arg": when.strftime("%Y-%m-%dT%H:%M:%SZ")}},
            "hour": profile.hour,
            "mfa": profile.mfa,
            "device_trusted": profile.device_trusted,
            "on_site": profile.on_site,
            "purpose": _ref("Purpose", profile.purpose),
        },
    }


def cedar_entities(profile: Profile, roles: frozenset[str]) -> list[JsonValue]:
    """Return the principal and the resource, with ids that tell only what is one's own."""
    user: dict[str, JsonValue] = {
        "uid": _uid("User", "self"),
        "attrs": {
            "org": _ref("Org", "own"),
            "status": _ref("AccountStatus", profile.principal_status),
            "kind": _ref("PrincipalKind", profile.principal_kind),
        },
        "parents": [_uid("Role", role) for role in sorted(roles)],
    }
    kind = RESOURCE_OF[profile.action]
    resource: dict[str, JsonValue] = {
        "uid": _uid(kind.value, "it"),
        "attrs": _attributes(kind, profile),
        "parents": [],
    }
    return [user, resource]


def _attributes(kind: ResourceKind, profile: Profile) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {"org": _ref("Org", "own" if profile.same_org else "other")}
    subject = _ref("User", "self" if profile.own else "other")
    if kind is ResourceKind.ACCOUNT:
        found |= {"patient": profile.patient, "status": _ref("AccountStatus", profile.status)}
    if kind is ResourceKind.ACCOUNT and profile.has_subject:
        found["subject"] = subject
    if kind is ResourceKind.MAILBOX and profile.has_subject:
        found["owner"] = subject
    return found


def _uid(entity_type: str, entity_id: str) -> dict[str, JsonValue]:
    return {"type": entity_type, "id": entity_id}


def _ref(entity_type: str, entity_id: str) -> dict[str, JsonValue]:
    return {"__entity": {"type": entity_type, "id": entity_id}}
