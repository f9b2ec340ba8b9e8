"""The reference is complete: it has all public names and commands."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from indifast.cli import COMMANDS, module_of

API = Path(__file__).resolve().parents[2] / "docs" / "reference" / "api"
DOCUMENTED = {
    name.rpartition(".")[2]
    for page in API.glob("*.md")
    for name in re.findall(r"^\.\. (?:auto|py:)\w+:: (\S+)", page.read_text(), re.MULTILINE)
}

INTERNAL = {"UndefinedError", "CommandError", "Damaged"}
"""Exceptions that are caught where they are raised."""


@pytest.mark.parametrize(
    "module", ["indifast", "indifast.client", "indifast.server", "indifast.codec", "indifast.recording"]
)
def test_every_public_name_is_documented(module: str) -> None:
    assert set(importlib.import_module(module).__all__) - DOCUMENTED == set()


@pytest.mark.parametrize("package", ["indifast.client", "indifast.driver", "indifast.recording", "indifast.server"])
def test_every_exception_is_documented(package: str) -> None:
    folder = Path(str(importlib.import_module(package).__file__)).parent
    raised = {
        name
        for path in folder.glob("*.py")
        for name, value in vars(importlib.import_module(f"{package}.{path.stem}")).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
        if value.__module__.startswith(package) and path.stem != "__init__"
    }
    assert raised - DOCUMENTED - INTERNAL == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_parser_or_a_usage(command: str) -> None:
    module = module_of(command)
    assert hasattr(module, "parser") or command == "serve"
