"""Signals that were ignored when a command was started stay ignored, in the command and in what it starts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.cli.support import DEFINITION, GET, Command, record
from tests.support.blackbox import LIMIT, Channel, python_environment, until
from tests.support.commands import INDIFAST
from tests.support.signals import ALWAYS_IGNORED, ignored, in_mask

HUP, INT, TERM, USR1 = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1

TOY = """#!/bin/sh
sed -n 's/^SigIgn:[[:space:]]*/ignored /p' /proc/self/status >&2
while read line; do
    echo "<defTextVector device='Toy' name='T' state='Ok' perm='rw'><defText name='m'>hi</defText></defTextVector>"
    echo "<message device='Toy' message='heard you'/>"
done
"""
"""A driver that prints which signals it ignores, and answers each line."""


def ignoring(*which: signal.Signals) -> list[str]:
    """Return a launcher that starts a command with these signals ignored, as `nohup` and shells do."""
    names = " ".join(each.name.removeprefix("SIG") for each in which)
    return ["sh", "-c", f'trap "" {names}; exec "$0" "$@"'] if which else []


SERVING = r"listening to port (\d+)"
REPLAYING = r" on localhost:(\d+)"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy"
    path.write_text(TOY)
    path.chmod(0o755)
    return path


def serve(folder: Path, launcher: Sequence[str], toy: Path, *more: object) -> Command:
    words = ("serve", "-v", "-p", 0, "-u", folder / "local", *more, toy)
    return Command(folder, *words, launcher=launcher)


@pytest.fixture
def server(tmp_path: Path, toy: Path) -> Iterator[int]:
    """The port of a server with the driver above."""
    with serve(tmp_path, [], toy) as running:
        running.client(SERVING).close()
        yield int(running.printed(SERVING))


def send_ignored(command: Command, *which: signal.Signals) -> None:
    """Check that a command ignores signals, and send them."""
    assert ignored(command.pid) >= set(which)
    for number in which:
        os.kill(command.pid, number)


@pytest.mark.parametrize("which", [[HUP], [INT], [HUP, INT, USR1]])
def test_a_server_keeps_running_and_its_drivers_ignore_the_same(
    tmp_path: Path, toy: Path, which: list[signal.Signals]
) -> None:
    with serve(tmp_path, ignoring(*which), toy, "--stats") as command:
        client = command.client(SERVING)
        send_ignored(command, *which)
        client.send(GET)
        client.until_text("heard you")
        command.client(SERVING).close()
        assert in_mask(command.printed(r": ignored (\w+)")) == set(which)
        assert "stats: " not in command.stderr
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_nohup(tmp_path: Path, toy: Path) -> None:
    with serve(tmp_path, ["nohup"], toy) as command:
        command.client(SERVING).close()
        send_ignored(command, HUP)
        command.client(SERVING).close()
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_in_the_background_of_a_script(tmp_path: Path, toy: Path) -> None:
    """The shell makes the command ignore SIGINT, which the whole process group receives."""
    with serve(tmp_path, ["sh", "-c", '"$0" "$@" & wait'], toy) as command:
        client = command.client(SERVING)
        (child,) = (each for each in psutil.Process(command.pid).children() if "serve" in each.cmdline())
        assert INT in ignored(child.pid)
        child.send_signal(INT)
        client.send(GET)
        client.until_text("heard you")
        command.client(SERVING).close()
        child.terminate()
        assert command.wait() == 0, command.stderr


def test_processes_started_by_a_driver_in_python_ignore_the_same(tmp_path: Path) -> None:
    """While the driver is imported, the server handles signals to end it and to print counters."""
    status = "open('/proc/self/status').read().partition('SigIgn:')[2].split()[0]"
    (tmp_path / "starting.py").write_text(
        "import subprocess, sys\n"
        f"print('ignored', subprocess.check_output([sys.executable, '-c', \"print({status})\"], text=True).strip(),"
        " file=sys.stderr)\n"
    )
    words = ("serve", "-p", 0, "-u", tmp_path / "local", "--stats", "starting:make")
    with Command(tmp_path, *words, launcher=ignoring(HUP)) as command:
        assert in_mask(command.printed(r"ignored (\w+)")) - ALWAYS_IGNORED == {HUP}
        assert command.wait() == 1


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording of a definition."""
    record(tmp_path / "made", DEFINITION)
    return tmp_path / "made"


