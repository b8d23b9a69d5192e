"""``securechat policy`` as an administrator uses it."""

import argparse
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.authz.problems import InvalidPolicyTreeError
from securechat.cli import policy
from securechat.cli.policy_files import DEFAULT_FOLDER, load_tree

Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one policy command; return its exit status and its lines."""

    def run_command(*arguments: str) -> tuple[int, list[str]]:
        parser = argparse.ArgumentParser()
        policy.register(parser.add_subparsers(required=True))
        args = parser.parse_args(["policy", *arguments])
        status = args.run(args)
        return int(status), capsys.readouterr().out.splitlines()

    return run_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped tree that may be spoilt."""
    return Path(shutil.copytree(DEFAULT_FOLDER, tmp_path / "policies"))


def test_lint_of_the_shipped_tree_finds_nothing_and_names_the_set(run: Run) -> None:
    status, (line,) = run("lint")
    assert status == 0
    assert load_tree(DEFAULT_FOLDER).digest() in line


def test_lint_names_every_problem_with_file_and_line(run: Run, folder: Path) -> None:
    (folder / "policies" / "50-x.cedar").write_text("\npermit (principal, actoin, resource);\n")
    status, lines = run("lint", "--policies", str(folder))
    assert (status, lines) == (
        1,
        ["policies/50-x.cedar:2: found an invalid variable in the policy scope: actoin"],
    )


def test_test_runs_the_cases_and_notes_rules_without_one(run: Run, folder: Path) -> None:
    status, lines = run("test")
    assert (status, lines) == (0, ["70 cases hold, 0 do not"])
    (folder / "policies" / "50-x.cedar").write_text(
        '@id("no-nights") @note("n") forbid (principal, action, resource) when { context.hour > 22 };'
    )
    (folder / "cases" / "x.yaml").write_text(
        "people: {ned: {org: o, roles: [nurse]}}\n"
        "cases:\n"
        "  - {who: ned, does: policy.view, to: policy-set of o, expect: allow, by: office-policy-view}\n"
    )
    status, lines = run("test", "--policies", str(folder))
    assert status == 1
    assert lines == [
        "note: no case is decided by no-nights",
        "70 cases hold, 1 does not",
        "cases/x.yaml:3: expected allow by office-policy-view, the policies say deny by default-deny",
    ]


def test_fmt_check_changes_nothing_and_fmt_does(run: Run, folder: Path) -> None:
    assert run("fmt", "--check") == (0, [])
    extra = folder / "policies" / "50-x.cedar"
    extra.write_text('@id("x") @note("n") permit(principal,action,resource);')
    before = extra.read_bytes()
    assert run("fmt", "--check", "--policies", str(folder)) == (
        1,
        ["policies/50-x.cedar: would be laid out anew"],
    )
    assert extra.read_bytes() == before
    assert run("fmt", "--policies", str(folder)) == (0, ["policies/50-x.cedar: was laid out anew"])
    assert extra.read_bytes() == b'@id("x")\n@note("n")\npermit (principal, action, resource);\n'
    assert run("fmt", "--check", "--policies", str(folder)) == (0, [])


def test_why_names_the_rule_its_place_and_its_note(run: Run) -> None:
    status, lines = run("why", "patient", "message.send", "--patient")
    assert status == 0
    assert lines[0] == "deny, decided by guard-patient-to-patient"
    assert lines[1].startswith("  policies/00-guardrails.cedar:")
    assert lines[1].endswith("[guard-patient-to-patient] Patients do not reach other patients.")
    assert lines[-1].startswith("policy set ")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (("clinician", "message.send", "--patient"), "allow, decided by reach-patients"),
        (("clinician,nurse", "message.send", "--patient"), "allow, decided by reach-patients"),
        (("clinician", "message.send", "--to-suspended"), "deny, decided by recipient-suspended"),
        (("clinician", "message.send", "--suspended"), "deny, decided by guard-suspended"),
        (("clinician", "message.send", "--other-org"), "deny, decided by guard-organisation"),
        (("clinician", "message.receive", "--own"), "allow, decided by mailbox-own"),
        (("clinician", "message.receive"), "deny, decided by guard-mailbox-owner"),
        (("compliance-officer", "audit.query", "--no-mfa"), "deny, decided by guard-audit-readers"),
        (("compliance-officer", "audit.export", "--unmanaged"), "deny, decided by guard-audit-export"),
        (("nurse", "policy.decide", "--service"), "deny, decided by guard-service"),
        (("-", "policy.decide"), "deny, decided by default-deny"),
        (("wizard", "policy.decide"), "deny, decided by policy-error"),
    ],
)
def test_why_answers_the_circumstances_that_are_asked(
    run: Run, question: tuple[str, ...], answer: str
) -> None:
    status, lines = run("why", *question, "--off-site", "--hour", "3", "--purpose", "treatment")
    assert (status, lines[0]) == (0, answer)


