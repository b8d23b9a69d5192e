"""X25519: RFC 7748 and Wycheproof."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import wycheproof

from securechat.crypto.keys import DhKeyPair, DhPublicKey, agree_raw
from securechat.crypto.secret import SecretBytes
from securechat.errors import WeakPublicKeyError

P = 2**255 - 19
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def test_rfc_7748_5_2_first_vector() -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert agree_raw(scalar, u).hex() == expected


def test_rfc_7748_5_2_second_vector_computes_but_its_form_is_refused_as_a_key() -> None:
    scalar = bytes.fromhex("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d")
    u = bytes.fromhex("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493")
    expected = "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"
    assert agree_raw(scalar, u).hex() == expected
    with pytest.raises(WeakPublicKeyError):
        DhPublicKey(u)


def test_rfc_7748_5_2_one_thousand_iterations() -> None:
    scalar = u = (9).to_bytes(32, "little")
    for count in range(1, 1001):
        scalar, u = agree_raw(scalar, u), scalar
        if count == 1:
            assert scalar.hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert scalar.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_rfc_7748_6_1_both_sides_agree() -> None:
    alice = DhKeyPair.from_private(
        SecretBytes(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    )
    bob = DhKeyPair.from_private(
        SecretBytes(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    )
    assert alice.public.raw.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.raw.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.agree(bob.public).reveal().hex() == bob.agree(alice.public).reveal().hex() == shared


@pytest.mark.parametrize("u", LOW_ORDER)
def test_points_of_small_order_are_refused(u: str) -> None:
    pair = DhKeyPair.from_private(SecretBytes(bytes(range(32))))
    with pytest.raises(WeakPublicKeyError):
        pair.agree(DhPublicKey(bytes.fromhex(u)))


@given(st.integers(min_value=P, max_value=2**256 - 1))
def test_a_non_canonical_key_is_refused(number: int) -> None:
    with pytest.raises(WeakPublicKeyError):
        DhPublicKey(number.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(WeakPublicKeyError):
        DhPublicKey(bytes(length))


def test_wycheproof_cases_agree_or_are_refused_for_their_form() -> None:
    computed = 0
    for case in wycheproof("x25519"):
        public, private = bytes.fromhex(case["public"]), bytes.fromhex(case["private"])
        try:
            shared = DhKeyPair.from_private(SecretBytes(private)).agree(DhPublicKey(public))
        except WeakPublicKeyError:
            canonical = int.from_bytes(public, "little") < P
            assert not canonical or "ZeroSharedSecret" in case["flags"]
            assert case["result"] == "acceptable"
        else:
            computed += 1
            assert shared.reveal().hex() == case["shared"]
    assert computed > 400
