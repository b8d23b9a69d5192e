"""Cost of messages against their own primitive calls: ``./dev run benchmarks/ratchet.py [--json]``.

The floor of an operation is the sequence of library calls that it cannot do without, with every key in the
form in which the operation holds it. Both run in turn, in slices of a few milliseconds on one core, so that a
change of the clock's speed meets both; the ratio of their best slices is what counts. Records stay in memory;
what reading and writing them costs is shown by itself.
"""

import hmac
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from time import perf_counter_ns

import nacl.bindings as sodium
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.errors import MessageGapError
from securechat.ids import device_id, user_id
from securechat.protocol.devices import create_account
from securechat.protocol.pqxdh import LocalDevice, PeerDevice
from securechat.protocol.prekeys import PreKeyPool, generate_pool
from securechat.protocol.records import SessionRecord, encode_record, parse_record
from securechat.protocol.session import decrypt, encrypt, start_session
from securechat.wire.messages import parse_ratchet_part
from securechat.wire.prekeys import PreKeyBundle

NOW_MS = 1_800_000_000_000
PLAINTEXT = bytes(1_024)
HEAD_BYTES = 43
SLICE_CALLS = 100
ROUNDS = 120
SKIPPED = 900
HEAD_WITHOUT_PQ = 37  # flags, ratchet key, previous count, number
PATTERNS = {
    "ping-pong": [True, False],
    "turns of three": [True] * 3 + [False] * 3,
    "ten to one": [True] * 10 + [False],
    "fifty to one": [True] * 50 + [False],
}

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report, in microseconds a call."""

    operation: str
    us: float
    floor_us: float
    ratio: float


class Side:
    """One device with its record in memory."""

    def __init__(self, own: LocalDevice, pool: PreKeyPool) -> None:
        self.own = own
        self.pool = pool
        self.peer: PeerDevice = own.public()
        self.record: SessionRecord | None = None

    def held(self) -> SessionRecord:
        """Return the record of a session that has started."""
        if self.record is None:
            raise ValueError("no session yet")
        return self.record

    def send(self) -> bytes:
        """Seal the plaintext."""
        self.record, raw = encrypt(self.held(), PLAINTEXT, now_ms=NOW_MS, random_bytes=os.urandom)
        return raw

    def receive(self, raw: bytes) -> None:
        """Open a message."""
        opened = decrypt(self.own, self.peer, self.record, self.pool, raw, now_ms=NOW_MS)
        self.record, self.pool = opened.record, opened.prekeys


def make_pair() -> tuple[Side, Side]:
    """Two devices that have exchanged a message each way."""
    _, pat, _ = create_account(user_id("pat"), device_id(1), NOW_MS, os.urandom)
    _, lee, _ = create_account(user_id("lee"), device_id(1), NOW_MS, os.urandom)
    pool, upload = generate_pool(lee, NOW_MS, os.urandom, one_time=1)
    other, _ = generate_pool(pat, NOW_MS, os.urandom, one_time=1)
    first, second = Side(pat, other), Side(lee, pool)
    first.peer, second.peer = lee.public(), pat.public()
    bundle = PreKeyBundle(lee.address, upload.signed, upload.kem_one_time[0], upload.one_time[0])
    first.record = start_session(pat, first.peer, bundle, None, now_ms=NOW_MS, random_bytes=os.urandom)
    second.receive(first.send())
    first.receive(second.send())
    return first, second


def steps_floor() -> tuple[bytes, bytes]:
    """Both chain steps and the derivation of AES key and commitment."""
    key = bytes(32)
    for label in (b"\x02", b"\x01", b"SecureChat v1 PQ chain step\x02", b"SecureChat v1 PQ chain step\x01"):
        hmac.digest(key, label, "sha256")
    derived = HKDF(SHA256(), 64, key, b"SecureChat v1 message keys\x01").derive(key)
    return derived[:32], derived[32:]


def seal_floor() -> bytes:
    """What sealing one message cannot do without."""
    key, _ = steps_floor()
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, PLAINTEXT, bytes(33 + HEAD_BYTES))


def open_floor(sealed: bytes) -> bytes:
    """What opening one message cannot do without."""
    key, commitment = steps_floor()
    hmac.compare_digest(commitment, commitment)
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], bytes(33 + HEAD_BYTES))


def turn_floor(private: bytes, public: bytes) -> None:
    """A DH step: two agreements, a key pair and two root steps."""
    for _ in range(2):
        secret = sodium.crypto_scalarmult(private, public)
        HKDF(SHA256(), 64, secret, b"SecureChat v1 root step\x01").derive(secret)
    sodium.crypto_scalarmult_base(os.urandom(32))


def encrypt_pair() -> tuple[Call, Call]:
    """One-way encryption, from the same state again before an offer would be due."""
    first, _ = make_pair()
    start = first.held()
    calls = 0

    def run() -> None:
        nonlocal calls
        calls += 1
        if calls % 40 == 0:
            first.record = start
        first.send()

    return run, seal_floor


def decrypt_pair(skipped: int = 0) -> tuple[Call, Call]:
    """One-way decryption of prepared messages, again and again from the same state."""
    first, second = make_pair()
    for _ in range(skipped):
        first.send()
    second.receive(first.send())
    start = second.held()
    messages = [first.send() for _ in range(40)]
    following: Iterator[bytes] = iter(())
    sealed = bytes(12) + AESGCM(steps_floor()[0]).encrypt(bytes(12), PLAINTEXT, bytes(33 + HEAD_BYTES))

    def run() -> None:
        nonlocal following
        raw = next(following, None)
        if raw is None:
            second.record = start
            following = iter(messages)
            raw = next(following)
        second.receive(raw)

    return run, lambda: open_floor(sealed)


def ping_pong_pair() -> tuple[Call, Call]:
    """A message each way, with a turn of the ratchet for both; PQ epochs come as they fall due."""
    first, second = make_pair()
    private, public = os.urandom(32), sodium.crypto_scalarmult_base(os.urandom(32))
    sealed = bytes(12) + AESGCM(steps_floor()[0]).encrypt(bytes(12), PLAINTEXT, bytes(33 + HEAD_BYTES))

    def run() -> None:
        second.receive(first.send())
        first.receive(second.send())

    def floor() -> None:
        for _ in range(2):
            turn_floor(private, public)
            seal_floor()
            open_floor(sealed)

    return run, floor


def record_pair() -> tuple[Call, Call]:
    """Reading and writing a record, against the floor of opening one message."""
    first, second = make_pair()
    second.receive(first.send())
    raw = encode_record(second.held())
    sealed = bytes(12) + AESGCM(steps_floor()[0]).encrypt(bytes(12), PLAINTEXT, bytes(33 + HEAD_BYTES))
    return lambda: encode_record(parse_record(raw)), lambda: open_floor(sealed)


def forged_pair() -> tuple[Call, Call]:
    """Refusing a counter of a thousand million, against the floor of opening one message."""
    first, second = make_pair()
    second.receive(first.send())
    genuine = first.send()
    forged = (
        b"\x01\x01\x01" + genuine[3:35] + bytes(4) + (10**9).to_bytes(4, "big") + bytes(12) + genuine[45:]
    )
    sealed = bytes(12) + AESGCM(steps_floor()[0]).encrypt(bytes(12), PLAINTEXT, bytes(33 + HEAD_BYTES))

    def run() -> None:
        try:
            second.receive(forged)
        except MessageGapError:
            return
        raise ValueError("the forged counter was taken")

    return run, lambda: open_floor(sealed)


def compare(real: Call, floor: Call) -> tuple[float, float]:
    """Return the best slice of each in microseconds a call, taken in turn."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for which, call in enumerate((real, floor)):
            start = perf_counter_ns()
            for _ in range(SLICE_CALLS):
                call()
            best[which] = min(best[which], (perf_counter_ns() - start) / 1_000 / SLICE_CALLS)
    return best[0], best[1]


