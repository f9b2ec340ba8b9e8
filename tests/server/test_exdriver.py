"""Executable drivers under the server's hub: how real programs start, end, are restarted, and send BLOBs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from indifast._parser import Tokenizer
from indifast.protocol.limits import Limits
from indifast.routing.peer import Kind, Peer
from indifast.server import exdriver
from indifast.server.exdriver import ExDriver
from indifast.server.hub import Hub
from indifast.transport import shm
from indifast.transport.stream import SocketStream
from tests.server.support import GET
from tests.support.descriptors import no_fd_leak
from tests.support.programs import executable
from tests.support.sockets import tcp_pair, unix_pair
from tests.support.waiting import eventually

HELLO = """
import os, sys, time
def say(text): os.write(1, text.encode())
def line():
    data = b""
    while not data.endswith(b"\\n"):
        more = os.read(0, 1)
        if not more: sys.exit(0)
        data += more
    return data.decode()
def define(device="Toy", name="T", text="hi"):
    say(f"<defTextVector device='{device}' name='{name}' state='Ok' perm='rw'>"
        f"<defText name='m'>{text}</defText></defTextVector>\\n")
"""


class Client:
    """A client of a hub without a listener. It collects elements, and descriptors if it is local."""

    def __init__(self, hub: Hub, local: bool = False) -> None:
        self.sock, ours = unix_pair() if local else tcp_pair()
        self.local = local
        self.sock.setblocking(False)
        self.tokenizer = Tokenizer()
        self.elements: list = []
        self.fds: list[int] = []
        peer = Peer(Kind.CLIENT, "client", hub.new_outbox(attached=local))
        hub.carry(peer, SocketStream(ours), lambda exc: hub.remove(peer))

    def say(self, text: str) -> None:
        self.sock.send(text.encode())

    def ask(self, blobs_of: str = "") -> None:
        """Ask for all definitions, and for the BLOBs of a device."""
        self.say(GET + (f"<enableBLOB device='{blobs_of}'>Also</enableBLOB>" if blobs_of else ""))

    def command(self, name: str = "T") -> None:
        """Send a command to a text vector of the device Toy."""
        self.say(f"<newTextVector device='Toy' name='{name}'><oneText name='m'>go</oneText></newTextVector>")

    def connect(self, device: str) -> None:
        """Send the command by which a simulator connects to its device."""
        member = "<oneSwitch name='CONNECT'>On</oneSwitch>"
        self.say(f"<newSwitchVector device='{device}' name='CONNECTION'>{member}</newSwitchVector>")

    def receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self.sock, 1 << 20, 16)
                self.fds += fds
                if not data:
                    return
                self.elements += self.tokenizer.feed(data)

    def seen(self, tag: str, device: str, name: str | None = None) -> list:
        """Return all such elements received so far."""
        self.receive()
        return [e for e in self.elements if e.tag == tag and e.device == device and name in (None, e.name)]

    async def get(self, tag: str, device: str, name: str | None = None, count: int = 1):
        """Wait until there are `count` such elements. Return the last one."""
        await eventually(lambda: len(self.seen(tag, device, name)) >= count, f"{tag} {device} {name}")
        return self.seen(tag, device, name)[-1]

    def close(self) -> None:
        self.sock.close()
        shm.close_all(self.fds)


@contextlib.asynccontextmanager
async def serving(*drivers: ExDriver) -> AsyncIterator[Hub]:
    """Run a hub with drivers, which must leave behind neither a process nor a descriptor."""
    await asyncio.sleep(0)
    before = set(psutil.Process().children())  # of fixtures that other tests share
    async with no_fd_leak():
        hub = Hub(Limits())
        try:
            for driver in drivers:
                driver.start(hub)
            yield hub
        finally:
            await asyncio.gather(*(driver.stop() for driver in drivers))
            for connection in list(hub.connections.values()):
                connection.stream.abort()
            hub.close()
    assert not set(psutil.Process().children()) - before, "a child is left"


def python(code: str, **keywords) -> ExDriver:
    return ExDriver(sys.executable, "-c", HELLO + code, **keywords)


ONE_PROPERTY = "line(); define()\nwhile True: line()\n"


def test_a_simulator_answers_and_carries_out_commands():
    async def scenario():
        async with serving(ExDriver("indi_simulator_telescope")) as hub:
            client = Client(hub)
            client.ask()
            await client.get("defSwitchVector", "Telescope Simulator", "CONNECTION")
            client.connect("Telescope Simulator")
            await client.get("defNumberVector", "Telescope Simulator", "EQUATORIAL_EOD_COORD")
            client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("pipes", [False, True], ids=["socket", "pipes"])
def test_camera_frames_reach_tcp_and_local_clients(pipes):
    """Over a socket the simulator attaches its frames. Over pipes it sends them inline, in lines of 72 characters."""

    async def scenario():
        async with serving(ExDriver("indi_simulator_ccd", pipes=pipes)) as hub:
            remote, local = Client(hub), Client(hub, local=True)
            for client in (remote, local):
                client.ask(blobs_of="CCD Simulator")
            await remote.get("defSwitchVector", "CCD Simulator", "CONNECTION")
            remote.connect("CCD Simulator")
            for frame in (1, 2, 3):  # more than one, because the driver waits for answers to its pings
                await remote.get("defNumberVector", "CCD Simulator", "CCD_EXPOSURE")
                remote.say(
                    "<newNumberVector device='CCD Simulator' name='CCD_EXPOSURE'>"
                    "<oneNumber name='CCD_EXPOSURE_VALUE'>0.05</oneNumber></newNumberVector>"
                )

                def with_content(client: Client) -> list:
                    return [e for e in client.seen("setBLOBVector", "CCD Simulator", "CCD1") if e.blob]

                await eventually(lambda: min(len(with_content(c)) for c in (remote, local)) >= frame, f"frame {frame}")  # noqa: B023
                inline = with_content(remote)[-1].members[0]
                attached = with_content(local)[-1].members[0]
                assert inline.data.startswith(b"SIMPLE  =")
                assert len(inline.data) == inline.blob_size
                assert attached.attrs["attached"] == "true"
                await eventually(lambda: len(local.fds) == frame)  # noqa: B023
                assert shm.read_all(local.fds[-1], attached.blob_length) == inline.data
                with pytest.raises(OSError):
                    os.write(local.fds[-1], b"x")
            remote.close()
            local.close()

    asyncio.run(scenario())


def test_a_blob_with_size_0_does_not_shift_the_descriptors_of_others():
    """Its content is sent with a descriptor, and so with its real size, because a size of 0 announces no descriptor."""
    code = (
        "import base64\n"
        "while 'newTextVector' not in (heard := line()):\n"
        "    if 'getProperties' in heard: define()\n"
        "for data, size in ((b'first', 0), (b'second', 6), (b'third', 0)):\n"
        "    say(f\"<setBLOBVector device='Toy' name='B' state='Ok'><oneBLOB name='b' size='{size}' format='.x'>\"\n"
        '        f"{base64.b64encode(data).decode()}</oneBLOB></setBLOBVector>")\n'
        "while True: line()\n"
    )
    sent = [b"first", b"second", b"third"]

    async def scenario():
        async with serving(python(code)) as hub:
            remote, local = Client(hub), Client(hub, local=True)
            for client in (remote, local):
                client.ask(blobs_of="Toy")
            for client in (remote, local):
                await client.get("defTextVector", "Toy")
            remote.command()
            for client in (remote, local):
                await client.get("setBLOBVector", "Toy", count=len(sent))
                members = [element.members[0] for element in client.seen("setBLOBVector", "Toy")]
                assert [member.blob_size for member in members] == [5, 6, 5]
                if client.local:
                    announced = [member.blob_length for member in members if member.attached]
                    await eventually(lambda: len(local.fds) == len(sent))
                    found = [shm.read_all(fd, length) for fd, length in zip(local.fds, announced, strict=True)]
                else:
                    found = [member.data for member in members]
                assert found == sent
                client.close()

    asyncio.run(scenario())


def test_a_driver_that_dies_is_restarted(caplog):
    async def scenario():
        driver = python("print('to the log', file=sys.stderr, flush=True)\n" + ONE_PROPERTY)
        async with serving(driver) as hub:
            client = Client(hub)
            client.ask()
            await client.get("defTextVector", "Toy")
            assert hub.router.owners["Toy"] is driver.peer
            first = driver.pid
            os.kill(first, signal.SIGKILL)
            await client.get("delProperty", "Toy")
            await client.get("defTextVector", "Toy", count=2)
            assert driver.pid != first
            assert driver.restarts == 1
            client.close()

    caplog.set_level(logging.INFO)
    asyncio.run(scenario())
    name = sys.executable
    assert f"Driver {name}: to the log" in caplog.text
    assert f"Driver {name}: restart #0" in caplog.text
    assert f"Driver {name}: ended with signal 9" in caplog.text


def test_snooping_continues_after_a_restart(tmp_path):
    async def scenario():
        watcher = python(
            "line(); define('Watcher', 'W')\n"
            "if not os.path.exists(sys.argv[1]):\n"
            "    open(sys.argv[1], 'w').close()\n"
            "    say(\"<getProperties version='1.7' device='Toy'/>\")\n"
            "while True:\n"
            "    text = line()\n"
            "    if 'defTextVector' in text: define('Watcher', 'Heard')\n"
        )
        watcher.args = (*watcher.args, str(tmp_path / "asked"))
        async with serving(watcher, python("while True: line(); define()\n")) as hub:
            client = Client(hub)
            client.ask()
            await client.get("defTextVector", "Watcher", "Heard")
            os.kill(watcher.pid, signal.SIGKILL)
            await client.get("delProperty", "Watcher")
            seen = len(client.seen("defTextVector", "Watcher", "Heard"))
            await client.get("defTextVector", "Watcher", "W", count=2)
            client.say("<getProperties version='1.7' device='Toy'/>")  # the watcher has not asked again
            await client.get("defTextVector", "Watcher", "Heard", count=seen + 1)
            client.close()

    asyncio.run(scenario())


def test_restarts_are_limited_and_logged_in_the_words_that_other_programs_expect(caplog, monkeypatch):
    monkeypatch.setattr(exdriver, "FIRST_PAUSE", 0.01)

    async def scenario(driver: ExDriver):
        ended: list = []
        driver.on_terminated = ended.append
        async with serving(driver) as hub:
            await eventually(lambda: ended)
            assert ended == [driver]
            assert driver.peer not in hub.router.peers

    asyncio.run(scenario(ExDriver("false", max_restarts=0)))
    assert "Driver false: Terminated after #0 restarts." in caplog.text.splitlines()[-1]
    asyncio.run(scenario(ExDriver("false", max_restarts=3)))
    for number in range(3):
        assert f"Driver false: restart #{number}" in caplog.text
    assert "Driver false: Terminated after #3 restarts." in caplog.text


def test_a_driver_that_was_healthy_starts_with_a_new_count(monkeypatch):
    monkeypatch.setattr(exdriver, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(exdriver, "HEALTHY", 0.0)

    async def scenario():
        driver = ExDriver("false", max_restarts=1)
        pids: set[int | None] = set()
        async with serving(driver):
            await eventually(lambda: pids.add(driver.pid) or len(pids) > 5)

    asyncio.run(scenario())


def test_half_an_element_of_a_dying_driver_reaches_nobody():
    async def scenario():
        code = (
            "line(); define()\n"
            "say(\"<setTextVector device='Toy' name='T' state='Ok'><oneText name='m'>half\")\n"
            "os.kill(os.getpid(), 9)\n"
        )
        async with serving(python(code, max_restarts=0)) as hub:
            client = Client(hub)
            client.ask()
            await client.get("delProperty", "Toy")
            assert not client.seen("setTextVector", "Toy")
            client.close()

    asyncio.run(scenario())


def test_a_driver_that_ignores_sigterm_is_killed():
    async def scenario():
        code = "import signal; signal.signal(15, signal.SIG_IGN); line(); define()\nwhile True: time.sleep(100)\n"
        driver = python(code, grace=0.1)
        async with serving(driver) as hub:
            await eventually(lambda: "Toy" in hub.router.owners)

    asyncio.run(scenario())


def test_a_driver_that_closes_its_output_is_restarted():
    async def scenario():
        code = "line(); define()\nos.close(1); os.close(0); time.sleep(1000)\n"
        driver = python(code, grace=0.1)
        async with serving(driver) as hub:
            client = Client(hub)
            client.ask()
            await client.get("defTextVector", "Toy", count=2)
            client.close()

    asyncio.run(scenario())


def test_a_link_starts_afresh_when_it_is_connected_again() -> None:
    """It was lost while a driver had no room for its commands, which must not end its next connection."""

    async def scenario() -> None:
        hub = Hub(Limits(), command_timeout=0.0)
        peer = Peer(Kind.REMOTE, "link", hub.new_outbox())
        lost: list[Exception | None] = []
        for again in (False, True):
            ours, theirs = socket.socketpair()
            hub.carry(peer, SocketStream(ours), lost.append)
            if not again:
                hub.on_pause(peer)
                hub.lose(peer)
                theirs.close()
        hub._check_all()
        await asyncio.sleep(0)
        assert len(lost) == 1
        hub.remove(peer)
        hub.close()
        theirs.close()
        await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_missing_program_raises_at_the_start():
    async def scenario():
        hub = Hub(Limits())
        with pytest.raises(FileNotFoundError, match="indi_no_such_driver"):
            ExDriver("indi_no_such_driver").start(hub)
        assert not hub.router.peers
        hub.close()

    asyncio.run(scenario())


def test_the_environment_of_a_driver_is_ours_with_changes():
    async def scenario():
        code = (
            "line(); assert 'PATH' in os.environ and 'HOME' not in os.environ\n"
            "define(os.environ['INDIDEV'])\nwhile True: line()\n"
        )
        async with serving(python(code, environment={"INDIDEV": "My Camera", "HOME": None})) as hub:
            await eventually(lambda: "My Camera" in hub.router.owners)

    asyncio.run(scenario())


def test_a_program_that_disappears_counts_as_a_failed_restart(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(exdriver, "FIRST_PAUSE", 0.01)
    program = executable(tmp_path / "toy", '#!/bin/sh\nrm "$0"\n')

    async def scenario():
        ended: list = []
        driver = ExDriver(str(program), max_restarts=2)
        driver.on_terminated = ended.append
        async with serving(driver):
            await eventually(lambda: ended)

    asyncio.run(scenario())
    assert "cannot be started" in caplog.text
    assert f"Driver {program}: Terminated after #2 restarts." in caplog.text


TWO_BLOBS_ONE_DESCRIPTOR = (
    "import socket\n"
    "line(); define()\n"
    "sock = socket.socket(fileno=os.dup(1))\n"
    "fd = os.memfd_create('x'); os.write(fd, b'12345')\n"
    "one = \"<oneBLOB name='%s' size='5' format='' attached='true'/>\"\n"
    "both = \"<setBLOBVector device='Toy' name='B' state='Ok'>\" + one % 'a' + one % 'b' + '</setBLOBVector>'\n"
    "socket.send_fds(sock, [both.encode()], [fd])\n"
    "define(name='After')\n"
    "while True: line()\n"
)


@pytest.mark.parametrize("forgiving", [False, True])
def test_a_blob_without_its_descriptor(forgiving, caplog):
    """libindi's drivers send only one descriptor for a vector with several BLOBs."""

    async def scenario():
        driver = python(TWO_BLOBS_ONE_DESCRIPTOR, forgiving=forgiving)
        async with serving(driver) as hub:
            client = Client(hub)
            client.ask(blobs_of="Toy")
            if forgiving:
                await client.get("defTextVector", "Toy", "After")
                assert driver.restarts == 0
            else:
                await client.get("delProperty", "Toy")
                await eventually(lambda: driver.restarts)
            assert not client.seen("setBLOBVector", "Toy")
            client.close()

    asyncio.run(scenario())
    assert "2 attached BLOBs came with" in caplog.text


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_the_descriptor_of_a_damaged_blob_does_not_become_that_of_the_next(at_once, early, caplog):
    code = (
        "import socket\n"
        "line()\n"
        "sock = socket.socket(fileno=os.dup(1))\n"
        "def share(data):\n"
        "    fd = os.memfd_create('x'); os.write(fd, data); return fd\n"
        "one = \"<oneBLOB name='b' size='5' format='' attached='true'/>\"\n"
        "start = \"<setBLOBVector device='Toy' name='B' state='Ok'>\" + one\n"
        "whole = start + '</setBLOBVector>'\n"
        "property = \"<defTextVector device='Toy' name='P' state='Ok' perm='rw'><defText name='t'/></defTextVector>\"\n"
        f"if {early}:\n"
        "    start = start.replace('state=', 'device=') + '</setBLOBVector>'\n"
        f"if {at_once}:\n"
        "    socket.send_fds(sock, [(property + start + whole).encode()], [share(b'WRONG'), share(b'right')])\n"
        "else:\n"
        "    socket.send_fds(sock, [(property + start).encode()], [share(b'WRONG')])\n"
        "    define(name='Between')\n"
        "    while 'newTextVector' not in line(): pass\n"
        "    socket.send_fds(sock, [whole.encode()], [share(b'right')])\n"
        "while True: line()\n"
    )

    async def scenario():
        driver = python(code)
        async with serving(driver) as hub:
            client = Client(hub)
            client.ask(blobs_of="Toy")
            if at_once:
                await client.get("defTextVector", "Toy", "P")  # complete before the damage
                await client.get("delProperty", "Toy")
                await eventually(lambda: driver.restarts)
                assert not client.seen("setBLOBVector", "Toy")
            else:
                await eventually(lambda: "Between" in [e.name for e in client.seen("defTextVector", "Toy")])
                client.command("Between")
                frame = await client.get("setBLOBVector", "Toy")
                assert frame.members[0].data == b"right"
            client.close()

    asyncio.run(scenario())
    assert ("can't be told apart" in caplog.text) == at_once


