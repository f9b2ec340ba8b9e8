"""The program is stopped and continued, by whatever signals: it goes on, and ends when it is told to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.support.blackbox import LIMIT
from tests.terminal.pty_support import Terminal, served
from tests.terminal.test_real_terminal import SHELL

Shell = tuple[Terminal, int]
"""A terminal with a shell in which `indifast term` shows a server, and the process of the latter."""


@pytest.fixture
def shell() -> Iterator[Shell]:
    with served() as port, Terminal("-c", SHELL, f"127.0.0.1:{port}") as terminal:
        terminal.shows("connected", "q Quit")
        (program,) = psutil.Process(terminal.child.pid).children()
        yield terminal, program.pid


def wait_for_state(pid: int, stopped: bool) -> None:
    deadline = time.monotonic() + LIMIT
    while (psutil.Process(pid).status() == psutil.STATUS_STOPPED) is not stopped:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop_and_continue(terminal: Terminal, pid: int, *signals: int) -> None:
    """Send signals, and wait until the program has taken the terminal again."""
    before = terminal.output.count(b"\x1b[?1049h")
    for number in signals:
        os.kill(pid, number)
        if number in (signal.SIGSTOP, signal.SIGTSTP):
            wait_for_state(pid, True)
    terminal.until(lambda: terminal.output.count(b"\x1b[?1049h") > before, "the program takes the terminal again")


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT])
def test_a_program_that_was_stopped_goes_on_and_ends(shell: Shell, number: int) -> None:
    terminal, pid = shell
    for _ in range(3):
        stop_and_continue(terminal, pid, number, signal.SIGCONT)
        terminal.shows("connected", "q Quit")
    terminal.type("?")
    terminal.shows("Everywhere")
    terminal.type("\x1b")
    terminal.until(lambda: "Everywhere" not in terminal.text, "the help is closed")
    terminal.type("q")
    terminal.shows("status 0 as before")
    assert terminal.ended() == 0


def test_nothing_is_read_or_drawn_twice_after_a_stop(shell: Shell) -> None:
    terminal, pid = shell
    before = len(psutil.Process(pid).threads())
    for _ in range(3):
        stop_and_continue(terminal, pid, signal.SIGSTOP, signal.SIGCONT)
    terminal.until(lambda: len(psutil.Process(pid).threads()) <= before, "as many threads as before")
    terminal.type("q")
    terminal.shows("status 0 as before")


IGNORING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "indifast", "term", *sys.argv[1:]])
"""
"""Takes the place of `nohup`."""


@pytest.mark.parametrize("words", [("-m", "indifast", "term"), ("-c", IGNORING)], ids=["usual", "SIGHUP ignored"])
def test_a_program_ends_with_its_terminal(words: tuple[str, ...]) -> None:
    with served() as port, Terminal(*words, f"127.0.0.1:{port}") as terminal:
        terminal.shows("connected", "q Quit")
        process = terminal.child.ptyproc
        process.fileobj.close()
        deadline = time.monotonic() + LIMIT
        while process.isalive():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_program_that_is_continued_while_it_ends(shell: Shell) -> None:
    terminal, pid = shell
    terminal.type("q")
    deadline = time.monotonic() + LIMIT
    while terminal.read(0.001) and "status" not in terminal.text:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, terminal.text
    terminal.shows("status 0 as before")
