"""Reads a policy tree from a folder; what is no part of a tree must not lie there unnoticed."""

from pathlib import Path
from typing import Final

from securechat.authz.problems import InvalidPolicyTreeError, Problem
from securechat.authz.tree import MAX_CHARACTERS, MAX_FILES, PolicyTree, policy_tree

DEFAULT_FOLDER: Final = Path(__file__).resolve().parents[2] / "policies"
READ_BY_PEOPLE: Final = frozenset({"README.md"})  # may lie in the folder and is no part of the policy set


def load_tree(folder: Path) -> PolicyTree:
    """Return the policy tree in ``folder``. Hidden files and ``README.md`` are left out.

    Raises InvalidPolicyTreeError (a PolicyError) for a folder or file that cannot be read, for text that is
    not UTF-8, and for a file that has no place in a tree (misspelt, its rules would be lost in silence).
    """
    if not folder.is_dir():
        raise InvalidPolicyTreeError([Problem(str(folder), 1, "no such folder")])
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _left_out(path, folder))
    if len(paths) > MAX_FILES:
        raise InvalidPolicyTreeError([Problem(".", 1, f"a tree has at most {MAX_FILES} files")])
    return policy_tree({path.relative_to(folder).as_posix(): _read(path, folder) for path in paths})


def _left_out(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return any(part.startswith(".") for part in parts) or "/".join(parts) in READ_BY_PEOPLE


def _read(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    try:
        if path.stat().st_size > 4 * MAX_CHARACTERS:
            raise InvalidPolicyTreeError([Problem(name, 1, "the file is too large for a policy tree")])
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidPolicyTreeError([Problem(name, line, "the text is not UTF-8")]) from error
    except OSError as error:
        raise InvalidPolicyTreeError([Problem(name, 1, "the file cannot be read")]) from error
