"""Secrets do not print, pickle or serve as dictionary keys."""

import copy
import dataclasses
import pickle
import traceback

import pytest

from securechat.crypto.keys import DhKeyPair, SigningKeyPair
from securechat.crypto.secret import SecretBytes

CANARY = b"CANARY-0123456789-CANARY-0123456"


def test_repr_str_and_format_show_nothing() -> None:
    secret = SecretBytes(CANARY)
    assert {repr(secret), str(secret), f"{secret}", f"{secret!r}"} == {"SecretBytes(**)"}


def test_key_pairs_show_nothing_secret() -> None:
    pairs = (DhKeyPair.from_private(SecretBytes(CANARY)), SigningKeyPair.from_seed(SecretBytes(CANARY)))
    for pair in pairs:
        assert "CANARY" not in repr(pair)
        assert CANARY.hex() not in repr(pair)


def test_equality_is_by_value_and_only_between_secrets() -> None:
    assert SecretBytes(CANARY) == SecretBytes(bytes(CANARY))
    assert SecretBytes(CANARY) != SecretBytes(CANARY[:-1])
    assert SecretBytes(CANARY).__eq__(CANARY) is NotImplemented


def test_a_secret_is_not_hashed() -> None:
    with pytest.raises(TypeError):
        hash(SecretBytes(CANARY))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(SecretBytes(CANARY), protocol)


def test_a_secret_is_not_copied_by_the_copy_module() -> None:
    for make in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            make(SecretBytes(CANARY))


def test_a_key_pair_does_not_turn_into_plain_data() -> None:
    with pytest.raises(TypeError):
        dataclasses.asdict(DhKeyPair.from_private(SecretBytes(CANARY)))


def test_a_traceback_with_local_variables_shows_nothing() -> None:
    def fail(secret: SecretBytes) -> None:
        raise RuntimeError(f"failed with {secret}")

    try:
        fail(SecretBytes(CANARY))
    except RuntimeError as error:
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(report.format())
    assert "SecretBytes(**)" in text
    # the frame above names the constant of this module; the frame that held the secret must not
    assert "CANARY" not in "".join(str(frame.locals) for frame in report.stack if frame.name == "fail")
    assert "CANARY" not in str(report)


def test_the_length_is_known_and_the_bytes_come_out_by_one_way() -> None:
    secret = SecretBytes(CANARY)
    assert len(secret) == 32
    assert secret.reveal() == CANARY
    assert not hasattr(secret, "__dict__")
