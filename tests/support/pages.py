"""The project's Markdown pages, and what a test wants to find in them."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`([^`\n]+)`")
_HEADING: Final = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its path below the root and its text."""

    path: Path
    text: str

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of one language."""
        return [body for name, body in _FENCE.findall(self.text) if name == language]

    def links(self) -> list[str]:
        """The targets of all links."""
        return _LINK.findall(self.prose)

    def code(self) -> list[str]:
        """What stands in backticks within a line."""
        return _CODE.findall(self.prose)

    def anchors(self) -> set[str]:
        """The anchors that the headings make."""
        return {_anchor(heading) for heading in _HEADING.findall(self.prose)}

    def commands(self) -> Iterator[list[str]]:
        """What a reader is told to type: the words of each line with ``$`` in a console block."""
        for block in self.blocks("console"):
            for line in block.splitlines():
                if line.startswith("$ "):
                    yield line.removeprefix("$ ").split(" #")[0].split()


@cache
def pages() -> tuple[Page, ...]:
    """Every Markdown page that is part of the project, committed or about to be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = sorted(Path(name) for name in listed.split("\0") if name)
    return tuple(Page(path, (ROOT / path).read_text()) for path in paths if (ROOT / path).is_file())


def page(path: str) -> Page:
    """Return the page at ``path``."""
    return next(each for each in pages() if each.path.as_posix() == path)


def _anchor(heading: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return plain.replace(" ", "-")
