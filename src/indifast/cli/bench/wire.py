"""Both ends of the relay and latency benchmarks of `indifast bench`: programs that do nothing but move bytes.

    python -m indifast.cli.bench.wire                           an INDI driver on its standard input and output
    python -m indifast.cli.bench.wire listen                    the same on a free TCP port, which it prints
    python -m indifast.cli.bench.wire receive PORT SECONDS      a client that compares every byte of the frames
    python -m indifast.cli.bench.wire command PORT SECONDS      a client that sends commands and waits for the answers

Clients print one line of JSON. Environment variables configure the driver: INDIFAST_BENCH_FRAMES is the directory of
the prepared frames (the client reads it, too), INDIFAST_BENCH_ENCLEN=1 states their length in the attribute `enclen`,
and after INDIFAST_BENCH_LIMIT seconds the driver ends, whatever has happened to the other processes.

The measured programs read with the tokenizer and write with `protocol.wire`. These programs use neither: a fault on one
side can't be hidden by the same fault on the other, and no work of ours is counted twice.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

RAW = (4 << 20) // 3 * 3
"""Bytes of a frame before encoding: a multiple of 3, so that its base64 needs no padding."""

COLUMNS = 72
DISTINCT = 4
"""Number of different frames. They differ in every page; together they are larger than the caches near the cores."""

BLOCK = 256 << 10
"""Bytes to receive and compare at a time, while they are in the caches."""

PATIENCE = 10.0
"""Seconds without any bytes after which a client gives up."""

BLANKS = b" \t\r\n"

DEFINITIONS = (
    b"<defSwitchVector device='Wire' name='GO' state='Idle' perm='rw' rule='AnyOfMany'>"
    b"<defSwitch name='GO'>Off</defSwitch></defSwitchVector>\n"
    b"<defNumberVector device='Wire' name='ECHO' state='Idle' perm='rw'>"
    b"<defNumber name='N' format='%g' min='0' max='0' step='0'>0</defNumber></defNumberVector>\n"
    b"<defBLOBVector device='Wire' name='FRAME' state='Idle' perm='ro'><defBLOB name='FRAME'/></defBLOBVector>\n"
)
GO = b"<newSwitchVector device='Wire' name='GO'><oneSwitch name='GO'>On</oneSwitch></newSwitchVector>\n"
ECHO = b"<%bNumberVector device='Wire' name='ECHO'%b><oneNumber name='N'>%d</oneNumber></%bNumberVector>\n"

_REQUEST = re.compile(rb"<(getProperties)\b[^>]*>|<(newSwitchVector|newNumberVector)\b.*?</\2>", re.DOTALL)
_ECHOED = re.compile(rb"<oneNumber[^>]*>\s*([0-9]+)(?:\.0*)?\s*</oneNumber>")
_NUMBER = re.compile(rb"""\bmessage=["']([0-9]+)["']""")


class Broken(Exception):
    """The reason, in one sentence, why a measurement cannot continue."""


def make_frames(folder: Path) -> None:
    """Write the base64 of the frames, in lines, to files named `0`, `1` and so on."""
    for which in range(DISTINCT):
        text = base64.b64encode(random.Random(which).randbytes(RAW))
        lines = b"\n".join(text[at : at + COLUMNS] for at in range(0, len(text), COLUMNS))
        (folder / str(which)).write_bytes(lines)


def _frames() -> list[bytes]:
    folder = Path(os.environ["INDIFAST_BENCH_FRAMES"])
    return [(folder / str(which)).read_bytes() for which in range(DISTINCT)]


# -- Driver


def drive(source: int, target: int) -> None:
    """Act as a driver on these descriptors until the other end closes."""
    for fd in (source, target):
        os.set_blocking(fd, True)
    waiting = b""
    while data := os.read(source, 1 << 16):
        waiting += data
        while request := _REQUEST.search(waiting):
            waiting = waiting[request.end() :]
            if request[1]:
                _write(target, [DEFINITIONS])
            elif request[2] == b"newSwitchVector":
                _send_frames(target)
            elif echoed := _ECHOED.search(request[0]):
                _write(target, [ECHO % (b"set", b" state='Ok'", int(echoed[1]), b"set")])


def _send_frames(target: int) -> None:
    """Send numbered frames forever."""
    texts = _frames()
    enclen = f" enclen='{RAW // 3 * 4}'" if os.environ.get("INDIFAST_BENCH_ENCLEN") == "1" else ""
    tail = b"\n</oneBLOB>\n</setBLOBVector>\n"
    number = 0
    while True:
        head = (
            f"<setBLOBVector device='Wire' name='FRAME' state='Ok' message='{number}'>\n"
            f"<oneBLOB name='FRAME' size='{RAW}'{enclen} format='.bin'>\n"
        )
        _write(target, [head.encode(), texts[number % DISTINCT], tail])
        number += 1


def _write(target: int, parts: list[bytes]) -> None:
    left = [memoryview(part) for part in parts]
    while left:
        written = os.writev(target, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


def _listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        drive(connection.fileno(), connection.fileno())


# -- Clients


class Client:
    """A blocking connection. `received` counts its bytes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting = b""
        self.received = 0

    def say(self, text: bytes) -> None:
        self._socket.sendall(text)

    def define(self) -> None:
        """Ask for the device until it is defined: a server need not tell early clients about later devices."""
        end = time.monotonic() + PATIENCE
        self._socket.settimeout(0.5)
        while b"</defBLOBVector>" not in self._waiting:
            if time.monotonic() > end:
                raise Broken("the driver did not come up")
            self.say(b"<getProperties version='1.7'/>\n")
            try:
                while b"</defBLOBVector>" not in self._waiting:
                    self._waiting += self._some()
            except TimeoutError:
                continue
        self._socket.settimeout(PATIENCE)

    def until(self, word: bytes) -> bytes:
        """Receive and return everything up to this word, and the word."""
        searched = 0
        while (at := self._waiting.find(word, searched)) < 0:
            searched = max(0, len(self._waiting) - len(word))
            self._waiting += self._some()
        end = at + len(word)
        taken, self._waiting = self._waiting[:end], self._waiting[end:]
        return taken

    def skip_blanks(self) -> None:
        """Skip white space."""
        while not (left := self._waiting.lstrip(BLANKS)):
            self._waiting = self._some()
        self._waiting = left

    def fill(self, buffer: bytearray) -> None:
        """Receive bytes until the buffer is full."""
        with memoryview(buffer) as view:
            have = min(len(self._waiting), len(view))
            view[:have] = self._waiting[:have]
            self._waiting = self._waiting[have:]
            while have < len(view):
                got = self._socket.recv_into(view[have:])
                self._count(got)
                have += got

    def unread(self, data: bytes) -> None:
        self._waiting = data + self._waiting

    def _some(self) -> bytes:
        data = self._socket.recv(4096)
        self._count(len(data))
        return data

    def _count(self, got: int) -> None:
        if not got:
            raise Broken("the server closed the connection")
        self.received += got


class Comparison:
    """Takes frames from a client and compares them with the prepared ones."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._expected = [[bytearray(text[at : at + BLOCK]) for at in range(0, len(text), BLOCK)] for text in _frames()]
        self._buffers = {len(block): bytearray(len(block)) for block in self._expected[0]}
        self._next = 0
        self.wrong = self.missed = 0

    def take(self) -> None:
        """Receive and compare one frame."""
        head = self._client.until(b"<oneBLOB") + self._client.until(b">")
        number = _NUMBER.search(head, max(head.rfind(b"<setBLOBVector"), 0))
        if number is None:
            self.wrong += 1
            self._client.until(b"</setBLOBVector>")
            return
        self.missed += max(int(number[1]) - self._next, 0)
        self._next = int(number[1]) + 1
        self._client.skip_blanks()
        if not self._equal(self._expected[int(number[1]) % DISTINCT]):
            self.wrong += 1
        if self._client.until(b"</setBLOBVector>").translate(None, BLANKS) != b"</oneBLOB></setBLOBVector>":
            self.wrong += 1

    def _equal(self, blocks: list[bytearray]) -> bool:
        for index, block in enumerate(blocks):
            buffer = self._buffers[len(block)]
            self._client.fill(buffer)
            if buffer != block:
                return self._equal_but_for_blanks(blocks, b"".join([*blocks[:index], buffer]))
        return True

    def _equal_but_for_blanks(self, blocks: list[bytearray], text: bytes) -> bool:
        """Compare again without white space: a server may break lines elsewhere. `text` is what was received so far."""
        if b"<" not in text:
            text += self._client.until(b"<")
        text, mark, after = text.partition(b"<")
        self._client.unread(mark + after)
        return text.translate(None, BLANKS) == b"".join(blocks).translate(None, BLANKS)


def faults(frames: int, wrong: int, missed: int) -> list[str]:
    """Return the complaints about frames that did not arrive as they were sent."""
    found = []
    if wrong:
        found.append(f"wrong bytes in {min(wrong, frames)} of {frames} frames")
    if missed:
        found.append(f"{missed} frames lost")
    return found


def receive(port: int, seconds: float) -> dict[str, object]:
    """Measure MB/s on the wire, from the end of the first frame, which only warms up, to the end of the last one."""
    client = Client(port)
    comparison = Comparison(client)
    client.define()
    client.say(b"<enableBLOB device='Wire'>Also</enableBLOB><enableBLOB device='Wire' name='FRAME'>Also</enableBLOB>\n")
    client.say(GO)
    comparison.take()
    begin, before, frames, elapsed = time.perf_counter(), client.received, 1, 0.0
    while elapsed < seconds:
        comparison.take()
        frames += 1
        elapsed = time.perf_counter() - begin
    rate = (client.received - before) / elapsed / 1e6
    return {"figures": [rate], "faults": faults(frames, comparison.wrong, comparison.missed)}


def command(port: int, seconds: float) -> dict[str, object]:
    """Measure the microseconds from a command to its answer: median and 99th percentile."""
    client = Client(port)
    client.define()
    times: list[float] = []
    wrong = number = 0
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end or not times:
        number += 1
        client.say(ECHO % (b"new", b"", number, b"new"))
        answer = _ECHOED.search(client.until(b"</setNumberVector>"))
        times.append(time.perf_counter() - begin)
        wrong += answer is None or int(answer[1]) != number
    times.sort()
    figures = [times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6]
    return {"figures": figures, "faults": [f"{wrong} of {number} answers are wrong"] if wrong else []}


CLIENTS: dict[str, Callable[[int, float], dict[str, object]]] = {"receive": receive, "command": command}


def main(words: list[str]) -> int:
    """Run the role that the first word names, and return the exit status."""
    if words and words[0] in CLIENTS:
        try:
            result = CLIENTS[words[0]](int(words[1]), float(words[2]))
        except TimeoutError:
            result = {"figures": [], "faults": [f"no bytes for {PATIENCE:g} s"]}
        except (Broken, OSError) as error:
            result = {"figures": [], "faults": [str(error)]}
        print(json.dumps(result), flush=True)
        return 0
    signal.alarm(int(os.environ["INDIFAST_BENCH_LIMIT"]))
    try:
        if words:
            _listen()
        else:
            drive(0, 1)
    except OSError:  # the reader is gone
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
