"""Servers, messages and waiting for the tests of faults."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.blackbox import LIMIT, PYTHON, Channel, Child, python_environment, until
from tests.support.threads import thread_statuses

PROGRAMS = Path(__file__).parent / "programs"
GET = b'<getProperties version="1.7"/>'


class Served:
    """A server of indifast in a child process, and the clients that connect to it."""

    def __init__(self, folder: Path, options: dict[str, object]) -> None:
        words = [PYTHON, PROGRAMS / "served.py", json.dumps(options)]
        self.child = Child(words, folder, env=python_environment())
        self.channels: list[Channel] = []
        try:
            until(lambda: self._port() is not None or not self.child.running(), what="the port")
            port = self._port()
            assert port is not None, self.child.stderr
        except BaseException:
            self.close()
            raise
        self.port = port

    def _port(self) -> int | None:
        found = re.search(r"^port (\d+)$", self.child.stderr, re.MULTILINE)  # stdout is in the same file
        return None if found is None else int(found[1])

    @property
    def pid(self) -> int:
        return self.child.pid

    def connect(self, *first: bytes) -> Channel:
        """Return a client that has sent some messages, which the server has read."""
        channel = Channel.connect(self.port)
        self.channels.append(channel)
        for words in first:
            channel.send(words)
        if first:  # the client misses what is sent to all clients before the server has read its messages
            channel.send(b'<pingRequest uid="connect"/>')
            channel.messages = channel.until_text('uid="connect"')[:-1] + channel.messages
        return channel

    def client(self, *more: bytes) -> Channel:
        """Return a client that has requested everything and received the definition of the last property of `Dev`."""
        channel = self.connect(GET, *more)
        channel.until_text('<defBLOBVector device="Dev"')
        return channel

    def vanish(self, channel: Channel) -> None:
        """End a connection with a reset instead of an orderly close."""
        owner = channel._owner
        assert isinstance(owner, socket.socket)
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        owner.close()
        self.channels.remove(channel)

    def stop(self) -> str:
        """End the program in an orderly way, and return what it has written."""
        self.child.process.send_signal(signal.SIGTERM)
        assert self.child.wait(LIMIT) == 0, self.child.stderr[-3000:]
        return self.child.stderr

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.child.kill()


Serve = Callable[..., Served]
ServeDriver = Callable[..., tuple[Served, Channel]]


def executable(path: Path, text: str) -> str:
    """Write an executable program, and return its path."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


# Messages


def text(value: str, name: str = "text", member: str = "t", device: str = "Dev") -> bytes:
    return f'<newTextVector device="{device}" name="{name}"><oneText name="{member}">{value}</oneText></newTextVector>'.encode()


def do(what: str, device: str = "Dev") -> bytes:
    """Return a command for the driver of `programs/served.py`."""
    return text(what, "do", "what", device)


def blob(
    device: str, name: str, content: bytes, *, member: str = "b", form: str = ".bin", tag: str = "setBLOBVector"
) -> bytes:
    words = base64.b64encode(content).decode()
    state = ' state="Ok"' if tag.startswith("set") else ""
    return (
        f'<{tag} device="{device}" name="{name}"{state}>'
        f'<oneBLOB name="{member}" size="{len(content)}" format="{form}">{words}</oneBLOB></{tag}>'
    ).encode()


def definition(device: str, name: str = "t") -> bytes:
    return (
        f'<defTextVector device="{device}" name="{name}" state="Ok" perm="rw"><defText name="t">x</defText></defTextVector>'
    ).encode()


def blob_definition(device: str, name: str = "b") -> bytes:
    return f'<defBLOBVector device="{device}" name="{name}" state="Ok" perm="rw"><defBLOB name="b"/></defBLOBVector>'.encode()


def blobs_wanted(device: str = "Dev") -> bytes:
    return f'<enableBLOB device="{device}">Also</enableBLOB>'.encode()


# Waiting


def answers(channel: Channel, word: str = "alive", device: str = "Dev") -> None:
    """Check that the driver still takes commands, and that the channel receives its updates."""
    channel.send(text(word, device=device))
    channel.until(lambda m: m.startswith(b"<setTextVector") and f">{word}<".encode() in m)


def ping(channel: Channel) -> list[bytes]:
    """Wait until the server has read everything that a client has sent. Return the messages before its answer."""
    channel.send(b'<pingRequest uid="u"/>')
    return channel.until_text("pingReply")[:-1]


def until_deleted(channel: Channel, device: str) -> None:
    """Wait until a client is told that a device is gone."""
    channel.until(lambda m: m.startswith(b"<delProperty") and f'device="{device}"'.encode() in m)


def until_idle(pid: int) -> None:
    """Wait until a process does not wake for half a second."""

    def activity() -> tuple[list[str], int]:
        """Return the states of all threads, and how often they have run."""
        statuses = thread_statuses(pid).values()
        states = [found for status in statuses for found in re.findall(r"^State:\s+(\w)", status, re.MULTILINE)]
        switches = [found for status in statuses for found in re.findall(r"ctxt_switches:\s*(\d+)", status)]
        return states, sum(map(int, switches))

    def idle() -> bool:
        before = activity()
        time.sleep(0.5)  # a process that is idle does nothing in any such time
        return set(before[0]) == {"S"} and activity() == before

    until(idle, what="an idle process")
