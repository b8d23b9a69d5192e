"""AES-256-GCM: the test cases of the GCM specification and Wycheproof.

RFC 8439 defines ChaCha20-Poly1305, which this project does not use: every AEAD here is AES-256-GCM. The cases
of the same kind for GCM stand in its place: 13 to 16 of McGrew and Viega, "The Galois/Counter Mode of
Operation", appendix B, which NIST SP 800-38D refers to.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import wycheproof

from securechat.crypto.aead import open_, seal
from securechat.errors import DecryptionError

KEY = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
IV = "cafebabefacedbaddecaf888"
PLAINTEXT = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
CIPHERTEXT = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
)
SPECIFICATION = [
    ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    ("00" * 32, "00" * 12, "00" * 16, "", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    (
        KEY,
        IV,
        PLAINTEXT + "1aafd255",
        "",
        CIPHERTEXT + "898015ad" + "b094dac5d93471bdec1a502270e3cc6c",
    ),
    (
        KEY,
        IV,
        PLAINTEXT,
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        CIPHERTEXT + "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
]


@pytest.mark.parametrize(("key", "nonce", "plaintext", "associated", "sealed"), SPECIFICATION)
def test_cases_13_to_16(key: str, nonce: str, plaintext: str, associated: str, sealed: str) -> None:
    k, n, p, a, c = (bytes.fromhex(text) for text in (key, nonce, plaintext, associated, sealed))
    assert seal(k, n, p, a) == c
    assert open_(k, n, c, a) == p


def test_wycheproof_aes_256_gcm() -> None:
    for case in wycheproof("aes_256_gcm"):
        k, n, a, p = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg"))
        sealed = bytes.fromhex(case["ct"] + case["tag"])
        if case["result"] == "valid":
            assert seal(k, n, p, a) == sealed
            assert open_(k, n, sealed, a) == p
        else:
            with pytest.raises(DecryptionError):
                open_(k, n, sealed, a)


@given(st.binary(max_size=64), st.binary(max_size=32), st.data())
def test_every_changed_byte_and_length_is_one_error(
    plaintext: bytes, associated: bytes, data: st.DataObject
) -> None:
    key, nonce = bytes(32), bytes(12)
    sealed = seal(key, nonce, plaintext, associated)
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytes(b ^ (i == at) for i, b in enumerate(sealed))
    for wrong in (changed, sealed[:at], sealed + b"\x00"):
        with pytest.raises(DecryptionError, match=r"^cannot decrypt$"):
            open_(key, nonce, wrong, associated)
    with pytest.raises(DecryptionError):
        open_(key, nonce, sealed, associated + b"\x00")
