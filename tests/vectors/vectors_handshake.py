"""Golden vectors of identity, prekeys, handshake, content, challenges and safety numbers.

Everything secret comes from ``RepeatableRandom``: call number n (from 1) of a generator with seed s gives the
first bytes of SHAKE-256(s || n as 8 bytes, big-endian). ML-KEM draws its own randomness when it encapsulates,
so key pair, ciphertext and secret come from a valid case of Wycheproof instead.
"""

from dataclasses import replace
from typing import Final

from support.identities import NOW_MS, Person, RepeatableRandom, make_person
from support.vectors import wycheproof

from securechat.crypto.kem import KemKeyPair, KemKind
from securechat.crypto.keys import DhKeyPair
from securechat.crypto.secret import SecretBytes
from securechat.ids import MessageId, ProtocolAddress, device_id, user_id
from securechat.protocol.devices import create_device, next_device_list
from securechat.protocol.fingerprint import safety_number
from securechat.protocol.pqxdh import initiate_with
from securechat.protocol.prekeys import PreKeySecret, published
from securechat.wire.auth import ChallengePurpose, challenge_message
from securechat.wire.codec import Writer
from securechat.wire.content import Content, ContentKind, UnknownContent, encode_content, pad
from securechat.wire.handshake import write_pqxdh_header
from securechat.wire.prekeys import (
    MAX_AGE_MS,
    PreKeyBundle,
    PreKeyKind,
    SignedDhPreKey,
    SignedKemPreKey,
    encode_bundle,
    encode_prekey,
    encode_upload,
)

Value = dict[str, object]
TEXTS: Final = (" ", "Guten Tag", "zwei\nZeilen", "👩‍⚕️ 12:30", "السلام عليكم", "x" * 2_000)


def build() -> dict[str, object]:
    """Return the files of this module."""
    pat, lee = make_person("pat"), make_person("lee")
    return {
        "identity.json": {"device_lists": _device_lists(pat), "safety_numbers": _safety_numbers(pat, lee)},
        "prekeys.json": _prekeys(lee),
        "pqxdh.json": [
            _pqxdh(pat, lee, one_time, kind) for one_time in (True, False) for kind in _kem_kinds()
        ],
        "content.json": {"contents": _contents(), "padding": _padding()},
        "challenge.json": _challenges(lee),
    }


def _device_lists(pat: Person) -> list[Value]:
    address = ProtocolAddress(user_id("pat"), device_id(7))
    second, record = create_device(address, pat.local.account, NOW_MS + 1, RepeatableRandom("pat 7"))
    devices = [*pat.device_list.value.devices, record]
    signed = next_device_list(pat.account, pat.device_list, devices, NOW_MS + 2)
    return [
        {
            "user": value.value.user,
            "version": value.value.version,
            "issued_ms": value.value.issued_ms,
            "account_seed": _hex(pat.account.signing.seed),
            "devices": [
                {
                    "device": device.device,
                    "created_ms": device.created_ms,
                    "signing_seed": _hex(local.signing.seed),
                    "agreement_private": _hex(local.agreement.private),
                    "record_signature": device.signature.hex(),
                }
                for device, local in zip(value.value.devices, (pat.local, second), strict=False)
            ],
            "previous_hash": value.value.previous_hash.hex(),
            "encoded": value.encode().hex(),
            "hash": value.hash().hex(),
        }
        for value in (pat.device_list, signed)
    ]


def _safety_numbers(pat: Person, lee: Person) -> list[Value]:
    return [
        {
            "users": ["pat", "lee"],
            "account_keys": [pat.local.account.raw.hex(), lee.local.account.raw.hex()],
            "number": safety_number(user_id("pat"), pat.local.account, user_id("lee"), lee.local.account),
        }
    ]


def _prekeys(lee: Person) -> Value:
    return {
        "user": "lee",
        "device": 1,
        "signing_seed": _hex(lee.local.signing.seed),
        "prekeys": [
            {
                "kind": secret.kind,
                "id": secret.id,
                "created_ms": secret.created_ms,
                "expires_ms": secret.expires_ms,
                "private": _hex(secret.private),
                "encoded": encode_prekey(published(secret, lee.local)).hex(),
            }
            for secret in lee.pool.secrets()
        ],
        "upload": encode_upload(lee.upload).hex(),
        "bundle": encode_bundle(lee.bundle()).hex(),
        "bundle_without_one_time": encode_bundle(lee.bundle(one_time=False, last_resort=True)).hex(),
    }


def _kem_kinds() -> tuple[PreKeyKind, PreKeyKind]:
    return PreKeyKind.KEM_ONE_TIME, PreKeyKind.KEM_LAST_RESORT


