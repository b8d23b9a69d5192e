"""The intake: which acknowledgement counts, and when it stops trying."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from support.identities import NOW_MS, RepeatableRandom
from support.server_parts import HandClock, Journal

from audit.catalogue import EventType
from audit.event import Actor, AuditEvent, Outcome, uuid7
from securechat.ids import MessageId, ProtocolAddress, device_id, user_id
from securechat.ports import no_fault
from securechat.relay.acceptance import Rules
from securechat.relay.app import MIGRATIONS
from securechat.relay.envelope import Envelope
from securechat.relay.envelope import Outcome as Fate
from securechat.relay.intake import Intake
from securechat.relay.mailbox import Mailbox, Quota
from securechat.relay.store import Ack, MailboxStore
from securechat.sql.engine import Database, open_database
from securechat.sql.migrate import migrate

RANDOM = RepeatableRandom("intake")
LEE = ProtocolAddress(user_id("dr.lee"), device_id(1))


class OpenPermit:
    """Permits everything."""

    def event(self, *, n: int = 1, outcome: Outcome = Outcome.OK, reason: str | None = None) -> AuditEvent:
        return AuditEvent(
            id=uuid7(NOW_MS, RANDOM),
            type=EventType.MESSAGE_ACK,
            outcome=outcome,
            actor=Actor(id="dr.lee"),
            reason=reason,
            n=n,
        )


PERMIT = OpenPermit()


class Bench:
    """An intake on a real database, and the mailbox of one device."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = MailboxStore(RANDOM)
        self._settled = asyncio.Semaphore(0)
        rules = Rules(self.store, Quota(), no_fault)
        self.intake = Intake(database, rules, clock=HandClock(), settle=self._settle)

    async def box(self) -> Mailbox:
        return await self.database.write(lambda tx: self.store.open(tx, LEE))

    async def connect(self) -> Mailbox:
        return (await self.database.write(lambda tx: self.store.connect(tx, LEE, "node-1")))[0]

    async def fill(self, count: int) -> None:
        box = await self.box()
        for number in range(count):
            message = MessageId(number.to_bytes(16, "big"))
            self.intake.send(
                Envelope(
                    message=message,
                    sender=LEE,
                    sender_box=box.id,
                    recipient=LEE,
                    body=b"sealed",
                    flags=0,
                    connection=1,
                    permit=PERMIT,
                )
            )
        for _ in range(count):
            await asyncio.wait_for(self._settled.acquire(), 10)

    def _settle(self, outcomes: Sequence[tuple[Envelope, Fate]]) -> None:
        for _ in outcomes:
            self._settled.release()


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
async def bench(tmp_path: Path, journal: Journal) -> AsyncIterator[Bench]:
    database = open_database(f"sqlite:///{tmp_path / 'server.db'}", before_commit=journal)
    migrate(database.engine, [MIGRATIONS])
    yield Bench(database)
    await database.close()


async def test_a_late_ack_of_a_fenced_connection_does_not_displace_that_of_the_newer(bench: Bench) -> None:
    await bench.fill(3)
    older, newer = await bench.connect(), await bench.connect()
    bench.intake.ack(Ack(older.id, older.epoch, 3, older.fence), PERMIT)
    bench.intake.ack(Ack(newer.id, newer.epoch, 2, newer.fence), PERMIT)
    await bench.intake.drain()
    assert (await bench.box()).acked_seq == 2


async def test_acks_that_cannot_be_written_do_not_keep_a_server_from_stopping(
    bench: Bench, journal: Journal
) -> None:
    await bench.fill(3)
    box = await bench.connect()
    journal.broken = True
    bench.intake.ack(Ack(box.id, box.epoch, 3, box.fence), PERMIT)
    async with asyncio.timeout(10):
        await bench.intake.drain()
    journal.broken = False
    assert (await bench.box()).acked_seq == 0
