"""`attaching.py OPTIONS`: a driver that sends descriptors, as libindi's drivers do. OPTIONS is a JSON object:

descriptors   what is sent: "fifo", "directory", "socket", or [size, content]: shared memory that starts with
              `content` bytes, all A in the first descriptor, B in the second, and so on
attributes    the attributes of each oneBLOB besides its name
members       how many oneBLOBs there are
shorten       truncate the first descriptor after sending it

On a newTextVector it sends the BLOBs, and then a text vector with the value "behind".
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys
import tempfile

options = json.loads(sys.argv[1])
peer = socket.socket(fileno=os.dup(0))


def say(text: str, fds: list[int] | None = None) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    peer.sendmsg([text.encode()], rights)


def opened(number: int, kind: str | list[int]) -> int:
    if kind == "fifo":
        name = tempfile.mktemp()
        os.mkfifo(name)
        fd = os.open(name, os.O_RDWR | os.O_NONBLOCK)
        os.unlink(name)
        return fd
    if kind == "directory":
        return os.open("/tmp", os.O_RDONLY)
    if kind == "socket":
        return socket.socket().detach()
    size, content = kind
    fd = os.memfd_create("shm_anon", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    os.pwrite(fd, bytes([65 + number]) * content, 0)
    return fd


def define() -> None:
    say(
        "<defBLOBVector device='S' name='b' state='Ok' perm='rw'><defBLOB name='m0'/></defBLOBVector>"
        "<defTextVector device='S' name='t' state='Ok' perm='rw'><defText name='t'>x</defText></defTextVector>"
    )


def send() -> None:
    fds = [opened(number, kind) for number, kind in enumerate(options["descriptors"])]
    blobs = "".join(
        f"<oneBLOB name='m{number}' {options['attributes']} attached='true'></oneBLOB>"
        for number in range(options.get("members", 1))
    )
    say(f"<setBLOBVector device='S' name='b' state='Ok'>{blobs}</setBLOBVector>", fds)
    if options.get("shorten"):
        os.ftruncate(fds[0], 10)
    say("<setTextVector device='S' name='t' state='Ok'><oneText name='t'>behind</oneText></setTextVector>")
    for fd in fds:
        os.close(fd)


heard = b""
while data := peer.recv(65536):
    heard += data
    if b"<getProperties" in heard:
        define()
        heard = heard[heard.rindex(b"<getProperties") + len(b"<getProperties") :]
    if b"</newTextVector>" in heard:
        heard = b""
        send()
