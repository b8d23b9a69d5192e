"""Signed notes and checkpoints (C2SP), against notes that other implementations signed."""

import base64
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from unit.audit.support import ORIGIN, SIGNER

from audit.checkpoint import (
    Checkpoint,
    Ed25519Signer,
    new_signer_text,
    open_checkpoint,
    parse_signer,
    parse_text,
    read_checkpoint,
    sign_checkpoint,
)
from audit.errors import CheckpointError
from audit.note import (
    MAX_NOTE,
    Note,
    NoteSignature,
    VerifierKey,
    encode_note,
    key_id,
    parse_note,
    parse_private_key,
    parse_vkey,
)

# The example of the signed-note specification.
_SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
_SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# The key and note of the tests of Go's golang.org/x/mod/sumdb/note.
_GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
_GO_KEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
_GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
_GO_LINE = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The example of the tlog-checkpoint specification (its signing key is not given there).
_SPEC_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
).encode()

ROOT = bytes(range(32))
CHECKPOINT = Checkpoint(ORIGIN, 300, ROOT)
NOTE = sign_checkpoint(CHECKPOINT, SIGNER)
TEXT = CHECKPOINT.text()


def _note(text: str, *signatures: NoteSignature) -> bytes:
    lines = "".join(
        f"— {each.name} {base64.b64encode(each.key_id + each.signature).decode()}\n" for each in signatures
    )
    return f"{text}\n{lines}".encode()


def _vkey_text(signature_type: int, public_key: bytes) -> str:
    encoded = base64.b64encode(bytes([signature_type]) + public_key).decode()
    return f"n+{key_id('n', public_key).hex()}+{encoded}"


def _signed(text: str, signer: Ed25519Signer = SIGNER) -> NoteSignature:
    return NoteSignature(signer.key.name, signer.key.key_id, signer.sign(text.encode()))


def test_the_example_note_of_the_specification_verifies() -> None:
    note, key = parse_note(_SPEC_NOTE), parse_vkey(_SPEC_VKEY)
    (signature,) = note.signatures
    assert (signature.name, signature.key_id) == (key.name, key.key_id)
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature.signature, note.text.encode())
    assert encode_note(note) == _SPEC_NOTE


def test_signing_with_the_key_of_gos_tests_gives_gos_note() -> None:
    signer = parse_signer(_GO_KEY)
    assert signer.key.encode() == _GO_VKEY
    assert encode_note(Note(_GO_TEXT, (_signed(_GO_TEXT, signer),))) == (_GO_TEXT + "\n" + _GO_LINE).encode()


def test_the_example_checkpoint_of_the_specification_is_read() -> None:
    checkpoint = read_checkpoint(_SPEC_CHECKPOINT)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root == base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
    assert encode_note(parse_note(_SPEC_CHECKPOINT)) == _SPEC_CHECKPOINT


def test_a_signed_checkpoint_opens() -> None:
    assert open_checkpoint(NOTE, SIGNER.key) == CHECKPOINT


def test_every_changed_byte_of_a_note_is_refused() -> None:
    for at in range(len(NOTE)):
        for bit in (1, 0x20, 0x80):
            changed = NOTE[:at] + bytes([NOTE[at] ^ bit]) + NOTE[at + 1 :]
            with pytest.raises(CheckpointError):
                open_checkpoint(changed, SIGNER.key)


def test_every_shortened_note_is_refused() -> None:
    for length in range(len(NOTE)):
        with pytest.raises(CheckpointError):
            open_checkpoint(NOTE[:length], SIGNER.key)


def test_signatures_by_other_keys_are_ignored() -> None:
    other = Ed25519Signer("witness.example/w1", b"\x01" * 32)
    namesake = Ed25519Signer(ORIGIN, b"\x02" * 32)
    odd = NoteSignature("x", b"abcd", b"z" * 3000)
    note = _note(TEXT, odd, _signed(TEXT, namesake), _signed(TEXT), _signed(TEXT, other))
    assert open_checkpoint(note, SIGNER.key) == CHECKPOINT
    with pytest.raises(CheckpointError, match="0 signatures"):
        open_checkpoint(_note(TEXT, _signed(TEXT, other), _signed(TEXT, namesake)), SIGNER.key)


def test_a_doubled_or_wrong_signature_by_the_known_key_is_refused() -> None:
    wrong = NoteSignature(ORIGIN, SIGNER.key.key_id, b"\x00" * 64)
    short = NoteSignature(ORIGIN, SIGNER.key.key_id, b"\x00" * 5)
    for signatures in ((_signed(TEXT), _signed(TEXT)), (wrong,), (short,), (_signed(TEXT), wrong)):
        with pytest.raises(CheckpointError):
            open_checkpoint(_note(TEXT, *signatures), SIGNER.key)


def test_sixteen_signatures_are_accepted_and_a_flood_is_not() -> None:
    others = [_signed(TEXT, Ed25519Signer(f"w{number}", bytes([number]) * 32)) for number in range(15)]
    assert open_checkpoint(_note(TEXT, *others, _signed(TEXT)), SIGNER.key) == CHECKPOINT
    with pytest.raises(CheckpointError, match="signature lines"):
        parse_note(_note(TEXT, *([_signed(TEXT)] * 65)))
    with pytest.raises(CheckpointError, match="bytes"):
        parse_note(b"x" * (MAX_NOTE + 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT[:-1],
        TEXT + "\n",
        f"\n300\n{TEXT.split()[2]}\n",
        TEXT.replace("300", "0300"),
        TEXT.replace("300", "+300"),
        TEXT.replace("300", " 300"),
        TEXT.replace("300", "-300"),
        TEXT.replace("300", "3e2"),
        TEXT.replace("300", "٣٠٠"),
        TEXT.replace("300", ""),
        TEXT.replace("300", str(2**63)),
        TEXT.replace("300", "9" * 30),
        TEXT.replace("=", ""),
        TEXT.replace("=\n", "==\n"),
        TEXT.replace("Hh8=", "Hh9="),
        f"{ORIGIN}\n300\n\n",
        f"{ORIGIN}\n300\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n300\n{base64.b64encode(ROOT + b'x').decode()}\n",
        f"{ORIGIN}\n300\n{base64.urlsafe_b64encode(b'?' * 32).decode()}\n".replace("Pz8_", "____"),
        f"{ORIGIN}\n300\n",
    ],
)
def test_malformed_checkpoint_text_is_refused_even_if_signed(text: str) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(_note(text, _signed(text)), SIGNER.key)