def test_a_driver_gets_blobs_inline_whatever_the_client_sent():
    """libindi's drivers can't read attached ones."""
    code = (
        "line(); define()\n"
        "text = ''\n"
        "while '</newBLOBVector>' not in text: text += line()\n"
        "assert 'attached' not in text\n"
        "import base64, re\n"
        "define(name=base64.b64decode(re.search('>([^<]+)</oneBLOB>', text)[1]).decode())\n"
        "while True: line()\n"
    )

    async def scenario():
        async with serving(python(code)) as hub:
            client = Client(hub, local=True)
            client.ask()
            await client.get("defTextVector", "Toy")
            blob = "<oneBLOB name='b' size='6' format='' attached='true'/>"
            text = f"<newBLOBVector device='Toy' name='B'>{blob}</newBLOBVector>"
            fd = os.memfd_create("x")
            os.write(fd, b"upload")
            socket.send_fds(client.sock, [text.encode()], [fd])
            os.close(fd)
            await client.get("defTextVector", "Toy", "upload")
            client.close()

    asyncio.run(scenario())


def test_pings_are_answered_at_once():
    async def scenario():
        code = (
            "define()\n"
            "for uid in range(50):\n"
            "    say(f\"<pingRequest uid='{uid}'/>\")\n"
            "    while f'uid=\"{uid}\"' not in line(): pass\n"
            "define(name='Done')\n"
            "while True: line()\n"
        )
        async with serving(python(code)) as hub:
            client = Client(hub)
            client.ask()
            await eventually(lambda: "Toy" in hub.router.owners)
            client.ask()
            await eventually(lambda: "Done" in [e.name for e in client.seen("defTextVector", "Toy")])
            client.close()

    asyncio.run(scenario())
