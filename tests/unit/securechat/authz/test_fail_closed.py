"""Where the engine alone would answer "allow" or nothing useful, the decision is a deny that says so."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import pytest

from securechat.authz.cases import USUAL
from securechat.authz.decision import DecisionPoint
from securechat.authz.lint import check_tree
from securechat.authz.model import AccountStatus, Action, Principal, Purpose, Request, Resource, ResourceKind
from securechat.authz.tree import PolicyTree
from securechat.ids import OrgId, UserId

Change = Callable[[Mapping[str, str]], PolicyTree]

ANN = Principal(user=UserId("ann"), org=OrgId("sunrise"), roles=frozenset({"nurse"}))
TO_BOB = Resource(kind=ResourceKind.ACCOUNT, id="bob", org=OrgId("sunrise"), subject=UserId("bob"))
REQUEST = Request(ANN, Action.MESSAGE_SEND, TO_BOB, USUAL)

FAILS_AT_RUN_TIME = """
@id("needs-more-than-is-given")
@note("Fits the schema, but the server does not hand over the entity of the other user.")
forbid (principal, action == Action::"message.send", resource is Account)
when { resource has subject && resource.subject.status == AccountStatus::"suspended" };
"""


def test_a_forbid_that_fails_at_run_time_denies(changed: Change) -> None:
    tree = changed({"policies/50-more.cedar": FAILS_AT_RUN_TIME})
    decision = DecisionPoint(check_tree(tree)).decide(REQUEST)
    assert not decision.allowed
    assert decision.reason == "policy-error"
    assert decision.policy_ids == ()
    assert decision.errors == ("policy needs-more-than-is-given failed",)


def test_a_permit_that_fails_at_run_time_denies_even_where_another_permits(changed: Change) -> None:
    permit = FAILS_AT_RUN_TIME.replace("forbid", "permit")
    decision = DecisionPoint(check_tree(changed({"policies/50-more.cedar": permit}))).decide(REQUEST)
    assert (decision.allowed, decision.reason) == (False, "policy-error")


def test_arithmetic_that_overflows_denies(changed: Change) -> None:
    text = """
    @id("overflows") @note("n")
    forbid (principal, action, resource) when { context.hour + 9223372036854775807 == 0 };
    """
    decision = DecisionPoint(check_tree(changed({"policies/50-more.cedar": text}))).decide(REQUEST)
    assert (decision.allowed, decision.errors) == (False, ("policy overflows failed",))


@pytest.mark.parametrize(
    "request_",
    [
        replace(REQUEST, principal=replace(ANN, status=cast(AccountStatus, "retired"))),
        replace(REQUEST, principal=replace(ANN, roles=frozenset({"nurse", "wizard"}))),
        replace(REQUEST, principal=replace(ANN, roles=frozenset({"staff"}))),
        replace(REQUEST, resource=replace(TO_BOB, kind=ResourceKind.MAILBOX)),
        replace(REQUEST, resource=replace(TO_BOB, status=cast(AccountStatus, "\ud800"))),
        replace(REQUEST, context=replace(USUAL, hour=24)),
        replace(REQUEST, context=replace(USUAL, hour=-1)),
        replace(REQUEST, context=replace(USUAL, purpose=cast(Purpose, "fun"))),
        replace(REQUEST, context=replace(USUAL, mfa=cast(bool, "yes"))),
        replace(REQUEST, action=cast(Action, "message.forge")),
        replace(
            REQUEST,
            action=Action.MESSAGE_RECEIVE,
            resource=Resource(kind=ResourceKind.MAILBOX, id="m", org=OrgId("sunrise")),
        ),
    ],
)
def test_a_request_that_does_not_fit_the_schema_denies(point: DecisionPoint, request_: Request) -> None:
    decision = point.decide(request_)
    assert (decision.allowed, decision.reason, decision.policy_ids) == (False, "policy-error", ())
    assert decision.errors


@pytest.mark.parametrize("now_ms", [-(2**80), -1, 253_402_300_800_000, 2**80])
def test_a_time_out_of_range_denies_where_a_rule_reads_the_clock(changed: Change, now_ms: int) -> None:
    text = """
    @id("until-2030") @note("n")
    forbid (principal, action == Action::"message.send", resource)
    when { context.now >= datetime("2030-01-01T00:00:00Z") };
    """
    point = DecisionPoint(check_tree(changed({"policies/50-more.cedar": text})))
    assert point.decide(REQUEST).allowed
    decision = point.decide(replace(REQUEST, context=replace(USUAL, now_ms=now_ms)))
    assert decision.allowed is (now_ms == -1)  # the last minute of 1969 is a time like any other


def test_a_forbid_wins_over_every_permit(changed: Change) -> None:
    text = '@id("stop") @note("n") forbid (principal, action == Action::"message.send", resource);'
    decision = DecisionPoint(check_tree(changed({"policies/50-more.cedar": text}))).decide(REQUEST)
    assert (decision.allowed, decision.policy_ids, decision.reason) == (False, ("stop",), "stop")