def measure() -> list[Row]:
    """Measure every operation."""
    pairs = {
        "encrypt 1 KiB": encrypt_pair(),
        "decrypt 1 KiB": decrypt_pair(),
        f"decrypt, {SKIPPED} skipped keys": decrypt_pair(SKIPPED),
        "ping-pong, 2 messages": ping_pong_pair(),
        "record, read and write": record_pair(),
        "forged counter": forged_pair(),
    }
    rows = []
    for operation, (real, floor) in pairs.items():
        us, floor_us = compare(real, floor)
        rows.append(Row(operation, us, floor_us, us / floor_us))
    return rows


def sizes() -> dict[str, float]:
    """Return bytes: overhead of a message, PQ part in each talking pattern, state at rest."""
    first, second = make_pair()
    found: dict[str, float] = {"overhead of a message": len(first.send()) - len(PLAINTEXT)}
    for name, pattern in PATTERNS.items():
        first, second = make_pair()
        total, messages = 0, 0
        for from_first in islice(cycle(pattern), 3_000):
            sender, receiver = (first, second) if from_first else (second, first)
            raw = sender.send()
            receiver.receive(raw)
            total, messages = total + len(parse_ratchet_part(raw[2:]).head), messages + 1
        found[f"PQ part a message, {name}"] = round(total / messages - HEAD_WITHOUT_PQ, 1)
    found["record at rest"] = len(encode_record(make_pair()[0].held()))
    return found


def main(arguments: list[str]) -> int:
    """Measure and print tables, or JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows, bytes_of = measure(), sizes()
    if "--json" in arguments:
        print(json.dumps({"rows": [asdict(row) for row in rows], "bytes": bytes_of}))
        return 0
    print(f"{'operation':28} {'us':>8} {'floor us':>9} {'ratio':>6}")
    for row in rows:
        print(f"{row.operation:28} {row.us:8.1f} {row.floor_us:9.1f} {row.ratio:6.2f}")
    print("\nbytes")
    for name, value in bytes_of.items():
        print(f"{name:42} {value:8}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
