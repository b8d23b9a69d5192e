"""Places, times and counts of events, before anything is stored."""

import pytest
from unit.audit.support import ORIGIN, START_US, event_id, make_event, make_events

from audit.catalogue import EventType
from audit.chain import genesis, leaf_hash, link
from audit.errors import EventError
from audit.event import ActorKind, Outcome
from audit.merkle import root_of
from audit.sequencing import Head, clock_step, merge, seal_entries, sequence

_SEND = {"type": EventType.MESSAGE_SEND, "request_id": None, "object": None}
_FETCH = {"type": EventType.PREKEY_FETCH, "request_id": None, "object": None}


def test_equal_class_c_events_are_told_once_with_their_number() -> None:
    first, second, third = (make_event(4, **_SEND, id=event_id(number)) for number in (1, 2, 3))
    other = make_event(4, **_SEND | {"outcome": Outcome.DENY}, id=event_id(4))
    merged = merge([first, other, second, third])
    assert [(each.id, each.n, each.outcome) for each in merged] == [
        (first.id, 3, first.outcome),
        (other.id, 1, Outcome.DENY),
    ]


def test_counts_of_merged_events_add_up() -> None:
    five, seven = (make_event(4, **_SEND, id=event_id(number), n=number) for number in (5, 7))
    (merged,) = merge([five, seven])
    assert merged.n == 12


def test_events_of_the_other_classes_are_each_told() -> None:
    events = [make_event(4, **_FETCH, id=event_id(number)) for number in (1, 2, 3)]
    assert merge(events) == events


def test_an_event_that_comes_twice_counts_once() -> None:
    for fields in (_SEND, _FETCH):
        event = make_event(4, **fields)
        (merged,) = merge([event, make_event(4, **fields), make_event(4, **fields, te=START_US)])
        assert merged == event


def test_one_id_for_two_acts_is_refused() -> None:
    with pytest.raises(EventError, match="two different acts"):
        merge([make_event(1), make_event(1, outcome=Outcome.DENY)])


def test_entries_are_numbered_on_and_time_does_not_go_back() -> None:
    head = Head.empty(ORIGIN)
    head, _ = seal_entries(head, sequence(head, make_events(3), clock_us=START_US))
    entries = sequence(head, make_events(2, 3), clock_us=START_US - 1000)
    assert [(each.seq, each.t) for each in entries] == [(3, START_US), (4, START_US)]


def test_sealed_entries_carry_chain_and_tree() -> None:
    head = Head.empty(ORIGIN)
    after, sealed = seal_entries(head, sequence(head, make_events(5), clock_us=START_US))
    chain = genesis(ORIGIN)
    for each in sealed:
        assert each.leaf == leaf_hash(each.body)
        chain = link(chain, each.leaf)
        assert each.chain == chain
    assert after.chain == chain
    assert after.size == 5
    assert after.edge.root() == root_of([each.leaf for each in sealed])
    assert head == Head.empty(ORIGIN)


def test_a_clock_step_says_what_the_clock_shows_and_needs_no_randomness() -> None:
    head = Head.empty(ORIGIN)
    head, _ = seal_entries(head, sequence(head, make_events(1), clock_us=START_US))
    step = clock_step(head, "n1", clock_us=START_US - 60_000_000)
    assert (step.type, step.actor.kind, step.te) == (
        EventType.CLOCK_STEP,
        ActorKind.SYSTEM,
        START_US - 60_000_000,
    )
    assert step == clock_step(head, "n1", clock_us=START_US - 60_000_000)
    assert clock_step(head, "n1", clock_us=-5).te == 0
