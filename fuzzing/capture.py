"""Makes the first inputs of the targets out of what real programs say: `python -m fuzzing.capture`.

It runs a C++ server with a simulated camera and a simulated telescope, listens to what they say to a client that
connects both and takes a picture, and stores every message of a new shape. Inputs that are there already stay: the
corpus grows by fuzzing, and this is how it began.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time

from fuzzing.corpus import store

SECONDS = 10.0
"""How long to listen."""
SAID = (
    b'<getProperties version="1.7"/>',
    b'<enableBLOB device="CCD Simulator">Also</enableBLOB>',
    *(
        b'<newSwitchVector device="%s Simulator" name="CONNECTION"><oneSwitch name="CONNECT">On</oneSwitch>'
        b"</newSwitchVector>" % name
        for name in (b"CCD", b"Telescope")
    ),
    b'<newNumberVector device="CCD Simulator" name="CCD_FRAME"><oneNumber name="X">0</oneNumber><oneNumber name="Y">0'
    b'</oneNumber><oneNumber name="WIDTH">16</oneNumber><oneNumber name="HEIGHT">8</oneNumber></newNumberVector>',
    b'<newNumberVector device="CCD Simulator" name="CCD_EXPOSURE">'
    b'<oneNumber name="CCD_EXPOSURE_VALUE">0.01</oneNumber></newNumberVector>',
    b'<newNumberVector device="Telescope Simulator" name="EQUATORIAL_EOD_COORD">'
    b'<oneNumber name="RA">5:30:15</oneNumber><oneNumber name="DEC">20</oneNumber></newNumberVector>',
    b'<pingRequest uid="1"/>',
)
DRIVERS = ("indi_simulator_ccd", "indi_simulator_telescope")
LONGEST = 4096
"""Bytes of a message that are worth mutating."""

_MESSAGE = re.compile(rb"<(\w+)[^<>]*/>|<(\w+)[^<>]*>.*?</\2>", re.DOTALL)
_VALUE = re.compile(rb"([\"'])[^\"']*\1|>[^<]*<")


def listen() -> bytes:
    """Return all that the server says to one client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        command = ["indiserver", "-p", str(port), "-u", f"{home}/socket", *DRIVERS]
        environment = {**os.environ, "HOME": home}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
            try:
                return _converse(port)
            finally:
                server.terminate()


def _converse(port: int) -> bytes:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), 1)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    heard = b""
    with client:
        client.settimeout(0.2)
        for number in range(int(SECONDS / 0.2)):
            if number % 5 == 4 and number // 5 < len(SAID) + 1:
                client.sendall(b"".join(SAID) if number == 4 else SAID[number // 5 - 1])
            try:
                heard += client.recv(1 << 20)
            except TimeoutError:
                continue
    return heard


def shapes(stream: bytes) -> list[bytes]:
    """Return the messages of a stream, one of each shape."""
    found: dict[bytes, bytes] = {}
    for match in _MESSAGE.finditer(stream):
        message = match[0]
        if len(message) <= LONGEST:
            found.setdefault(b">".join(dict.fromkeys(_VALUE.sub(b"", message).split(b">"))), message)
    return list(found.values())


def main() -> None:
    """Store what was heard for the targets that read messages, each message by itself."""
    messages = [*SAID, *shapes(listen())]
    for message in messages:
        store("tokenizer", b"\0\0" + message)
        store("client", b"\3\0" + message)
    print(f"{len(messages)} messages, {sum(map(len, messages))} bytes")


if __name__ == "__main__":
    main()
