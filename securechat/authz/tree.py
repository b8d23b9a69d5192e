"""A policy set as text: relative paths and contents, and the hash that names exactly this set."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from securechat.authz.problems import InvalidPolicyTreeError, Problem

ROLES_FILE: Final = "roles.yaml"
SCHEMA_FILES: Final = re.compile(r"schema/[A-Za-z0-9._-]+\.cedarschema", re.ASCII)
POLICY_FILES: Final = re.compile(r"policies/[0-9]{2}-[a-z0-9-]+\.cedar", re.ASCII)
CASE_FILES: Final = re.compile(r"cases/[A-Za-z0-9._-]+\.yaml", re.ASCII)

MAX_FILES: Final = 256
MAX_CHARACTERS: Final = 1_000_000  # of all files together; the shipped tree has about 15,000

_LABEL: Final = b"securechat policy tree v1"


@dataclass(frozen=True, slots=True)
class PolicyTree:
    """The files of one policy set, sorted by path, line ends as ``\\n``. Made by ``policy_tree`` alone."""

    files: tuple[tuple[str, str], ...]

    def text(self, path: str) -> str | None:
        """Return the file at ``path``, or None."""
        return next((text for name, text in self.files if name == path), None)

    def matching(self, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
        """Yield path and text of every file whose whole path matches, in the order of the paths."""
        return ((name, text) for name, text in self.files if pattern.fullmatch(name))

    def digest(self) -> str:
        """Return the policy set's name: 64 hexadecimal digits, others for any difference in a path or text.

        SHA-256 over the label, then each path and each text as UTF-8 behind its length in 8 bytes,
        big-endian.
        """
        state = hashlib.sha256(_LABEL)
        for part in (part for file in self.files for part in file):
            raw = part.encode("utf-8")
            state.update(len(raw).to_bytes(8, "big"))
            state.update(raw)
        return state.hexdigest()


def policy_tree(texts: Mapping[str, str]) -> PolicyTree:
    """Return ``texts`` (relative path with ``/`` -> contents) as a tree.

    Raises InvalidPolicyTreeError for a path that has no place in a tree (a misspelt name would else lose its
    rules in silence), for a missing roles file, schema or policy, and for a tree past the limits.
    """
    problems = [
        Problem(path, 1, "no such file belongs in a policy tree") for path in texts if not _has_a_place(path)
    ]
    if len(texts) > MAX_FILES or sum(map(len, texts.values())) > MAX_CHARACTERS:
        problems.append(
            Problem(".", 1, f"a tree has at most {MAX_FILES} files and {MAX_CHARACTERS} characters")
        )
    if ROLES_FILE not in texts:
        problems.append(Problem(ROLES_FILE, 1, "the file is missing"))
    for folder, pattern in (("schema/", SCHEMA_FILES), ("policies/", POLICY_FILES)):
        if not any(pattern.fullmatch(path) for path in texts):
            problems.append(Problem(folder, 1, "the folder holds no file"))
    problems.extend(
        Problem(path, 1, "the text is not valid Unicode") for path in texts if not _encodes(texts[path])
    )
    if problems:
        raise InvalidPolicyTreeError(problems)
    return PolicyTree(tuple((path, texts[path].replace("\r\n", "\n")) for path in sorted(texts)))


def _has_a_place(path: str) -> bool:
    patterns = (SCHEMA_FILES, POLICY_FILES, CASE_FILES)
    return path == ROLES_FILE or any(pattern.fullmatch(path) for pattern in patterns)


def _encodes(text: str) -> bool:
    """Tell whether ``text`` has a UTF-8 form (a lone surrogate has none)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
