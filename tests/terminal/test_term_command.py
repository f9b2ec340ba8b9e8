"""The command `indifast term`: what it refuses, and what it does with a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal.pty_support import SOURCES, Terminal
from tests.terminal.support import serving_apart

WITHOUT = """
import sys
sys.modules["textual"] = None
from indifast.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run(
    *arguments: str, program: str = "from indifast.cli.main import run; import sys; sys.exit(run())"
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", program, "term", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["host:port"], "is not a port"),
        (["--unix", "/a", "host"], "--unix names the whole server"),
        (["--blobs", "/nowhere"], "/nowhere is not an existing folder"),
        (["--tls-ca", "/nowhere"], "TLS files cannot be used"),
        (["--colours", "12"], "invalid choice"),
        (["--debug"], "with --log FILE"),
        ([], "this needs a terminal"),
    ],
)
def test_mistakes_are_told_in_one_sentence(arguments: list[str], sentence: str) -> None:
    status, told = run(*arguments)
    assert status == 2
    assert re.fullmatch(r"indifast term: .*\n", told) and sentence in told


def test_without_textual_it_says_how_to_install_it() -> None:
    status, told = run(program=WITHOUT)
    assert status == 2
    assert told == ("indifast term: Textual, which draws the screen, is not installed: pip install 'indifast[term]'\n")


def test_a_log_that_cannot_be_written() -> None:
    with Terminal("-m", "indifast", "term", "--log", "/nowhere/log") as term:
        term.shows("the log /nowhere/log cannot be written")
        assert term.ended() == 2


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_log_and_the_screen(tmp_path: Path, level: str) -> None:
    log = tmp_path / "term.log"
    with (
        serving_apart() as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}", "--log", str(log), "--log-level", level) as term,
    ):
        term.shows("Demo Thermostat")
        term.type("q")
        assert term.ended() == 0
    text = log.read_text()
    assert f"Connected to 127.0.0.1:{port}" in text
    assert ("defNumberVector" in text) == (level == "debug")
    assert "Traceback" not in text


def test_sixteen_colours() -> None:
    """A terminal that knows no more is never sent others."""
    with (
        serving_apart() as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}", environment={"TERM": "xterm-16color"}) as term,
    ):
        term.shows("Demo Thermostat")
        assert not re.search(rb"\x1b\[[0-9;]*[34]8;[25];", term.output)
        assert re.search(rb"\x1b\[[0-9;]*3[0-7]", term.output)
