"""A program to be used as `indiserver` that damages frames. The environment variable DAMAGE says how:

empty       not at all
rewrap      other line breaks, which are allowed
byte        another character in the middle
short       a few characters less
lose        every second frame is missing
number      the number of a frame is missing
close       the connection ends in the middle of a frame
die         the program ends at once, with a message on standard error
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

END = b"</setBLOBVector>\n"


def damaged(frame: bytes, number: int, how: str) -> bytes:
    middle = len(frame) // 2
    if how == "rewrap":
        return frame.replace(b"\n", b"")
    if how == "byte":
        return frame[:middle] + (b"A" if frame[middle : middle + 1] != b"A" else b"B") + frame[middle + 1 :]
    if how == "short":
        return frame[:middle] + frame[middle + 100 :]
    if how == "lose":
        return b"" if number % 2 else frame
    if how == "number":
        return frame.replace(b" message=", b" massage=")
    return frame


def relay(connection: socket.socket, driver: str, how: str) -> None:
    """Serve a client with a separate process of the driver."""
    with connection, subprocess.Popen([driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        threading.Thread(target=forward, args=(connection, child), daemon=True).start()
        waiting, number = bytearray(), 0
        try:
            while data := child.stdout.read(1 << 20):
                searched = max(0, len(waiting) - len(END))
                waiting += data
                if b"<setBLOBVector" not in waiting:
                    connection.sendall(waiting)
                    waiting.clear()
                while (at := waiting.find(END, searched)) >= 0:
                    at += len(END)
                    frame = bytes(waiting[:at])
                    del waiting[:at]
                    searched = 0
                    if how == "close" and number == 1:
                        connection.sendall(frame[: len(frame) // 2])
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(damaged(frame, number, how))
                    number += 1
        except OSError:
            return
        finally:
            child.kill()


def forward(connection: socket.socket, child: subprocess.Popen[bytes]) -> None:
    """Pass what the client sends to the driver, which ends with the connection."""
    assert child.stdin is not None
    try:
        while data := connection.recv(4096):
            child.stdin.write(data)
    except OSError:
        return
    child.kill()


def main() -> None:
    words, how = sys.argv[1:], os.environ.get("DAMAGE", "")
    if words == ["--version"]:
        print("INDI Library: 9.8.7", file=sys.stderr)
        return
    if how == "die":
        sys.exit("no room at the observatory")
    with socket.create_server(("127.0.0.1", int(words[words.index("-p") + 1]))) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=relay, args=(connection, words[-1], how), daemon=True).start()


main()
