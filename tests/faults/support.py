"""What the tests of faults share."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
from pathlib import Path

from tests.support.blackbox import PYTHON, Channel, Child, python_environment

HERE = Path(__file__).parent
GET = b'<getProperties version="1.7"/>'


class Served:
    """A server of indifast in a child process, and the clients that connect to it."""

    def __init__(self, folder: Path, options: dict[str, object]) -> None:
        words = [PYTHON, str(HERE / "programs" / "served.py"), json.dumps(options)]
        self.child = Child(words, folder, env=python_environment(), stdio=False)
        self.channels: list[Channel] = []
        try:
            text = self.child.until_stderr("port ")  # stdout goes to the same file
            found = re.search(r"^port (\d+)$", text, re.MULTILINE)
            while found is None:
                found = re.search(r"^port (\d+)$", self.child.until_stderr("\n"), re.MULTILINE)
        except BaseException:
            print(self.child.stderr)
            self.close()
            raise
        self.port = int(found.group(1))

    @property
    def pid(self) -> int:
        return self.child.pid

    def connect(self, *first: bytes) -> Channel:
        channel = Channel.connect(self.port)
        self.channels.append(channel)
        for words in first:
            channel.send(words)
        if first:  # what is said to all before the server has read that is lost to this client
            channel.send(b'<pingRequest uid="connect"/>')
            channel.messages = channel.until_text('uid="connect"')[:-1] + channel.messages
        return channel

    def client(self, *more: bytes) -> Channel:
        """A client that has asked for everything and been told of the last property of `Dev`."""
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

    def stop(self, limit: float = 20) -> str:
        """Ask for an orderly end; what the program has written."""
        self.child.process.send_signal(signal.SIGTERM)
        assert self.child.wait(limit) == 0, self.child.stderr[-3000:]
        return self.child.stderr

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.child.kill()


def text(value: str, name: str = "text", member: str = "t", device: str = "Dev") -> bytes:
    return f'<newTextVector device="{device}" name="{name}"><oneText name="{member}">{value}</oneText></newTextVector>'.encode()


def do(what: str, device: str = "Dev") -> bytes:
    return text(what, "do", "what", device)


def answers(channel: Channel, word: str = "alive", device: str = "Dev") -> None:
    """Fails unless the driver still takes commands and the channel hears of it."""
    channel.send(text(word, device=device))
    channel.until(lambda m: m.startswith(b"<setTextVector") and f">{word}<".encode() in m)


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
