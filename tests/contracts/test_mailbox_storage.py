"""What every mailbox store must do, on the real database and on one that runs works twice at random."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, inspect
from support.identities import NOW_MS, RepeatableRandom
from support.retrying import open_retrying
from support.server_parts import Journal

from audit.catalogue import EventType
from audit.event import Actor, AuditEvent, Outcome, uuid7
from securechat.errors import SecureChatError
from securechat.ids import MessageId, ProtocolAddress, device_id, user_id
from securechat.ports import no_fault
from securechat.relay.acceptance import Rules, accept_batch
from securechat.relay.app import MIGRATIONS
from securechat.relay.envelope import Envelope, Placed
from securechat.relay.envelope import Outcome as Fate
from securechat.relay.errors import AckBeyondEndError, StaleEpochError
from securechat.relay.mailbox import DAY_MS, Mailbox, OrderHolds, Quota, Refusal
from securechat.relay.retention import Retention, Sweep
from securechat.relay.store import Ack, MailboxStore, present, read_page
from securechat.relay.tables import metadata
from securechat.sql.engine import Database, Tx, open_database, seal_nothing
from securechat.sql.migrate import migrate
from securechat.wire.frames import FLAG_EPHEMERAL, Deliver

T = TypeVar("T")

PAT = ProtocolAddress(user_id("pat"), device_id(1))
LEE = ProtocolAddress(user_id("dr.lee"), device_id(1))
ROB = ProtocolAddress(user_id("rob"), device_id(1))
RANDOM = RepeatableRandom("mailboxes")


class OpenPermit:
    """Permits everything; its events carry the number of acts."""

    def event(self, *, n: int = 1, outcome: Outcome = Outcome.OK, reason: str | None = None) -> AuditEvent:
        return AuditEvent(
            id=uuid7(NOW_MS, RANDOM),
            type=EventType.MESSAGE_SEND,
            outcome=outcome,
            actor=Actor(id="pat"),
            reason=reason,
            n=n,
        )


PERMIT = OpenPermit()


@dataclass
class Bench:
    """A store in a database, with short words for what the tests do."""

    database: Database
    journal: Journal
    quota: Quota
    now_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.store = MailboxStore(RANDOM)
        self.rules = Rules(self.store, self.quota, no_fault)
        self.holds = OrderHolds()
        self.retention = Retention(self.store, self.quota, node="node-1", random_bytes=RANDOM)

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self.database.write(work)

    async def box(self, address: ProtocolAddress) -> Mailbox:
        return await self.write(lambda tx: self.store.open(tx, address))

    async def send(
        self,
        *numbers: int,
        to: ProtocolAddress = LEE,
        by: ProtocolAddress = PAT,
        size: int = 10,
        connection: int = 1,
        flags: int = 0,
    ) -> list[Fate]:
        sender = (await self.box(by)).id
        envelopes = [
            Envelope(
                message=MessageId(number.to_bytes(16, "big")),
                sender=by,
                sender_box=sender,
                recipient=to,
                body=number.to_bytes(size, "big"),
                flags=flags,
                connection=connection,
                permit=PERMIT,
            )
            for number in numbers
        ]
        fates = await self.write(lambda tx: accept_batch(tx, envelopes, self.holds, self.now_ms, self.rules))
        for envelope, fate in zip(envelopes, fates, strict=True):
            self.holds.note(envelope.lane, envelope.message, fate if isinstance(fate, Refusal) else None)
        return fates

    async def page(
        self, address: ProtocolAddress = LEE, after: int = 0, limit: int = 999, max_bytes: int = 2**20
    ) -> list[Deliver]:
        box = await self.box(address)
        return await self.database.read(
            lambda c: read_page(c, box.id, after=after, limit=limit, max_bytes=max_bytes)
        )

    async def ack(
        self,
        seq: int,
        *,
        address: ProtocolAddress = LEE,
        epoch: bytes | None = None,
        fence: int | None = None,
    ) -> int:
        box = await self.box(address)
        ack = Ack(box.id, epoch or box.epoch, seq, fence)
        return await self.write(lambda tx: self.store.release(tx, ack, self.now_ms))

    async def sweep(self) -> Sweep:
        return await self.write(lambda tx: self.retention.step(tx, self.now_ms))

    async def count(self, table: str) -> int:
        def work(connection: Connection) -> int:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())

        return await self.database.read(work)


@pytest.fixture(params=["plain", "retrying"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    journal = Journal()
    url = f"sqlite:///{tmp_path / 'server.db'}"
    opened = (
        open_database(url, before_commit=journal)
        if request.param == "plain"
        else open_retrying(url, journal, 1)
    )
    migrate(opened.engine, [MIGRATIONS])
    yield Bench(opened, journal, Quota(messages=100, bytes=10_000))
    await opened.close()


def seqs(fates: list[Fate]) -> list[int]:
    return [fate.seq for fate in fates if isinstance(fate, Placed)]


async def test_messages_are_numbered_from_one_without_gaps_for_each_mailbox(bench: Bench) -> None:
    assert seqs(await bench.send(1, 2, 3)) == [1, 2, 3]
    assert seqs(await bench.send(4, to=ROB)) == [1]
    assert seqs(await bench.send(5)) == [4]
    page = await bench.page()
    assert [(each.seq, int.from_bytes(each.body, "big")) for each in page] == [(1, 1), (2, 2), (3, 3), (4, 5)]
    assert {(each.user, each.device, each.accepted_ms) for each in page} == {("pat", 1, NOW_MS)}


async def test_a_repetition_gets_the_first_answer_also_within_a_batch_and_after_the_ack(bench: Bench) -> None:
    first = await bench.send(1, 1, 2)
    assert [(fate.seq, fate.new) for fate in first if isinstance(fate, Placed)] == [
        (1, True),
        (1, False),
        (2, True),
    ]
    bench.now_ms += 5000
    again = (await bench.send(1))[0]
    assert isinstance(again, Placed)
    assert (again.seq, again.new, again.accepted_ms) == (1, False, NOW_MS)
    assert await bench.ack(2) == 2
    again = (await bench.send(2))[0]
    assert isinstance(again, Placed)
    assert (again.seq, again.new) == (2, False)
    assert await bench.page() == []


async def test_accepted_sends_are_told_to_the_audit_log_as_a_number_and_repetitions_are_not(
    bench: Bench,
) -> None:
    await bench.send(1, 2, 3)
    await bench.send(3)
    assert [(event.outcome, event.n) for event in bench.journal.events] == [(Outcome.OK, 3)]


async def test_a_page_ends_at_its_number_or_its_bytes_and_holds_one_message_at_least(bench: Bench) -> None:
    await bench.send(1, 2, 3, 4, size=1000)
    assert [each.seq for each in await bench.page(after=1, limit=2)] == [2, 3]
    assert [each.seq for each in await bench.page(max_bytes=2000)] == [1, 2]
    assert [each.seq for each in await bench.page(max_bytes=1)] == [1]


async def test_a_full_mailbox_refuses_and_takes_again_after_an_ack(bench: Bench) -> None:
    fates = await bench.send(*range(1, 103))
    assert fates[100:] == [Refusal.MAILBOX_FULL, Refusal.ORDER_HOLD]
    assert await bench.ack(50) == 50
    assert seqs(await bench.send(101, 102)) == [101, 102]
    assert (await bench.box(LEE)).messages == 52


async def test_a_mailbox_is_full_by_bytes_and_counts_them_down_again(bench: Bench) -> None:
    assert seqs(await bench.send(1, 2, 3, size=3000)) == [1, 2, 3]
    assert await bench.send(4, size=1001) == [Refusal.MAILBOX_FULL]
    assert (await bench.box(LEE)).bytes == 9000
    await bench.ack(2)
    assert (await bench.box(LEE)).bytes == 3000
    assert seqs(await bench.send(4, size=1001)) == [4]


async def test_a_body_over_the_limit_is_refused_for_good_and_holds_nobody_up(bench: Bench) -> None:
    bench.rules = Rules(bench.store, Quota(body_bytes=20), no_fault)
    assert await bench.send(1, size=21) == [Refusal.MESSAGE_TOO_LARGE]
    assert await bench.send(1, size=21, flags=FLAG_EPHEMERAL) == [Refusal.MESSAGE_TOO_LARGE]
    assert seqs(await bench.send(2, size=20)) == [1]


async def test_an_ephemeral_message_leaves_no_trace_but_its_event(bench: Bench) -> None:
    await bench.write(lambda tx: bench.store.connect(tx, LEE, "node-7"))
    fate = (await bench.send(1, flags=FLAG_EPHEMERAL))[0]
    assert isinstance(fate, Placed)
    assert (fate.seq, fate.node, fate.fence) == (0, "node-7", 1)
    assert await bench.count("inbox") + await bench.count("sent_ids") == 0
    assert len(bench.journal.events) == 1


async def test_acks_may_repeat_and_overtake_each_other_but_never_go_too_far(bench: Bench) -> None:
    await bench.send(1, 2, 3, 4, 5)
    assert [await bench.ack(seq) for seq in (3, 2, 3, 0)] == [3, 0, 0, 0]
    for seq, epoch, error in ((6, None, AckBeyondEndError), (5, bytes(16), StaleEpochError)):
        with pytest.raises(error):
            await bench.ack(seq, epoch=epoch)
    assert [each.seq for each in await bench.page()] == [4, 5]
    assert (await bench.box(LEE)).acked_seq == 3


async def test_a_connection_fences_older_ones_and_their_acks(bench: Bench) -> None:
    first, before = await bench.write(lambda tx: bench.store.connect(tx, LEE, "node-1"))
    assert (first.fence, before) == (1, None)
    second, before = await bench.write(lambda tx: bench.store.connect(tx, LEE, "node-2"))
    assert (second.fence, before) == (2, "node-1")
    await bench.send(1)
    assert await bench.ack(1, fence=1) == 0
    await bench.write(lambda tx: bench.store.disconnect(tx, first.id, 1))
    assert (await bench.box(LEE)).node == "node-2"
    assert await bench.ack(1, fence=2) == 1
    await bench.write(lambda tx: bench.store.disconnect(tx, first.id, 2))
    assert (await bench.box(LEE)).node is None


async def test_presence_is_told_with_every_accepted_message_and_cleared_at_a_start(bench: Bench) -> None:
    await bench.write(lambda tx: bench.store.connect(tx, LEE, "node-1"))
    fate = (await bench.send(1))[0]
    assert isinstance(fate, Placed)
    assert (fate.node, fate.fence) == ("node-1", 1)
    woken = await bench.database.read(lambda connection: present(connection, "node-1"))
    assert [(each.last_seq, each.fence) for each in woken] == [(1, 1)]
    await bench.write(lambda tx: bench.store.clear_presence(tx, "node-1"))
    assert await bench.database.read(lambda connection: present(connection, "node-1")) == []


async def test_messages_expire_after_their_time_and_count_as_gone(bench: Bench) -> None:
    await bench.send(1, 2)
    bench.now_ms += 20 * DAY_MS
    await bench.send(3)
    bench.now_ms += 10 * DAY_MS
    assert (await bench.sweep()).expired == 0
    bench.now_ms += DAY_MS
    assert await bench.sweep() == Sweep(2, more=False)
    box = await bench.box(LEE)
    assert (box.acked_seq, box.last_seq, box.messages, box.bytes) == (2, 3, 1, 10)
    assert [each.seq for each in await bench.page()] == [3]
    expired = bench.journal.events[-1]
    assert (expired.type, expired.n) == (EventType.MESSAGE_EXPIRED, 2)
    assert (await bench.sweep()).expired == 0


async def test_the_ids_of_released_messages_are_forgotten_after_the_time_for_retries(bench: Bench) -> None:
    await bench.send(1, 2, 3)
    await bench.ack(2)
    bench.now_ms += 7 * DAY_MS
    await bench.sweep()
    assert await bench.count("sent_ids") == 3
    bench.now_ms += DAY_MS
    await bench.sweep()
    assert await bench.count("sent_ids") == 1
    bench.now_ms += 40 * DAY_MS
    await bench.sweep()
    bench.now_ms += 40 * DAY_MS
    await bench.sweep()
    assert await bench.count("sent_ids") + await bench.count("inbox") + await bench.count("mailbox_days") == 0


async def test_a_clock_that_steps_back_expires_nothing_early(bench: Bench) -> None:
    await bench.send(1)
    bench.now_ms -= 3 * DAY_MS
    await bench.send(2)
    bench.now_ms += 28 * DAY_MS
    assert (await bench.sweep()).expired == 0
    assert [each.seq for each in await bench.page()] == [1, 2]


async def test_after_a_restore_every_mailbox_has_a_new_epoch_and_keeps_what_waits(bench: Bench) -> None:
    await bench.send(1, 2)
    before = await bench.box(LEE)
    await bench.ack(1)
    await bench.write(bench.store.renew_epochs)
    after = await bench.box(LEE)
    assert len({before.epoch, after.epoch, (await bench.box(PAT)).epoch}) == 3
    with pytest.raises(StaleEpochError):
        await bench.ack(2, epoch=before.epoch)
    assert [each.seq for each in await bench.page()] == [2]


async def test_the_migrations_give_exactly_the_tables(bench: Bench, tmp_path: Path) -> None:
    other = open_database(f"sqlite:///{tmp_path / 'other.db'}", before_commit=seal_nothing)
    metadata.create_all(other.engine)
    wanted, got = inspect(other.engine), inspect(bench.database.engine)
    for table in metadata.tables:
        for kind in ("get_columns", "get_indexes", "get_pk_constraint", "get_unique_constraints"):
            assert str(getattr(got, kind)(table)) == str(getattr(wanted, kind)(table))
        assert got.get_table_options(table) == wanted.get_table_options(table)
    await other.close()


async def test_the_hot_statements_use_an_index(bench: Bench) -> None:
    from securechat.relay import statements as sql

    def plans(connection: Connection) -> list[str]:
        found = []
        for name in (
            "FIND_MAILBOX",
            "READ_PAGE",
            "DELETE_THROUGH",
            "BYTES_THROUGH",
            "FIND_SENT",
            "FORGET_SENT",
            "PRESENT",
        ):
            statement = getattr(sql, name)
            rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, (1,) * statement.count("?"))
            found += [str(row[3]) for row in rows]
        return found

    for plan in await bench.database.read(plans):
        assert plan.startswith("SEARCH"), plan


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 30)),
        st.tuples(st.just("ack"), st.integers(0, 40)),
        st.tuples(st.just("fetch"), st.integers(0, 40)),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_run_of_sends_and_acks_is_that_of_a_numbered_list(
    tmp_path_factory: pytest.TempPathFactory, run: list[tuple[str, int]]
) -> None:
    """The oracle: a list that only grows, a set of ids, and a cursor that never goes back."""
    path = tmp_path_factory.mktemp("run") / "server.db"
    database = open_retrying(f"sqlite:///{path}", seal_nothing, len(run))
    migrate(database.engine, [MIGRATIONS])
    bench, model, cursor = Bench(database, Journal(), Quota()), [0], 0
    for act, number in run:
        if act == "send":
            fate = (await bench.send(number))[0]
            if number not in model:
                model.append(number)
            assert isinstance(fate, Placed)
            assert fate.seq == model.index(number)
        elif act == "ack":
            try:
                released = await bench.ack(number)
            except SecureChatError:
                assert number >= len(model)
            else:
                assert released == max(0, number - cursor)
                cursor = max(cursor, number)
        else:
            held = [int.from_bytes(each.body, "big") for each in await bench.page(after=number)]
            assert held == model[max(cursor, number) + 1 :]
    await database.close()
