"""The description of the interface: complete, and what the page in the documentation says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from indifast.web.concealed import secret_members
from indifast.web.endpoints import BYTES, ENDPOINTS, EVENTS, FAILURES
from indifast.web.openapi import description
from tests.support.jsonschema import ROOT

PAGE = (ROOT / "docs/reference/web.md").read_text()


def test_the_page_names_every_path_parameter_and_failure() -> None:
    for endpoint in ENDPOINTS:
        assert f"| `{endpoint.method} {endpoint.path}` |" in PAGE
        for parameter in endpoint.parameters:
            assert f"`{parameter.name}`" in PAGE
    for code in {*FAILURES.values(), *(each for one in ENDPOINTS for each in one.failures.values() if " " not in each)}:
        assert f"`{code}`" in PAGE, code
    assert f"`{EVENTS}`" in PAGE


def test_the_page_names_no_path_that_does_not_exist() -> None:
    known = {f"{each.method} {each.path}" for each in ENDPOINTS}
    assert set(re.findall(r"`((?:GET|POST|PUT|DELETE) [^`]+)`", PAGE)) <= known


def test_all_that_it_refers_to_is_there() -> None:
    described = description("0")
    text = json.dumps(described)
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text):
        assert reference in described["components"]["schemas"]
    assert "#/definitions/" not in text
    for endpoint in ENDPOINTS:
        operation: Any = described["paths"][endpoint.path][endpoint.method.lower()]
        if endpoint.body == BYTES:
            assert operation["requestBody"]["content"] == {BYTES: {}}
        assert [each["name"] for each in operation["parameters"] if each["in"] == "path"] == re.findall(
            r"\{(\w+)\}", endpoint.path
        )


class Named:
    """A property, as far as its names tell whether it is secret."""

    def __init__(self, name: str, label: str = "", kind: str = "TextVector", perm: str = "rw") -> None:
        self.name, self.label, self.vectortype, self.perm = name, label, kind, perm
        self.data = {"VALUE": type("Member", (), {"label": ""})()}


@pytest.mark.parametrize(
    "name",
    [
        "PASSWORD",
        "WIFI_PASS",
        "Passphrase",
        "pwd",
        "WPA_PSK",
        "API_KEY",
        "api key",
        "ACCESS-KEY",
        "Secret",
        "AUTH_TOKEN",
    ],
)
def test_what_looks_like_a_password_is_secret(name: str) -> None:
    assert secret_members(Named(name)) == {"VALUE"}
    assert secret_members(Named("X", name)) == {"VALUE"}
    assert secret_members(Named(name, kind="SwitchVector")) == frozenset()


@pytest.mark.parametrize("name", ["PASSBAND", "BYPASS", "COMPASS", "KEYWORD", "GPIO_PIN", "TEMPERATURE"])
def test_what_does_not_is_shown(name: str) -> None:
    assert secret_members(Named(name)) == frozenset()


def test_what_can_only_be_written_is_secret() -> None:
    assert secret_members(Named("X", perm="wo")) == {"VALUE"}
