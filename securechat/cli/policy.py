"""``securechat policy``: check, test and lay out a policy tree; ask it one question."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from securechat.authz.cases import USUAL, run_cases
from securechat.authz.decision import DecisionPoint
from securechat.authz.engine import Policy
from securechat.authz.lint import check_tree, format_tree
from securechat.authz.model import (
    RESOURCE_OF,
    AccountStatus,
    Action,
    Context,
    Decision,
    Principal,
    PrincipalKind,
    Purpose,
    Request,
    Resource,
)
from securechat.authz.problems import InvalidPolicyTreeError, Problem
from securechat.cli.exit_codes import ExitCode
from securechat.cli.policy_files import DEFAULT_FOLDER, load_tree
from securechat.ids import OrgId, UserId

_EPILOG = """\
examples:
  python -m securechat policy lint
  python -m securechat policy test --policies ./my-policies
  python -m securechat policy why patient message.send --patient
  python -m securechat policy who-can audit.query --no-mfa

exit status: 0 no problems (or the answer is given), 1 problems found, 2 wrong usage.
"""
_HERE: Final = OrgId("here")
_ELSEWHERE: Final = OrgId("elsewhere")
_SELF: Final = UserId("self")
_OTHER: Final = UserId("other")
_SERVICE_ROLE: Final = "service"  # who holds nothing but this role is a server's key


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``policy lint``, ``test``, ``fmt``, ``why`` and ``who-can``."""
    parser = commands.add_parser(
        "policy",
        help="check, test and ask the rules of who may do what",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--policies", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="the policy tree"
    )
    asked = _circumstances()
    lint = actions.add_parser("lint", parents=[folder], help="name every problem with file and line")
    lint.set_defaults(run=_reporting(_lint))
    test = actions.add_parser("test", parents=[folder], help="run the decision cases")
    test.set_defaults(run=_reporting(_test))
    fmt = actions.add_parser("fmt", parents=[folder], help="bring the policy files into the one layout")
    fmt.add_argument("--check", action="store_true", help="change nothing; fail if a file would change")
    fmt.set_defaults(run=_reporting(_fmt))
    why = actions.add_parser("why", parents=[folder, asked], help="answer one question and name the rules")
    why.add_argument("roles", help="roles of who asks, joined by commas; '-' for none")
    why.add_argument("does", type=_action, metavar="action", help="for example message.send")
    why.set_defaults(run=_reporting(_why))
    who = actions.add_parser("who-can", parents=[folder, asked], help="ask the same for every role")
    who.add_argument("does", type=_action, metavar="action", help="for example audit.query")
    who.set_defaults(run=_reporting(_who_can))


def _circumstances() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    asks = parser.add_argument_group("who asks")
    asks.add_argument("--suspended", action="store_true", help="their account is suspended")
    asks.add_argument("--service", action="store_true", help="it is a server's key, not an account")
    target = parser.add_argument_group("to what")
    target.add_argument("--own", action="store_true", help="their own account or mailbox")
    target.add_argument("--patient", action="store_true", help="the account of a patient")
    target.add_argument("--to-suspended", action="store_true", help="an account that is suspended")
    target.add_argument("--other-org", action="store_true", help="of another organisation")
    when = parser.add_argument_group(
        "circumstances (else: second factor, managed device, on site, 10 o'clock)"
    )
    when.add_argument("--no-mfa", action="store_true", help="without a second factor")
    when.add_argument("--unmanaged", action="store_true", help="from a device that nobody manages")
    when.add_argument("--off-site", action="store_true", help="from outside the premises")
    when.add_argument("--hour", type=int, choices=range(24), default=USUAL.hour, metavar="0-23")
    when.add_argument("--now", type=_moment, default=USUAL.now_ms, metavar="2026-01-05T10:00:00Z")
    when.add_argument(
        "--purpose", type=_purpose, default=USUAL.purpose, metavar="WORD", help=", ".join(Purpose)
    )
    return parser


def _action(text: str) -> Action:
    if text not in list(Action):
        raise argparse.ArgumentTypeError(f"no such action; there are {', '.join(Action)}")
    return Action(text)


def _moment(text: str) -> int:
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError("no time such as 2026-01-05T10:00:00Z") from None
    return int(moment.timestamp()) * 1000


