"""The package as a whole."""

from __future__ import annotations

import tomllib
from pathlib import Path

import indifast


def test_version_is_stated_once() -> None:
    project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]
    assert indifast.version == project["version"]
