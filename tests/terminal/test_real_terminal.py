"""`indifast term` as people meet it: in a terminal, by keys, in front of a C++ simulator."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable

import pytest
from pty_support import LIMIT, Terminal, served

TELESCOPE = "Telescope Simulator"
SETTINGS = {
    "true colour": {"COLORTERM": "truecolor"},
    "256 colours": {},
    "16 colours": {"TERM": "xterm"},
    "no colours": {"NO_COLOR": "1"},
}
SWITCHED = (b"?1049", b"?1000", b"?1003", b"?2004", b"?1004")
"""Switched on by `h` and off by `l`: the other screen, reports of mouse and focus, marks around what is pasted."""

AROUND = """
import subprocess, sys, termios
before = termios.tcgetattr(0)
status = subprocess.call([sys.executable, "-m", "indifast", "term", *sys.argv[1:]])
print("status", status, "as before" if termios.tcgetattr(0) == before else "changed")
"""
"""Stands for the shell that people come from and go back to."""


def told(program: Callable[[str], str], port: int, name: str) -> str:
    """A value as the C++ tool tells it."""
    command = [program("indi_getprop"), "-p", str(port), "-t", "10", "-1", name]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT).stdout.strip()


def becomes(terminal: Terminal, value: Callable[[], str], wanted: str) -> None:
    """Wait until somebody else sees a value, while the terminal goes on."""
    deadline = time.monotonic() + LIMIT
    while (seen := value()) != wanted:
        assert time.monotonic() < deadline, f"{seen!r}, not {wanted!r}\n{terminal.text}"
        terminal.read()


def find(terminal: Terminal, words: str, gone: str, *shown: str) -> None:
    """Search for a property, go to it and into its pane; wait for what stands there and for what does not."""
    terminal.type("/")
    terminal.until(lambda: "/ Search" in terminal.text and "q Quit" not in terminal.text, "the search")
    terminal.type(words)
    terminal.until(lambda: words in terminal.text, "what was typed")
    terminal.type("\r")
    terminal.until(lambda: gone not in terminal.text, f"{gone} to go")
    terminal.shows(*shown)
    terminal.type("\x1b[C")
    terminal.shows("s Send")


@pytest.mark.parametrize("environment", SETTINGS.values(), ids=SETTINGS)
def test_what_is_typed_here_is_set_there(program: Callable[[str], str], environment: dict[str, str]) -> None:
    with (
        served(programs=(program("indi_simulator_telescope"),)) as port,
        Terminal("-c", AROUND, f"127.0.0.1:{port}", environment=environment) as terminal,
    ):
        terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
        find(terminal, "polling", "DRIVER_INFO", "POLLING_PERIOD")
        terminal.type("\r")
        terminal.shows("esc Drop")
        terminal.type("2010\r")
        becomes(terminal, lambda: told(program, port, f"{TELESCOPE}.POLLING_PERIOD.PERIOD_MS"), "2010")
        terminal.until(lambda: re.search(r"Period \(ms\) +2010\b", terminal.text), "the new period on the screen")
        terminal.shows("s Send")
        terminal.type("\x1b")
        terminal.until(lambda: "q Quit" in terminal.text and "s Send" not in terminal.text, "the tree")
        find(terminal, "Main Control", "POLLING_PERIOD", "CONNECTION  rw OneOfMany")
        terminal.type("\r")
        becomes(terminal, lambda: told(program, port, f"{TELESCOPE}.CONNECTION.CONNECT"), "On")
        terminal.until(lambda: re.search(r"Connect +◉ On", terminal.text), "the switch on the screen")
        terminal.type("q")
        terminal.until(lambda: b"status" in terminal.output, "the end")
        assert terminal.ended() == 0
        assert b"status 0 as before" in terminal.output
        assert b"Traceback" not in terminal.output
        for mode in SWITCHED:
            assert 0 < terminal.output.rfind(b"\x1b[%bh" % mode) < terminal.output.rfind(b"\x1b[%bl" % mode), mode
        assert terminal.output.rfind(b"\x1b[?25l") < terminal.output.rfind(b"\x1b[?25h")


def test_sixteen_colours_are_named_never_mixed(program: Callable[[str], str]) -> None:
    """A terminal of 16 colours gets none that it has to guess."""
    with (
        served(programs=(program("indi_simulator_telescope"),)) as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}", environment={"TERM": "xterm"}) as terminal,
    ):
        terminal.shows(TELESCOPE, "CONNECTION")
        terminal.type("q")
        assert terminal.ended() == 0
        assert re.search(rb"\x1b\[[0-9;]*3[0-7][;m]", terminal.output)
        assert not re.search(rb"\x1b\[(?:[0-9;]*;)?[34]8;[25];", terminal.output)


def test_keys_that_come_at_once_are_all_taken(program: Callable[[str], str]) -> None:
    """The rest of a number comes before the field for it has opened."""
    with (
        served(programs=(program("indi_simulator_telescope"),)) as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}") as terminal,
    ):
        terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
        find(terminal, "polling", "DRIVER_INFO", "POLLING_PERIOD")
        for keys in ("3010\r", "\r4010\r"):
            terminal.type(keys)
            becomes(terminal, lambda: told(program, port, f"{TELESCOPE}.POLLING_PERIOD.PERIOD_MS"), keys.strip())
            terminal.shows("s Send")
