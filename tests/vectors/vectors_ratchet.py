"""Golden vectors of messages, ratchet steps, records and a whole conversation.

Randomness as in ``vectors_handshake``: call number n (from 1) of a generator with seed s gives the first
bytes of SHAKE-256(s || n as 8 bytes, big-endian). The KEM's key pair and output come from a valid case of
Wycheproof: where 64 bytes are drawn, they are its seed, and the call does not count. Pat's first call makes
the first ratchet key, which is in the records at the start.
"""

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace
from support.identities import NOW_MS, Person, RepeatableRandom, make_person
from support.vectors import wycheproof

from securechat.crypto.kem import CIPHERTEXT_BYTES, KemKind
from securechat.crypto.keys import DhKeyPair
from securechat.crypto.secret import SecretBytes
from securechat.ids import SessionId
from securechat.ports import RandomBytes
from securechat.protocol import pq_epochs
from securechat.protocol.choice import placed
from securechat.protocol.pqxdh import Handshake
from securechat.protocol.records import SessionRecord, encode_record
from securechat.protocol.session import decrypt, encrypt, initiated, responded
from securechat.protocol.suite import SECURECHAT_V1, EpochKeys, MessageKeys
from securechat.wire.handshake import PqxdhHeader
from securechat.wire.messages import (
    ANSWER_BYTES,
    OFFER_BYTES,
    PreKeyMessage,
    RatchetHeader,
    SenderIdentity,
    encode_head,
    encode_prekey_message,
    encode_prekey_prefix,
)
from securechat.wire.prekeys import PreKeyKind

