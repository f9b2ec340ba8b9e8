"""Adds `pytest --benchmark`; what the tests share stands in tests/conftest.py."""

from __future__ import annotations

pytest_plugins = ("benchmarks.plugin",)