def _pqxdh(pat: Person, lee: Person, one_time: bool, kem_kind: PreKeyKind) -> Value:
    case = next(c for c in wycheproof("ml_kem") if c["set"] == "1024" and c["result"] == "valid")
    seed, ciphertext, kem_secret = (bytes.fromhex(case[name]) for name in ("seed", "c", "K"))
    secret = PreKeySecret(kem_kind, 4_000_000_000, NOW_MS, NOW_MS + MAX_AGE_MS, 0, SecretBytes(seed))
    bundle = _bundle(lee, secret, one_time=one_time)
    base = DhKeyPair.generate(RepeatableRandom("base key"))
    header, handshake = initiate_with(pat.local, lee.peer, bundle, base, SecretBytes(kem_secret), ciphertext)
    writer = Writer()
    write_pqxdh_header(writer, header)
    return {
        "initiator": _device(pat),
        "responder": _device(lee),
        "bundle": encode_bundle(bundle).hex(),
        "signed_private": _hex(lee.pool.signed.private),
        "one_time_private": _hex(lee.pool.one_time[bundle.one_time.id].private) if bundle.one_time else None,
        "kem_seed": seed.hex(),
        "base_private": _hex(base.private),
        "kem_secret": kem_secret.hex(),
        "kem_ciphertext": ciphertext.hex(),
        "header": writer.done().hex(),
        "secret": _hex(handshake.secret),
        "associated_data": handshake.associated_data.hex(),
        "session_id": handshake.session_id.hex(),
    }


def _bundle(lee: Person, secret: PreKeySecret, *, one_time: bool) -> PreKeyBundle:
    kem = published(secret, lee.local)
    if isinstance(kem, SignedDhPreKey):
        raise TypeError("a KEM prekey was expected")
    _check_pair(kem, secret)
    return replace(lee.bundle(one_time=one_time), kem=kem)


def _check_pair(kem: SignedKemPreKey, secret: PreKeySecret) -> None:
    if KemKeyPair(KemKind.ML_KEM_1024, secret.private).public != kem.public:
        raise ValueError("the published key is not the private one's")


def _device(person: Person) -> Value:
    return {
        "user": person.local.address.user,
        "device": person.local.address.device,
        "account_key": person.local.account.raw.hex(),
        "signing_key": person.peer.signing.raw.hex(),
        "agreement_private": _hex(person.local.agreement.private),
        "agreement_key": person.peer.agreement.raw.hex(),
    }


def _contents() -> list[Value]:
    reply = MessageId(bytes(range(16)))
    known = [
        Content(ContentKind.TEXT, MessageId(bytes([n]) * 16), n, NOW_MS + n, None, text.encode())
        for n, text in enumerate(TEXTS, 1)
    ]
    own = MessageId(b"\xee" * 16)
    contents: list[Content | UnknownContent] = [
        *known,
        Content(ContentKind.TEXT, own, 2**40, NOW_MS, reply, b"yes"),
        Content(ContentKind.SESSION_REFRESH, own, 1, NOW_MS, None, b""),
        UnknownContent(200, own, 9, NOW_MS, reply, b"\x00\xff"),
    ]
    return [
        {
            "kind": int(content.kind),
            "message_id": content.message_id.hex(),
            "counter": content.counter,
            "sent_ms": content.sent_ms,
            "reply_to": content.reply_to.hex() if content.reply_to else None,
            "body": content.body.hex(),
            "encoded": encode_content(content).hex(),
        }
        for content in contents
    ]


def _padding() -> list[Value]:
    lengths = (0, 1, 127, 128, 255, 256, 511, 512, 1023, 1024, 66_559)
    sizes: list[Value] = [{"length": n, "padded_length": len(pad(bytes(n)))} for n in lengths]
    examples = (b"", b"\x80", b"\x00", b"abc\x80\x00\x00")
    return sizes + [{"raw": raw.hex(), "padded": pad(raw).hex()} for raw in examples]


def _challenges(lee: Person) -> list[Value]:
    challenge = RepeatableRandom("challenge")(32)
    return [
        {
            "purpose": purpose,
            "user": "lee",
            "device": 1,
            "challenge": challenge.hex(),
            "token": "header.claims.signature",
            "message": message.hex(),
            "signing_seed": _hex(lee.local.signing.seed),
            "signature": lee.local.signing.sign(message).hex(),
        }
        for purpose in ChallengePurpose
        for message in [challenge_message(purpose, lee.local.address, challenge, "header.claims.signature")]
    ]


def _hex(secret: SecretBytes) -> str:
    return secret.reveal().hex()
