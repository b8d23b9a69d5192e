"""The sources of the three packages as syntax trees, for the tests that read them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("securechat", "keyserver", "audit")
CORE: Final = (
    "securechat/errors.py",
    "securechat/ids.py",
    "securechat/ports.py",
    "securechat/base64url.py",
    "securechat/crypto/",
    "securechat/wire/",
    "securechat/protocol/",
    "securechat/authz/",
    "securechat/relay/mailbox.py",
    "keyserver/directory.py",
    "audit/canonical.py",
    "audit/catalogue.py",
    "audit/chain.py",
    "audit/checkpoint.py",
    "audit/entry.py",
    "audit/event.py",
    "audit/merkle.py",
    "audit/note.py",
    "audit/proof.py",
    "audit/sequencing.py",
    "audit/verify.py",
)  # what does no I/O, reads no clock and draws no randomness


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path below the root, its text and its tree."""

    path: str
    text: str
    tree: ast.Module

    def at(self, node: ast.expr | ast.stmt) -> str:
        """Return ``path:line`` of a node, for a message."""
        return f"{self.path}:{node.lineno}"


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the packages."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return tuple(_read(file) for file in files)


def core() -> tuple[Source, ...]:
    """The files of the pure core."""
    return tuple(source for source in sources() if source.path.startswith(CORE))


def calls(source: Source) -> Iterator[ast.Call]:
    """Every call in a file."""
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))


def called_name(call: ast.Call) -> str:
    """The last part of what is called: ``generate`` of ``AESGCM.generate(...)``, empty for anything else."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def reveals(node: ast.AST) -> bool:
    """Tell whether a secret is taken out of its wrapper anywhere below ``node``."""
    return any(isinstance(inner, ast.Call) and called_name(inner) == "reveal" for inner in ast.walk(node))


def _read(file: Path) -> Source:
    text = file.read_text()
    return Source(file.relative_to(ROOT).as_posix(), text, ast.parse(text))
