"""ML-KEM-768 and ML-KEM-1024: sizes of FIPS 203, Wycheproof, and implicit rejection."""

import os

import pytest
from support.vectors import wycheproof

from securechat.crypto.kem import (
    CIPHERTEXT_BYTES,
    PUBLIC_KEY_BYTES,
    SEED_BYTES,
    SHARED_SECRET_BYTES,
    KemKeyPair,
    KemKind,
    KemPublicKey,
)
from securechat.crypto.secret import SecretBytes
from securechat.errors import DecryptionError, WeakPublicKeyError

KINDS = {"768": KemKind.ML_KEM_768, "1024": KemKind.ML_KEM_1024}


@pytest.mark.parametrize(
    ("kind", "public_bytes", "ciphertext_bytes"),
    [(KemKind.ML_KEM_768, 1184, 1088), (KemKind.ML_KEM_1024, 1568, 1568)],
)
def test_sizes_are_those_of_fips_203_table_3(kind: KemKind, public_bytes: int, ciphertext_bytes: int) -> None:
    pair = KemKeyPair.generate(kind, os.urandom)
    secret, ciphertext = pair.public.encapsulate()
    assert len(pair.public.raw) == PUBLIC_KEY_BYTES[kind] == public_bytes
    assert len(ciphertext) == CIPHERTEXT_BYTES[kind] == ciphertext_bytes
    assert len(secret) == SHARED_SECRET_BYTES == 32
    assert len(pair.seed) == SEED_BYTES == 64
    assert pair.decapsulate(ciphertext) == secret


@pytest.mark.parametrize("kind", KemKind)
def test_a_wrong_ciphertext_gives_another_secret_and_always_the_same(kind: KemKind) -> None:
    pair = KemKeyPair(kind, SecretBytes(bytes(range(64))))
    secret, ciphertext = pair.public.encapsulate()
    for at in (0, len(ciphertext) // 2, len(ciphertext) - 1):
        changed = bytes(b ^ (i == at) for i, b in enumerate(ciphertext))
        rejected = pair.decapsulate(changed)
        assert rejected != secret
        assert rejected == pair.decapsulate(changed)
    assert pair.decapsulate(bytes(len(ciphertext))) != secret


@pytest.mark.parametrize("kind", KemKind)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_ciphertext_of_another_length_does_not_open(kind: KemKind, change: int) -> None:
    pair = KemKeyPair(kind, SecretBytes(bytes(64)))
    with pytest.raises(DecryptionError):
        pair.decapsulate(bytes(CIPHERTEXT_BYTES[kind] + change))


@pytest.mark.parametrize("kind", KemKind)
def test_a_public_key_of_another_length_is_refused(kind: KemKind) -> None:
    with pytest.raises(WeakPublicKeyError):
        KemPublicKey(kind, bytes(PUBLIC_KEY_BYTES[kind] + 1))


@pytest.mark.parametrize("kind", KemKind)
def test_the_repr_of_a_pair_shows_its_kind_alone(kind: KemKind) -> None:
    assert repr(KemKeyPair(kind, SecretBytes(bytes(64)))) == f"KemKeyPair({kind.name})"


def test_wycheproof_decapsulations_and_invalid_public_keys() -> None:
    opened = refused = 0
    for case in wycheproof("ml_kem"):
        kind = KINDS[case["set"]]
        if case["result"] == "valid":
            pair = KemKeyPair(kind, SecretBytes(bytes.fromhex(case["seed"])))
            assert pair.public.raw.hex() == case["ek"]
            assert pair.decapsulate(bytes.fromhex(case["c"])).reveal().hex() == case["K"]
            opened += 1
        elif "ek" in case:
            _refuses(kind, bytes.fromhex(case["ek"]))
            refused += 1
    assert opened >= 12
    assert refused >= 8


def _refuses(kind: KemKind, raw: bytes) -> None:
    key = KemPublicKey(kind, raw)
    with pytest.raises(WeakPublicKeyError):
        key.check()
    with pytest.raises(WeakPublicKeyError):
        key.encapsulate()
