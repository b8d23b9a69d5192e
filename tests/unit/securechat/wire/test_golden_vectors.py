"""The golden vectors are what the code writes, and read from the files alone they hold."""

import hashlib
import importlib.util
from typing import Any

from support.vectors import VECTORS, load

from securechat.crypto.kem import KemKeyPair, KemKind
from securechat.crypto.keys import DhKeyPair, DhPublicKey, SigningKeyPair, VerifyKey
from securechat.crypto.secret import SecretBytes
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.protocol.fingerprint import safety_number
from securechat.protocol.pqxdh import LocalDevice, PeerDevice, initiate_with, respond
from securechat.protocol.prekey_rows import assemble_pool
from securechat.protocol.prekeys import PreKeySecret
from securechat.wire.codec import Reader
from securechat.wire.content import encode_content, pad, parse_content, unpad
from securechat.wire.devices import check_device_list, check_successor, parse_signed_device_list
from securechat.wire.handshake import read_pqxdh_header
from securechat.wire.prekeys import (
    PreKeyKind,
    SignedDhPreKey,
    check_prekey,
    check_upload,
    encode_bundle,
    encode_prekey,
    encode_upload,
    parse_bundle,
    parse_prekey,
    parse_upload,
)


def test_the_committed_files_are_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make", VECTORS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.outdated(make.rendered()) == []


def test_device_lists() -> None:
    first, second = (
        parse_signed_device_list(raw(case["encoded"])) for case in load("identity.json")["device_lists"]
    )
    for case, signed in zip(load("identity.json")["device_lists"], (first, second), strict=True):
        check_device_list(signed)
        assert signed.hash().hex() == case["hash"]
        assert (signed.value.user, signed.value.version) == (case["user"], case["version"])
        assert signed.value.account == SigningKeyPair.from_seed(secret(case["account_seed"])).public
        for device, record in zip(case["devices"], signed.value.devices, strict=True):
            assert record.device == device["device"]
            assert record.signature.hex() == device["record_signature"]
            assert record.agreement == DhKeyPair.from_private(secret(device["agreement_private"])).public
    check_successor(first, second)


def test_safety_numbers() -> None:
    for case in load("identity.json")["safety_numbers"]:
        (a, b), (key_a, key_b) = (
            map(user_id, case["users"]),
            (VerifyKey(raw(k)) for k in case["account_keys"]),
        )
        assert safety_number(a, key_a, b, key_b) == case["number"]


def test_prekeys() -> None:
    file = load("prekeys.json")
    address = ProtocolAddress(user_id(file["user"]), device_id(file["device"]))
    signing = SigningKeyPair.from_seed(secret(file["signing_seed"])).public
    for case in file["prekeys"]:
        prekey = parse_prekey(raw(case["encoded"]))
        check_prekey(prekey, address, signing, case["created_ms"])
        assert encode_prekey(prekey).hex() == case["encoded"]
        assert (prekey.kind, prekey.id, prekey.expires_ms) == (case["kind"], case["id"], case["expires_ms"])
        private = secret(case["private"])
        if isinstance(prekey, SignedDhPreKey):
            assert prekey.public == DhKeyPair.from_private(private).public
        else:
            assert prekey.public == KemKeyPair(KemKind.ML_KEM_1024, private).public
    upload = parse_upload(raw(file["upload"]))
    check_upload(upload, address, signing, upload.signed.created_ms)
    assert encode_upload(upload).hex() == file["upload"]
    for name in ("bundle", "bundle_without_one_time"):
        assert encode_bundle(parse_bundle(raw(file[name]))).hex() == file[name]


def test_both_sides_of_the_handshake() -> None:
    for case in load("pqxdh.json"):
        bundle = parse_bundle(raw(case["bundle"]))
        reader = Reader(raw(case["header"]))
        header = read_pqxdh_header(reader)
        reader.end()
        initiator, responder = device(case["initiator"]), device(case["responder"])
        base = DhKeyPair.from_private(secret(case["base_private"]))
        ours = initiate_with(
            initiator,
            peer(case["responder"]),
            bundle,
            base,
            secret(case["kem_secret"]),
            header.kem_ciphertext,
        )
        rows = [
            row(PreKeyKind.SIGNED, bundle.signed.id, case["signed_private"]),
            row(bundle.kem.kind, bundle.kem.id, case["kem_seed"]),
        ]
        if bundle.kem.kind is PreKeyKind.KEM_ONE_TIME:
            rows.append(row(PreKeyKind.KEM_LAST_RESORT, 1, "00" * 64))
        if bundle.one_time is not None:
            rows.append(row(PreKeyKind.ONE_TIME, bundle.one_time.id, case["one_time_private"]))
        theirs = respond(responder, peer(case["initiator"]), header, assemble_pool(1, rows, []))
        assert ours == (header, theirs)
        assert theirs.secret.reveal().hex() == case["secret"]
        assert theirs.associated_data.hex() == case["associated_data"]
        assert theirs.session_id.hex() == case["session_id"]


def test_contents_and_padding() -> None:
    file = load("content.json")
    for case in file["contents"]:
        content = parse_content(raw(case["encoded"]))
        assert encode_content(content).hex() == case["encoded"]
        assert (int(content.kind), content.counter, content.sent_ms) == (
            case["kind"],
            case["counter"],
            case["sent_ms"],
        )
        assert content.message_id.hex() == case["message_id"]
        assert content.body.hex() == case["body"]
        assert (content.reply_to.hex() if content.reply_to else None) == case["reply_to"]
    for case in file["padding"]:
        if "raw" in case:
            assert pad(raw(case["raw"])).hex() == case["padded"]
            assert unpad(raw(case["padded"])).hex() == case["raw"]
        else:
            assert len(pad(bytes(case["length"]))) == case["padded_length"]


def test_challenges() -> None:
    for case in load("challenge.json"):
        pair = SigningKeyPair.from_seed(secret(case["signing_seed"]))
        assert pair.sign(raw(case["message"])).hex() == case["signature"]
        assert raw(case["message"]).endswith(hashlib.sha256(case["token"].encode()).digest())


def raw(text: str) -> bytes:
    """Hexadecimal as bytes."""
    return bytes.fromhex(text)


def secret(text: str) -> SecretBytes:
    """Hexadecimal as a secret."""
    return SecretBytes(bytes.fromhex(text))


def row(kind: PreKeyKind, key_id: int, private: str) -> PreKeySecret:
    """A row of a pool, without its dates."""
    return PreKeySecret(kind, key_id, 0, 1, 0, secret(private))


def device(case: dict[str, Any]) -> LocalDevice:
    """A device of a vector; its signing key plays no part in a handshake but by its public half."""
    public = peer(case)
    signing = SigningKeyPair(SecretBytes(bytes(32)), SecretBytes(bytes(64)), public.signing)
    return LocalDevice(
        public.address, public.account, signing, DhKeyPair.from_private(secret(case["agreement_private"]))
    )


def peer(case: dict[str, Any]) -> PeerDevice:
    """A device of a vector as its peer sees it."""
    address = ProtocolAddress(user_id(case["user"]), device_id(case["device"]))
    keys = VerifyKey(raw(case["account_key"])), VerifyKey(raw(case["signing_key"]))
    return PeerDevice(address, *keys, DhPublicKey(raw(case["agreement_key"])))
