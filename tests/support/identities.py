"""People with accounts, devices, prekeys and bundles, made from repeatable randomness."""

import hashlib
from dataclasses import dataclass, replace

from securechat.ids import device_id, user_id
from securechat.ports import RandomBytes
from securechat.protocol.devices import AccountKeys, create_account
from securechat.protocol.pqxdh import LocalDevice, PeerDevice
from securechat.protocol.prekeys import PreKeyPool, generate_pool
from securechat.wire.devices import SignedDeviceList
from securechat.wire.prekeys import PreKeyBundle, PreKeyUpload

NOW_MS = 1_800_000_000_000


class RepeatableRandom:
    """Gives the bytes of SHAKE-256 over a seed, in order: the same in every run, never twice the same."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._calls = 0

    def __call__(self, length: int) -> bytes:
        self._calls += 1
        return hashlib.shake_256(self._seed + self._calls.to_bytes(8, "big")).digest(length)


@dataclass(frozen=True, slots=True)
class Person:
    """One person's first device, with everything that it made and published."""

    account: AccountKeys
    local: LocalDevice
    device_list: SignedDeviceList
    pool: PreKeyPool
    upload: PreKeyUpload

    @property
    def peer(self) -> PeerDevice:
        """This person's device as others see it."""
        return self.local.public()

    def bundle(self, *, one_time: bool = True, last_resort: bool = False) -> PreKeyBundle:
        """A bundle as the server would hand it out, from the first one-time keys of the upload."""
        return PreKeyBundle(
            address=self.local.address,
            signed=self.upload.signed,
            kem=self.upload.last_resort if last_resort else self.upload.kem_one_time[0],
            one_time=self.upload.one_time[0] if one_time else None,
        )

    def with_pool(self, pool: PreKeyPool) -> "Person":
        """The same person with another pool."""
        return replace(self, pool=pool)


def make_person(
    name: str,
    *,
    device: int = 1,
    now_ms: int = NOW_MS,
    one_time: int = 2,
    random_bytes: RandomBytes | None = None,
) -> Person:
    """Make a person with ``one_time`` one-time prekeys of each kind; the same one for the same name."""
    draw = random_bytes or RepeatableRandom(f"{name} {device}")
    account, local, device_list = create_account(user_id(name), device_id(device), now_ms, draw)
    pool, upload = generate_pool(local, now_ms, draw, one_time=one_time)
    return Person(account, local, device_list, pool, upload)
