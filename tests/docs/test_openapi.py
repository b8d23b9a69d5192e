"""The committed OpenAPI document is the one that the routes make, and it hangs together."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.openapi import DOCUMENT, document

from securechat.authz.model import Action


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DOCUMENT.read_bytes())
    return content


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_document_is_that_of_the_routes() -> None:
    assert DOCUMENT.read_bytes() == document(), "run: PYTHONPATH=tests ./dev run -m support.openapi"


def test_every_operation_says_what_it_is_and_who_may_call_it(described: dict[str, Any]) -> None:
    actions = {f"Action `{action.value}` of the policies." for action in Action}
    for method, path, operation in operations(described):
        assert operation["summary"], (method, path)
        says = operation["description"]
        assert says in actions or says.startswith("Public: "), (method, path)


def test_every_operation_has_a_name_of_its_own(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(names) == len(set(names))


def test_every_reference_leads_to_a_schema(described: dict[str, Any]) -> None:
    text = json.dumps(described)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names
    assert names <= set(described["components"]["schemas"])


def test_every_post_takes_an_idempotency_key(described: dict[str, Any]) -> None:
    for method, path, operation in operations(described):
        names = [parameter["name"] for parameter in operation["parameters"]]
        assert ("Idempotency-Key" in names) == (method == "post"), path


def test_every_part_of_a_path_is_described(described: dict[str, Any]) -> None:
    for _, path, operation in operations(described):
        named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert named == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
