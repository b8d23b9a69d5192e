"""How secrets are held, compared and shown, read off the sources."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from support.sources import called_name, calls, reveals, sources

from securechat.crypto.labels import Label

SECRET_NAME: Final = re.compile(
    r"(^|_)(secret|private|seed|passphrase|password|commitment|mac|mk|chain_key|root_key|message_key"
    r"|store_key|session_hash|bearer)$"
)
RATCHET: Final = "securechat/protocol/"
RATCHET_KEYS: Final = {"root", "key", "keys"}  # secret there if raw bytes: public keys have types
RAW: Final = {"bytes", "bytearray", "str", "Bytes32", "bytes | None", "str | None", "Bytes32 | None"}
OWN_SIDE: Final = ("securechat/client/", "securechat/cli/")  # compare only what they hold themselves
REDACTED_BASES: Final = {"SecretState"}
SHOWS: Final = {"print", "write", "writelines", "debug", "info", "warning", "error", "exception", "critical"}
LOGS: Final = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def test_every_label_is_used_and_in_one_module_alone() -> None:
    users = {
        label.name: {source.path for source in sources() if re.search(rf"Label\.{label.name}\b", source.text)}
        for label in Label
    }
    assert {name: sorted(paths) for name, paths in users.items() if len(paths) != 1} == {}


def test_secrets_are_not_compared_by_equality() -> None:
    found = [
        source.at(node)
        for source in sources()
        if not source.path.startswith(OWN_SIDE)
        for node in _outside_of_equality_methods(source.tree)
        if isinstance(node, ast.Compare) and _compares_a_secret(node)
    ]
    assert found == []


def test_a_revealed_secret_never_enters_a_text_an_error_or_a_log() -> None:
    found = [
        source.at(node)
        for source in sources()
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.JoinedStr) and reveals(node) and not _is_pragma(node))
        or (isinstance(node, ast.Raise) and reveals(node))
        or (isinstance(node, ast.Call) and called_name(node) in SHOWS and any(map(reveals, _given(node))))
    ]
    assert found == []


def test_a_value_that_holds_raw_key_material_does_not_print_it() -> None:
    found = [
        f"{source.at(field)} {name}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and not _is_redacted(node)
        for field, name in _raw_fields(node)
        if _names_a_secret(name) or (source.path.startswith(RATCHET) and name in RATCHET_KEYS)
    ]
    assert found == []


def test_the_core_and_the_protocol_write_no_log() -> None:
    silent = ("securechat/crypto/", "securechat/wire/", "securechat/protocol/", "securechat/authz/")
    found = [
        source.at(call)
        for source in sources()
        if source.path.startswith(silent)
        for call in calls(source)
        if isinstance(call.func, ast.Attribute) and call.func.attr in LOGS and _is_logger(call.func.value)
    ]
    assert found == []


def test_nothing_is_pickled() -> None:
    found = [
        source.path
        for source in sources()
        if re.search(r"^(import|from) (pickle|marshal|shelve)", source.text, re.M)
    ]
    assert found == []


def _outside_of_equality_methods(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those inside an ``__eq__``: fields compare there by their own types."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.FunctionDef) and child.name == "__eq__"):
            yield child
            yield from _outside_of_equality_methods(child)


def _compares_a_secret(node: ast.Compare) -> bool:
    if not all(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
        return False
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Constant) for side in sides):
        return False  # a comparison with something that stands in the source hides nothing
    return any(reveals(side) or _names_a_secret(_last_name(side)) for side in sides)


def _names_a_secret(name: str) -> bool:
    return SECRET_NAME.search(name) is not None


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _given(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _is_pragma(node: ast.JoinedStr) -> bool:
    first = node.values[0]
    return isinstance(first, ast.Constant) and str(first.value).startswith("PRAGMA ")


def _raw_fields(node: ast.ClassDef) -> Iterator[tuple[ast.AnnAssign, str]]:
    for field in node.body:
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if ast.unparse(field.annotation) in RAW and "repr=False" not in ast.unparse(field):
            yield field, field.target.id


def _is_redacted(node: ast.ClassDef) -> bool:
    """Tell whether the class does not print its fields: a base, a decorator or a method sees to it."""
    if any(isinstance(item, ast.FunctionDef) and item.name == "__repr__" for item in node.body):
        return True
    if any(_last_name(base) in REDACTED_BASES for base in node.bases):
        return True
    return any("repr=False" in ast.unparse(decorator) for decorator in node.decorator_list)


def _is_logger(node: ast.expr) -> bool:
    return _last_name(node) in {"log", "logger", "logging", "_log", "_logger"}
