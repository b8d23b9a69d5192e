"""Whether schema, roles and server speak of the same actions, roles and words."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from securechat.authz.locate import Token
from securechat.authz.model import AccountStatus, Action, PrincipalKind, Purpose
from securechat.authz.roles import RoleBook

ROLE_TYPE: Final = "Role"
ENUMERATIONS: Final[tuple[type[StrEnum], ...]] = (AccountStatus, PrincipalKind, Purpose)
CLOSED_TYPES: Final = frozenset({"Action", ROLE_TYPE, *(words.__name__ for words in ENUMERATIONS)})


@dataclass(frozen=True, slots=True)
class Declared:
    """What a schema declares, each name with its line."""

    actions: dict[str, int]  # those that apply to something; a group of actions does not
    words: dict[str, dict[str, int]]  # the ids of every enumerated entity type
    types: dict[str, int]  # every entity type


def declared(tokens: Sequence[Token]) -> Declared:
    """Return what the schema made of ``tokens`` declares. The schema must parse."""
    found = Declared({}, {}, {})
    for statement in _statements(tokens):
        texts = [token.text for token in statement]
        if texts[0] == "entity":
            _note_entity(statement, texts, found)
        elif texts[0] == "action" and "appliesTo" in texts:
            found.actions.update(_names(statement[1:]))
    return found


def disagreements(schema: Declared, roles: RoleBook) -> Iterator[tuple[int, str]]:
    """Yield schema line and reason of every word that schema, roles and server do not share."""
    yield from _compare("action", schema.actions, Action, 1)
    for words in ENUMERATIONS:
        yield from _compare_enumeration(schema, words.__name__, words)
    yield from _compare_enumeration(schema, ROLE_TYPE, roles.roles)


def _compare_enumeration(schema: Declared, name: str, expected: Iterable[str]) -> Iterator[tuple[int, str]]:
    if name not in schema.words:
        yield (
            schema.types.get(name, 1),
            f"the entity type {name} must be an enumeration: entity {name} enum [...]",
        )
        return
    yield from _compare(name, schema.words[name], expected, schema.types[name])


def _compare(
    what: str, found: dict[str, int], expected: Iterable[str], line: int
) -> Iterator[tuple[int, str]]:
    wanted = {str(name) for name in expected}
    source = "roles.yaml" if what == ROLE_TYPE else "the server"
    for name in found:
        if name not in wanted:
            yield found[name], f"{source} knows no {what} {name!r}"
    for name in sorted(wanted - set(found)):
        yield line, f"the schema lacks the {what} {name!r}"


def _statements(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the declarations: tokens up to a ``;`` outside of all brackets."""
    run: list[Token] = []
    depth = 0
    for token in tokens:
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token.text, 0)
        if token.text == ";" and depth == 0:
            if run:
                yield run
            run = []
        else:
            run.append(token)


def _note_entity(statement: Sequence[Token], texts: Sequence[str], found: Declared) -> None:
    words = texts.index("enum") if "enum" in texts else len(texts)
    names = _names(statement[1:])
    found.types.update(names)
    if words < len(texts):
        inside = {
            token.text.strip('"'): token.line for token in statement[words:] if token.text.startswith('"')
        }
        found.words.update(dict.fromkeys(names, inside))


def _names(tokens: Sequence[Token]) -> dict[str, int]:
    """Return the names of a declaration: those before the first word that is not separated by a comma."""
    names: dict[str, int] = {}
    for at in range(0, len(tokens), 2):
        names[tokens[at].text.strip('"')] = tokens[at].line
        if at + 1 >= len(tokens) or tokens[at + 1].text != ",":
            break
    return names
