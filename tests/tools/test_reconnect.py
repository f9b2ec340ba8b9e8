"""Commands that go on when the connection is lost, or a server ends and is started again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from indifast.cli.toolkit.failures import Status
from tests.support import commands
from tests.support.blackbox import LIMIT, free_port, until
from tests.support.libindi import Indiserver, libindi, value
from tests.tools.conftest import SIMULATORS
from tests.tools.support import CAMERA, PATIENT, SURE, line_with, tool, without_messages

PATIENCE = 4 * LIMIT
"""Seconds in which a command connects again, with its pauses, and a camera starts."""


@contextmanager
def started_again(server: Indiserver, program: Callable[[str], str], folder: Path) -> Iterator[Indiserver]:
    """Kill a server and start one like it on the same port, with a camera that is not connected."""
    server.kill()
    with Indiserver(folder, program(SIMULATORS[CAMERA]), port=server.port) as second:
        second.until_defined(f"{CAMERA}.CONNECTION.CONNECT")
        yield second


class Scripted:
    """A server that sends each client, one after the other, something of its own.

    Args:
        answers: For each client what it is sent, and what it must say before the connection is closed; None to leave
            that to the client.
        end: What the last client is sent when it has asked for BLOBs.
    """

    def __init__(self, *answers: tuple[bytes, bytes | None], end: bytes = b"") -> None:
        self._end = end
        self.heard = bytearray()
        self._answers = answers
        self._listening = socket.create_server(("localhost", 0))
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.close()
        self._thread.join(LIMIT)

    def _serve(self) -> None:
        with suppress(OSError):
            for answer, last in self._answers:
                peer, _ = self._listening.accept()
                with peer:
                    said = bytearray(peer.recv(1 << 16))
                    peer.sendall(answer)
                    while last is None or last not in said:
                        data = peer.recv(1 << 16)
                        if not data:
                            break
                        said += data
                        if last is None and b"enableBLOB" in data:
                            peer.sendall(self._end)
                    self.heard += said


def number(value: float, state: str, name: str = "N") -> bytes:
    text = (
        f'<defNumberVector device="D" name="{name}" state="{state}" perm="rw"><defNumber name="x" format="%g" min="0"'
        f' max="9" step="0">{value}</defNumber></defNumberVector>'
    )
    return text.encode()


def messages(command: str, port: int, between: str = "") -> list[str]:
    """Return what a command says about a connection that is lost and made again."""
    where = f"localhost:{port}"
    return [
        f"indifast {command}: lost the connection to {where}; connecting again until it is back (Ctrl-C ends)",
        *([f"indifast {command}: {between}"] if between else []),
        f"indifast {command}: connected to {where} again",
    ]


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_watch_compares_what_it_knew(words: list[str]) -> None:
    first = number(1, "Ok") + number(3, "Ok", "SAME") + number(4, "Ok", "STATE") + number(5, "Ok", "GONE")
    second = number(2, "Ok") + number(3, "Ok", "SAME") + number(4, "Busy", "STATE") + number(6, "Ok", "NEW")
    with Scripted((first, b""), (second, None)) as server:
        done = tool("watch", server.port, "--count", 3, *words)
    assert done.returncode == 0
    assert done.stderr.splitlines() == messages("watch", server.port)
    lines = done.stdout.splitlines()
    if words:
        events = [json.loads(line) for line in lines]
        assert [(each["event"], each["property"]) for each in events] == [
            ("set", "N"), ("set", "STATE"), ("delete", "GONE")]  # fmt: skip
    else:
        assert [line.partition(" ")[2] for line in lines] == [
            "D.N.x=2 [Ok]",
            "D.STATE._STATE=Busy [Busy]",
            "D.GONE is gone",
        ]


def test_watch_compares_a_device_whose_driver_was_started_again() -> None:
    text = (
        number(1, "Ok") + number(2, "Ok", "M") + b'<delProperty device="D"/>' + number(3, "Ok") + number(2, "Ok", "M")
    )
    with Scripted((text, None)) as server:
        done = tool("watch", server.port, "--count", 2)
    assert [line.partition(" ")[2] for line in done.stdout.splitlines()] == ["D is gone", "D.N.x=3 [Ok]"]


def test_watch_and_record_end_if_told_to(tmp_path: Path) -> None:
    for words in (["watch"], ["record", "-o", "x.indi"]):
        with Scripted((number(1, "Ok"), b"")) as server:
            done = commands.run(words[0], "-p", server.port, *words[1:], "--no-reconnect", cwd=tmp_path)
        assert done.returncode == Status.TROUBLE
        said = done.stderr.splitlines()[-1]
        assert said == f"indifast {words[0]}: lost the connection to localhost:{server.port}: closed by the server"
    assert (tmp_path / "x.indi").stat().st_size


def test_record_says_that_it_goes_on(tmp_path: Path) -> None:
    with Scripted((number(1, "Ok"), b""), (number(2, "Ok"), None)) as server:
        with commands.start(tmp_path, "record", f"localhost:{server.port}", "-o", "x.indi") as child:
            child.until_stderr("again\n", PATIENCE)
            os.kill(child.pid, signal.SIGINT)
            assert child.wait() == 0
        assert child.stderr.splitlines()[1:3] == messages("record", server.port)


def test_the_first_attempt_must_succeed() -> None:
    assert tool("watch", free_port()).returncode == Status.TROUBLE


COMMAND = b"<newNumberVector"


@pytest.mark.parametrize(
    ("after", "status", "said"),
    [
        (number(5, "Ok"), 0, ""),
        (number(1, "Busy") + b'<setNumberVector device="D" name="N" state="Ok"><oneNumber name="x">5</oneNumber>'
         b"</setNumberVector>", 0, ""),
        (number(1, "Ok"), Status.TIMEOUT, "D.N is Ok, but x is 1, not 5: the command may be lost (waited 10 s)"),
        (number(5, "Busy"), Status.TIMEOUT, "D.N is Busy (waited 10 s)"),
        (number(5, "Ok", "M"), Status.TIMEOUT, "D.N is not defined (waited 10 s)"),
        (number(1, "Alert"), Status.ALERT, "D.N is in Alert: the driver gave no reason"),
    ],
)  # fmt: skip
def test_a_command_is_not_sent_again(after: bytes, status: int, said: str) -> None:
    """The answer is lost with the connection, so the command may have reached the driver."""
    seconds = 10 if status == Status.TIMEOUT else LIMIT
    with Scripted((number(1, "Idle"), COMMAND), (after, None)) as server:
        done = tool("set", server.port, "--wait", "Ok", "--reconnect", "--timeout", seconds, "D.N.x=5")
    assert server.heard.count(COMMAND) == 1
    lost = (
        "the connection was lost before D N answered; the command may have reached the driver, so it is not sent again"
    )
    lines = done.stderr.splitlines()
    assert sorted(lines[:3]) == sorted(messages("set", server.port, f"{lost}: watching D.N for what it brings"))
    assert lines[3:] == ([f"indifast set: {said}"] if said else [])
    assert done.returncode == status


def test_only_the_loss_is_reported_of_commands_after_it(tmp_path: Path) -> None:
    """The devices have gone with the connection, but nobody has mistyped their names."""
    file = tmp_path / "large"
    file.write_bytes(bytes(8_000_000))  # the next command waits until the server has taken a part of it
    answer = b'<defBLOBVector device="D" name="B" state="Ok" perm="rw"><defBLOB name="m"/></defBLOBVector>'
    with Scripted((answer + number(1, "Idle"), b"<newBLOBVector")) as server:
        done = tool("set", server.port, *SURE, f"D.B.m={file}", "D.N.x=5", "D.N.x=6")
    assert done.returncode == Status.TROUBLE
    assert re.fullmatch(rf"indifast set: lost the connection to localhost:{server.port}: .*\n", done.stderr)


def test_further_commands_are_sent_to_the_server_that_is_back() -> None:
    with Scripted((number(1, "Idle"), COMMAND), (number(5, "Ok") + number(1, "Idle", "M"), COMMAND)) as server:
        words = ("--wait", "Ok", "--reconnect", "--timeout", 20, "D.N.x=5", "D.M.x=6")
        tool("set", server.port, *PATIENT, *words)
    assert server.heard.count(COMMAND) == 2
    assert b'name="M"' in server.heard


def test_reconnect_is_for_waiting() -> None:
    done = tool("set", None, "--reconnect", "D.N.x=5")
    assert (done.returncode, done.stderr) == (2, "indifast set: --reconnect is for waiting: it needs --wait STATE\n")


def test_watch_survives_the_restart_of_a_real_server(
    camera_server: Indiserver, program: Callable[[str], str], tmp_path: Path
) -> None:
    words = ["watch", "-p", camera_server.port, "--definitions", "--no-messages", f"{CAMERA}.CONNECTION.CONNECT"]
    with commands.start(tmp_path, *words, stdio=True) as child:
        line_with(child, "CONNECT=On [Ok]")
        with started_again(camera_server, program, tmp_path):
            line_with(child, "CONNECT=Off [Idle]")
            libindi("setprop", camera_server.port, f"{CAMERA}.CONNECTION.CONNECT=On")
            line_with(child, "CONNECT=On [Ok]")
            os.kill(child.pid, signal.SIGINT)
            assert child.wait() == Status.INTERRUPTED
        assert child.stderr.splitlines() == messages("watch", camera_server.port)


@pytest.mark.parametrize("connects", [True, False])
def test_a_series_of_frames_survives_the_restart_of_the_server(
    camera_server: Indiserver, program: Callable[[str], str], tmp_path: Path, connects: bool
) -> None:
    port, folder = camera_server.port, tmp_path / "night"
    words = ["expose", "-p", port, CAMERA, 3, "-n", 3, "-o", f"{folder}/", *(["--connect"] if connects else [])]
    with commands.start(tmp_path, *words) as child:
        until(lambda: folder.is_dir() and len(list(folder.glob("*.fits"))) == 1, PATIENCE, "the first frame")
        until(lambda: value(port, f"{CAMERA}.CCD_EXPOSURE._STATE") == "Busy")
        with started_again(camera_server, program, tmp_path):
            if not connects:
                child.until_stderr("--connect does that", PATIENCE)
                assert value(port, f"{CAMERA}.CONNECTION.CONNECT") == "Off"
                libindi("setprop", port, f"{CAMERA}.CONNECTION.CONNECT=On")
            assert child.wait(2 * PATIENCE) == 0
    assert len(list(folder.glob("*.fits"))) == 3
    said = [line for line in without_messages(child.stderr).splitlines() if line.startswith("indifast")]
    assert sum("frame 2 of 3 was interrupted" in line for line in said) == 1
    assert [line for line in said if "connect" in line and "localhost" in line] == messages("expose", port)
    assert said[-1] == f"indifast expose: {CAMERA} is there again: going on"


@pytest.mark.parametrize("words", [[], ["-n", 2, "--no-reconnect"]])
def test_a_single_frame_ends_with_the_server(camera_server: Indiserver, tmp_path: Path, words: list[object]) -> None:
    with commands.start(tmp_path, "expose", "-p", camera_server.port, CAMERA, 100, *words) as child:
        until(lambda: value(camera_server.port, f"{CAMERA}.CCD_EXPOSURE._STATE") == "Busy")
        camera_server.kill()
        assert child.wait() == Status.TROUBLE
    assert without_messages(child.stderr).startswith(
        f"indifast expose: lost the connection to localhost:{camera_server.port}"
    )


EXPOSING = """
<defNumberVector device="C" name="CCD_EXPOSURE" state="{}" perm="rw">
<defNumber name="T" format="%g" min="0" max="9" step="0">0</defNumber></defNumberVector>
<defBLOBVector device="C" name="CCD1" state="Ok" perm="ro"><defBLOB name="CCD1"/></defBLOBVector>"""
FRAME = b"""
<setBLOBVector device="C" name="CCD1" state="Ok">
<oneBLOB name="CCD1" size="5" format=".fits">aGVsbG8=</oneBLOB></setBLOBVector>
<setNumberVector device="C" name="CCD_EXPOSURE" state="Ok"><oneNumber name="T">0</oneNumber></setNumberVector>"""


def test_the_frame_of_an_exposure_that_outlives_the_connection_is_taken(tmp_path: Path) -> None:
    """The link alone was lost: no second exposure disturbs the first."""
    again = EXPOSING.format("Busy").encode()
    with Scripted((EXPOSING.format("Ok").encode(), COMMAND), (again, None), end=FRAME) as server:
        done = tool("expose", server.port, "C", 1, "--reconnect", "-o", tmp_path / "x.fits")
    assert (done.returncode, (tmp_path / "x.fits").read_bytes()) == (0, b"hello")
    assert server.heard.count(COMMAND) == 1
    assert "C is still exposing: waiting for the end of that" in done.stderr
