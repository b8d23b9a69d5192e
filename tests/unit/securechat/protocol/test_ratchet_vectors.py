"""The golden vectors of the ratchet, read from the files alone."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support.identities import RepeatableRandom, make_person
from support.suite_omemo2 import hkdf
from support.vectors import load

from securechat.crypto.secret import SecretBytes
from securechat.protocol import pq_epochs
from securechat.protocol.records import SessionRecord, encode_record, parse_record
from securechat.protocol.session import decrypt, encrypt
from securechat.protocol.suite import SECURECHAT_V1
from securechat.wire.messages import (
    RatchetHeader,
    encode_head,
    encode_prekey_message,
    parse_prekey_message,
    parse_ratchet_part,
)

EMPTY_BODY = bytes(12 + 32 + 16)


def test_heads() -> None:
    for case in load("ratchet_messages.json")["heads"]:
        header = RatchetHeader(
            raw(case["ratchet_key"]),
            case["previous"],
            case["number"],
            case["epoch"],
            case["epoch_previous"],
            case["epoch_number"],
            raw(case["offer"]),
            raw(case["answer"]),
        )
        assert encode_head(header).hex() == case["encoded"]
        assert parse_ratchet_part(raw(case["encoded"]) + EMPTY_BODY).header == header


def test_the_prekey_message() -> None:
    case = load("ratchet_messages.json")["prekey_message"]
    message = parse_prekey_message(raw(case["encoded"]))
    assert encode_prekey_message(message).hex() == case["encoded"]
    assert message.sender.account.raw.hex() == case["account_key"]
    assert message.sender.signing.raw.hex() == case["signing_key"]
    assert message.sender.agreement.raw.hex() == case["agreement_key"]
    handshake = message.handshake
    assert handshake.ephemeral.raw.hex() == case["base_key"]
    assert (handshake.signed_id, handshake.one_time_id) == (case["signed_id"], case["one_time_id"])
    assert (handshake.kem_kind, handshake.kem_id) == (case["kem_kind"], case["kem_id"])
    assert handshake.kem_ciphertext.hex() == case["kem_ciphertext"]
    assert message.ratchet.hex() == case["ratchet"]


def test_the_key_schedule_by_its_formulas() -> None:
    """With HMAC, HKDF and AES-GCM of other libraries, as docs/format/double-ratchet.md writes it down."""
    file = load("ratchet_keys.json")
    root = file["root_step"]
    out = hkdf(raw(root["root"]), raw(root["dh_output"]), b"SecureChat v1 root step\x01", 64)
    assert (out[:32].hex(), out[32:].hex()) == (root["next_root"], root["chain_key"])
    for name, label in (("chain_step", b""), ("pq_chain_step", b"SecureChat v1 PQ chain step")):
        step = file[name]
        assert hmac.digest(raw(step["chain_key"]), label + b"\x01", "sha256").hex() == step["message_key"]
        assert hmac.digest(raw(step["chain_key"]), label + b"\x02", "sha256").hex() == step["next_chain_key"]
    message = file["message"]
    keys = hkdf(raw(message["pq_key"]), raw(message["ec_key"]), b"SecureChat v1 message keys\x01", 64)
    nonce = RepeatableRandom(message["nonce_seed"])(12)
    head, authenticated = raw(message["head"]), raw(message["associated_data"]) + raw(message["head"])
    sealed = AESGCM(keys[:32]).encrypt(nonce, raw(message["plaintext"]), authenticated)
    assert (head + nonce + keys[32:] + sealed).hex() == message["ratchet_part"]


def test_the_keys_of_an_epoch_by_their_formulas() -> None:
    case = load("ratchet_keys.json")["epoch"]
    pair = MLKEM768PrivateKey.from_seed_bytes(raw(case["seed"]))
    assert pair.public_key().public_bytes_raw().hex() == case["offer"]
    assert pair.decapsulate(raw(case["ciphertext"])).hex() == case["kem_secret"]
    tag = hashlib.sha256(b"SecureChat v1 PQ offer tag" + raw(case["offer"])).digest()[:8]
    assert tag.hex() == case["offer_tag"]
    exchange = hashlib.sha256(raw(case["offer"]) + raw(case["ciphertext"])).digest()
    info = b"SecureChat v1 PQ epoch\x01" + case["number"].to_bytes(4, "big") + exchange
    out = hkdf(raw(case["root"]), raw(case["kem_secret"]), info, 96)
    assert out[:32].hex() == case["next_root"]
    assert out[32:64].hex() == case["from_initiator"]
    assert out[64:].hex() == case["from_responder"]


def test_the_first_keys_of_a_session_by_their_formula() -> None:
    file = load("ratchet_conversation.json")
    handshake = file["handshake"]
    info = b"SecureChat v1 session root" + raw(handshake["session_id"])
    out = hkdf(bytes(32), raw(handshake["secret"]), info, 128)
    record = parse_record(raw(file["records_at_the_start"]["lee"]))
    pq = record.current.ratchet.pq
    assert pq is not None
    assert (record.current.ratchet.root, pq.root) == (out[:32], out[32:64])
    assert (pq.receiving.key, pq.sending.key) == (out[64:96], out[96:])
    name = hashlib.sha256(b"SecureChat v1 handshake hash" + raw(handshake["prekey_prefix"])).digest()
    assert record.current.handshake_hash == name


@pytest.mark.parametrize("reload", [True, False], ids=["from bytes", "in memory"])
def test_a_whole_conversation(reload: bool) -> None:
    file = load("ratchet_conversation.json")
    people = {"pat": make_person("pat"), "lee": make_person("lee")}
    records = {name: parse_record(raw(value)) for name, value in file["records_at_the_start"].items()}
    random = {
        name: draws(seed, raw(file["kem"]["offer_seed"])) for name, seed in file["random_seeds"].items()
    }
    random["pat"](32)  # the first ratchet key, which the record at the start holds
    for event in file["events"]:
        name, peer = event["who"], people["lee" if event["who"] == "pat" else "pat"].peer
        if event["act"] == "send":
            records[name], message = encrypt(
                records[name],
                raw(event["plaintext"]),
                now_ms=event["now_ms"],
                random_bytes=random[name],
            )
            assert message.hex() == event["message"]
        else:
            own, message = people[name], raw(event["message"])
            opened = decrypt(own.local, peer, records[name], own.pool, message, now_ms=event["now_ms"])
            assert opened.plaintext.hex() == event["plaintext"]
            records[name] = answered_as_recorded(opened.record, file["kem"], event["now_ms"])
        assert encode_record(records[name]).hex() == event["record_after"]
        if reload:
            records[name] = parse_record(raw(event["record_after"]))
    assert {name: encode_record(record).hex() for name, record in records.items()} == file[
        "records_at_the_end"
    ]


def answered_as_recorded(record: SessionRecord, kem: dict[str, str], now_ms: int) -> SessionRecord:
    """Replace a fresh answer by the recorded one: the KEM draws its own randomness."""
    pq, suite = record.current.ratchet.pq, SECURECHAT_V1.pq
    assert pq is not None
    assert suite is not None
    if not isinstance(pq.phase, pq_epochs.Answered) or not pq.phase.owed:
        return record
    offer = MLKEM768PrivateKey.from_seed_bytes(raw(kem["offer_seed"])).public_key().public_bytes_raw()
    answered = pq_epochs.answer_with(
        suite, pq, offer, SecretBytes(raw(kem["secret"])), raw(kem["ciphertext"]), now_ms=now_ms
    )
    ratchet = msgspec.structs.replace(record.current.ratchet, pq=answered)
    return msgspec.structs.replace(record, current=msgspec.structs.replace(record.current, ratchet=ratchet))


def draws(seed: str, offer_seed: bytes) -> Callable[[int], bytes]:
    stream = RepeatableRandom(seed)
    return lambda length: offer_seed if length == 64 else stream(length)


def raw(text: Any) -> bytes:
    return bytes.fromhex(text)
