"""Decision cases: what a policy set must answer, written beside it by the people who answer for it.

A file of cases has two parts. ``people`` gives each name its organisation and roles; ``cases`` asks: who,
does (an action), to ("account of NAME", "mailbox of NAME", or "audit-log", "policy-set", "server" of an
organisation), with (circumstances other than the usual), expect (allow or deny), by (the policy that must be
among those that decide).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from securechat.authz.document import (
    Node,
    entries,
    fields,
    items,
    line_of,
    parse_document,
    read_choice,
    read_flag,
    read_number,
    read_text,
    read_texts,
)
from securechat.authz.model import (
    AccountStatus,
    Action,
    Context,
    Decision,
    Principal,
    PrincipalKind,
    Purpose,
    Request,
    Resource,
    ResourceKind,
)
from securechat.authz.problems import MisreadError, Problem
from securechat.authz.roles import RoleBook
from securechat.authz.tree import CASE_FILES, PolicyTree
from securechat.errors import InvalidIdError
from securechat.ids import OrgId, UserId, org_id, user_id

Decide = Callable[[Request], Decision]

PATIENT_ROLE: Final = "patient"  # an account of somebody with this role is a patient's account
USUAL: Final = Context(
    now_ms=1_767_607_200_000,  # Monday 2026-01-05, 10:00 UTC
    hour=10,
    mfa=True,
    device_trusted=True,
    on_site=True,
)  # the circumstances of a case that does not say otherwise
_KINDS: Final[Mapping[str, ResourceKind]] = {
    "account": ResourceKind.ACCOUNT,
    "mailbox": ResourceKind.MAILBOX,
    "audit-log": ResourceKind.AUDIT_LOG,
    "policy-set": ResourceKind.POLICY_SET,
    "server": ResourceKind.SERVER,
}
_OF_PEOPLE: Final = frozenset({ResourceKind.ACCOUNT, ResourceKind.MAILBOX})


@dataclass(frozen=True, slots=True)
class Case:
    """One question with its expected answer, and where it is written."""

    file: str
    line: int
    request: Request
    allowed: bool
    by: str


@dataclass(frozen=True, slots=True)
class CaseReport:
    """What running the cases of a tree showed. ``uncovered`` are the policies that decided no case."""

    passed: int
    problems: tuple[Problem, ...]
    uncovered: tuple[str, ...]


def read_cases(tree: PolicyTree, roles: RoleBook) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
    """Return the cases of ``tree`` that read, and what is wrong with the others."""
    cases: list[Case] = []
    problems: list[Problem] = []
    for file, text in tree.matching(CASE_FILES):
        for result in _file(file, text, roles):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                cases.append(result)
    return tuple(cases), tuple(problems)


def run_cases(tree: PolicyTree, roles: RoleBook, policy_ids: Iterable[str], decide: Decide) -> CaseReport:
    """Ask ``decide`` every case of ``tree`` and report; ``policy_ids`` are those of the whole set."""
    cases, problems = read_cases(tree, roles)
    decided: set[str] = set()
    failed: list[Problem] = []
    for case in cases:
        decision = decide(case.request)
        decided.update(decision.policy_ids)
        if decision.allowed is not case.allowed or case.by not in (*decision.policy_ids, decision.reason):
            failed.append(Problem(case.file, case.line, _difference(case, decision)))
    uncovered = tuple(name for name in policy_ids if name not in decided)
    return CaseReport(len(cases) - len(failed), (*problems, *failed), uncovered)


def failed_cases(tree: PolicyTree, roles: RoleBook, decide: Decide) -> tuple[Problem, ...]:
    """Return a problem for every case of ``tree`` that does not read or does not hold."""
    return run_cases(tree, roles, (), decide).problems


def _difference(case: Case, decision: Decision) -> str:
    expected = f"{_verdict(case.allowed)} by {case.by}"
    answer = f"{_verdict(decision.allowed)} by {', '.join(decision.policy_ids) or decision.reason}"
    return f"expected {expected}, the policies say {answer}"


def _verdict(allowed: bool) -> str:
    return "allow" if allowed else "deny"


def _file(file: str, text: str, roles: RoleBook) -> Iterator[Case | Problem]:
    try:
        found = fields(parse_document(text), required=("people", "cases"))
        people = {name: _person(name, line, node) for name, line, node in entries(found["people"])}
        nodes = items(found["cases"])
    except MisreadError as error:
        yield error.within(file)
        return
    for node in nodes:
        try:
            yield _case(file, node, people, roles)
        except MisreadError as error:
            yield error.within(file)


def _person(name: str, line: int, node: Node) -> Principal:
    found = fields(node, required=("org", "roles"), optional=("status", "kind"))
    status = read_choice(found["status"], AccountStatus) if "status" in found else AccountStatus.ACTIVE
    kind = read_choice(found["kind"], PrincipalKind) if "kind" in found else PrincipalKind.USER
    try:
        return Principal(
            user=user_id(name),
            org=org_id(read_text(found["org"])),
            roles=frozenset(read_texts(found["roles"])),
            status=AccountStatus(status),
            kind=PrincipalKind(kind),
        )
    except InvalidIdError as error:
        raise MisreadError(line, str(error)) from error


def _case(file: str, node: Node, people: Mapping[str, Principal], roles: RoleBook) -> Case:
    found = fields(node, required=("who", "does", "to", "expect", "by"), optional=("with",))
    request = Request(
        principal=people[read_choice(found["who"], people)],
        action=Action(read_choice(found["does"], Action)),
        resource=_resource(found["to"], people, roles),
        context=_context(found["with"]) if "with" in found else USUAL,
    )
    allowed = read_choice(found["expect"], ("allow", "deny")) == "allow"
    return Case(file, line_of(node), request, allowed, read_text(found["by"]))


def _resource(node: Node, people: Mapping[str, Principal], roles: RoleBook) -> Resource:
    kind_name, of, name = read_text(node).partition(" of ")
    kind = _KINDS.get(kind_name)
    if kind is None or not of or (kind in _OF_PEOPLE and name not in people):
        raise MisreadError(line_of(node), f"'to' is KIND of NAME, with KIND one of {', '.join(_KINDS)}")
    if kind not in _OF_PEOPLE:
        return Resource(kind=kind, id=name, org=OrgId(name))
    owner = people[name]
    return Resource(
        kind=kind,
        id=name,
        org=owner.org,
        subject=UserId(name),
        patient=PATIENT_ROLE in roles.expand(owner.roles),
        status=owner.status,
    )


def _context(node: Node) -> Context:
    flags = ("mfa", "device_trusted", "on_site")
    found = fields(node, required=(), optional=(*flags, "hour", "now", "purpose"))
    usual = replace(
        USUAL,
        mfa=read_flag(found["mfa"]) if "mfa" in found else USUAL.mfa,
        device_trusted=read_flag(found["device_trusted"])
        if "device_trusted" in found
        else USUAL.device_trusted,
        on_site=read_flag(found["on_site"]) if "on_site" in found else USUAL.on_site,
    )
    return replace(
        usual,
        hour=read_number(found["hour"], 23) if "hour" in found else USUAL.hour,
        now_ms=_moment(found["now"]) if "now" in found else USUAL.now_ms,
        purpose=Purpose(read_choice(found["purpose"], Purpose)) if "purpose" in found else USUAL.purpose,
    )


def _moment(node: Node) -> int:
    try:
        moment = datetime.strptime(read_text(node), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise MisreadError(line_of(node), "a time such as 2026-01-05T10:00:00Z is expected") from error
    return int(moment.timestamp()) * 1000
