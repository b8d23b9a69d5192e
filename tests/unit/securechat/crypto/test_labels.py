"""Labels: no two uses of a key share one, and none is the beginning of another."""

from itertools import permutations

from securechat.crypto.labels import Label


def test_no_label_equals_or_begins_another() -> None:
    # aliases of an Enum vanish from iteration, so equal values would show in __members__
    assert len(Label.__members__) == len(list(Label))
    for one, other in permutations(Label, 2):
        assert not other.value.startswith(one.value)


def test_labels_name_the_protocol_and_its_version() -> None:
    assert all(label.value.startswith(b"SecureChat v1 ") for label in Label)


def test_labels_before_signed_bytes_end_in_zero() -> None:
    for name, label in Label.__members__.items():
        assert name.startswith("SIGN_") == label.value.endswith(b"\x00")
