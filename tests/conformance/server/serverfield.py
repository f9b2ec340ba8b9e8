"""A server under test. The test plays all drivers, clients and remote servers that are connected to it.

The drivers are programs that only pass bytes between their stdin/stdout and a socket of the test. So each endpoint of
the server is a `Channel`, and the test sees directly who receives what.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.support.blackbox import LIMIT, PYTHON, Channel, Child, Hub, free_port, python_environment, until

PYTHON_SERVER = Path(__file__).parent / "python_server.py"

OWNERS = {
    "X": ["A", "B", "Mark_X"],
    "Y": ["Y", "Mark_Y"],
    "V": ["V", "Mark_V"],
    "Z": ["Z", "Mark_Z"],
    "R": ["R", "Mark_R"],
}
"""The executable drivers and the remote server, with the devices that each defines."""

CLIENTS: dict[str, str] = {
    "w": '<getProperties version="1.7"/>',
    "silent": "",
    "devA": '<getProperties version="1.7" device="A"/>',
    "propA": '<getProperties version="1.7" device="A" name="t"/>',
    "devB": '<getProperties version="1.7" device="B"/>',
    "also_dev": '<getProperties version="1.7" device="A"/><enableBLOB device="A">Also</enableBLOB>',
    "also_prop": '<getProperties version="1.7"/><enableBLOB device="A" name="b">Also</enableBLOB>',
    "only_dev": '<getProperties version="1.7" device="A"/><enableBLOB device="A">Only</enableBLOB>',
    "only_prop": '<getProperties version="1.7"/><enableBLOB device="A" name="b">Only</enableBLOB>',
    "never_prop": '<getProperties version="1.7"/><enableBLOB device="A">Also</enableBLOB>'
    '<enableBLOB device="A" name="b">Never</enableBLOB>',
}
"""The clients, with the message that each sends when it connects."""


SILENCE = 20.0
"""Seconds after which a peer that does not answer is considered stuck."""


class Field:
    """A server with all of its endpoints, connected and settled.

    `kind` is "indifast" (the class), "indifast serve" (the command), "indipyserver" or "indiserver".
    """

    def __init__(self, kind: str, python: str = PYTHON) -> None:
        self.kind = kind
        self.inside = kind in ("indifast", "indipyserver")
        """Whether there is a driver in the server's process."""
        self.limit = LIMIT if kind.startswith("indifast") else SILENCE
        self._folder = tempfile.TemporaryDirectory(prefix="field-", dir="/tmp")
        self.folder = Path(self._folder.name)
        self._hub = Hub(self.folder)
        self._far = socket.create_server(("127.0.0.1", 0))
        self._far.settimeout(LIMIT)
        self.port = free_port()
        self.channels: dict[str, Channel] = {}
        self._marks = 0
        self._inside_at = 0
        self.inside_log = self.folder / "inside.jsonl"
        self.inside_log.touch()
        programs = [self._hub.program(f"driver_{name}") for name in OWNERS if name != "R"]
        far_port = self._far.getsockname()[1]
        if not self.inside:
            command = ["indiserver"] if kind == "indiserver" else [PYTHON, "-m", "indifast", "serve"]
            argv = [*command, "-r", "0", "-p", str(self.port), "-u", str(self.folder / "local"), *programs]
            argv.append(f"@localhost:{far_port}")
            env = python_environment()
        else:
            argv = [PYTHON if kind == "indifast" else python, str(PYTHON_SERVER), kind, str(self.port), str(far_port)]
            argv += [str(self.inside_log), *programs]
            env = python_environment() if kind == "indifast" else {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
        self.child = Child(argv, self.folder, env=env)
        try:
            self._settle()
        except BaseException:
            print(self.child.stderr, file=sys.stderr)
            self.close()
            raise

    def _settle(self) -> None:
        for _ in range(len(OWNERS) - 1):
            name, channel = self._hub.accept()
            self.channels[name.removeprefix("driver_")] = channel
        far, _ = self._far.accept()
        self.channels["R"] = Channel(far.fileno(), far.fileno(), far)
        for name in OWNERS:
            self.channels[name].until_text("getProperties")
        for name, opening in CLIENTS.items():
            self.channels[name] = Channel.connect(self.port)
            if opening:
                self.channels[name].send(opening.encode())
        for name in CLIENTS:
            self._accepted(name)
        for name, devices in OWNERS.items():
            self.channels[name].send("".join(map(definitions, devices)).encode())
        self.channels["Y"].send(b'<getProperties version="1.7" device="A"/><enableBLOB device="A">Also</enableBLOB>')
        self.channels["V"].send(b'<getProperties version="1.7" device="A" name="t"/>')
        if self.inside:
            self._command("snoop")
        # A barrier sends commands to the devices of all owners, so the server must know them before the first one.
        for name in OWNERS:
            self._processed(name, {client: [] for client in self.channels})
        # Discard everything sent so far, which belongs to no case. Answers may cause answers, so there are two rounds.
        for _ in range(2):
            for name in OWNERS:
                self._barrier(name)
            for name in CLIENTS:
                self._barrier(name)

    def _accepted(self, name: str) -> None:
        """Wait until the server knows this client, which misses what is sent to all clients before that."""
        channel, mark = self.channels[name], self._mark()
        if self.kind != "indipyserver":
            channel.send(f'<pingRequest uid="{mark}"/>'.encode())
            channel.until_text(mark)
            return
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            self.channels["Z"].send(f'<message message="{mark}"/>'.encode())
            with contextlib.suppress(TimeoutError):
                channel.until_text(mark, 0.2)
                return
        raise TimeoutError(f"{name} is not served")

    # -- Barriers

    def _mark(self) -> str:
        self._marks += 1
        return f"mark-{self._marks}-"

    def _barrier(self, sender: str) -> dict[str, list[bytes]]:
        """Wait until everything that `sender` has sent is handled. Return what each endpoint has received."""
        got: dict[str, list[bytes]] = {name: [] for name in self.channels}
        self._processed(sender, got)
        marks = {name: self._mark() for name in (*CLIENTS, *OWNERS)}
        for name in CLIENTS:
            if self.kind == "indipyserver":  # without pings; a message of a driver to all comes last in every queue
                self.channels["Z"].send(f'<message message="{marks[name]}"/>'.encode())
            else:
                self.channels[name].send(f'<pingRequest uid="{marks[name]}"/>'.encode())
        for name in OWNERS:
            words = f'<newTextVector device="Mark_{name}" name="t"><oneText name="m">{marks[name]}</oneText></newTextVector>'
            self.channels["w"].send(words.encode())
        for name, mark in marks.items():
            got[name] += self.channels[name].until_text(mark, self.limit)
        got = {name: [m for m in messages if b"ark" not in m] for name, messages in got.items()}
        if self.inside:
            got["P"] = self._inside()
        return got

    def _processed(self, sender: str, got: dict[str, list[bytes]]) -> None:
        mark = self._mark()
        if sender == "P":
            return
        if sender in CLIENTS and self.kind != "indipyserver":
            self.channels[sender].send(f'<pingRequest uid="{mark}"/>'.encode())
            got[sender] += self.channels[sender].until_text(mark, self.limit)
            return
        witness = "also_prop" if sender != "also_prop" else "w"  # no case keeps these from receiving messages
        self.channels[sender].send(f'<message message="{mark}"/>'.encode())
        got[witness] += self.channels[witness].until_text(mark, self.limit)

    def _inside(self) -> list[bytes]:
        """Return what the driver in the server's process has received since the last call."""
        mark = self._mark()
        self.channels["w"].send(
            f'<newTextVector device="Mark_P" name="t"><oneText name="m">{mark}</oneText></newTextVector>'.encode()
        )
        until(lambda: mark in self.inside_log.read_text(), what="the in-process driver's answer")
        text = self.inside_log.read_text()
        entries, self._inside_at = text[self._inside_at :], len(text)
        return [
            json.loads(line).encode() for line in entries.splitlines() if "mark-" not in line and '"said ' not in line
        ]

    # -- Cases

    def say(self, sender: str, message: str) -> dict[str, list[str]]:
        """Let an endpoint send something. Return what each endpoint receives because of it, in a canonical form."""
        if sender == "P":
            self._command(message)
        else:
            self.channels[sender].send(message.encode())
        got = self._barrier(sender)
        received = {name: [canonical(m) for m in messages if b'name="say"' not in m] for name, messages in got.items()}
        return {name: messages for name, messages in received.items() if messages}

    def _command(self, name: str) -> None:
        """Let the in-process driver send something, and wait until it has."""
        self.channels["w"].send(
            f'<newTextVector device="P" name="say"><oneText name="m">{name}</oneText></newTextVector>'.encode()
        )
        until(
            lambda: f"said {name}" in self.inside_log.read_text()[self._inside_at :],
            what="the message of the in-process driver",
        )

    def close(self) -> None:
        self.child.kill()
        for channel in self.channels.values():
            channel.close()
        self._hub.close()
        self._far.close()
        self._folder.cleanup()


def definitions(device: str) -> str:
    if device.startswith("Mark"):
        return text_definition(device, "t", "m")
    return text_definition(device, "t", "m") + (
        f'<defBLOBVector device="{device}" name="b" state="Ok" perm="rw"><defBLOB name="m"/></defBLOBVector>'
    )


def text_definition(device: str, name: str, member: str) -> str:
    return f'<defTextVector device="{device}" name="{name}" state="Ok" perm="rw"><defText name="{member}">x</defText></defTextVector>'


def _lasting(value: str) -> str:
    """Return a value without ports and folders, which are different in every run."""
    return re.sub(r"/tmp/field-[^/]+/", "", re.sub(r"[0-9.]+:[0-9]{5}|localhost:[0-9]{5}", "ADDRESS", value))


def canonical(message: bytes) -> str:
    """Return the meaning of a message: tag, attributes in alphabetical order, children, and stripped text.

    Attributes that are different in every run are left out. One is `via`, which indifast adds for other servers.
    """

    def form(element: ET.Element) -> str:
        attributes = {k: v for k, v in sorted(element.attrib.items()) if k not in ("timestamp", "enclen", "via")}
        words = " ".join(f"{k}={_lasting(v)}" for k, v in attributes.items())
        inner = "".join(map(form, element))
        content = inner or "".join((element.text or "").split())
        return f"<{element.tag}{' ' if words else ''}{words}>{content}"

    return form(ET.fromstring(message))


def receivers(got: dict[str, list[str]], said: str) -> str:
    """Return in one line who received exactly what was sent, and what else anybody received."""
    if said.startswith("<"):
        meant = canonical(said.encode())
    else:  # the in-process driver: what most endpoints received
        heard = [messages[0] for messages in got.values()]
        meant = max(sorted(set(heard)), key=heard.count) if heard else ""
    names = sorted(name for name, messages in got.items() if messages == [meant])
    otherwise: dict[str, list[str]] = {}
    for name, messages in got.items():
        if messages != [meant]:
            otherwise.setdefault("|".join(messages), []).append(name)
    others = sorted(f"{'+'.join(sorted(who))}:{messages}" for messages, who in otherwise.items())
    return " ".join([*names, *others])
