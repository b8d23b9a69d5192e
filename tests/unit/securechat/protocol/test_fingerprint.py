"""Safety numbers."""

import re
from itertools import product

from securechat.crypto.keys import VerifyKey
from securechat.ids import user_id
from securechat.protocol.fingerprint import numeric_fingerprint, safety_number

PAT, LEE = user_id("pat"), user_id("dr.lee")
KEY_A, KEY_B, KEY_C = (VerifyKey(bytes([n]) * 32) for n in (1, 2, 3))


def test_the_published_vector_of_libsignal() -> None:
    """Identifiers and keys of its test of the numeric fingerprint, version 0; its keys carry a type byte."""
    alice = bytes.fromhex("0506863bc66d02b40d27b8d49ca7c09e9239236f9d7d25d6fcca5ce13c7064d868")
    bob = bytes.fromhex("05f781b6fb32fed9ba1cf2de978d4d5da28dc34046ae814402b5c0dbd96fda907b")
    halves = [numeric_fingerprint(b"+14152222222", alice), numeric_fingerprint(b"+14153333333", bob)]
    assert "".join(sorted(halves)) == "300354477692869396892869876765458257569162576843440918079131"


def test_both_people_read_the_same_sixty_digits_in_groups_of_five() -> None:
    number = safety_number(PAT, KEY_A, LEE, KEY_B)
    assert number == safety_number(LEE, KEY_B, PAT, KEY_A)
    assert re.fullmatch(r"(\d{5} ){11}\d{5}", number)


def test_another_key_or_user_gives_another_number() -> None:
    keys = (KEY_A, KEY_B, KEY_C)
    numbers = {safety_number(PAT, ours, LEE, theirs) for ours, theirs in product(keys, keys)}
    assert len(numbers) == 9
    assert safety_number(PAT, KEY_A, LEE, KEY_B) != safety_number(PAT, KEY_B, LEE, KEY_A)
    assert safety_number(PAT, KEY_A, user_id("dr.leo"), KEY_B) not in numbers
