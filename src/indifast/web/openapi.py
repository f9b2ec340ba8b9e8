"""The description of the interface as OpenAPI 3.1, made from the table of endpoints and the schema of the JSON."""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from typing import Any

from indifast.protocol.jsonform import Plain
from indifast.web.endpoints import ENDPOINTS, EVENTS, FAILURES, LIVE, Endpoint, Parameter

_PREFIX = "#/components/schemas/"


@functools.cache
def description(version: str) -> Plain:
    """Return the description, for a version of the program."""
    paths: dict[str, Plain] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    paths[EVENTS] = _socket("events", EVENTS, "A WebSocket: send `web_request`, and receive `web_event`.")
    paths[LIVE] = _socket(
        "live",
        LIVE,
        "A WebSocket: send `web_look`, and receive live frames. Each is a binary message: the length of the JSON "
        "`web_live` (4 bytes, big-endian), this JSON, and a picture; or, with `tell`, `web_event`.",
        404,
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "indifast web", "version": version},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _socket(name: str, path: str, about: str, *failures: int) -> Plain:
    responses: Plain = {"101": {"description": "The connection is a WebSocket now."}}
    for status in sorted((*failures, 503)):
        responses[str(status)] = _failed(FAILURES[status])
    return {"get": {"summary": about, "operationId": name, "parameters": _names(path), "responses": responses}}


def _names(path: str) -> list[Plain]:
    names = re.findall(r"\{(\w+)\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _parameter(each: Parameter) -> Plain:
    schema: Plain = {"type": each.kind, "default": each.default}
    if each.kind not in ("string", "boolean"):
        schema["minimum"] = 0
    if each.most is not None:
        schema["maximum"] = each.most
    return {"name": each.name, "in": "query", "description": each.about, "schema": schema}


def _operation(endpoint: Endpoint) -> Plain:
    parameters = _names(endpoint.path) + [_parameter(each) for each in endpoint.parameters]
    operation: Plain = {"summary": endpoint.about, "operationId": endpoint.handler, "parameters": parameters}
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": _content(endpoint.body),
        }
    responses: Plain = {"200": _succeeded(endpoint.answers)} if endpoint.answers else {"204": {"description": "Done."}}
    for status, code in sorted({**FAILURES, **endpoint.failures}.items()):
        responses[str(status)] = {"description": code} if status < 400 else _failed(code)
    operation["responses"] = responses
    return operation


def _succeeded(answers: str) -> Plain:
    return {"description": "Done.", "content": _content(answers)}


def _content(what: str) -> Plain:
    """Return types of something else than JSON, or JSON by the name of its definition."""
    if "/" in what:
        return {kind: {} for kind in what.split(", ")}
    return {"application/json": {"schema": {"$ref": _PREFIX + what}}}


def _failed(code: str) -> Plain:
    return {
        "description": code,
        "content": {"application/json": {"schema": {"$ref": f"{_PREFIX}web_failure"}}},
    }


def _schemas() -> Plain:
    text = resources.files("indifast.protocol").joinpath("json.schema.json").read_text("utf-8")
    schemas: Plain = json.loads(text.replace('"#/definitions/', f'"{_PREFIX}'))["definitions"]
    used: set[str] = {"web_event", "web_request", "web_live", "web_look", "web_failure"}
    used |= {each for endpoint in ENDPOINTS for each in (endpoint.answers, endpoint.body) if each in schemas}
    while more := {name for each in used for name in _named(schemas[each])} - used:
        used |= more
    return {name: schema for name, schema in schemas.items() if name in used}


def _named(schema: Any) -> set[str]:
    return set(re.findall(f'"{re.escape(_PREFIX)}(\\w+)"', json.dumps(schema)))
