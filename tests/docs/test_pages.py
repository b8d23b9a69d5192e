"""Nothing is claimed in the documents that is not so, as far as a program can tell."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Final

import pytest
from support.pages import ROOT, Page, page, pages

from securechat.cli.exit_codes import ExitCode
from securechat.settings import SETTINGS

PATH_LIKE: Final = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|toml|jsonl|lock)")
TOP_LEVEL: Final = {
    "securechat", "keyserver", "audit", "policies", "tests", "docs", "examples", "benchmarks", ".ci",
}  # fmt: skip
PLACEHOLDER: Final = "NN-"  # stands for any number
PAGES: Final = pages()


def ids(each: Page) -> str:
    """Name a page in a test's id."""
    return each.path.as_posix()


@pytest.mark.parametrize("each", PAGES, ids=ids)
def test_every_relative_link_leads_somewhere(each: Page) -> None:
    broken = [link for link in each.links() if "://" not in link and not _resolves(each, link)]
    assert broken == []


@pytest.mark.parametrize("each", PAGES, ids=ids)
def test_every_repository_path_in_backticks_exists(each: Page) -> None:
    places = (ROOT, (ROOT / each.path).parent, ROOT / "policies")
    missing = [
        path
        for path in each.code()
        if PATH_LIKE.fullmatch(path) and path.split("/")[0] in TOP_LEVEL and PLACEHOLDER not in path
        if not any((place / path).exists() for place in places)
    ]
    assert missing == []


@pytest.mark.parametrize("each", PAGES, ids=ids)
def test_every_python_block_compiles(each: Page) -> None:
    for block in each.blocks("python"):
        compile(block, str(each.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.parametrize("each", PAGES, ids=ids)
def test_every_name_of_a_test_is_the_name_of_a_test(each: Page) -> None:
    named = {name for name in each.code() if re.fullmatch(r"test_[a-z0-9_]{12,}", name)}
    assert named - _names_of_tests() == set()


@pytest.mark.parametrize("each", PAGES, ids=ids)
def test_every_command_that_a_reader_is_told_to_type_is_understood(each: Page) -> None:
    for words in each.commands():
        _check_command(shlex.split(" ".join(words)))


def test_every_page_is_reached_from_the_index() -> None:
    known = {"docs/README.md"}
    waiting = ["docs/README.md"]
    while waiting:
        here = page(waiting.pop())
        for link in here.links():
            target = (ROOT / here.path.parent / link.partition("#")[0]).resolve()
            path = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else ""
            if path.endswith(".md") and path not in known and target.exists():
                known.add(path)
                waiting.append(path)
    written = {each.path.as_posix() for each in PAGES if each.path.parts[0] == "docs"}
    assert written - known == set()


def test_the_exit_codes_that_are_documented_are_the_ones_that_there_are() -> None:
    table = page("docs/reference/exit-codes.md").prose.split("## ")[1]
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert documented == {code.value for code in ExitCode}


def test_every_setting_of_the_server_is_documented() -> None:
    documented = set(re.findall(r"`--([a-z-]+)`", page("docs/how-to/run-a-server.md").prose))
    assert documented == {name.replace("_", "-") for name in SETTINGS}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"]]
    wanted += [line for group in project["dependency-groups"].values() for line in group]
    names = {re.split(r"[<>=;\s]", line)[0].lower() for line in wanted}
    reasons = page("docs/decisions.md").text.partition("## Dependencies")[2].lower()
    assert {
        name for name in names if not re.search(rf"(\| |\*\*){re.escape(name)}( \||\*\*)", reasons)
    } == set()


def test_every_attack_names_the_test_that_guards_against_it() -> None:
    table = page("docs/threat-model.md").text.partition("## Attacks and bugs")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 30
    assert [row.split(" | ")[0] for row in rows if "`test_" not in row.split(" | ")[-1]] == []


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}] - " in page("CHANGELOG.md").text


def _resolves(each: Page, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / each.path.parent / path).resolve() if path else ROOT / each.path
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    if not anchor:
        return True
    return anchor in Page(target.relative_to(ROOT), target.read_text()).anchors()


@cache
def _names_of_tests() -> frozenset[str]:
    texts = (file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(name for text in texts for name in re.findall(r"def (test_\w+)", text))


def _check_command(words: list[str]) -> None:
    """Refuse a command line that our own parsers would refuse; other programs are left alone."""
    for command in _simple_commands(words):
        match _without_python(command):
            case ["dev", "demo" | "test", *_] | ["dev", "check" | "lock" | "--help"]:
                pass
            case ["-m", "securechat", *arguments]:
                _parse(arguments)
            case ["-m", "audit", name, *arguments]:
                options = {each for each in arguments if each.startswith("--")}
                assert {each for each in options if each not in _help_of_audit(name)} == set()
            case ["dev", *rest]:
                assert rest[:1] == ["run"], f"./dev has no such task: {rest}"


def _parse(arguments: list[str]) -> None:
    from securechat.cli.main import (
        build_parser,  # here: the other tests of pages do not need the whole program
    )

    build_parser().parse_args(arguments)


def _simple_commands(words: list[str]) -> Iterator[list[str]]:
    """Yield each command of a line without its variables and redirections."""
    rest: list[str] = []
    for word in [*words, ";"]:
        if word in ("|", "&&", ";"):
            yield rest
            rest = []
        elif rest or not re.fullmatch(r"[A-Z_]+=\S*", word):
            rest.append(word)


def _without_python(words: list[str]) -> list[str]:
    redirections = [index for index, word in enumerate(words) if word in (">", "<", ">>")]
    words = words[: min(redirections, default=len(words))]
    match words:
        case [script, "run", "-m", *rest] if script.endswith("/dev"):
            return ["-m", *rest]
        case [script, *rest] if script.endswith("/dev"):
            return ["dev", *rest]
        case ["python" | "python3", *rest]:
            return rest
        case _:
            return words


@cache
def _help_of_audit(name: str) -> str:
    command = [sys.executable, "-m", "audit", name, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
