"""The OpenAPI 3.1 document of a set of routes, made of their docs and their msgspec types."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from securechat.web.problems import CONTENT_TYPE, Problem
from securechat.web.routes import AnyRoute, Auth, PublicRoute, Route

JsonObject = dict[str, object]

_REF: Final = "#/components/schemas/{name}"
_SCHEMES: Final[Mapping[str, JsonObject]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of a registered app."},
    "session": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Session SECRET`, from `POST /v1/sessions`.",
    },
}
_COMMON_ERRORS: Final = (400, 401, 403, 503)


def openapi_document(routes: Sequence[AnyRoute], *, title: str, version: str) -> bytes:
    """Return the document as indented JSON that ends with a newline; the same routes give the same bytes."""
    types: list[type] = [Problem, *_types(routes)]
    types = sorted(set(types), key=lambda each: each.__name__)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    refs = dict(zip(types, schemas, strict=True))
    paths: dict[str, JsonObject] = {}
    for route in sorted(routes, key=lambda each: (each.path, each.method)):
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    document: JsonObject = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _types(routes: Iterable[AnyRoute]) -> list[type]:
    return [kind for route in routes for kind in (route.docs.body, route.docs.answer) if kind is not None]


def _operation(route: AnyRoute, refs: Mapping[type, JsonObject]) -> JsonObject:
    docs = route.docs
    operation: JsonObject = {
        "summary": docs.summary,
        "operationId": route.handler.__name__.lstrip("_"),
        "parameters": _parameters(route),
        "responses": _responses(route, refs),
        "security": _security(route),
    }
    if isinstance(route, PublicRoute):
        operation["description"] = f"Public: {route.why}."
    else:
        operation["description"] = f"Action `{route.action.value}` of the policies."
    if docs.body is not None:
        content = {"application/json": {"schema": refs[docs.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: AnyRoute) -> list[JsonObject]:
    parameters: list[JsonObject] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in route.docs.query
    ]
    if route.method == "POST":
        schema: JsonObject = {"type": "string", "minLength": 1, "maxLength": 128}
        parameters.append({"name": "Idempotency-Key", "in": "header", "required": False, "schema": schema})
    return parameters


def _responses(route: AnyRoute, refs: Mapping[type, JsonObject]) -> JsonObject:
    docs = route.docs
    success: JsonObject = {"description": HTTPStatus(docs.status).phrase}
    if docs.answer is not None:
        success["content"] = {"application/json": {"schema": refs[docs.answer]}}
    responses: JsonObject = {str(docs.status): success}
    common = () if isinstance(route, PublicRoute) else _COMMON_ERRORS
    for status in sorted({*common, *docs.errors}):
        content = {CONTENT_TYPE: {"schema": refs[Problem]}}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return responses


def _security(route: AnyRoute) -> list[JsonObject]:
    if not isinstance(route, Route):
        return []
    return [{"bearer" if route.auth is Auth.TOKEN else "session": []}]