def test_why_shows_the_rules_that_could_permit_what_none_does(run: Run) -> None:
    _, lines = run("why", "nurse", "policy.view", "--now", "2026-06-01T00:00:00Z")
    assert lines[1] == "rules that could permit it:"
    assert "[office-policy-view]" in lines[2]


def test_who_can_asks_for_every_role_that_may_be_held(run: Run) -> None:
    status, lines = run("who-can", "service.metrics")
    assert status == 0
    assert [line.split()[0] for line in lines if "  allow  " in line] == ["admin", "service"]
    assert not any(line.startswith(("staff", "member")) for line in lines)


def test_a_broken_tree_answers_no_question(run: Run, folder: Path) -> None:
    (folder / "roles.yaml").unlink()
    assert run("why", "nurse", "policy.view", "--policies", str(folder)) == (
        1,
        ["roles.yaml:1: the file is missing"],
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("why", "nurse", "fly"),
        ("why", "nurse"),
        ("lint", "--what"),
        (),
        ("who-can", "policy.view", "--hour", "24"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_loading_leaves_out_only_hidden_files_and_the_readme(folder: Path) -> None:
    digest = load_tree(folder).digest()
    (folder / "README.md").write_text("for people")
    (folder / "policies" / ".10-care.cedar.swp").write_bytes(b"\xff")
    assert load_tree(folder).digest() == digest
    (folder / "policies" / "10-care.ceder").write_text("")
    with pytest.raises(InvalidPolicyTreeError, match=r"10-care\.ceder:1: no such file belongs"):
        load_tree(folder)


def test_text_that_is_not_utf_8_is_named_with_its_line(folder: Path) -> None:
    (folder / "cases" / "x.yaml").write_bytes(b"people:\n  \xff: 1\n")
    with pytest.raises(InvalidPolicyTreeError, match=r"cases/x\.yaml:2: the text is not UTF-8"):
        load_tree(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicyTreeError, match="no such folder"):
        load_tree(tmp_path / "none")


def test_a_file_too_large_for_a_tree_is_not_read(folder: Path) -> None:
    with (folder / "cases" / "x.yaml").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InvalidPolicyTreeError, match="too large"):
        load_tree(folder)


def test_the_guide_to_changing_a_policy_works_as_written(run: Run, folder: Path) -> None:
    guide = (DEFAULT_FOLDER.parent / "docs/how-to/change-a-policy.md").read_text(encoding="utf-8")
    (case,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (rule,) = re.findall(r"```cedar\n(.*?)```", guide, re.DOTALL)
    (folder / "cases" / "nights.yaml").write_text(case)
    status, lines = run("test", "--policies", str(folder))
    assert status == 1
    assert lines[-1].startswith("cases/nights.yaml:5: expected deny by nurse-nights")
    (folder / "policies" / "50-nights.cedar").write_text(rule)
    assert run("fmt", "--check", "--policies", str(folder)) == (0, [])
    assert run("test", "--policies", str(folder)) == (0, ["73 cases hold, 0 do not"])
    _, lines = run(
        "why", "nurse", "message.send", "--patient", "--hour", "23", "--off-site", "--policies", str(folder)
    )
    assert lines[0] == "deny, decided by nurse-nights"
