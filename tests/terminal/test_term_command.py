"""The command `indifast term`: its arguments, its log, and its terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.blackbox import LIMIT, python_environment
from tests.terminal.pty_support import Terminal
from tests.terminal.support import demo_drivers

WITHOUT_TEXTUAL = """
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
        timeout=LIMIT,
        env=python_environment(PATH="/usr/bin:/bin"),
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["host:port"], "the port must be a number"),
        (["--unix", "/a", "host"], "--unix names the whole server"),
        (["--blobs", "/nowhere"], "/nowhere is not an existing folder"),
        (["--tls-ca", "/nowhere"], "--tls-ca FILE: /nowhere: no such file"),
        (["--colours", "12"], "invalid choice"),
        (["--debug"], "with --log FILE"),
        ([], "this needs a terminal"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence(arguments: list[str], sentence: str) -> None:
    status, errors = run(*arguments)
    assert status == 2
    assert re.fullmatch(r"indifast term: .*\n", errors) and sentence in errors


def test_without_textual_the_command_says_how_to_install_it() -> None:
    status, errors = run(program=WITHOUT_TEXTUAL)
    assert status == 2
    assert errors == (
        "indifast term: Textual, which draws the screen, is not installed: pip install 'indifast[term]'\n"
    )


def test_a_log_that_cannot_be_written() -> None:
    with Terminal("-m", "indifast", "term", "--log", "/nowhere/log") as term:
        term.shows("the log /nowhere/log cannot be written")
        assert term.ended() == 2


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_log_is_written_beside_the_screen(tmp_path: Path, level: str) -> None:
    log = tmp_path / "term.log"
    with (
        demo_drivers() as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}", "--log", str(log), "--log-level", level) as term,
    ):
        term.shows("Demo Thermostat")
        term.type("q")
        assert term.ended() == 0
    text = log.read_text()
    assert f"Connected to 127.0.0.1:{port}" in text
    assert ("defNumberVector" in text) == (level == "debug")
    assert "Traceback" not in text


@pytest.mark.parametrize("name", ["xterm", "xterm-16color"])
def test_a_terminal_with_16_colors_receives_no_others(name: str) -> None:
    """It would have to approximate them."""
    with (
        demo_drivers() as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}", environment={"TERM": name}) as term,
    ):
        term.shows("Demo Thermostat", "q Quit")
        term.type("q")
        assert term.ended() == 0
    assert re.search(rb"\x1b\[[0-9;]*3[0-7][;m]", term.output)
    assert not re.search(rb"\x1b\[[0-9;]*[34]8;[25];", term.output)
