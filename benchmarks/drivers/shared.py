#!/usr/bin/env python3
"""A driver that shares a frame in memory with its server each time it is told to; for `benchmarks.attached`."""

import array
import os
import socket
import time

SIZE = int(os.environ.get("SHARED_BYTES", 32 << 20))
DEFINITIONS = (
    b"<defBLOBVector device='Shared' name='B' state='Ok' perm='ro'><defBLOB name='b'/></defBLOBVector>\n"
    b"<defNumberVector device='Shared' name='GO' state='Ok' perm='rw'>"
    b"<defNumber name='g' format='%g' min='0' max='1' step='1'>0</defNumber></defNumberVector>\n"
)


def main() -> None:
    sock = socket.socket(fileno=os.dup(1))
    fd = os.memfd_create("shm_anon")
    os.ftruncate(fd, -(-SIZE // (1 << 20)) << 20)
    os.pwrite(fd, os.urandom(SIZE), 0)
    waiting = b""
    while data := sock.recv(1 << 16):
        waiting += data
        if b"getProperties" in waiting:
            sock.sendall(DEFINITIONS)
            waiting = b""
        while b"</newNumberVector>" in waiting:
            waiting = waiting.split(b"</newNumberVector>", 1)[1]
            text = (
                f"<setBLOBVector device='Shared' name='B' state='Ok' message='{time.monotonic_ns()}'>"
                f"<oneBLOB name='b' size='{SIZE}' format='.fits' len='{SIZE}' attached='true'></oneBLOB>"
                "</setBLOBVector>\n"
            )
            sock.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


if __name__ == "__main__":
    main()
