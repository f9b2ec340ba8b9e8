#!/usr/bin/env python3
"""A driver that shares a frame in memory with its server for each command, for `benchmarks.attached`."""

import array
import mmap
import os
import socket
import time

PAGE = 4096
_CONTENT = bytes(range(256)) * (PAGE // 256)


def frame_of(number: int, size: int) -> bytes:
    """Return the frame with this number: every page begins with the frame's number and its own."""
    pages = [
        number.to_bytes(4, "little") + page.to_bytes(4, "little") + _CONTENT[8:] for page in range(-(-size // PAGE))
    ]
    return b"".join(pages)[:size]


DEFINITIONS = (
    b"<defBLOBVector device='Shared' name='B' state='Ok' perm='ro'><defBLOB name='b'/></defBLOBVector>\n"
    b"<defNumberVector device='Shared' name='GO' state='Ok' perm='rw'>"
    b"<defNumber name='g' format='%g' min='0' max='1' step='1'>0</defNumber></defNumberVector>\n"
)


def main() -> None:
    size = int(os.environ.get("SHARED_BYTES", 32 << 20))
    sock = socket.socket(fileno=os.dup(1))
    waiting, number = b"", 0
    frame = frame_of(1, size)
    while data := sock.recv(1 << 16):
        waiting += data
        if b"getProperties" in waiting:
            sock.sendall(DEFINITIONS)
            waiting = b""
        while b"</newNumberVector>" in waiting:
            waiting = waiting.split(b"</newNumberVector>", 1)[1]
            number += 1
            # As in libindi: a separate memory file for each frame, its size in whole mebibytes.
            fd = os.memfd_create("shm_anon")
            os.ftruncate(fd, -(-size // (1 << 20)) << 20)
            with mmap.mmap(fd, 0) as memory:
                memory[:size] = frame
            text = (
                f"<setBLOBVector device='Shared' name='B' state='Ok' message='{time.monotonic_ns()}'>"
                f"<oneBLOB name='b' size='{size}' format='.fits' len='{size}' attached='true'></oneBLOB>"
                "</setBLOBVector>\n"
            )
            sock.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            os.close(fd)
            frame = frame_of(number + 1, size)


if __name__ == "__main__":
    main()
