"""Many TCP clients in one process: `crowd.py PORT COUNT SECONDS`; prints "ready" when all have their definitions.

SECONDS > 0: they ask for all BLOBs, the first of them starts the frames of `csrc/wire.c`, and all read as fast as
they can for so long from when each has had a part of a frame; one line of JSON says how many bytes came to each.
SECONDS 0: they stay, idle, until standard input ends.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

PATIENCE = 30.0
NO_ANSWER = 2.0
"""Seconds after which a ping is not answered any more."""
CHUNK = 1 << 20
DEFINED = (b"</defBLOBVector>", b"</defNumberVector>")
START = b"<newSwitchVector device='Wire' name='GO'><oneSwitch name='GO'>On</oneSwitch></newSwitchVector>"


def connect(port: int) -> socket.socket:
    """A client that has its definitions."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.sendall(b"<getProperties version='1.7'/>")
    seen = b""
    while not any(word in seen for word in DEFINED):
        data = sock.recv(1 << 16)
        if not data:
            raise SystemExit("the server has closed a connection")
        seen += data
    return sock


def ask_for_blobs(socks: list[socket.socket]) -> None:
    """Return when the server knows that all want them; not every server answers pings."""
    for sock in socks:
        sock.sendall(
            b"<enableBLOB device='Wire'>Also</enableBLOB><enableBLOB device='Wire' name='FRAME'>Also</enableBLOB>"
            b"<pingRequest uid='ready'/>"
        )
    for sock in socks:
        sock.settimeout(NO_ANSWER)
        seen = b""
        try:
            while b"pingReply" not in seen:
                seen += sock.recv(1 << 16)
        except TimeoutError:
            return


def drain(socks: list[socket.socket], seconds: float) -> tuple[list[int], float]:
    """Bytes of each client, and the seconds in which they came. Lost connections are a SystemExit."""
    buffer = bytearray(CHUNK)
    received = [0] * len(socks)
    with selectors.DefaultSelector() as selector:
        for number, sock in enumerate(socks):
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, number)
        begun, start, last = 0, 0.0, time.monotonic()
        while not start or time.monotonic() < start + seconds:
            events = selector.select(PATIENCE)
            if not events or (not start and time.monotonic() > last + PATIENCE):
                raise SystemExit("frames stopped coming")
            for key, _ in events:
                nbytes = key.fileobj.recv_into(buffer)  # type: ignore[union-attr]
                if not nbytes:
                    raise SystemExit("the server has closed a connection")
                begun += not received[key.data]
                received[key.data] += nbytes
            if not start and begun == len(socks):
                start, received = time.monotonic(), [1] * len(socks)
        return received, time.monotonic() - start


def main(port: int, count: int, seconds: float) -> None:
    socks = [connect(port) for _ in range(count)]
    if seconds:
        ask_for_blobs(socks)
    print("ready", flush=True)
    sys.stdin.readline()
    if seconds:
        socks[0].sendall(START)
        received, elapsed = drain(socks, seconds)
        print(json.dumps({"wire_bytes": received, "seconds": elapsed}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
