"""A key server without HTTP, on a fresh database, and what the tests of its storage publish."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import func, select
from support.identities import NOW_MS, Person, RepeatableRandom, make_person
from support.server_parts import App, HandClock, Journal

import keyserver.tables
from audit.catalogue import EventType
from audit.event import Actor, AuditEvent, Outcome, uuid7
from keyserver.accounts import DirectoryAccounts
from keyserver.directory import PreKeyCounts
from keyserver.service import HandedOut, KeyService
from keyserver.tables import claims, prekey_ids, prekeys
from securechat.ids import DeviceId, ProtocolAddress, UserId, device_id
from securechat.protocol.prekeys import generate_pool
from securechat.sql.engine import Database, Tx
from securechat.wire.devices import SignedDeviceList, sign_device_list, sign_device_record
from securechat.wire.prekeys import (
    PreKeyUpload,
    sign_dh_prekey,
)

FOLDER = Path(keyserver.tables.__file__).parent / "migrations"
ANA = make_person("ana", one_time=50)
LEE = make_person("lee", one_time=0)
RANDOM = RepeatableRandom("contract")
CALLER = LEE.local.address
T = TypeVar("T")


class TwiceDatabase(Database):
    """Runs about half of all works twice: the first time in vain."""

    chance = random.Random(8841)

    async def write(self, work: Callable[[Tx], T], *, size: int = 0) -> T:
        def twice(tx: Tx) -> T:
            if self.chance.random() < 0.5:
                kept = len(tx.events)
                savepoint = tx.connection.begin_nested()
                try:
                    work(tx)
                finally:
                    savepoint.rollback()
                    tx.forget(kept)
            return work(tx)

        return await super().write(twice, size=size)


class Heard:
    """Listens to ended access."""

    def __init__(self) -> None:
        self.ended: list[tuple[UserId, DeviceId | None]] = []

    def access_ended(self, user: UserId, device: DeviceId | None) -> None:
        self.ended.append((user, device))


class Server:
    """A key server on a fresh database."""

    def __init__(self, database: Database, journal: Journal, clock: HandClock) -> None:
        self.database, self.journal, self.clock = database, journal, clock
        self.accounts = DirectoryAccounts(database, clock=clock, random_bytes=RANDOM)
        self.heard = Heard()
        self.accounts.listen(self.heard)
        self.service = KeyService(database, self.accounts, clock)
        self.app = App(clock)

    async def enroll(self, new: SignedDeviceList, *roles: str) -> None:
        token = self.app.token(new.value.user, *(roles or ("patient",)))
        plan = await self.service.plan(new)
        await self.service.enroll(plan, self.app.verifier.verify(token), (event(EventType.DEVICE_ENROLL),))

    async def publish(self, person: Person, upload: PreKeyUpload | None = None) -> PreKeyCounts:
        made = event(EventType.PREKEY_PUBLISH)
        return await self.service.publish(person.local.address, upload or person.upload, made)

    async def claim(
        self, target: ProtocolAddress = ANA.local.address, *, key: str | None = None
    ) -> HandedOut:
        return await self.service.claim(
            CALLER,
            target,
            key,
            event=event(EventType.PREKEY_FETCH),
            low_event=event(EventType.PREKEY_LOW),
        )

    def told(self, kind: EventType) -> int:
        return sum(each.type is kind for each in self.journal.events)

    async def rows(self, table: str) -> int:
        found = {"prekeys": prekeys, "prekey_ids": prekey_ids, "claims": claims}[table]
        count = await self.database.read(
            lambda connection: connection.execute(select(func.count()).select_from(found)).scalar_one()
        )
        return int(count)


def event(kind: EventType) -> AuditEvent:
    return AuditEvent(id=uuid7(NOW_MS, RANDOM), type=kind, outcome=Outcome.OK, actor=Actor(id="test"))


def fresh_upload(number: int, *, one_time: int = 20, now_ms: int = NOW_MS) -> PreKeyUpload:
    _, upload = generate_pool(ANA.local, now_ms, RepeatableRandom(f"upload {number}"), one_time=one_time)
    shift = 10_000 * (number + 1)
    return PreKeyUpload(
        signed=upload.signed,
        last_resort=upload.last_resort,
        one_time=tuple(
            sign_dh_prekey(
                ANA.local.signing,
                ANA.local.address,
                kind=each.kind,
                key_id=each.id + shift,
                public=each.public,
                created_ms=each.created_ms,
                expires_ms=each.expires_ms,
            )
            for each in upload.one_time
        ),
        kem_one_time=(),
    )


def next_list(held: SignedDeviceList, person: Person, *added: tuple[int, Person]) -> SignedDeviceList:
    kept = [record for record in held.value.devices if record.device == 1]
    for number, other in added:
        kept.append(
            sign_device_record(
                ProtocolAddress(held.value.user, device_id(number)),
                held.value.account,
                signing=other.local.signing,
                agreement=other.local.agreement.public,
                created_ms=NOW_MS,
            )
        )
    value = replace(
        held.value, version=held.value.version + 1, previous_hash=held.hash(), devices=tuple(kept)
    )
    return sign_device_list(value, person.account.signing)