Value = dict[str, object]
DAY_MS: Final = 86_400_000
KEM_BYTES: Final = CIPHERTEXT_BYTES[KemKind.ML_KEM_1024]
SECRET: Final = bytes(range(32))
SESSION_ID: Final = bytes(range(32, 64))
ASSOCIATED_DATA: Final = bytes(range(64, 96))
SIGNED_PREKEY: Final = DhKeyPair.generate(RepeatableRandom("signed prekey"))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A key pair of ML-KEM-768 and what an encapsulation to it gave."""

    seed: bytes
    offer: bytes
    ciphertext: bytes
    secret: bytes


def build() -> dict[str, object]:
    """Return the files of this module."""
    return {
        "ratchet_messages.json": {"heads": _heads(), "prekey_message": _prekey_message()},
        "ratchet_keys.json": _keys(),
        "ratchet_conversation.json": Conversation().build(),
    }


def _heads() -> list[Value]:
    key = SIGNED_PREKEY.public.raw
    headers = [
        RatchetHeader(key, 0, 0),
        RatchetHeader(key, 1, 2, 3, 4, 5),
        RatchetHeader(key, 65_535, 65_535, 65_535, 65_535, 65_535),
        RatchetHeader(key, 0, 65_536, 1, 2, 3),
        RatchetHeader(key, 1, 2, 3, 4, 5, offer=bytes(OFFER_BYTES)),
        RatchetHeader(key, 1, 2, 3, 4, 70_000, answer=bytes(ANSWER_BYTES)),
    ]
    return [
        {
            "ratchet_key": header.ratchet_key.hex(),
            "previous": header.previous,
            "number": header.number,
            "epoch": header.epoch,
            "epoch_previous": header.epoch_previous,
            "epoch_number": header.epoch_number,
            "offer": header.offer.hex(),
            "answer": header.answer.hex(),
            "encoded": encode_head(header).hex(),
        }
        for header in headers
    ]


def _prekey_message() -> Value:
    pat = make_person("pat")
    part = encode_head(RatchetHeader(SIGNED_PREKEY.public.raw, 0, 0)) + bytes(12 + 32 + 16)
    message = PreKeyMessage(_identity(pat), _pqxdh_header(), part)
    return {
        "account_key": message.sender.account.raw.hex(),
        "signing_key": message.sender.signing.raw.hex(),
        "agreement_key": message.sender.agreement.raw.hex(),
        "base_key": message.handshake.ephemeral.raw.hex(),
        "signed_id": message.handshake.signed_id,
        "one_time_id": message.handshake.one_time_id,
        "kem_kind": message.handshake.kem_kind.value,
        "kem_id": message.handshake.kem_id,
        "kem_ciphertext": message.handshake.kem_ciphertext.hex(),
        "ratchet": part.hex(),
        "encoded": encode_prekey_message(message).hex(),
    }


def _keys() -> Value:
    suite, pq = SECURECHAT_V1, SECURECHAT_V1.pq
    if pq is None:
        raise ValueError("the suite has a post-quantum chain")
    root, shared = bytes([1]) * 32, bytes([2]) * 32
    next_root, chain = suite.root_step(root, shared)
    next_chain, ec_key = suite.chain_step(chain, 0)
    next_pq_chain, pq_key = pq.step(root, 0)
    exchange = _exchange()
    context = pq_epochs.exchange_context(1, exchange.offer, exchange.ciphertext)
    epoch = pq.new_epoch(root, exchange.secret, context)
    message = _seal(MessageKeys(ec_key, pq_key))
    return {
        "root_step": {
            "root": root.hex(),
            "dh_output": shared.hex(),
            "next_root": next_root.hex(),
            "chain_key": chain.hex(),
        },
        "chain_step": {
            "chain_key": chain.hex(),
            "next_chain_key": next_chain.hex(),
            "message_key": ec_key.hex(),
        },
        "pq_chain_step": {
            "chain_key": root.hex(),
            "next_chain_key": next_pq_chain.hex(),
            "message_key": pq_key.hex(),
        },
        "epoch": {
            "number": 1,
            "root": root.hex(),
            "seed": exchange.seed.hex(),
            "offer": exchange.offer.hex(),
            "offer_tag": pq_epochs.offer_tag(exchange.offer).hex(),
            "ciphertext": exchange.ciphertext.hex(),
            "kem_secret": exchange.secret.hex(),
            **_epoch(epoch),
        },
        "message": message,
    }


def _epoch(keys: EpochKeys) -> Value:
    return {
        "next_root": keys.root.hex(),
        "from_initiator": keys.from_initiator.hex(),
        "from_responder": keys.from_responder.hex(),
    }


def _seal(keys: MessageKeys) -> Value:
    header = RatchetHeader(SIGNED_PREKEY.public.raw, 1, 2, 3, 4, 5)
    random_bytes = RepeatableRandom("nonce")
    part = SECURECHAT_V1.seal(
        keys, header, plaintext=b"hello", associated_data=ASSOCIATED_DATA, random_bytes=random_bytes
    )
    return {
        "ec_key": keys.ec.hex(),
        "pq_key": keys.pq.hex(),
        "head": encode_head(header).hex(),
        "associated_data": ASSOCIATED_DATA.hex(),
        "nonce_seed": "nonce",
        "plaintext": b"hello".hex(),
        "ratchet_part": part.hex(),
    }


class Conversation:
    """Pat and Lee: late messages, turns, and one PQ epoch, every byte fixed."""

    def __init__(self) -> None:
        self.people = {"pat": make_person("pat"), "lee": make_person("lee")}
        handshake = Handshake(SecretBytes(SECRET), ASSOCIATED_DATA, SessionId(SESSION_ID))
        self.prefix = encode_prekey_prefix(_identity(self.people["pat"]), _pqxdh_header())
        self.exchange = _exchange()
        self.random: dict[str, RandomBytes] = {
            "pat": self._with_seed(RepeatableRandom("conversation pat")),
            "lee": RepeatableRandom("conversation lee"),
        }
        first = initiated(
            handshake,
            self.prefix,
            SIGNED_PREKEY.public,
            now_ms=NOW_MS,
            random_bytes=self.random["pat"],
        )
        second = responded(handshake, first.handshake_hash, SIGNED_PREKEY, now_ms=NOW_MS)
        self.records = {
            "pat": placed(None, _keys_of(self.people["lee"]), first, NOW_MS),
            "lee": placed(None, _keys_of(self.people["pat"]), second, NOW_MS),
        }
        self.now_ms = NOW_MS
        self.events: list[Value] = []

    def build(self) -> Value:
        """Hold the conversation, and return the file."""
        start = {name: encode_record(record).hex() for name, record in self.records.items()}
        first, overtaken, third = (self._send("pat", text) for text in (b"one", b"two", b"three"))
        for message in (first, third):
            self._receive("lee", message)
        self._receive("pat", self._send("lee", b"four"))
        self._receive("lee", self._send("pat", b"five"))
        self._receive("lee", overtaken)
        self.now_ms += DAY_MS
        self._receive("lee", self._send("pat", b"with an offer"), answer=True)
        self._receive("pat", self._send("lee", b"with the answer"))
        self._receive("lee", self._send("pat", b"in epoch 1"))
        self._receive("pat", self._send("lee", b"in epoch 1 too"))
        return {
            "handshake": {
                "secret": SECRET.hex(),
                "session_id": SESSION_ID.hex(),
                "associated_data": ASSOCIATED_DATA.hex(),
                "signed_prekey_private": SIGNED_PREKEY.private.reveal().hex(),
                "prekey_prefix": self.prefix.hex(),
            },
            "random_seeds": {"pat": "conversation pat", "lee": "conversation lee"},
            "kem": {
                "offer_seed": self.exchange.seed.hex(),
                "ciphertext": self.exchange.ciphertext.hex(),
                "secret": self.exchange.secret.hex(),
            },
            "records_at_the_start": start,
            "events": self.events,
            "records_at_the_end": {
                name: encode_record(record).hex() for name, record in self.records.items()
            },
        }

    def _send(self, name: str, text: bytes) -> bytes:
        record, raw = encrypt(self.records[name], text, now_ms=self.now_ms, random_bytes=self.random[name])
        self.records[name] = record
        self._note("send", name, text, raw)
        return raw

    def _receive(self, name: str, raw: bytes, *, answer: bool = False) -> None:
        own = self.people[name]
        peer = self.people["lee" if name == "pat" else "pat"].peer
        opened = decrypt(own.local, peer, self.records[name], own.pool, raw, now_ms=self.now_ms)
        self.records[name] = self._with_fixed_answer(opened.record) if answer else opened.record
        self._note("receive", name, opened.plaintext, raw)

    def _note(self, act: str, name: str, text: bytes, raw: bytes) -> None:
        self.events.append(
            {
                "act": act,
                "who": name,
                "now_ms": self.now_ms,
                "plaintext": text.hex(),
                "message": raw.hex(),
                "record_after": encode_record(self.records[name]).hex(),
            }
        )

    def _with_fixed_answer(self, record: SessionRecord) -> SessionRecord:
        """Replace the answer that the KEM's own randomness made by the one of the published case."""
        ratchet = record.current.ratchet
        if ratchet.pq is None or SECURECHAT_V1.pq is None:
            raise ValueError("the suite has a post-quantum chain")
        exchange = self.exchange
        pq = pq_epochs.answer_with(
            SECURECHAT_V1.pq,
            ratchet.pq,
            exchange.offer,
            SecretBytes(exchange.secret),
            exchange.ciphertext,
            now_ms=self.now_ms,
        )
        return replace(record, current=replace(record.current, ratchet=replace(ratchet, pq=pq)))

    def _with_seed(self, random_bytes: RandomBytes) -> RandomBytes:
        """Give the published seed where 64 bytes are drawn: for the offer, and nothing else."""
        return lambda length: self.exchange.seed if length == 64 else random_bytes(length)


def _exchange() -> Exchange:
    case = next(c for c in wycheproof("ml_kem") if c["set"] == "768" and c["result"] == "valid")
    seed, offer, ciphertext, secret = (bytes.fromhex(case[name]) for name in ("seed", "ek", "c", "K"))
    return Exchange(seed, offer, ciphertext, secret)


def _identity(person: Person) -> SenderIdentity:
    return SenderIdentity(person.peer.account, person.peer.signing, person.peer.agreement)


def _keys_of(person: Person) -> bytes:
    return person.peer.account.raw + person.peer.signing.raw + person.peer.agreement.raw


def _pqxdh_header() -> PqxdhHeader:
    base = DhKeyPair.generate(RepeatableRandom("base key"))
    return PqxdhHeader(base.public, 1, 2, PreKeyKind.KEM_ONE_TIME, 3, bytes([7]) * KEM_BYTES)
