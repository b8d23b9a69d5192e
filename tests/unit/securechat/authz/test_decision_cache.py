"""What is kept between requests: never an answer of another policy set, minute or position."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from securechat.authz.cases import USUAL
from securechat.authz.decision import DecisionPoint
from securechat.authz.lint import check_tree
from securechat.authz.model import Action, Principal, Request, Resource, ResourceKind
from securechat.authz.profile import profile_of
from securechat.authz.tree import PolicyTree
from securechat.ids import OrgId, UserId

Change = Callable[[Mapping[str, str]], PolicyTree]

ANN = Principal(user=UserId("ann"), org=OrgId("sunrise"), roles=frozenset({"nurse"}))
TO_BOB = Resource(kind=ResourceKind.ACCOUNT, id="bob", org=OrgId("sunrise"), subject=UserId("bob"))
REQUEST = Request(ANN, Action.MESSAGE_SEND, TO_BOB, USUAL)
EXPIRES = """
@id("expires")
@note("Ends at 10:05.")
forbid (principal, action == Action::"message.send", resource)
when { context.now >= datetime("2026-01-05T10:05:00Z") };
"""


def test_a_new_policy_set_is_asked_anew(point: DecisionPoint, changed: Change) -> None:
    assert point.decide(REQUEST).allowed
    text = '@id("stop") @note("n") forbid (principal, action == Action::"message.send", resource);'
    stricter = DecisionPoint(check_tree(changed({"policies/50-more.cedar": text})))
    refused = stricter.decide(REQUEST)
    assert not refused.allowed
    assert refused.policy_set == stricter.policy_set != point.policy_set
    assert point.decide(REQUEST).allowed


def test_a_rule_about_time_ends_with_its_minute_though_answers_are_kept(changed: Change) -> None:
    point = DecisionPoint(check_tree(changed({"policies/50-more.cedar": EXPIRES})))
    ends = USUAL.now_ms + 5 * 60_000

    def at(now_ms: int) -> bool:
        return point.decide(replace(REQUEST, context=replace(USUAL, now_ms=now_ms))).allowed

    assert at(ends - 1)
    assert not at(ends)
    assert at(ends - 60_000)
    assert not at(ends + 59_999)


def test_only_actions_whose_rules_read_the_clock_depend_on_it(point: DecisionPoint, changed: Change) -> None:
    whole = """
    @id("whole") @note("n")
    forbid (principal, action == Action::"audit.query", resource)
    when { [context].contains(context) && context.now < datetime("2020-01-01T00:00:00Z") };
    """
    hour = '@id("hour") @note("n") forbid (principal, action, resource) when { context.hour > 30 };'
    tree = changed({"policies/50-more.cedar": EXPIRES, "policies/60-more.cedar": whole + hour})
    checked = check_tree(tree)
    assert checked.engine.timed_actions() == {Action.MESSAGE_SEND, Action.AUDIT_QUERY}
    assert not check_tree(changed({})).engine.timed_actions()


def test_context_used_as_a_whole_counts_as_reading_the_clock(changed: Change) -> None:
    text = (
        '@id("whole") @note("n") forbid (principal, action, resource) when { {a: context} == {a: context} };'
    )
    assert check_tree(changed({"policies/50-more.cedar": text})).engine.timed_actions() == set(Action)


names = st.text("abAB", max_size=2).map("u-{}".format)


@given(mine=names, theirs=names, org=names, elsewhere=names)
def test_people_in_the_same_position_share_an_answer(
    mine: str, theirs: str, org: str, elsewhere: str
) -> None:
    who = Principal(user=UserId(mine), org=OrgId(org), roles=frozenset({"nurse"}))
    what = Resource(kind=ResourceKind.ACCOUNT, id=theirs, org=OrgId(elsewhere), subject=UserId(theirs))
    profile = profile_of(Request(who, Action.MESSAGE_SEND, what, USUAL), timed=True)
    assert profile.own is (mine == theirs)
    assert profile.same_org is (org == elsewhere)
    assert "u-" not in repr(profile)


def test_an_empty_id_is_nobodys_own() -> None:
    who = Principal(user=UserId(""), org=OrgId(""), roles=frozenset())
    what = Resource(kind=ResourceKind.MAILBOX, id="", org=OrgId(""), subject=UserId(""))
    profile = profile_of(Request(who, Action.MESSAGE_ACK, what, USUAL), timed=False)
    assert not profile.own
    assert not profile.same_org
