"""Every way into the servers is a route that names its action, and the policies know that action."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from support.sources import ROOT, Source, called_name, calls, sources

from audit.catalogue import EventType
from securechat.authz.model import Action

GUARDED: Final = {"Route", "InBandRoute"}
WORDS_OF_A_REASON: Final = 4
SCHEMA: Final = ROOT / "policies" / "schema" / "securechat.cedarschema"
MOUNTS: Final = {
    "add_route",
    "add_get",
    "add_post",
    "add_put",
    "add_delete",
    "add_static",
    "add_view",
    "add_resource",
}
THE_ONE_MOUNT: Final = "securechat/web/app.py"
NOT_THROUGH_A_ROUTE: Final = {
    Action.DEVICE_REVOKE,  # asked for inside device.enroll, when a new list leaves a device out
    Action.AUDIT_EXPORT,
    Action.POLICY_VIEW,
    Action.POLICY_DECIDE,
    Action.SERVICE_METRICS,
}  # what the policies already rule, before there is an interface that asks


def test_every_guarded_route_names_one_action_of_the_catalogue() -> None:
    routes = list(_routes(GUARDED))
    assert routes, "there are routes"
    nameless = [source.at(call) for source, call in routes if len(_actions(call)) != 1]
    assert nameless == []
    assert {action for _, call in routes for action in _actions(call)} <= set(Action.__members__)


def test_every_action_has_its_route() -> None:
    used = {Action[action] for _, call in _routes(GUARDED) for action in _actions(call)}
    assert set(Action) - used - NOT_THROUGH_A_ROUTE == set()


def test_the_schema_of_the_policies_knows_every_action_and_no_other() -> None:
    leaves = {name for line in SCHEMA.read_text().splitlines() for name in _declared(line) if "." in name}
    assert leaves == {action.value for action in Action}


def test_some_policy_permits_each_action() -> None:
    groups = _groups()
    permitted: set[str] = set()
    for file in (ROOT / "policies" / "policies").glob("*.cedar"):
        for rule in re.split(r"(?m)^(?=@id)", file.read_text()):
            if re.search(r"(?m)^permit\b", rule):
                permitted.update(re.findall(r'Action::"([^"]+)"', rule))
    assert {
        action.value for action in Action if not permitted & {action.value, *groups.get(action.value, ())}
    } == set()


def test_every_action_is_an_event_that_the_audit_log_can_hold() -> None:
    assert {action.value for action in Action} <= {event.value for event in EventType}


def test_a_public_route_says_why_it_may_be_one() -> None:
    unreasoned = [
        source.at(call)
        for source, call in _routes({"PublicRoute"})
        if not any(_is_reason(argument) for argument in [*call.args, *(each.value for each in call.keywords)])
    ]
    assert unreasoned == []


def test_handlers_are_mounted_in_one_place_only() -> None:
    mounts = {
        source.path
        for source in sources()
        for call in calls(source)
        if called_name(call) in MOUNTS and "router" in ast.unparse(call.func)
    }
    assert mounts == {THE_ONE_MOUNT}


def _routes(kinds: set[str]) -> Iterator[tuple[Source, ast.Call]]:
    return ((source, call) for source in sources() for call in calls(source) if called_name(call) in kinds)


def _actions(call: ast.Call) -> list[str]:
    arguments = [*call.args, *(each.value for each in call.keywords)]
    return [
        argument.attr
        for argument in arguments
        if isinstance(argument, ast.Attribute)
        and isinstance(argument.value, ast.Name)
        and argument.value.id == "Action"
    ]


def _is_reason(argument: ast.expr) -> bool:
    return (
        isinstance(argument, ast.Constant)
        and isinstance(argument.value, str)
        and len(argument.value.split()) >= WORDS_OF_A_REASON
    )


def _declared(line: str) -> list[str]:
    """The names that a line ``action "a", "b" in [...]`` of the schema declares."""
    if not line.startswith("action "):
        return []
    return re.findall(r'"([^"]+)"', line.split(" in [")[0].split("//")[0])


def _groups() -> dict[str, list[str]]:
    """The groups that each action is in."""
    groups: dict[str, list[str]] = {}
    for line in SCHEMA.read_text().splitlines():
        for name in _declared(line):
            groups[name] = re.findall(r'"([^"]+)"', line.partition(" in [")[2])
    return groups
