"""Runs the command `indifast` in separate processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO, Any

from tests.support.blackbox import LIMIT, PYTHON, Child, python_environment

INDIFAST = (PYTHON, "-m", "indifast")

_SOON_STUCK = """
import sys
from indifast.cli.toolkit import delivery
delivery.STUCK = 0.5
from indifast.cli.main import main
sys.exit(main())
"""
SOON_STUCK = (PYTHON, "-c", _SOON_STUCK)
"""The same command; it soon gives up peers that take nothing of what it has sent."""


def run(
    *words: object,
    cwd: Path | None = None,
    text: str = "",
    stdout: int | IO[Any] = subprocess.PIPE,
    limit: float = 2 * LIMIT,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run `indifast` with these words to its end, and check that it prints no traceback.

    Args:
        words: The arguments of the command.
        cwd: The working directory.
        text: The standard input.
        stdout: Where the standard output goes, unless it is to be returned.
        limit: Seconds that the command may take.
        environment: Environment variables to set.
    """
    done = subprocess.run(
        [*INDIFAST, *map(str, words)],
        input=text,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=limit,
        cwd=cwd,
        env={**os.environ, **python_environment(**environment)},
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def start(folder: Path, *words: object, stdio: bool = False) -> Child:
    """Start `indifast` with these words, in `folder`. See `Child` for `stdio`."""
    return Child([*INDIFAST, *map(str, words)], folder, env=python_environment(), cwd=folder, stdio=stdio)
