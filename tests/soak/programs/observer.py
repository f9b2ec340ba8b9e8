"""A client that knows nothing of indifast, and keeps a ledger of what it is told.

    python -m tests.soak.programs.observer (HOST:PORT | @NAME)

It asks for everything, BLOBs included, and connects again whenever the connection is lost.
"""

from __future__ import annotations

import array
import base64
import contextlib
import os
import select
import socket
import sys
import time
from collections import deque
from xml.etree import ElementTree as ET

from tests.soak.ledger import TOKEN, Ledger
from tests.soak.reporting import Commands
from tests.support.blackbox import Splitter

PAUSE = 0.3  # seconds before another attempt to connect
CONNECT_LIMIT = 5.0


class GivenUp(Exception):
    """This connection can't be trusted any more."""


class Observer:
    """See the module's docstring."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.local = address.startswith("@")
        self.ledger = Ledger()
        self.commands = Commands(self.ledger.report, self.command, lambda: sys.exit(0), self.send)
        self.socket: socket.socket | None = None
        self.next_attempt = 0.0
        self.splitter = Splitter()
        self.descriptors: deque[int] = deque()
        self.outgoing = bytearray()

    def run(self) -> None:
        while True:
            if self.socket is None and time.monotonic() >= self.next_attempt:
                self.connect()
            connected = [] if self.socket is None else [self.socket]
            writing = connected if self.outgoing else []
            readable, writable, _ = select.select([0, *connected], writing, [], PAUSE)
            if 0 in readable:
                self.commands.read()
            try:
                if writable and self.socket is not None:
                    del self.outgoing[: self.socket.send(self.outgoing)]
                if self.socket in readable:
                    self.receive()
            except (OSError, GivenUp) as exc:
                self.lose(isinstance(exc, GivenUp))

    def connect(self) -> None:
        self.next_attempt = time.monotonic() + PAUSE
        host, _, port = self.address.rpartition(":")
        try:
            if self.local:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.settimeout(CONNECT_LIMIT)
                self.socket.connect("\0" + self.address[1:])
            else:
                self.socket = socket.create_connection((host, int(port)), CONNECT_LIMIT)
        except OSError:
            if self.socket is not None:
                self.socket.close()
            self.socket = None
            return
        self.socket.setblocking(False)
        self.splitter = Splitter()
        self.outgoing[:] = b'<getProperties version="1.7"/>'
        self.ledger.made()

    def lose(self, given_up: bool) -> None:
        assert self.socket is not None
        self.socket.close()
        self.socket = None
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()
        self.outgoing.clear()
        self.ledger.damaged_links += given_up
        self.ledger.lost()
        self.next_attempt = time.monotonic() + PAUSE

    def send(self, text: bytes) -> None:
        if self.socket is not None:
            self.outgoing += text

    def command(self, device: str, text: str) -> None:
        member = f'<oneText name="text">{text}</oneText>'
        self.send(f'<newTextVector device="{device}" name="{TOKEN}">{member}</newTextVector>'.encode())

    def receive(self) -> None:
        assert self.socket is not None
        data, ancillary, flags, _ = self.socket.recvmsg(1 << 18, socket.CMSG_SPACE(16 * 4))
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
                self.descriptors += numbers
        if flags & socket.MSG_CTRUNC:
            raise GivenUp  # this process has no room for them: which ones are missing is unknown
        if not data:
            raise ConnectionResetError
        for message in self.splitter.feed(data):
            self.take(ET.fromstring(message))
        if self.splitter.junk.strip():
            self.ledger.violation(f"between messages: {bytes(self.splitter.junk[:80])!r}")
        self.splitter.junk.clear()

    def take(self, root: ET.Element) -> None:
        ledger, device, name = self.ledger, root.get("device"), root.get("name")
        if text := root.get("message"):
            ledger.said(device, text)
        if root.tag == "pingRequest":
            self.send(b'<pingReply uid="%s"/>' % root.get("uid", "").encode())
        elif device is None:
            return
        elif root.tag == "delProperty":
            ledger.deleted(device, name)
        elif name is None:
            return
        elif root.tag == "defBLOBVector":
            ledger.defined(device, name, {})
            self.send(f'<enableBLOB device="{device}">Also</enableBLOB>'.encode())
        elif root.tag == "setBLOBVector":
            for member in root:
                self.take_blob(device, name, member)
        elif root.tag.startswith("def"):
            ledger.defined(device, name, values(root))
        elif root.tag.startswith("set"):
            ledger.updated(device, name, values(root))

    def take_blob(self, device: str, name: str, member: ET.Element) -> None:
        form, size = member.get("format", ""), int(member.get("size", "0"))
        if member.get("attached") == "true":
            if not self.descriptors:
                self.ledger.violation(f"{device}.{name}: no descriptor came with a BLOB")
                raise GivenUp
            descriptor = self.descriptors.popleft()
            try:
                content = read_all(descriptor, int(member.get("len", size)))
            finally:
                os.close(descriptor)
        else:
            content = base64.b64decode(member.text or "", validate=False)
            if content and len(content) != size and not form.endswith(".z"):
                self.ledger.violation(f"{device}.{name}: {len(content)} bytes came as {size}")
        self.ledger.frame(device, name, member.get("name", ""), form, content)


def read_all(descriptor: int, length: int) -> bytes:
    pieces = []
    offset = 0
    while offset < length and (piece := os.pread(descriptor, length - offset, offset)):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def values(root: ET.Element) -> dict[str, str]:
    return {member.get("name", ""): (member.text or "").strip() for member in root}


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        Observer(sys.argv[1]).run()
