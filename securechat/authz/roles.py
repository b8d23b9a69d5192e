"""The roles of an organisation: what each inherits, and which exclude each other (``roles.yaml``).

An enumerated entity type of Cedar has no parents, so a role's parents are expanded here and given with the
user.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from securechat.authz.document import Entry, entries, fields, parse_document, read_flag, read_text, read_texts
from securechat.authz.problems import InvalidPolicyTreeError, MisreadError, Problem
from securechat.authz.tree import ROLES_FILE

ROLE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Role:
    """One role. A role that is not ``assignable`` is only inherited, never given to anybody."""

    name: str
    description: str
    parents: tuple[str, ...]
    conflicts: tuple[str, ...]
    assignable: bool
    line: int


@dataclass(frozen=True, slots=True)
class RoleBook:
    """All roles by name. Every parent and conflict names a role; nothing inherits itself."""

    roles: Mapping[str, Role]

    def expand(self, assigned: Iterable[str]) -> frozenset[str]:
        """Return the ``assigned`` roles with everything that they inherit. Unknown names stay as they are."""
        found: set[str] = set()
        waiting = list(assigned)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.roles[name].parents if name in self.roles else ())
        return frozenset(found)

    def are_assignable(self, assigned: Iterable[str]) -> bool:
        """Tell whether every one of ``assigned`` is a known role that somebody may hold."""
        return all(name in self.roles and self.roles[name].assignable for name in assigned)

    def have_conflict(self, expanded: frozenset[str]) -> bool:
        """Tell whether two of the ``expanded`` roles exclude each other."""
        held = (self.roles[name] for name in expanded if name in self.roles)
        return any(not expanded.isdisjoint(role.conflicts) for role in held)


def read_roles(text: str) -> RoleBook:
    """Return the roles of ``roles.yaml``. Raises InvalidPolicyTreeError with every fault found."""
    try:
        listed = tuple(entries(fields(parse_document(text), required=("roles",))["roles"]))
    except MisreadError as error:
        raise InvalidPolicyTreeError([error.within(ROLES_FILE)]) from error
    roles: dict[str, Role] = {}
    problems: list[Problem] = []
    for entry in listed:
        try:
            roles[entry.name] = _role(entry)
        except MisreadError as error:
            problems.append(error.within(ROLES_FILE))
    book = RoleBook(roles)
    problems = problems or [Problem(ROLES_FILE, line, reason) for line, reason in _faults(book)]
    if problems:
        raise InvalidPolicyTreeError(problems)
    return book


def _role(entry: Entry) -> Role:
    name, line, node = entry
    if ROLE_NAME.fullmatch(name) is None:
        raise MisreadError(line, f"{name!r} is no name for a role: small letters, digits and '-'")
    found = fields(node, required=("description",), optional=("parents", "conflicts", "assignable"))
    return Role(
        name=name,
        description=read_text(found["description"]),
        parents=read_texts(found["parents"]) if "parents" in found else (),
        conflicts=read_texts(found["conflicts"]) if "conflicts" in found else (),
        assignable=read_flag(found["assignable"]) if "assignable" in found else True,
        line=line,
    )


def _faults(book: RoleBook) -> Iterable[tuple[int, str]]:
    """Yield line and reason of every reference to nothing, circle, and role at odds with itself."""
    for role in book.roles.values():
        for other in (*role.parents, *role.conflicts):
            if other not in book.roles:
                yield role.line, f"role {role.name!r} names the unknown role {other!r}"
        if role.name in book.expand(role.parents):
            yield role.line, f"role {role.name!r} inherits itself"
        if role.assignable and book.have_conflict(book.expand((role.name,))):
            yield role.line, f"role {role.name!r} inherits roles that exclude each other"
