"""YAML read strictly: only mappings, sequences and plain text, every fault with its line.

Scalars stay text (no ``on`` that turns into true, no ``12:30`` that turns into a number); what a field means
is decided by the function that reads it. A key may stand only once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import yaml

from securechat.authz.problems import MisreadError

Node = yaml.Node

MAX_NESTING: Final = 16  # collections within collections; the deepest that is read has 5


class Entry(NamedTuple):
    """One key of a mapping, the line it stands on, and its value."""

    name: str
    line: int
    value: Node


def parse_document(text: str) -> Node:
    """Return the root of the one document in ``text``. Raises MisreadError, also for an alias (``*name``)."""
    try:
        _check_plain(text)
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise MisreadError(mark.line + 1 if mark else 1, error.problem or "not YAML") from error
    except yaml.YAMLError as error:
        raise MisreadError(1, "not YAML") from error
    if root is None:
        raise MisreadError(1, "the document is empty")
    return root


def _check_plain(text: str) -> None:
    """Refuse aliases and deep nesting while the events come in, before a tree is made of them."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise MisreadError(line, "aliases are not used here")
        if depth > MAX_NESTING:
            raise MisreadError(line, f"the document is nested deeper than {MAX_NESTING}")


def line_of(node: Node) -> int:
    """Return the line on which ``node`` begins, from 1."""
    return int(node.start_mark.line) + 1


def entries(node: Node) -> Iterator[Entry]:
    """Yield the entries of a mapping with distinct keys. Raises MisreadError."""
    if not isinstance(node, yaml.MappingNode):
        raise MisreadError(line_of(node), "a mapping is expected")
    seen: set[str] = set()
    for key, value in node.value:
        name = read_text(key)
        if name in seen:
            raise MisreadError(line_of(key), f"{name!r} stands here twice")
        seen.add(name)
        yield Entry(name, line_of(key), value)


def fields(node: Node, *, required: Iterable[str], optional: Iterable[str] = ()) -> Mapping[str, Node]:
    """Return a mapping of all ``required`` and some ``optional`` keys. Raises MisreadError."""
    found: dict[str, Node] = {}
    allowed = {*required, *optional}
    for name, line, value in entries(node):
        found[name] = value
        if name not in allowed:
            raise MisreadError(line, f"unknown field {name!r}; known are {', '.join(sorted(allowed))}")
    for name in required:
        if name not in found:
            raise MisreadError(line_of(node), f"the field {name!r} is missing")
    return found


def items(node: Node) -> tuple[Node, ...]:
    """Return the elements of a sequence. Raises MisreadError."""
    if not isinstance(node, yaml.SequenceNode):
        raise MisreadError(line_of(node), "a sequence is expected")
    return tuple(node.value)


def read_text(node: Node) -> str:
    """Return a scalar of at least one character. Raises MisreadError."""
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise MisreadError(line_of(node), "a text is expected")
    return str(node.value)


def read_texts(node: Node) -> tuple[str, ...]:
    """Return a sequence of scalars. Raises MisreadError."""
    return tuple(read_text(item) for item in items(node))


def read_flag(node: Node) -> bool:
    """Return ``true`` or ``false``, spelt like that. Raises MisreadError."""
    return read_choice(node, ("true", "false")) == "true"


def read_number(node: Node, most: int) -> int:
    """Return a whole number from 0 to ``most``, without sign or leading zeros. Raises MisreadError."""
    text = read_text(node)
    if (
        text.isascii()
        and text.isdigit()
        and len(text) <= len(str(most))
        and str(int(text)) == text
        and int(text) <= most
    ):
        return int(text)
    raise MisreadError(line_of(node), f"a number from 0 to {most} is expected")


def read_choice(node: Node, choices: Iterable[str]) -> str:
    """Return one of ``choices``. Raises MisreadError."""
    text = read_text(node)
    known = tuple(choices)
    if text not in known:
        raise MisreadError(line_of(node), f"{text!r} is not one of {', '.join(known)}")
    return text
