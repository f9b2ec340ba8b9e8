"""The command `indifast`: help, version, and one sentence for a mistake."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import indifast


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "indifast", *arguments],
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def test_help_names_the_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout


def test_without_a_command_the_help_is_shown_and_the_status_tells() -> None:
    done = run()
    assert done.returncode == 2
    assert "usage: indifast COMMAND" in done.stdout


def test_version() -> None:
    assert run("--version").stdout.strip() == f"indifast {indifast.version}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dmeo"], "no command 'dmeo'"),
        (["demo", "--size", "big"], "'big' is not WIDTHxHEIGHT"),
        (["demo", "--size", "8x8"], "'8x8' is not between 16x16 and 16384x16384"),
        (["demo", "--size", "1x²"], "is not WIDTHxHEIGHT"),
        (["demo", "--seconds", "soon"], "'soon' is not a number from 0.1 to 86400"),
        (["demo", "--seconds", "nan"], "'nan' is not a number"),
        (["demo", "--clients", "0"], "'0' is not a number from 1 to 100"),
        (["demo", "--clients", "1.5"], "'1.5' is not a number"),
        (["demo", "--frames", "3"], "--frames"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
