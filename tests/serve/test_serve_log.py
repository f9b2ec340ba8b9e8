"""A server whose log nobody reads still serves clients and ends, and reports how many lines are lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.support import GET, TOY, Client, Server, running
from tests.support.blackbox import LIMIT, free_port, until
from tests.support.programs import python_program

MISSING = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: (\d+) lines? (?:is|are) missing here: ", re.M)

CHATTY = """
import asyncio, sys
import indifast

class Chatty(indifast.IPyDriver):
    async def rxevent(self, event):
        for number in range(int(event["m"])):
            print(f"chat {number:06d} {'.' * 80}", file=sys.stderr)
        await self["Chatty"]["T"].send_setVector(state="Busy")

def make():
    member = indifast.TextMember("m", "M", "hi")
    return Chatty(indifast.Device("Chatty", [indifast.TextVector("T", "T", "Main", "rw", "Ok", [member])]))
"""

CHAT = 40_000
"""A number of lines, more than the log keeps."""

SAY = "<newTextVector device='Chatty' name='T'><oneText name='m'>%d</oneText></newTextVector>"
DIE = "<newTextVector device='{}' name='T'><oneText name='m'>die</oneText></newTextVector>\n"
PATIENT = "import indifast.cli.lossy as lossy; lossy.PATIENCE = 60.0"
"""Gives a test time to read what the server writes in its last second."""

AT_THE_END = f"""
{PATIENT}
from pathlib import Path

def noticed(self, begin=lossy.LossyWriter._keys_first):
    begin(self)
    if self._queue:
        Path("ending").touch()
    return True

lossy.LossyWriter._keys_first = noticed
"""
"""Does the same as PATIENT, and creates the file "ending" when that second begins."""


class Pipe:
    """A pipe that nobody reads, and that is already full when the server starts."""

    FILLING = b"x" * 4095 + b"\n"

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, len(self.FILLING))
        os.write(self.writing, self.FILLING)
        self._data = bytearray()

    def close(self) -> None:
        os.close(self.reading)
        self._close_writing()

    def _close_writing(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def read_until(self, wanted: bytes) -> None:
        read_until(self.reading, self._data, wanted)

    def read(self) -> str:
        """Return everything up to the end of the server."""
        self._close_writing()
        with open(self.reading, "rb", closefd=False) as file:
            self._data += file.read()
        return self._data.removeprefix(self.FILLING).decode()


def read_until(fd: int, data: bytearray, wanted: bytes) -> None:
    """Read into `data` until it contains `wanted`."""
    deadline = time.monotonic() + LIMIT
    while wanted not in data[-1 << 17 :]:
        assert time.monotonic() < deadline, f"{wanted!r} does not arrive"
        if select.select([fd], [], [], 0.1)[0]:
            data.extend(os.read(fd, 1 << 16))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    """A folder with a driver in Python that writes as many lines as a client wants."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    return tmp_path


@contextlib.contextmanager
def serving(folder: Path, *arguments: object, **keywords) -> Iterator[tuple[Server, Client]]:
    """Run a server in this folder, with a client. The test ends the server."""
    port = free_port()
    server = Server(folder, "-u", f"{folder}/local", "-p", port, *arguments, cwd=folder, **keywords)
    try:
        client = server.connect(port)
        yield server, client
        client.close()
    finally:
        server.kill()


def test_clients_are_served_although_nobody_reads(chatty, pipe, toy):
    with serving(chatty, "-vvv", "--stats=0.1", toy, "chatty:make", stderr=pipe.writing) as (server, client):
        client.say(GET)
        client.get("defTextVector", "Chatty")
        client.get("defTextVector", "Toy")
        client.say(SAY % CHAT)
        client.get("setTextVector", "Chatty")
        for _ in range(100):
            client.say("<getProperties version='1.7' device='Toy'/>")
            client.get("defTextVector", "Toy")
        server.end()  # although there is no room for its last lines