def _purpose(text: str) -> Purpose:
    if text not in list(Purpose):
        raise argparse.ArgumentTypeError(f"no such purpose; there are {', '.join(Purpose)}")
    return Purpose(text)


def _reporting(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Return ``run`` with the problems of a policy tree as its output, one line each, and exit status 1."""

    def reporting(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except InvalidPolicyTreeError as error:
            return _found(error.problems)

    return reporting


def _lint(args: argparse.Namespace) -> int:
    tree = load_tree(args.policies)
    checked = check_tree(tree)
    _say(f"{len(checked.policies)} policies, no problems; policy set {tree.digest()}")
    return ExitCode.OK


def _test(args: argparse.Namespace) -> int:
    tree = load_tree(args.policies)
    point = DecisionPoint(check_tree(tree))
    report = run_cases(tree, point.roles, [policy.id for policy in point.policies], point.decide)
    for name in report.uncovered:
        _say(f"note: no case is decided by {name}")
    failed = len(report.problems)
    _say(f"{report.passed} cases hold, {failed} {'does' if failed == 1 else 'do'} not")
    failures = point.failures()
    return _found(failures) if failures else ExitCode.OK


def _fmt(args: argparse.Namespace) -> int:
    changed = format_tree(load_tree(args.policies))
    for file, text in changed:
        if not args.check:
            (args.policies / file).write_bytes(text.encode("utf-8"))
        _say(f"{file}: {'would be' if args.check else 'was'} laid out anew")
    return ExitCode.FAILED if changed and args.check else ExitCode.OK


def _why(args: argparse.Namespace) -> int:
    point = DecisionPoint.from_tree(load_tree(args.policies))
    roles = frozenset() if args.roles == "-" else frozenset(args.roles.split(","))
    decision = point.decide(_request(args, roles))
    verdict = "allow" if decision.allowed else "deny"
    _say(f"{verdict}, decided by {', '.join(decision.policy_ids) or decision.reason}")
    for text in decision.errors:
        _say(f"  {text}")
    rules = point.policies_for(args.does)
    deciding = [policy for policy in rules if policy.id in decision.policy_ids]
    _say_policies(deciding)
    if not deciding:
        _say("rules that could permit it:")
        _say_policies(policy for policy in rules if policy.permits)
    _say(f"policy set {decision.policy_set}")
    return ExitCode.OK


def _who_can(args: argparse.Namespace) -> int:
    point = DecisionPoint.from_tree(load_tree(args.policies))
    names = [role.name for role in point.roles.roles.values() if role.assignable]
    width = max(map(len, names))
    for name in names:
        decision = point.decide(_request(args, frozenset({name})))
        _say(f"{name:{width}}  {_summary(decision)}")
    _say(f"policy set {point.policy_set}")
    return ExitCode.OK


def _request(args: argparse.Namespace, roles: frozenset[str]) -> Request:
    principal = Principal(
        user=_SELF,
        org=_HERE,
        roles=roles,
        status=AccountStatus.SUSPENDED if args.suspended else AccountStatus.ACTIVE,
        kind=PrincipalKind.SERVICE if args.service or roles == {_SERVICE_ROLE} else PrincipalKind.USER,
    )
    resource = Resource(
        kind=RESOURCE_OF[args.does],
        id="it",
        org=_ELSEWHERE if args.other_org else _HERE,
        subject=_SELF if args.own else _OTHER,
        patient=args.patient,
        status=AccountStatus.SUSPENDED if args.to_suspended else AccountStatus.ACTIVE,
    )
    context = Context(
        now_ms=args.now,
        hour=args.hour,
        mfa=not args.no_mfa,
        device_trusted=not args.unmanaged,
        on_site=not args.off_site,
        purpose=args.purpose,
    )
    return Request(principal, args.does, resource, context)


def _summary(decision: Decision) -> str:
    return f"{'allow' if decision.allowed else 'deny '}  {', '.join(decision.policy_ids) or decision.reason}"


def _say_policies(policies: Iterable[Policy]) -> None:
    for policy in policies:
        _say(f"  {policy.source.file}:{policy.source.first} [{policy.id}] {policy.note}")


def _found(problems: Sequence[Problem]) -> int:
    for problem in problems:
        _say(str(problem))
    return ExitCode.FAILED


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