def test_size_0_and_the_largest_size_are_sizes() -> None:
    for size in (0, 2**63 - 1):
        assert (
            open_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, size, ROOT), SIGNER), SIGNER.key).size == size
        )


def test_extension_lines_are_kept_and_may_not_be_empty() -> None:
    extended = Checkpoint(ORIGIN, 3, ROOT, ("one", "two words"))
    assert open_checkpoint(sign_checkpoint(extended, SIGNER), SIGNER.key) == extended
    with pytest.raises(CheckpointError):
        Checkpoint(ORIGIN, 3, ROOT, ("",)).text()
    with pytest.raises(CheckpointError):
        parse_text(TEXT + "\nlast\n")


@pytest.mark.parametrize("origin", ["", "evil\n999", "evil\r"])
def test_an_origin_that_would_forge_lines_is_not_signed(origin: str) -> None:
    with pytest.raises(CheckpointError):
        sign_checkpoint(Checkpoint(origin, 3, ROOT), SIGNER)


@pytest.mark.parametrize(("size", "root"), [(-1, ROOT), (2**63, ROOT), (3, ROOT[:31]), (3, b"")])
def test_a_checkpoint_out_of_range_is_not_signed(size: int, root: bytes) -> None:
    with pytest.raises(CheckpointError):
        sign_checkpoint(Checkpoint(ORIGIN, size, root), SIGNER)


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    note = sign_checkpoint(Checkpoint("clinic.example/keys", 3, ROOT), SIGNER)
    with pytest.raises(CheckpointError, match="another origin"):
        open_checkpoint(note, SIGNER.key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        TEXT.encode(),
        NOTE.rstrip(b"\n"),
        NOTE + b"\n",
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace("— ".encode(), b"- "),
        NOTE.replace("— ".encode(), "—".encode()),
        NOTE.replace(b"300", b"30\x00"),
        NOTE.replace(b"300", b"300\r"),
        NOTE.replace(b"300", b"30\xff"),
        NOTE.replace(b"\n\n", b"\n\n\n") + b"x",
        (TEXT + f"\n— {ORIGIN} \n").encode(),
        (TEXT + f"\n— {ORIGIN} AAAA\n").encode(),
        (TEXT + f"\n— {ORIGIN}\n").encode(),
        (TEXT + "\n—  AAAAAAAAAA==\n").encode(),
        (TEXT + "\n— a+b AAAAAAAAAA==\n").encode(),
        (TEXT + f"\n— {ORIGIN} AAAAAAAAAB==\n").encode(),
        (TEXT + f"\n— {ORIGIN} AAAAAAAAAA==  \n").encode(),
        (TEXT + f"\n— {ORIGIN} ÄÖAAAAAAAA==\n").encode(),
    ],
)
def test_malformed_notes_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse_note(data)


def test_the_text_of_a_note_may_hold_empty_lines() -> None:
    note = parse_note(b"one\n\ntwo\n\n" + NOTE.rpartition(b"\n\n")[2])
    assert note.text == "one\n\ntwo\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        _GO_VKEY.replace("c74f20a3", "c74f20a4"),
        _GO_VKEY.replace("c74f20a3", "C74F20A3"),
        _GO_VKEY[:-1],
        _GO_VKEY + "\n\n",
        " " + _GO_VKEY,
        _GO_VKEY.replace("PeterNeumann", ""),
        _vkey_text(1, b"x" * 31),
        _vkey_text(2, b"x" * 32),
    ],
)
def test_malformed_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        parse_vkey(text)


def test_a_verifier_key_may_end_in_a_newline_as_a_file_does() -> None:
    assert parse_vkey(_GO_VKEY + "\n").encode() == _GO_VKEY


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\u2003b", "a\nb"])
def test_a_key_name_without_form_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError):
        VerifierKey(name, b"x" * 32)


def test_a_new_key_reads_back_and_signs() -> None:
    text = new_signer_text("new.example/log", lambda size: b"\x05" * size)
    signer = parse_signer(text + "\n")
    assert signer.key == Ed25519Signer("new.example/log", b"\x05" * 32).key
    assert parse_private_key(text) == ("new.example/log", b"\x05" * 32)


@pytest.mark.parametrize(
    "text",
    [
        "",
        _GO_VKEY,
        _GO_KEY.replace("PRIVATE", "SECRET"),
        _GO_KEY.replace("c74f20a3", "c74f20a4"),
        _GO_KEY.replace("c74f20a3", ""),
        _GO_KEY[:-4],
    ],
)
def test_malformed_private_keys_are_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_signer(text)
    assert "AYEKFALV" not in str(caught.value)


def test_a_signer_shows_and_gives_away_nothing() -> None:
    assert repr(SIGNER) == f"Ed25519Signer('{ORIGIN}')"
    with pytest.raises(TypeError):
        pickle.dumps(SIGNER)
    with pytest.raises(CheckpointError):
        Ed25519Signer("x", b"short")
