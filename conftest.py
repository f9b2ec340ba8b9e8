"""Plugin for `pytest --benchmark`. Shared fixtures of the tests are in tests/conftest.py."""

from __future__ import annotations

pytest_plugins = ("benchmarks.plugin",)
