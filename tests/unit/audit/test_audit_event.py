"""Events: enumerations and opaque tags, and nothing that could hold a name or a sentence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.audit.support import event_id, make_event

from audit.catalogue import AuditClass, EventType, audit_class, types_matching
from audit.errors import EventError
from audit.event import MAX_INT, Actor, ObjectRef, Outcome, PolicyRef, uuid7

_FREE_TEXT = ("", "Jane Roe", "tab\there", "née", "a" * 129, "x\n", "50%", "a+b", "<b>", "you@home", "x\x00")
_FIELDS = ("patient", "org", "site", "grant", "node", "request_id")


@pytest.mark.parametrize("text", _FREE_TEXT)
@pytest.mark.parametrize("field", _FIELDS)
def test_free_text_fits_into_no_field_of_an_event(field: str, text: str) -> None:
    with pytest.raises(EventError):
        make_event(1, **{field: text})


@pytest.mark.parametrize("text", _FREE_TEXT)
def test_free_text_fits_into_no_part_of_an_event(text: str) -> None:
    with pytest.raises(EventError):
        Actor(id=text)
    for field in ("device", "session", "on_behalf"):
        with pytest.raises(EventError):
            Actor(**{"id": "usr_1", field: text})  # type: ignore[arg-type]  # fields by name
    with pytest.raises(EventError):
        Actor(id="usr_1", roles=(text,))
    with pytest.raises(EventError):
        ObjectRef("mailbox", text)
    with pytest.raises(EventError):
        ObjectRef(text, "mbx_1")
    with pytest.raises(EventError):
        PolicyRef(text)
    with pytest.raises(EventError):
        PolicyRef("9f2c", (text,))
    with pytest.raises(EventError):
        make_event(1, reason=text)


def test_an_error_about_a_field_names_it_and_does_not_quote_it() -> None:
    with pytest.raises(EventError, match=r"^patient is no tag") as caught:
        make_event(1, patient="Jane Roe")
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["", "0", "01A20445-c08f-79f5-85a1-e513ae91ff29", "01a20445c08f79f585a1e513ae91ff29"]
)
def test_an_id_is_a_lower_case_uuid(bad: str) -> None:
    with pytest.raises(EventError, match="UUID"):
        make_event(1, id=bad)


def test_an_id_of_another_uuid_version_is_refused() -> None:
    with pytest.raises(EventError, match="version 7"):
        make_event(1, id="01a20445-c08f-49f5-85a1-e513ae91ff29")


@pytest.mark.parametrize("changes", [{"n": 0}, {"n": MAX_INT + 1}, {"te": -1}, {"te": MAX_INT + 1}])
def test_numbers_have_limits(changes: dict[str, int]) -> None:
    with pytest.raises(EventError):
        make_event(1, **changes)


def test_lists_have_limits_and_roles_are_sorted() -> None:
    with pytest.raises(EventError, match="33 items"):
        PolicyRef("9f2c", tuple(f"p{number}" for number in range(33)))
    with pytest.raises(EventError, match="17 items"):
        Actor(id="usr_1", roles=tuple(f"r{number:02}" for number in range(17)))
    with pytest.raises(EventError, match="sorted"):
        Actor(id="usr_1", roles=("nurse", "admin"))
    with pytest.raises(EventError, match="distinct"):
        Actor(id="usr_1", roles=("admin", "admin"))


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_uuid7_tells_its_milliseconds_and_is_accepted(now_ms: int, random: bytes) -> None:
    text = uuid7(now_ms, lambda size: random[:size])
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)
    assert int(text.replace("-", "")[:12], 16) == now_ms
    assert make_event(1, id=text).id == text


def test_ids_made_later_sort_later() -> None:
    ids = [event_id(number) for number in range(50)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50


def test_every_type_is_an_area_and_an_act_and_has_a_class() -> None:
    for each in EventType:
        assert re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", each.value)
        assert audit_class(each) in AuditClass


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        (EventType.BREAKGLASS_START, AuditClass.A),
        (EventType.POLICY_ACTIVATE, AuditClass.A),
        (EventType.AUDIT_EXPORT, AuditClass.A),
        (EventType.DEVICE_ENROLL, AuditClass.A),
        (EventType.KEY_ROTATED, AuditClass.A),
        (EventType.AUTHZ_DENY, AuditClass.B),
        (EventType.PREKEY_FETCH, AuditClass.B),
        (EventType.AUDIT_QUERY, AuditClass.B),
        (EventType.POLICY_VIEW, AuditClass.B),
        (EventType.MESSAGE_SEND, AuditClass.C),
    ],
)
def test_classes_follow_the_catalogue(event_type: EventType, expected: AuditClass) -> None:
    assert audit_class(event_type) is expected


def test_a_pattern_stands_for_one_type_or_an_area() -> None:
    assert types_matching("message.send") == {EventType.MESSAGE_SEND}
    assert types_matching("role.*") == {EventType.ROLE_ASSIGN, EventType.ROLE_REVOKE}
    assert types_matching("message") == frozenset()
    assert types_matching("*") == frozenset()
    assert types_matching(".*") == frozenset()


def test_outcomes_are_three() -> None:
    assert [each.value for each in Outcome] == ["ok", "deny", "error"]
