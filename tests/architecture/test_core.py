"""What the import contracts cannot show of the pure core."""

import ast
from typing import Final

from support.sources import CORE, ROOT, Source, called_name, calls, core, sources

MAKES_RANDOMNESS: Final = {
    "urandom", "token_bytes", "token_hex", "token_urlsafe", "getrandbits", "randbytes", "uuid4",
    "generate_key", "crypto_box_keypair", "crypto_kx_keypair", "crypto_sign_keypair", "randombytes",
}  # fmt: skip
READS_A_CLOCK: Final = {"now", "utcnow", "today", "time_ns", "monotonic", "monotonic_ns"}
ONE_TIME_MAKERS: Final = {"generate"}  # of a library's key classes: they take no randomness


def test_the_core_that_is_named_is_there() -> None:
    assert [path for path in CORE if not (ROOT / path).exists()] == []


def test_nothing_in_the_core_makes_randomness() -> None:
    found = [
        source.at(call)
        for source in core()
        for call in calls(source)
        if called_name(call) in MAKES_RANDOMNESS
    ]
    assert found == []


def test_keys_in_the_core_are_made_from_random_bytes_that_are_given() -> None:
    found = [
        source.at(call)
        for source in core()
        for call in calls(source)
        if called_name(call) in ONE_TIME_MAKERS and not (call.args or call.keywords)
    ]
    assert found == []


def test_nothing_in_the_core_reads_a_clock() -> None:
    found = [
        source.at(call) for source in core() for call in calls(source) if called_name(call) in READS_A_CLOCK
    ]
    assert found == []


def test_nothing_in_the_core_is_asynchronous() -> None:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [source.path for source in core() if any(isinstance(node, waits) for node in _nodes(source))] == []


def test_the_core_names_its_types() -> None:
    found = [
        source.path
        for source in core()
        if any(isinstance(node, ast.ImportFrom) and _imports_any(node) for node in _nodes(source))
    ]
    assert found == []


def test_no_module_writes_to_what_it_keeps_for_itself() -> None:
    found = [
        source.at(node)
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Global)
    ]
    assert found == []


def _nodes(source: Source) -> list[ast.AST]:
    return list(ast.walk(source.tree))


def _imports_any(node: ast.ImportFrom) -> bool:
    return node.module == "typing" and any(alias.name == "Any" for alias in node.names)
