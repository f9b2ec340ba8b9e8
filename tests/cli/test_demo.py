"""`indifast demo` as a person runs it: frames flow, files are saved, Ctrl-C ends it at any moment."""

from __future__ import annotations

import contextlib
import os
import re
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

from tests.support.blackbox import LIMIT, until


class Demo:
    """The command in a directory and a process group of its own, as a shell would start it."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "indifast", "demo", "--size", "200x100", *arguments],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            process_group=0,
        )
        self.seen = ""
        self.children: set[psutil.Process] = set()

    def read_until(self, pattern: str) -> str:
        """Read lines until one matches; gives what the first group matched."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen += line
            self.note_children()
            if found := re.search(pattern, line):
                return found[found.lastindex or 0]
        raise AssertionError(f"no {pattern!r} in {self.seen!r}")

    def note_children(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.children.update(psutil.Process(self.process.pid).children(recursive=True))

    def interrupt(self) -> None:
        """Press Ctrl-C: the signal goes to the whole process group."""
        self.note_children()
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self) -> int:
        """Read the rest and wait; gives the exit status. No process may be left."""
        assert self.process.stdout is not None
        self.seen += self.process.stdout.read()
        status = self.process.wait(LIMIT)
        _, alive = psutil.wait_procs(list(self.children), timeout=LIMIT)
        assert not alive
        return status


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.note_children()
        for process in (*one.children, one.process):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        one.process.wait()


def test_frames_flow_and_the_last_one_is_saved(demo: Callable[..., Demo], tmp_path: Path) -> None:
    run = demo("--seconds", "2.5")
    progress = run.read_until(r"^ +\d+\.\d s  (\d+ frames, .*)")
    assert re.fullmatch(r"\d+ frames, \d+\.\d frames/s, \d+\.\d MB/s raw, -?\d+\.\d °C", progress)
    assert run.finish() == 0
    assert int(re.search(r"^(\d+) frames in", run.seen, re.MULTILINE)[1]) > 0  # type: ignore[index]
    assert "Traceback" not in run.seen
    with fits.open(tmp_path / "demo-frame.fits") as file:
        assert file[0].data.shape == (100, 200)
        assert file[0].data.min() < file[0].data.max()
    assert (tmp_path / "demo-frame.png").read_bytes().startswith(b"\x89PNG")


def test_the_png_of_a_large_frame_is_smaller(demo: Callable[..., Demo], tmp_path: Path) -> None:
    run = demo("--seconds", "0.2", "--size", "9000x32")
    assert run.finish() == 0
    header = (tmp_path / "demo-frame.png").read_bytes()[16:24]
    assert struct.unpack(">II", header) == (3000, 11)


def test_several_clients(demo: Callable[..., Demo]) -> None:
    """More than the server of a program of one's own takes unless told otherwise."""
    run = demo("--seconds", "1", "--clients", "8")
    run.read_until("clients: 8")
    assert run.finish() == 0
    assert "frames in" in run.seen


def test_forever_leaves_a_server_that_other_clients_can_use(
    demo: Callable[..., Demo], program: Callable[[str], str]
) -> None:
    run = demo("--seconds", "0.5", "--forever")
    port = run.read_until(r"indi_getprop -p (\d+)")

    def rate() -> str:
        words = [program("indi_getprop"), "-p", port, "-t", "20", "Demo Camera.RATE.FPS"]
        done = subprocess.run(words, text=True, capture_output=True, check=False, timeout=LIMIT)
        return done.stdout.strip()

    until(lambda: rate() == "Demo Camera.RATE.FPS=2.0", what="the slow rate, which it was told just now")
    run.interrupt()
    assert run.finish() == 0
    assert "Traceback" not in run.seen


@pytest.mark.parametrize("moment", ["Server on", r"^ +\d+\.\d s ", "MB/s raw;", "Ctrl-C ends it"])
def test_interrupt_ends_it_cleanly(demo: Callable[..., Demo], moment: str) -> None:
    run = demo("--seconds", "1.5", "--forever")
    run.read_until(moment)
    run.interrupt()
    assert run.finish() == 0
    assert "Traceback" not in run.seen


@pytest.mark.parametrize("delay", [0.15, 0.25, 0.35, 0.5, 0.7])
def test_interrupt_while_it_starts(demo: Callable[..., Demo], delay: float) -> None:
    """The moments are not the same on every machine; what must hold holds at all of them."""
    run = demo("--seconds", "30")
    wait_until_handled(run)
    time.sleep(delay)
    run.interrupt()
    assert run.finish() == 0
    assert "Traceback" not in run.seen


def wait_until_handled(run: Demo) -> None:
    """Wait until the program and not the bare interpreter answers to Ctrl-C."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        status = Path(f"/proc/{run.process.pid}/status").read_text()
        caught = int(re.search(r"^SigCgt:\t(\w+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)
    raise AssertionError("no handler of SIGTERM")


def test_the_server_does_not_outlive_a_killed_demo(demo: Callable[..., Demo]) -> None:
    run = demo("--seconds", "30")
    run.read_until(r"^ +\d+\.\d s ")
    run.note_children()
    assert run.children
    run.process.kill()
    run.finish()


def test_a_reader_that_has_seen_enough_ends_it(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m indifast demo --size 64x48 --seconds 30 2>errors | head -n 1"
    shell = ["sh", "-c", command]
    done = subprocess.run(shell, cwd=tmp_path, text=True, capture_output=True, check=True, timeout=LIMIT)
    assert done.stdout.startswith("Server on")
    assert (tmp_path / "errors").read_text() == ""


def test_on_a_terminal_the_progress_stays_in_one_line(tmp_path: Path) -> None:
    terminal, other = os.openpty()
    command = [sys.executable, "-m", "indifast", "demo", "--size", "64x48", "--seconds", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=other, stderr=other, start_new_session=True) as process:
        os.close(other)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other side has closed the terminal
            while data := os.read(terminal, 4096):
                seen += data
        assert process.wait(LIMIT) == 0
    os.close(terminal)
    lines = seen.decode().replace("\r\n", "\n").split("\n")
    (progress,) = [line for line in lines if "\r" in line]
    assert progress.count("frames/s") >= 2
