"""Runs our tools and libindi's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from blackbox import python_environment

CAMERA = "CCD Simulator"
MOUNT = "Telescope Simulator"
LIMIT = 120


def tool(
    name: str, port: int | None, *words: object, cwd: Path | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `indifast NAME`; whatever happens, there is no traceback."""
    where = [] if port is None else ["-p", str(port)]
    command = [sys.executable, "-m", "indifast", name, *where, *map(str, words)]
    environment = {**os.environ, **python_environment()}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, env=environment, cwd=cwd, input=text, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def libindi(name: str, port: int, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `indi_NAME`."""
    command = [f"indi_{name}", "-p", str(port), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def last_values(output: str) -> dict[str, str]:
    """name=value lines: of names that come again, the first place and the last value."""
    return dict(line.split("=", 1) for line in output.splitlines())