@pytest.mark.parametrize("name", [None, "indifast-server"])
def test_a_late_reader_learns_how_many_lines_are_missing(chatty, pipe, name):
    with serving(chatty, "-v", "chatty:make", stderr=pipe.writing, name=name) as (server, client):
        client.say(GET).say(SAY % CHAT)
        client.get("setTextVector", "Chatty")
        pipe.read_until(b"missing here: not written in time\n")  # at its end, it waits for a reader for a second only
        client.say("<getProperties version='1.7' device='Chatty'/>")
        client.get("defTextVector", "Chatty")
        server.process.send_signal(signal.SIGTERM)
        text = pipe.read()
        assert server.ended() == 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: startup: ", text)
    chat = [int(each) for each in re.findall(r"^chat (\d+) \.{80}$", text, re.M)]
    missing = [int(each) for each in MISSING.findall(text)]
    assert len(chat) > 5000, "as many as the log keeps"
    assert chat == sorted(set(chat))
    assert missing
    assert CHAT <= len(chat) + sum(missing) <= CHAT + 20, "lines of the server itself may have been lost as well"


@pytest.mark.parametrize("when", ["running", "at the end"])
def test_the_end_of_a_driver_is_logged_whatever_else_is_lost(chatty, pipe, when):
    toys = [python_program(chatty / f"toy{number}", TOY.replace('"Toy"', f'"Toy{number}"')) for number in range(3)]
    arguments = ("-v", "-r", "0", *toys, "chatty:make")
    with serving(chatty, *arguments, stderr=pipe.writing, before=AT_THE_END) as (server, client):
        client.say(GET)
        client.get("defTextVector", "Chatty")
        for number in range(3):
            client.get("defTextVector", f"Toy{number}")
        client.say(SAY % CHAT)
        client.get("setTextVector", "Chatty")
        for number in range(3):
            client.say(DIE.format(f"Toy{number}"))
            client.get("delProperty", f"Toy{number}")
        client.say(SAY % CHAT)
        client.get("setTextVector", "Chatty")
        if when == "running":
            pipe.read_until(f"Driver {toys[2]}: Terminated".encode())
        server.process.send_signal(signal.SIGTERM)
        if when == "at the end":
            until((chatty / "ending").exists, what="the end")
        text = pipe.read()
        assert server.ended() == 0
    for toy in toys:  # KStars waits for this line
        end = f"Driver {re.escape(str(toy))}: Terminated after #0 restarts\\."
        assert len(re.findall(rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d: {end}$", text, re.M)) == 1
    assert MISSING.search(text)


def test_at_the_end_of_the_server_the_ends_of_drivers_come_first(chatty, pipe, toy):
    with serving(chatty, "-v", "-r", "0", toy, stderr=pipe.writing, before=AT_THE_END) as (server, client):
        client.say(GET)
        client.get("defTextVector", "Toy")
        client.say(DIE.format("Toy"))
        until((chatty / "ending").exists, what="the end")
        lines = pipe.read().splitlines()
        assert server.ended() == 1
    assert lines[0].endswith(f": Driver {toy}: Terminated after #0 restarts.")
    assert ": startup: " in lines[1]
    assert lines[-1].endswith(": good bye")


def test_a_traceback_that_nobody_reads_does_not_delay_the_end(tmp_path, pipe):
    (tmp_path / "broken.py").write_text("import sys\ndef make():\n    print('x' * 9999, file=sys.stderr)\n    1 / 0\n")
    server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", 0, "broken:make", stderr=pipe.writing, cwd=tmp_path)
    assert server.ended() == 1


@pytest.mark.parametrize(
    ("statement", "end"),
    [
        ("1 / 0", "\nZeroDivisionError: division by zero\nTIME: driver broken:make cannot be made: "),
        ("raise BaseException('broken')", "\nBaseException: broken\n"),  # which nothing handles
    ],
)
def test_a_reader_gets_a_whole_traceback_at_the_end(tmp_path, statement, end):
    code = f"import sys\ndef make():\n    print('x' * 99_999, file=sys.stderr)\n    {statement}\n"
    (tmp_path / "broken.py").write_text(code)
    reading, writing = os.pipe()
    words = ("-u", f"{tmp_path}/local", "-p", 0, "broken:make")
    server = Server(tmp_path, *words, stderr=writing, before=PATIENT, cwd=tmp_path)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    assert server.ended() == 1
    assert text.count("x" * 99_999 + "\n") == 1
    assert end in re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "TIME", text)


def test_a_driver_in_python_may_print_although_nobody_reads(tmp_path, pipe):
    (tmp_path / "chatty.py").write_text(CHATTY.replace("file=sys.stderr", "flush=True"))
    with serving(tmp_path, "chatty:make", stdout=pipe.writing) as (server, client):
        client.say(GET).say(SAY % CHAT)
        client.get("setTextVector", "Chatty")
        server.end()


@pytest.mark.parametrize("read", [True, False])
def test_a_terminal(chatty, read):
    """Lines appear at once and in order. A terminal that is stopped, as after Ctrl-S, delays nothing."""
    ours, theirs = pty.openpty()
    with serving(chatty, "-v", "chatty:make", stderr=theirs) as (server, client):
        os.close(theirs)
        client.say(GET)
        client.get("defTextVector", "Chatty")
        if read:
            data = bytearray()
            reader = threading.Thread(target=lambda: read_until(ours, data, b"chat 004999 "))
            reader.start()
            client.say(SAY % 5000)
            client.get("setTextVector", "Chatty")
            reader.join(LIMIT)
            assert [int(each) for each in re.findall(rb"^chat (\d+) ", data, re.M)] == list(range(5000))
        else:
            client.say(SAY % CHAT)
            client.get("setTextVector", "Chatty")
        server.end()
    os.close(ours)


def test_a_file_has_every_line_at_once_and_in_order(chatty):
    """Lines that drivers in Python print, those of drivers that are programs, and those of the server itself."""
    code = "import sys\nfor line in sys.stdin: print('said', line, file=sys.stderr, flush=True)\n"
    toy = python_program(chatty / "toy", code)
    with running(chatty, "-v", "-p", "0", toy, "chatty:make", cwd=chatty) as server:
        client = server.connect().say(GET)
        server.wait_for(f"Driver {toy}: said <getProperties")
        client.say(SAY % CHAT)
        client.get("setTextVector", "Chatty")
        log = server.log
        chat = re.findall(r"^chat (\d+) \.{80}$", log, re.M)
        assert [int(each) for each in chat] == list(range(CHAT)), (
            "all lines are there before the answer that follows them"
        )
        assert log.index(": startup: ") < log.index(": listening to port") < log.index("welcome!") < log.index("chat 0")
        client.close()


def test_an_abort_loses_no_line(tmp_path):
    (tmp_path / "broken.py").write_text(
        "import logging, os\ndef make():\n    logging.getLogger('me').error('last words')\n    os.abort()\n"
    )
    server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", 0, "broken:make", cwd=tmp_path)
    assert server.ended() == -signal.SIGABRT
    assert server.log.splitlines()[1].endswith(": last words")


def test_the_last_words_of_a_driver_precede_its_end(tmp_path):
    """No matter how much it has written before."""
    flood = python_program(
        tmp_path / "flood", "import sys\nfor n in range(30_000): print('line', n, file=sys.stderr)\n"
    )
    server = Server(tmp_path, "-u", f"{tmp_path}/local", "-p", 0, "-r", 0, flood)
    assert server.ended() == 1
    lines = [line.partition(": ")[2] for line in server.log.splitlines()]
    end = lines.index(f"Driver {flood}: Terminated after #0 restarts.")
    logged = [line for line in lines[:end] if line.startswith(f"Driver {flood}: line ")]
    assert logged[-1] == f"Driver {flood}: line 29999"
    left_out = sum(map(int, re.findall(r": \(lines left out in that second: (\d+)\)$", server.log, re.M)))
    assert len(logged) + left_out == 30_000
    assert left_out


def test_a_message_log_never_waits_and_reports_once_what_it_could_not_write(tmp_path, toy):
    """The file of the day is a FIFO that nobody reads."""
    fifo = tmp_path / "2026-01-02.islog"
    os.mkfifo(fifo)
    with serving(tmp_path, "-l", tmp_path, toy) as (server, client):
        for _ in range(10):
            client.say("<getProperties version='1.7' device='Toy'/>\n")
            client.get("message", "Toy")
        assert server.log.count("message log: ") == 1
        fifo.unlink()
        client.say("<getProperties version='1.7' device='Toy'/>\n")
        client.get("message", "Toy")
        server.wait_for("messages could not be written")
        assert re.search(r": message log: 1\d messages could not be written$", server.log, re.M)
        assert fifo.read_text() == "2026-01-02T03:04:05: Toy: hello & welcome\n"
        server.end()
