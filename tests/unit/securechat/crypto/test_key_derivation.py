"""HKDF-SHA-256 (RFC 5869), HMAC-SHA-256 (RFC 4231) and Argon2id."""

import pytest
from support.vectors import wycheproof

from securechat.crypto.kdf import derive, equal, hkdf_sha256, hmac_sha256
from securechat.crypto.passphrase import INTERACTIVE, TESTING, Argon2Profile, derive_store_key

RFC_5869 = [
    (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        b"\x0b" * 22,
        b"",
        b"",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]
RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        (
            b"This is a test using a larger than block-size key and a larger than block-size data. "
            b"The key needs to be hashed before being used by the HMAC algorithm."
        ),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize(("ikm", "salt", "info", "expected"), RFC_5869)
def test_rfc_5869_appendix_a(ikm: bytes, salt: bytes, info: bytes, expected: str) -> None:
    length = len(expected) // 2
    assert hkdf_sha256(salt=salt, ikm=ikm, info=info, length=length).hex() == expected
    assert derive(salt=salt, ikm=ikm, info=info, length=length).reveal().hex() == expected


@pytest.mark.parametrize(("key", "message", "expected"), RFC_4231)
def test_rfc_4231(key: bytes, message: bytes, expected: str) -> None:
    assert hmac_sha256(key, message).hex() == expected


def test_wycheproof_hkdf() -> None:
    for case in wycheproof("hkdf_sha256"):
        if case["result"] == "valid":
            ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
            assert hkdf_sha256(salt=salt, ikm=ikm, info=info, length=case["size"]).hex() == case["okm"]


def test_wycheproof_hmac() -> None:
    for case in wycheproof("hmac_sha256"):
        assert hmac_sha256(bytes.fromhex(case["key"]), bytes.fromhex(case["msg"])).hex() == case["tag"]


def test_equality_of_bytes() -> None:
    assert equal(b"same", b"same")
    assert not equal(b"same", b"sane")
    assert not equal(b"same", b"same+")


def test_argon2id_gives_the_reference_implementations_answer() -> None:
    profile = Argon2Profile(passes=2, memory_kib=256, lanes=1)
    key = derive_store_key("password", b"somesalt", profile)
    assert key.reveal().hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"


def test_passphrases_and_salts_that_differ_give_other_keys() -> None:
    keys = {
        derive_store_key(passphrase, salt, TESTING).reveal()
        for passphrase in ("passphrase", "Passphrase", "pässphrase")
        for salt in (bytes(16), bytes(15) + b"\x01")
    }
    assert len(keys) == 6


def test_the_interactive_profile_is_the_second_choice_of_rfc_9106() -> None:
    assert (INTERACTIVE.passes, INTERACTIVE.memory_kib, INTERACTIVE.lanes) == (3, 64 * 1024, 4)
