"""Plugin for pytest: leaves out the tests that cannot run with an instrument. left-out.toml names them."""

from __future__ import annotations

import tomllib

import pytest

from instrumented.tree import HOME

LIST = HOME / "left-out.toml"


def left_out(kind: str) -> dict[str, str]:
    """Return the tests that are left out with a kind of instrument, and the reasons."""
    found: dict[str, str] = tomllib.loads(LIST.read_text())[kind]
    return found


def is_part(test: str, of: str) -> bool:
    """Return whether a test is the one of this name, a case of it, or in the module or folder of this name."""
    return test == of or test.startswith((f"{of}[", f"{of}::", f"{of}/", f"{of}@"))  # @ is the group of a test


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--instrument", default=None, help="the instrument that the tests run with")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if kind := config.getoption("--instrument"):
        for name, reason in left_out(kind).items():
            for item in items:
                if is_part(item.nodeid, name):
                    item.add_marker(pytest.mark.skip(reason=f"not with {kind}: {reason}"))
