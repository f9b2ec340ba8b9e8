"""What the tests of the codec share: the paths of this processor, and the C harness compiled for a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indifast import _base64

ROOT = Path(__file__).resolve().parents[2]
HARNESS = Path(__file__).with_name("harness.c")


@pytest.fixture(params=_base64.paths())
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once with every path that this processor has."""
    previous = _base64.use_path(request.param)
    yield request.param
    _base64.use_path(previous)


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles harness.c with the given compiler and flags; a missing compiler fails the test."""
    built: dict[tuple[str, ...], Path] = {}

    def build(compiler: str, *flags: str, packages: str) -> Path:
        key = (compiler, *flags)
        if key not in built:
            if shutil.which(compiler) is None:
                pytest.fail(f"{compiler} is not installed; on Debian: apt install {packages}")
            out = tmp_path_factory.mktemp("harness") / "harness"
            command = [compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", *flags]
            command += ["-I", str(ROOT / "src/indifast/csrc"), str(HARNESS), "-o", str(out)]
            environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stderr
            built[key] = out
        return built[key]

    return build
