"""`indifast demo` as a user runs it: frames are received and saved, and Ctrl-C ends the command at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from astropy.io import fits

from indifast.cli.demo import command
from indifast.cli.demo.starfield import StarField
from tests.cli.support import Command
from tests.support.blackbox import LIMIT, until
from tests.support.commands import INDIFAST
from tests.support.libindi import libindi
from tests.support.signals import caught

PROGRESS = r"^ +\d+\.\d s  (\d+ frames, .*)"


class Demo(Command):
    """The command, and the processes that it starts."""

    def __init__(self, folder: Path, *words: str) -> None:
        super().__init__(folder, "demo", "--size", "200x100", *words)
        self.children: set[psutil.Process] = set()

    def note_children(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.children.update(psutil.Process(self.pid).children(recursive=True))

    def printed(self, pattern: str) -> str:
        found = super().printed(pattern)
        self.note_children()
        return found

    def interrupt(self) -> None:
        """Press Ctrl-C: the whole process group receives the signal."""
        self.note_children()
        os.killpg(self.pid, signal.SIGINT)

    def finish(self) -> int:
        """Wait for the end and return the exit status, after checking that no process and no traceback is left."""
        status = self.wait(LIMIT)
        _, alive = psutil.wait_procs(list(self.children), timeout=LIMIT)
        assert not alive
        assert "Traceback" not in self.stderr
        return status


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts `indifast demo` with arguments; the processes are killed after the test."""
    started: list[Demo] = []

    def start(*words: str) -> Demo:
        started.append(Demo(tmp_path, *words))
        return started[-1]

    yield start
    for run in started:
        run.note_children()
        run.kill()
        for process in run.children:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_frames_are_received_and_the_last_one_is_saved(demo: Callable[..., Demo], tmp_path: Path) -> None:
    run = demo("--seconds", "6")  # frames arrive even if the program has to wait for half of it
    assert run.printed(r"^ +\d+\.\d s  \d+ frames, \d+\.\d frames/s, \d+\.\d MB/s raw, -?\d+\.\d °C$")
    assert run.finish() == 0
    assert int(run.printed(r"^(\d+) frames in")) > 0
    with fits.open(tmp_path / "demo-frame.fits") as file:
        assert file[0].data.shape == (100, 200)
        assert file[0].data.min() < file[0].data.max()
    assert (tmp_path / "demo-frame.png").read_bytes().startswith(b"\x89PNG")


def test_without_pillow_only_the_fits_file_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = StarField(64, 48).frame()
    assert command._save(frame) == "demo-frame.fits, demo-frame.png"
    (tmp_path / "demo-frame.png").unlink()
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert command._save(frame) == (
        f"demo-frame.fits (as PNG, too, with Pillow: {sys.executable} -m pip install pillow)"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["demo-frame.fits"]


def test_the_png_of_a_large_frame_is_smaller(demo: Callable[..., Demo], tmp_path: Path) -> None:
    run = demo("--seconds", "0.2", "--size", "9000x32")
    assert run.finish() == 0
    header = (tmp_path / "demo-frame.png").read_bytes()[16:24]
    assert struct.unpack(">II", header) == (2048, 7)


def test_several_clients(demo: Callable[..., Demo]) -> None:
    """They are more than a server accepts by default."""
    run = demo("--seconds", "1", "--clients", "8")
    run.printed("clients: 8")
    assert run.finish() == 0
    assert "frames in" in run.stderr


def test_forever_leaves_a_server_that_other_clients_can_use(demo: Callable[..., Demo]) -> None:
    run = demo("--seconds", "0.5", "--forever")
    port = int(run.printed(r"indi_getprop -p (\d+)"))

    def rate() -> str:
        return libindi("getprop", port, "-t", 20, "Demo Camera.RATE.FPS").stdout.strip()

    until(lambda: rate() == "Demo Camera.RATE.FPS=2.0", what="the slow rate, which was set just now")
    run.interrupt()
    assert run.finish() == 0


@pytest.mark.parametrize("moment", ["Server on", PROGRESS, "MB/s raw;", "Ctrl-C ends it"])
def test_interrupt_ends_it_cleanly(demo: Callable[..., Demo], moment: str) -> None:
    run = demo("--seconds", "1.5", "--forever")
    run.printed(moment)
    run.interrupt()
    assert run.finish() == 0


@pytest.mark.parametrize("delay", [0.15, 0.25, 0.35, 0.5, 0.7])
def test_interrupt_while_it_starts(demo: Callable[..., Demo], delay: float) -> None:
    """The result does not depend on how far the command is after the delay, which differs between machines."""
    run = demo("--seconds", "30")
    until(lambda: signal.SIGTERM in caught(run.pid), what="a signal handler, which the bare interpreter does not have")
    time.sleep(delay)
    run.interrupt()
    assert run.finish() == 0


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", 0, ""),  # as by Ctrl-C before the process has a session of its own
        ("os._exit(3)", 1, "indifast demo: the server ended immediately; see its output above\n"),
    ],
)
def test_a_server_that_ends_as_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, status: int, message: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        f"if 'indifast.cli.demo.drivers' in sys.orig_argv: {end}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    run = Demo(tmp_path)
    assert run.finish() == status
    assert run.stderr == message


def test_the_server_ends_when_the_demo_is_killed(demo: Callable[..., Demo]) -> None:
    run = demo("--seconds", "30")
    run.printed(PROGRESS)
    run.note_children()
    assert run.children
    run.process.kill()
    run.finish()


def test_the_command_ends_when_its_output_is_closed(tmp_path: Path) -> None:
    command = f"'{INDIFAST[0]}' -m indifast demo --size 64x48 --seconds 30 2>errors | head -n 1"
    shell = ["sh", "-c", command]
    done = subprocess.run(shell, cwd=tmp_path, text=True, capture_output=True, check=True, timeout=LIMIT)
    assert done.stdout.startswith("Server on")
    assert (tmp_path / "errors").read_text() == ""


def test_on_a_terminal_the_progress_stays_in_one_line(tmp_path: Path) -> None:
    terminal, other = os.openpty()
    command = [*INDIFAST, "demo", "--size", "64x48", "--seconds", "6"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=other, stderr=other, start_new_session=True) as process:
        os.close(other)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other end of the terminal is closed
            while data := os.read(terminal, 4096):
                seen += data
        assert process.wait(LIMIT) == 0
    os.close(terminal)
    lines = seen.decode().replace("\r\n", "\n").split("\n")
    (progress,) = [line for line in lines if "\r" in line]
    assert progress.count("frames/s") >= 2
