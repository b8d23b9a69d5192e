"""The whole files of Wycheproof (``testvectors_v1`` of C2SP/wycheproof) through our functions.

Excerpts that every machine has lie in ``tests/vectors/wycheproof``; the files are read where they are found.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import pytest

from securechat.crypto import aead
from securechat.crypto.kdf import hkdf_sha256, hmac_sha256
from securechat.crypto.kem import SEED_BYTES, KemKeyPair, KemKind, KemPublicKey
from securechat.crypto.keys import DhKeyPair, DhPublicKey, VerifyKey, agree_raw
from securechat.crypto.secret import SecretBytes
from securechat.errors import DecryptionError, InvalidSignatureError, WeakPublicKeyError

VARIABLE: Final = "SECURECHAT_WYCHEPROOF"
BESIDE: Final = Path(__file__).resolve().parents[5] / "shared" / "data" / "wycheproof"
FOLDER: Final = Path(os.environ.get(VARIABLE) or BESIDE)
P: Final = 2**255 - 19
KEMS: Final = pytest.mark.parametrize(
    ("name", "kind"), [("768", KemKind.ML_KEM_768), ("1024", KemKind.ML_KEM_1024)], ids=["768", "1024"]
)
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"{VARIABLE} names no folder with the files of Wycheproof"
)


class Case(msgspec.Struct, rename={"secret": "K"}):
    """One case; byte strings are hexadecimal, and those that another algorithm has are empty."""

    result: str
    flags: tuple[str, ...] = ()
    key: str = ""
    iv: str = ""
    aad: str = ""
    msg: str = ""
    ct: str = ""
    tag: str = ""
    sig: str = ""
    public: str = ""
    private: str = ""
    shared: str = ""
    ikm: str = ""
    salt: str = ""
    info: str = ""
    size: int = 0
    okm: str = ""
    seed: str = ""
    ek: str = ""
    c: str = ""
    secret: str = ""


class SignerKey(msgspec.Struct, frozen=True):
    """An Ed25519 public key."""

    pk: str = ""


class Group(msgspec.Struct, rename="camel"):
    """Cases with the same parameters; sizes in bits."""

    tests: tuple[Case, ...]
    public_key: SignerKey = SignerKey()
    iv_size: int = 0
    key_size: int = 0
    tag_size: int = 0


class VectorFile(msgspec.Struct, rename="camel"):
    """One file."""

    number_of_tests: int
    test_groups: tuple[Group, ...]


def groups(name: str) -> tuple[Group, ...]:
    """Return the groups of a file, which must hold as many cases as it says."""
    raw = (FOLDER / f"{name}_test.json").read_bytes()
    file = msgspec.json.decode(raw, type=VectorFile)
    assert sum(len(group.tests) for group in file.test_groups) == file.number_of_tests
    return file.test_groups


def cases(name: str) -> list[Case]:
    return [case for group in groups(name) for case in group.tests]


def unhex(*texts: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def test_x25519_all_cases_compute_as_published_but_those_with_a_secret_of_zeros() -> None:
    """ "Acceptable": 31 give all zeros and are refused; all others, also on the twist, compute."""
    seen: Counter[tuple[str, bool]] = Counter()
    for case in cases("x25519"):
        public, private, shared = unhex(case.public, case.private, case.shared)
        zeros = "ZeroSharedSecret" in case.flags
        seen[case.result, zeros] += 1
        if zeros:
            with pytest.raises(WeakPublicKeyError):
                agree_raw(private, public)
        else:
            assert agree_raw(private, public) == shared
    assert seen == {("valid", False): 264, ("acceptable", False): 223, ("acceptable", True): 31}


def test_x25519_a_key_that_is_not_in_canonical_form_is_none() -> None:
    """ "Acceptable": as keys, the 29 that are not canonical are refused, before anything is computed."""
    refused = 0
    for case in cases("x25519"):
        public, private, shared = unhex(case.public, case.private, case.shared)
        if int.from_bytes(public, "little") >= P:
            refused += 1
            assert case.result == "acceptable"
            with pytest.raises(WeakPublicKeyError):
                DhPublicKey(public)
        elif "ZeroSharedSecret" not in case.flags:
            assert DhKeyPair.from_private(SecretBytes(private)).agree(DhPublicKey(public)).reveal() == shared
    assert refused == 29


def test_ed25519_every_case_is_decided_as_published() -> None:
    """None is "acceptable": malleable, long, short and badly encoded signatures are refused."""
    seen: Counter[str] = Counter()
    for group in groups("ed25519"):
        key = VerifyKey(bytes.fromhex(group.public_key.pk))
        for case in group.tests:
            seen[case.result] += 1
            message, signature = unhex(case.msg, case.sig)
            if case.result == "valid":
                key.verify(signature, message)
            else:
                with pytest.raises(InvalidSignatureError):
                    key.verify(signature, message)
    assert seen == {"valid": 88, "invalid": 63}


def test_aes_256_gcm_every_case_is_decided_as_published() -> None:
    """None is "acceptable". Keys of 256 bits with nonces of 96, the only sizes that are used."""
    seen: Counter[str] = Counter()
    for group in groups("aes_gcm"):
        if group.key_size != 8 * aead.AES_KEY_BYTES or group.iv_size != 8 * aead.NONCE_BYTES:
            continue
        for case in group.tests:
            seen[case.result] += 1
            key, nonce, associated, plaintext = unhex(case.key, case.iv, case.aad, case.msg)
            sealed = bytes.fromhex(case.ct + case.tag)
            if case.result == "valid":
                assert aead.seal(key, nonce, plaintext, associated) == sealed
                assert aead.open_(key, nonce, sealed, associated) == plaintext
            else:
                with pytest.raises(DecryptionError):
                    aead.open_(key, nonce, sealed, associated)
    assert sum(seen.values()) == 66


def test_aes_256_gcm_no_case_with_an_empty_nonce_opens() -> None:
    for group in groups("aes_gcm"):
        if group.key_size == 8 * aead.AES_KEY_BYTES and group.iv_size == 0:
            for case in group.tests:
                key, associated, sealed = unhex(case.key, case.aad, case.ct + case.tag)
                with pytest.raises(DecryptionError):
                    aead.open_(key, b"", sealed, associated)


def test_hkdf_every_case_is_decided_as_published() -> None:
    """None is "acceptable": more than 255 blocks are refused."""
    seen: Counter[str] = Counter()
    for case in cases("hkdf_sha256"):
        seen[case.result] += 1
        ikm, salt, info, okm = unhex(case.ikm, case.salt, case.info, case.okm)
        if case.result == "valid":
            assert hkdf_sha256(salt=salt, ikm=ikm, info=info, length=case.size) == okm
        else:
            with pytest.raises(ValueError, match="larger than 8160"):
                hkdf_sha256(salt=salt, ikm=ikm, info=info, length=case.size)
    assert seen == {"valid": 83, "invalid": 3}


def test_hmac_every_case_is_decided_as_published() -> None:
    """None is "acceptable". Half of the cases have a tag cut to 128 bits."""
    seen: Counter[str] = Counter()
    for group in groups("hmac_sha256"):
        for case in group.tests:
            seen[case.result] += 1
            key, message, tag = unhex(case.key, case.msg, case.tag)
            assert (hmac_sha256(key, message)[: group.tag_size // 8] == tag) is (case.result == "valid")
    assert seen == {"valid": 66, "invalid": 108}


@KEMS
def test_ml_kem_every_seed_gives_the_published_key(name: str, kind: KemKind) -> None:
    keys = cases(f"mlkem_{name}_keygen_seed")
    for case in keys:
        assert KemKeyPair(kind, SecretBytes(bytes.fromhex(case.seed))).public.raw.hex() == case.ek
    assert len(keys) == 100


@KEMS
def test_ml_kem_every_ciphertext_gives_the_published_secret(name: str, kind: KemKind) -> None:
    """Valid ones include implicit rejection; invalid are seeds and ciphertexts of a wrong length."""
    seen: Counter[str] = Counter()
    for case in cases(f"mlkem_{name}"):
        seen[case.result] += 1
        seed, ciphertext = unhex(case.seed, case.c)
        if case.result == "valid":
            pair = KemKeyPair(kind, SecretBytes(seed))
            assert pair.public.raw.hex() == case.ek
            assert pair.decapsulate(ciphertext).reveal().hex() == case.secret
        elif len(seed) != SEED_BYTES:
            with pytest.raises(ValueError, match="seed"):
                KemKeyPair(kind, SecretBytes(seed))
        else:
            with pytest.raises(DecryptionError):
                KemKeyPair(kind, SecretBytes(seed)).decapsulate(ciphertext)
    assert seen == {"valid": 153, "invalid": 40}


@KEMS
def test_ml_kem_every_malformed_key_is_refused_and_every_other_used(name: str, kind: KemKind) -> None:
    """Lengths and the modulus check of FIPS 203, 7.2. The library draws its own randomness for a ciphertext,
    so that the published ciphertexts cannot be made again; only whether the key is taken is compared."""
    seen: Counter[str] = Counter()
    for case in cases(f"mlkem_{name}_encaps"):
        seen[case.result] += 1
        raw = bytes.fromhex(case.ek)
        if case.result == "valid":
            key = KemPublicKey(kind, raw)
            key.check()
            key.encapsulate()
        else:
            with pytest.raises(WeakPublicKeyError):
                KemPublicKey(kind, raw).check()
            with pytest.raises(WeakPublicKeyError):
                KemPublicKey(kind, raw).encapsulate()
    assert seen == {"valid": 133, "invalid": {"768": 132, "1024": 136}[name]}
