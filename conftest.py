"""Plugin for `pytest --benchmark`, and what makes all runs faster. Fixtures are in tests/conftest.py."""

from __future__ import annotations

import gc
import os
import sys

pytest_plugins = ("benchmarks.plugin",)

# Store byte code whatever the environment says. Otherwise each worker of pytest rewrites all tests, and each of the
# many child interpreters compiles all of indifast.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"  # that of trio, which selenium installs, would import trio in each process

gc.disable()  # nothing that is made while tests are collected is garbage


def pytest_collection_finish() -> None:
    gc.enable()
