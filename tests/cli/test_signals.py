"""Signals that were ignored when a command was started stay ignored, in it and in what it starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.support.blackbox import LIMIT, Channel, Child, python_environment, until

HUP, INT, TERM, USR1 = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
GET = b'<getProperties version="1.7"/>\n'

TOY = """#!/bin/sh
sed -n 's/^SigIgn:[[:space:]]*/ignored /p' /proc/self/status >&2
while read line; do
    echo "<defTextVector device='Toy' name='T' state='Ok' perm='rw'><defText name='m'>hi</defText></defTextVector>"
    echo "<message device='Toy' message='heard you'/>"
done
"""
"""A driver that tells which signals it ignores."""


def numbers(mask: str) -> set[int]:
    return {number for number in signal.valid_signals() if int(mask, 16) >> number - 1 & 1}


def ignored(pid: int) -> set[int]:
    """The signals that a process ignores, but for those that Python always does."""
    mask = Path(f"/proc/{pid}/status").read_text().partition("SigIgn:")[2].split()[0]
    return numbers(mask) - {signal.SIGPIPE, signal.SIGXFSZ}


def ignoring(*which: signal.Signals) -> list[str]:
    """The words before a command that have it start with these signals ignored, as `nohup` and shells do it."""
    names = " ".join(each.name.removeprefix("SIG") for each in which)
    return ["sh", "-c", f'trap "" {names}; exec "$0" "$@"'] if which else []


class Command(Child):
    """`indifast ...`, started by other words."""

    def __init__(self, folder: Path, launcher: Sequence[str], *words: object) -> None:
        argv = [*launcher, sys.executable, "-m", "indifast", *map(str, words)]
        super().__init__(argv, folder, env=python_environment(), cwd=folder)

    def told(self, pattern: str) -> str:
        """What the group of a pattern stands for in what it has written, once it is there."""
        until(lambda: re.search(pattern, self.stderr) or not self.running(), what=pattern)
        found = re.search(pattern, self.stderr)
        assert found is not None, self.stderr
        return found[1]

    def answers(self, pattern: str) -> Channel:
        """A client of the server whose port the pattern finds; it has been answered."""
        client = Channel.connect(int(self.told(pattern)), "127.0.0.1")
        client.send(GET)
        client.until_text("defTextVector")
        return client


SERVING = r"listening to port (\d+)"
REPLAYING = r" on localhost:(\d+)"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy"
    path.write_text(TOY)
    path.chmod(0o755)
    return path


def serve(folder: Path, launcher: Sequence[str], toy: Path, *more: object) -> Command:
    return Command(folder, launcher, "serve", "-v", "-p", 0, "-u", folder / "local", *more, toy)


@pytest.fixture
def server(tmp_path: Path, toy: Path) -> Iterator[int]:
    """The port of a server with the driver above."""
    with serve(tmp_path, [], toy) as running:
        running.answers(SERVING).close()
        yield int(running.told(SERVING))


def bother(command: Command, *which: signal.Signals) -> None:
    """The signals are ignored; send them."""
    assert ignored(command.pid) >= set(which)
    for number in which:
        os.kill(command.pid, number)


@pytest.mark.parametrize("which", [[HUP], [INT], [HUP, INT, USR1]])
def test_a_server_lives_on_and_its_drivers_start_as_it_did(tmp_path, toy, which):
    with serve(tmp_path, ignoring(*which), toy, "--stats") as command:
        client = command.answers(SERVING)
        bother(command, *which)
        client.send(GET)
        client.until_text("heard you")
        command.answers(SERVING).close()
        assert numbers(command.told(r": ignored (\w+)")) == set(which)
        assert "stats: " not in command.stderr
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_nohup(tmp_path, toy):
    with serve(tmp_path, ["nohup"], toy) as command:
        command.answers(SERVING).close()
        bother(command, HUP)
        command.answers(SERVING).close()
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_in_the_background_of_a_script(tmp_path, toy):
    """The shell has the command ignore SIGINT, as it would reach the whole group."""
    with serve(tmp_path, ["sh", "-c", '"$0" "$@" & wait'], toy) as command:
        client = command.answers(SERVING)
        (child,) = (each for each in psutil.Process(command.pid).children() if "serve" in each.cmdline())
        assert INT in ignored(child.pid)
        child.send_signal(INT)
        client.send(GET)
        client.until_text("heard you")
        command.answers(SERVING).close()
        child.terminate()
        assert command.wait() == 0, command.stderr


def test_signals_are_no_matter_for_what_a_driver_in_python_starts(tmp_path):
    """While it is imported the server has its own means to be stopped, and to be asked for counters."""
    status = "open('/proc/self/status').read().partition('SigIgn:')[2].split()[0]"
    (tmp_path / "starting.py").write_text(
        "import subprocess, sys\n"
        f"print('ignored', subprocess.check_output([sys.executable, '-c', \"print({status})\"], text=True).strip(),"
        " file=sys.stderr)\n"
    )
    words = ("serve", "-p", 0, "-u", tmp_path / "local", "--stats", "starting:make")
    with Command(tmp_path, ignoring(HUP), *words) as command:
        assert numbers(command.told(r"ignored (\w+)")) - {signal.SIGPIPE, signal.SIGXFSZ} == {HUP}
        assert command.wait() == 1


@pytest.fixture
def recording(tmp_path: Path, server: int) -> Path:
    with Command(tmp_path, [], "record", "-o", "made", "--for", 1, f"localhost:{server}") as command:
        assert command.wait() == 0, command.stderr
    return tmp_path / "made"


def test_a_replay_lives_on(tmp_path, recording):
    with Command(tmp_path, ignoring(HUP, INT), "replay", "-p", 0, recording) as command:
        client = command.answers(REPLAYING)
        bother(command, HUP, INT)
        client.send(GET)
        client.until_text("defTextVector")
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_a_recording_goes_on(tmp_path, server):
    with Command(tmp_path, ignoring(HUP, INT), "record", "-o", "goes-on", f"localhost:{server}") as command:
        command.until_stderr("recording to")
        bother(command, HUP, INT)
        client = Channel.connect(server, "127.0.0.1")
        client.send(GET)
        client.until_text("heard you")
        assert command.running()
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


@pytest.mark.parametrize("number", [HUP, INT, TERM])
def test_what_is_not_ignored_ends_them(tmp_path, recording, server, number):
    with (
        Command(tmp_path, [], "replay", "-p", 0, recording) as replay,
        Command(tmp_path, [], "record", "-o", "another", f"localhost:{server}") as record,
    ):
        replay.answers(REPLAYING).close()
        record.until_stderr("recording to")
        for command in (replay, record):
            os.kill(command.pid, number)
            assert command.wait() == 0, command.stderr


def test_a_watch_goes_on(tmp_path, server):
    """asyncio handles SIGINT for those that don't do so themselves, unless it is ignored."""
    with Command(tmp_path, ignoring(HUP, INT), "watch", "--definitions", "-p", server) as command:
        command.until_stderr("Toy.T.m=hi")
        bother(command, HUP, INT)
        client = Channel.connect(server, "127.0.0.1")
        client.send(GET)
        client.until_text("heard you")
        command.until_stderr("heard you")
        os.kill(command.pid, TERM)
        assert command.wait() == -TERM


