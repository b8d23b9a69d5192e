"""Refusals: each is recorded, floods as counts, nothing is lost while the process lives."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.identities import RepeatableRandom
from support.server_parts import HandClock, Journal

from audit.catalogue import EventType
from audit.errors import AuditUnavailableError
from audit.event import Actor, AuditEvent, ObjectRef, Outcome, uuid7
from audit.recorder import AuditRecorder
from securechat.web.refusals import BUDGET, RefusalLog

RANDOM = RepeatableRandom("refusals")
T = TypeVar("T")


class SlowJournal(Journal):
    """Writes only while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def write(self, work: Callable[[AuditRecorder], T]) -> T:
        await self.gate.wait()
        return await super().write(work)


def refusal(actor: str = "ana", reason: str = "default-deny") -> AuditEvent:
    return AuditEvent(
        id=uuid7(1, RANDOM),
        type=EventType.MESSAGE_SEND,
        outcome=Outcome.DENY,
        actor=Actor(id=actor),
        reason=reason,
    )


async def test_a_refusal_is_recorded_before_the_answer() -> None:
    journal = Journal()
    event = refusal()
    await RefusalLog(journal, HandClock()).record(event)
    assert journal.events == [event]


async def test_a_flood_of_equal_refusals_becomes_a_count() -> None:
    journal, clock = Journal(), HandClock()
    log = RefusalLog(journal, clock)
    for _ in range(1000):
        await log.record(refusal())
    assert len(journal.events) == BUDGET.burst
    clock.advance(5)
    await log.record(refusal())
    assert journal.events[-1].n == 1000 - BUDGET.burst + 1
    assert sum(event.n for event in journal.events) == 1001


async def test_one_flood_does_not_hide_another_refusal() -> None:
    journal = Journal()
    log = RefusalLog(journal, HandClock())
    for _ in range(100):
        await log.record(refusal())
    for other in (refusal("bob"), refusal(reason="guard-suspended")):
        await log.record(other)
        assert journal.events[-1] is other


async def test_counts_are_written_by_flush() -> None:
    journal = Journal()
    log = RefusalLog(journal, HandClock())
    for _ in range(50):
        await log.record(refusal())
    await log.flush()
    await log.flush()
    assert sum(event.n for event in journal.events) == 50
    assert len(journal.events) == BUDGET.burst + 1


async def test_counts_are_kept_when_the_log_takes_nothing() -> None:
    journal = Journal()
    log = RefusalLog(journal, HandClock())
    for _ in range(50):
        await log.record(refusal())
    journal.broken = True
    with pytest.raises(AuditUnavailableError):
        await log.flush()
    journal.broken = False
    await log.flush()
    assert sum(event.n for event in journal.events) == 50


async def test_a_refusal_that_cannot_be_recorded_is_an_error() -> None:
    journal = Journal()
    journal.broken = True
    with pytest.raises(AuditUnavailableError):
        await RefusalLog(journal, HandClock()).record(refusal())


async def test_a_refusal_during_a_flush_is_not_counted_twice() -> None:
    journal, clock = SlowJournal(), HandClock()
    log = RefusalLog(journal, clock)
    journal.gate.set()
    for _ in range(BUDGET.burst + 5):
        await log.record(refusal())
    clock.advance(5)
    journal.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(log.flush())
        await asyncio.sleep(0)
        tasks.create_task(log.record(refusal()))
        await asyncio.sleep(0)
        journal.gate.set()
    await log.flush()
    assert sum(event.n for event in journal.events) == BUDGET.burst + 5 + 1


async def test_a_count_survives_a_refusal_that_cannot_be_recorded() -> None:
    journal, clock = Journal(), HandClock()
    log = RefusalLog(journal, clock)
    for _ in range(BUDGET.burst + 5):
        await log.record(refusal())
    clock.advance(5)
    journal.broken = True
    with pytest.raises(AuditUnavailableError):
        await log.record(refusal())
    journal.broken = False
    await log.flush()
    assert sum(event.n for event in journal.events) == BUDGET.burst + 5


async def test_a_count_names_no_object_device_or_request_that_only_some_refusals_had() -> None:
    journal = Journal()
    log = RefusalLog(journal, HandClock())
    for number in range(BUDGET.burst + 10):
        actor = Actor(id="ana", device=str(number % 2 + 1), session=f"s{number}", roles=("patient",))
        about = ObjectRef("account", f"u-{number}")
        await log.record(replace(refusal(), actor=actor, object=about, request_id=f"request-{number}"))
    await log.flush()
    told = journal.events[-1]
    assert told.n == 10
    assert (told.object, told.request_id, told.actor.device, told.actor.session) == (None,) * 4
    assert told.actor.roles == ("patient",)


async def test_a_count_names_the_object_that_all_refusals_had() -> None:
    journal = Journal()
    log = RefusalLog(journal, HandClock())
    about = ObjectRef("account", "u-1")
    for _ in range(BUDGET.burst + 10):
        await log.record(replace(refusal(), object=about))
    await log.flush()
    assert journal.events[-1].object == about


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2000), st.booleans()), max_size=200))
async def test_whatever_the_pattern_every_refusal_is_counted_once(
    pattern: list[tuple[str, int, bool]],
) -> None:
    journal, clock = Journal(), HandClock()
    log = RefusalLog(journal, clock)
    for actor, wait_ms, flushes in pattern:
        clock.now_ms += wait_ms
        await log.record(refusal(actor))
        if flushes:
            await log.flush()
    await log.flush()
    for actor in "abc":
        told = sum(event.n for event in journal.events if event.actor.id == actor)
        assert told == sum(1 for each, _, _ in pattern if each == actor)
    assert len({event.id for event in journal.events}) == len(journal.events)
