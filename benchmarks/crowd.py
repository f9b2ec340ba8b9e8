"""Many TCP clients in one process: `crowd.py PORT COUNT SECONDS`; prints "ready" when all have their definitions.

SECONDS > 0: the clients ask for all BLOBs, the first of them starts the frames of `csrc/wire.c`, and all read as fast
as they can. Time runs from when each has received a part of a frame; one line of JSON has the bytes that each received.
SECONDS 0: they stay connected and idle until standard input ends.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

PATIENCE = 60.0
NO_ANSWER = 2.0
"""Seconds without an answer to a ping, after which none is expected."""
CHUNK = 1 << 20
DEFINED = (b"</defBLOBVector>", b"</defNumberVector>")
START = b"<newSwitchVector device='Wire' name='GO'><oneSwitch name='GO'>On</oneSwitch></newSwitchVector>"


def connect(port: int) -> socket.socket:
    """Connect a client, and wait until it has its definitions."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.sendall(b"<getProperties version='1.7'/>")
    seen = b""
    while not any(word in seen for word in DEFINED):
        data = sock.recv(1 << 16)
        if not data:
            raise SystemExit("the server closed a connection")
        seen += data
    return sock


def ask_for_blobs(socks: list[socket.socket]) -> None:
    """Ask for BLOBs, and wait until the server knows that all clients want them, if it answers pings."""
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
    """Receive for `seconds`, and return the bytes of each client and the seconds that passed.

    Raises:
        SystemExit: A connection was lost, or frames stopped coming.
    """
    buffer = bytearray(CHUNK)
    received = [0] * len(socks)
    with selectors.DefaultSelector() as selector:
        for number, sock in enumerate(socks):
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, number)
        started, start, last = 0, 0.0, time.monotonic()
        while not start or time.monotonic() < start + seconds:
            events = selector.select(PATIENCE)
            if not events or (not start and time.monotonic() > last + PATIENCE):
                raise SystemExit("frames stopped coming")
            for key, _ in events:
                nbytes = key.fileobj.recv_into(buffer)  # type: ignore[union-attr]
                if not nbytes:
                    raise SystemExit("the server closed a connection")
                started += not received[key.data]
                received[key.data] += nbytes
            if not start and started == len(socks):
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