def test_a_demonstration_goes_on(tmp_path):
    words = ("demo", "--size", "64x48", "--seconds", "0.5", "--forever")
    with Command(tmp_path, ignoring(HUP, INT), *words) as command:
        command.until_stderr("Server on localhost:")
        bother(command, HUP, INT)
        command.until_stderr("Ctrl-C ends it.")
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_a_benchmark_goes_on(tmp_path):
    words = ("bench", "--seconds", "0.3", "--runs", "1", "--only", "stack")
    with Command(tmp_path, ignoring(HUP, INT), *words) as command:
        until(lambda: psutil.Process(command.pid).children(), what="a child")
        bother(command, HUP, INT)
        assert command.wait(3 * LIMIT) == 0, command.stderr
        assert "stack" in command.stderr


def test_the_terminal_goes_on(tmp_path, server):
    ours, theirs = os.openpty()
    argv = [*ignoring(HUP, INT), sys.executable, "-m", "indifast", "term", f"localhost:{server}"]
    environment = {**os.environ, **python_environment(), "TERM": "xterm"}
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        try:
            os.close(theirs)
            shown = bytearray()

            def shows(text: bytes) -> None:
                while text not in shown:
                    shown.extend(os.read(ours, 1 << 16))

            shows(b"Toy")
            assert ignored(process.pid) >= {HUP, INT}
            process.send_signal(INT)
            process.send_signal(HUP)
            os.write(ours, b"q")
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            os.close(ours)
