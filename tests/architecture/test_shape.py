"""The shape of the tree: sizes, packages without work at import, and words that do not belong."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Final

from support.sources import ROOT, sources

MOST_LINES: Final = 450  # past this a file has a second subject
MOST_LINES_OF_A_BODY: Final = 50  # without signature and docstring
TABLES: Final = ("_routes", "upgrade", "downgrade")  # lists of routes and columns are read as tables
RE_EXPORTS: Final = {"securechat/client/__init__.py"}  # the one package with a public face
UNFINISHED: Final = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
FOREIGN: Final = {("tests", "vectors", "wycheproof")}  # kept byte for byte as published
BINARY: Final = {".png", ".ico", ".db", ".zip"}


def test_no_file_has_grown_a_second_subject() -> None:
    files = [file for file in _tracked() if file.suffix == ".py"]
    assert [f"{file}: {_lines(file)}" for file in files if _lines(file) > MOST_LINES] == []


def test_no_function_is_longer_than_a_screen() -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        f"{source.at(node)} {node.name}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, functions)
        and not node.name.endswith(TABLES)
        and _body_lines(node) > MOST_LINES_OF_A_BODY
    ]
    assert found == []


def test_a_package_imports_nothing_by_itself() -> None:
    found = [
        source.path
        for source in sources()
        if source.path.endswith("/__init__.py")
        and source.path not in RE_EXPORTS
        and any(isinstance(node, ast.Import | ast.ImportFrom) for node in source.tree.body)
    ]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        source.path for source in sources() if source.text.strip() and not ast.get_docstring(source.tree)
    ]
    assert silent == []


def test_nothing_unfinished_is_marked_as_such() -> None:
    own = Path(__file__).relative_to(ROOT)
    found = [
        f"{file}:{number}"
        for file in _tracked()
        if file.suffix in {".py", ".md", ".toml", ".cedar", ".yaml"} and file != own
        for number, line in enumerate((ROOT / file).read_text().splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_every_text_file_is_utf_8_and_ends_with_one_newline() -> None:
    found = []
    for file in _tracked():
        raw = (ROOT / file).read_bytes()
        if file.suffix in BINARY or file.parts[:3] in FOREIGN or not raw:
            continue
        raw.decode()
        if not raw.endswith(b"\n") or raw.endswith(b"\n\n"):
            found.append(str(file))
    assert found == []


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return 0 if not body else (node.end_lineno or 0) - body[0].lineno + 1


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [Path(name) for name in listed.decode().split("\0") if name]
    return [file for file in files if (ROOT / file).is_file()]


def _lines(file: Path) -> int:
    return len((ROOT / file).read_text().splitlines())