def test_a_replay_keeps_running(tmp_path: Path, recording: Path) -> None:
    with Command(tmp_path, "replay", "-p", 0, recording, launcher=ignoring(HUP, INT)) as command:
        client = command.client(REPLAYING)
        send_ignored(command, HUP, INT)
        client.send(GET)
        client.until_text("defTextVector")
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_a_recording_keeps_running(tmp_path: Path, server: int) -> None:
    words = ("record", "-o", "made", f"localhost:{server}")
    with Command(tmp_path, *words, launcher=ignoring(HUP, INT)) as command:
        command.until_stderr("recording to")
        send_ignored(command, HUP, INT)
        client = Channel.connect(server, "127.0.0.1")
        client.send(GET)
        client.until_text("heard you")
        assert command.running()
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


@pytest.mark.parametrize("number", [HUP, INT, TERM])
def test_other_signals_end_a_replay_and_a_recording(
    tmp_path: Path, recording: Path, server: int, number: signal.Signals
) -> None:
    with (
        Command(tmp_path, "replay", "-p", 0, recording) as replaying,
        Command(tmp_path, "record", "-o", "another", f"localhost:{server}") as recorder,
    ):
        replaying.client(REPLAYING).close()
        recorder.until_stderr("recording to")
        for command in (replaying, recorder):
            os.kill(command.pid, number)
            assert command.wait() == 0, command.stderr


def test_watch_keeps_running(tmp_path: Path, server: int) -> None:
    """asyncio handles SIGINT for programs that do not, unless the signal is ignored."""
    with Command(tmp_path, "watch", "--definitions", "-p", server, launcher=ignoring(HUP, INT)) as command:
        command.until_stderr("Toy.T.m=hi")
        send_ignored(command, HUP, INT)
        client = Channel.connect(server, "127.0.0.1")
        client.send(GET)
        client.until_text("heard you")
        command.until_stderr("heard you")
        os.kill(command.pid, TERM)
        assert command.wait() == -TERM


def test_a_demonstration_keeps_running(tmp_path: Path) -> None:
    words = ("demo", "--size", "64x48", "--seconds", "0.5", "--forever")
    with Command(tmp_path, *words, launcher=ignoring(HUP, INT)) as command:
        command.until_stderr("Server on localhost:")
        send_ignored(command, HUP, INT)
        command.until_stderr("Ctrl-C ends it.")
        os.kill(command.pid, TERM)
        assert command.wait() == 0, command.stderr


def test_a_benchmark_keeps_running(tmp_path: Path) -> None:
    words = ("bench", "--seconds", "0.3", "--runs", "1", "--only", "stack")
    with Command(tmp_path, *words, launcher=ignoring(HUP, INT)) as command:
        until(lambda: psutil.Process(command.pid).children(), what="a child")
        send_ignored(command, HUP, INT)
        assert command.wait(3 * LIMIT) == 0, command.stderr
        assert "stack" in command.stderr


def test_the_terminal_keeps_running(server: int) -> None:
    """It ends with its terminal, though: see tests/terminal/test_stopping.py for SIGHUP."""
    ours, theirs = os.openpty()
    argv = [*ignoring(INT), *INDIFAST, "term", f"localhost:{server}"]
    environment = {**os.environ, **python_environment(), "TERM": "xterm"}
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        try:
            os.close(theirs)
            shown = bytearray()

            def shows(text: bytes) -> None:
                while text not in shown:
                    shown.extend(os.read(ours, 1 << 16))

            shows(b"Toy")
            assert INT in ignored(process.pid)
            process.send_signal(INT)
            os.write(ours, b"q")
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            os.close(ours)
