"""Checks JSON against the schema of the package."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "src/indifast/protocol/json.schema.json"


def valid(name: str, text: str) -> Any:
    """Return what JSON text stands for.

    Raises:
        Exception: It is not JSON, or not what the definition `name` of the schema describes.
    """

    def refused(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return _check(name)(json.loads(text, parse_constant=refused))


@functools.cache
def _check(name: str) -> Callable[[Any], Any]:
    schema = json.loads(SCHEMA.read_text())
    del schema["anyOf"]
    check: Callable[[Any], Any] = fastjsonschema.compile({"$ref": f"#/definitions/{name}"} | _strict(schema))
    return check


def _strict(schema: Any) -> Any:
    """Return the schema with all keys forbidden that it does not name: all that is written must be described."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _strict(each) for key, each in schema.items()}
    return closed | {"additionalProperties": False} if "required" in closed else closed
