"""Cost of a handshake against its own primitive calls: ``./dev run benchmarks/handshake.py [--json]``.

The floor of an operation is the sequence of library calls that it cannot do without, with every key in the
form in which the operation holds it. Both run in turn, in slices of a few milliseconds on one core, so that a
change of the clock's speed meets both; the ratio of their best slices is what counts.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from time import perf_counter_ns

import nacl.bindings as sodium
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey, MLKEM1024PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.ids import device_id, user_id
from securechat.protocol.devices import create_account
from securechat.protocol.pqxdh import LocalDevice, initiate, respond
from securechat.protocol.prekeys import PreKeyPool, generate_pool
from securechat.wire.handshake import PqxdhHeader
from securechat.wire.prekeys import PreKeyBundle

NOW_MS = 1_800_000_000_000
SLICE_CALLS = 8
ROUNDS = 150
TRANSCRIPT_BYTES = 3_458  # with one-time prekeys and user ids of three letters


@dataclass(frozen=True, slots=True)
class Scene:
    """Two devices, and a handshake between them."""

    pat: LocalDevice
    lee: LocalDevice
    pool: PreKeyPool
    bundle: PreKeyBundle
    header: PqxdhHeader


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report, in microseconds a call."""

    operation: str
    prekeys: str
    us: float
    floor_us: float
    ratio: float


def make_scene(*, one_time: bool) -> Scene:
    """Prepare a handshake with both one-time prekeys, or with neither."""
    _, pat, _ = create_account(user_id("pat"), device_id(1), NOW_MS, os.urandom)
    _, lee, _ = create_account(user_id("lee"), device_id(1), NOW_MS, os.urandom)
    pool, upload = generate_pool(lee, NOW_MS, os.urandom, one_time=1)
    kem = upload.kem_one_time[0] if one_time else upload.last_resort
    bundle = PreKeyBundle(lee.address, upload.signed, kem, upload.one_time[0] if one_time else None)
    header, _ = initiate(pat, lee.public(), bundle, now_ms=NOW_MS, random_bytes=os.urandom)
    return Scene(pat, lee, pool, bundle, header)


def initiate_real(scene: Scene) -> Callable[[], object]:
    """The operation of the library."""
    peer = scene.lee.public()
    return lambda: initiate(scene.pat, peer, scene.bundle, now_ms=NOW_MS, random_bytes=os.urandom)


def initiate_floor(scene: Scene) -> Callable[[], object]:
    """Signature checks, a key pair, the agreements, one encapsulation, the hashes, one HKDF."""
    bundle, peer = scene.bundle, scene.lee.public()
    prekeys = [prekey for prekey in (bundle.signed, bundle.kem, bundle.one_time) if prekey is not None]
    signed = [(prekey.signature + bytes(60) + prekey.public.raw) for prekey in prekeys]
    public, seed = sodium.crypto_sign_seed_keypair(os.urandom(32))
    signed = [sodium.crypto_sign(message[64:], seed) for message in signed]
    identity = scene.pat.agreement.private.reveal()
    prekey, one_time = bundle.signed.public.raw, bundle.one_time

    def run() -> object:
        for message in signed:
            sodium.crypto_sign_open(message, public)
        base = os.urandom(32)
        sodium.crypto_scalarmult_base(base)
        secrets = [
            sodium.crypto_scalarmult(identity, prekey),
            sodium.crypto_scalarmult(base, peer.agreement.raw),
            sodium.crypto_scalarmult(base, prekey),
        ]
        if one_time is not None:
            secrets.append(sodium.crypto_scalarmult(base, one_time.public.raw))
        kem_secret, _ = MLKEM1024PublicKey.from_public_bytes(bundle.kem.public.raw).encapsulate()
        return derive_floor(b"".join(secrets) + kem_secret)

    return run


def respond_real(scene: Scene) -> Callable[[], object]:
    """The operation of the library, on a pool as a store loads it: one-time keys not yet expanded."""
    peer, one_time = scene.pat.public(), scene.pool.one_time
    kem_one_time = scene.pool.kem_one_time

    def run() -> object:
        pool = replace(
            scene.pool,
            one_time={key: replace(secret) for key, secret in one_time.items()},
            kem_one_time={key: replace(secret) for key, secret in kem_one_time.items()},
        )
        return respond(scene.lee, peer, scene.header, pool)

    return run


def respond_floor(scene: Scene) -> Callable[[], object]:
    """The agreements, one decapsulation, hashes, HKDF; one-time keys have to be expanded from their seeds."""
    header, peer = scene.header, scene.pat.public()
    identity, base = scene.lee.agreement.private.reveal(), header.ephemeral.raw
    signed = scene.pool.signed.private.reveal()
    one_time = (
        None if header.one_time_id is None else scene.pool.one_time[header.one_time_id].private.reveal()
    )
    lasting = MLKEM1024PrivateKey.from_seed_bytes(scene.pool.last_resort.private.reveal())
    seed = None if one_time is None else scene.pool.kem_one_time[header.kem_id].private.reveal()

    def run() -> object:
        kem = lasting if seed is None else MLKEM1024PrivateKey.from_seed_bytes(seed)
        if seed is not None:
            kem.public_key().public_bytes_raw()
        secrets = [
            sodium.crypto_scalarmult(signed, peer.agreement.raw),
            sodium.crypto_scalarmult(identity, base),
            sodium.crypto_scalarmult(signed, base),
        ]
        if one_time is not None:
            sodium.crypto_scalarmult_base(one_time)
            secrets.append(sodium.crypto_scalarmult(one_time, base))
        return derive_floor(b"".join(secrets) + kem.decapsulate(header.kem_ciphertext))

    return run


def derive_floor(secrets: bytes) -> bytes:
    """Hash a transcript, derive the secret, the session id and the associated data."""
    transcript = hashlib.sha256(bytes(TRANSCRIPT_BYTES)).digest()
    secret = HKDF(SHA256(), 32, bytes(32), transcript + bytes(26)).derive(bytes(32) + secrets)
    hashlib.sha256(transcript + bytes(26)).digest()
    hashlib.sha256(bytes(270)).digest()
    return secret


def compare(real: Callable[[], object], floor: Callable[[], object]) -> tuple[float, float]:
    """Return the best slice of each in microseconds a call, taken in turn."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for which, call in enumerate((real, floor)):
            start = perf_counter_ns()
            for _ in range(SLICE_CALLS):
                call()
            best[which] = min(best[which], (perf_counter_ns() - start) / 1000 / SLICE_CALLS)
    return best[0], best[1]


def measure(*, one_time: bool) -> list[Row]:
    """Measure both sides of a handshake with both one-time prekeys, or with neither."""
    scene = make_scene(one_time=one_time)
    prekeys = "one-time prekeys" if one_time else "last-resort prekey"
    start = compare(initiate_real(scene), initiate_floor(scene))
    answer = compare(respond_real(scene), respond_floor(scene))
    return [
        Row("initiate", prekeys, *start, start[0] / start[1]),
        Row("respond", prekeys, *answer, answer[0] / answer[1]),
    ]


def main(arguments: list[str]) -> int:
    """Measure and print a table, or JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = [row for one_time in (True, False) for row in measure(one_time=one_time)]
    if "--json" in arguments:
        print(json.dumps([asdict(row) for row in rows]))
        return 0
    print(f"{'operation':10} {'with':20} {'us':>8} {'floor us':>9} {'ratio':>6}")
    for row in rows:
        print(f"{row.operation:10} {row.prekeys:20} {row.us:8.1f} {row.floor_us:9.1f} {row.ratio:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
