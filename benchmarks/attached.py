"""Time that an attached BLOB of 32 MiB takes from its driver to a client, over TCP and over a Unix socket.

For each measurement, the driver writes every page of its frame anew, then shares the frame as libindi's drivers do. The
clock runs from just before the driver sends until the client has the last byte: of the base64 over TCP, or of the
message with its descriptor over the Unix socket. Every byte of every frame is compared, outside the timed part.

“passing on (C)” is the floor: a C program that passes on the text and the descriptor without looking at either. Nobody
copies the frame, so what a frame of 32 MiB takes longer than one of 1 MiB is not work: to write the frame, the driver
has emptied the processors' caches, and all that a server needs for its next message must come from memory again. That
is more for a Python interpreter than for a C program. A descriptor also costs indifast more than the C++ server: it
checks that the file is one that the driver may read and is as large as announced, and opens it once more, because
clients get it for reading only.
"""

from __future__ import annotations

import array
import base64
import os
import re
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial

from benchmarks import peers
from benchmarks.drivers.shared import frame_of
from benchmarks.program import Failed, Program, Settings, main
from benchmarks.results import CPP, OURS, OURS_UVLOOP, PASSING, Bound, Goal, Row

_TIME = re.compile(rb'message=["\'](\d+)["\']')
_PATIENCE = 60.0
TCP, UNIX, SMALL = "32 MiB to a TCP client", "32 MiB to a Unix client", "1 MiB to a Unix client"
NEXT = b"<newNumberVector device='Shared' name='GO'><oneNumber name='g'>1</oneNumber></newNumberVector>"


def receive(sock: socket.socket, seconds: float, local: bool, size: int) -> tuple[float, int]:
    """Receive frames one by one, each requested after the previous one was compared.

    Returns:
        The median of the milliseconds per frame, and the number of frames.

    Raises:
        Failed: A frame is damaged, or the connection was closed.
    """
    sock.settimeout(_PATIENCE)
    sock.sendall(b"<getProperties version='1.7'/><enableBLOB device='Shared'>Also</enableBLOB>")
    seen = b""
    while b"</defNumberVector>" not in seen:
        seen += sock.recv(1 << 16)
    take = take_descriptor if local else take_text
    buffer = memoryview(bytearray(2 * size + (1 << 20)))
    times: list[float] = []
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end or number < 3:
        number += 1
        sock.sendall(NEXT)
        length, arrived, check = take(sock, buffer)
        match = _TIME.search(buffer[: min(length, 1000)])
        if match is None or not check(frame_of(number, size)):
            raise Failed(f"frame {number} is damaged")
        if number > 1:  # the first one only warms up
            times.append((arrived - int(match[1])) / 1e6)
    return statistics.median(times), number


Taken = tuple[int, int, Callable[[bytes], bool]]
"""Bytes in the buffer, the time of the last one (ns), and a function that compares the frame with the expected one."""


def take_text(sock: socket.socket, buffer: memoryview) -> Taken:
    """Receive a frame as base64."""
    length = 0
    while bytes(buffer[max(0, length - 100) : length]).find(b"</setBLOBVector>") < 0:
        length += _some(sock.recv_into(buffer[length:]))
    arrived = time.monotonic_ns()

    def check(frame: bytes) -> bool:
        text = bytes(buffer[:length])
        begin = text.index(b">", text.index(b"<oneBLOB")) + 1
        return base64.b64decode(text[begin : text.index(b"<", begin)]) == frame

    return length, arrived, check


def take_descriptor(sock: socket.socket, buffer: memoryview) -> Taken:
    """Receive a frame as a descriptor."""
    length, fds = 0, array.array("i")
    while bytes(buffer[max(0, length - 100) : length]).find(b"</setBLOBVector>") < 0:
        nbytes, control, _, _ = sock.recvmsg_into([buffer[length:]], socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
        length += _some(nbytes)
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data)
    arrived = time.monotonic_ns()

    def check(frame: bytes) -> bool:
        try:
            return len(fds) == 1 and os.pread(fds[0], len(frame), 0) == frame
        finally:
            for fd in fds:
                os.close(fd)

    return length, arrived, check


def _some(nbytes: int) -> int:
    if not nbytes:
        raise Failed("the server closed the connection")
    return nbytes


def measure_one(server: peers.Server, local: bool, size: int, seconds: float) -> dict[str, float]:
    """Make one run: the median of milliseconds, and the number of frames."""
    name = f"/tmp/indifast-benchmark-{os.getpid()}-{time.monotonic_ns()}"
    driver = str(peers.HERE / "drivers" / "shared.py")
    environment = {"SHARED_BYTES": str(size)}
    with server(driver, environment=environment, unix=name) as (port, _):
        sock = socket.socket(socket.AF_UNIX) if local else socket.socket()
        with closing(sock):
            sock.connect("\0" + name if local else ("127.0.0.1", port))
            milliseconds, frames = receive(sock, seconds, local, size)
    return {"ms": milliseconds, "frames": frames}


def measure(settings: Settings) -> Iterable[Row]:
    servers = {name: one for name, one in peers.servers(2000).items() if name in (OURS, OURS_UVLOOP, CPP)}
    servers[PASSING] = peers.passing
    for title, local, size in ((TCP, False, 32 << 20), (UNIX, True, 32 << 20), (SMALL, True, 1 << 20)):
        able = servers if local else {name: one for name, one in servers.items() if name != PASSING}
        runs = {name: partial(measure_one, one, local, size) for name, one in able.items()}
        yield settings.turns(title, runs).row("ms", title, "ms", digits=2)


PROGRAM = Program(
    "attached",
    "Attached BLOBs: shared memory from the driver",
    __doc__ or "",
    measure,
    timed=11,
    overhead=0.3,
    goals=(
        Goal(TCP, "<=", (Bound(0.6, CPP),)),
        Goal(UNIX, "<=", (Bound(1.2, CPP), Bound(1.5, OURS, SMALL))),
        Goal(SMALL, "<=", (Bound(1.2, CPP),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
