"""Executable drivers under the server's hub: life, death and BLOBs of real programs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable

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
from tests.support.blackbox import LIMIT

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


async def until(condition: Callable[[], object], what: str = "condition") -> None:
    deadline = asyncio.get_running_loop().time() + LIMIT
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


def fds() -> set[str]:
    gc.collect()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


class Client:
    """A client on a plain socket: what it was told, as elements."""

    def __init__(self, hub: Hub, local: bool = False) -> None:
        if local:
            ours, self.sock = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                self.sock = socket.create_connection(listening.getsockname())
                ours, _ = listening.accept()
        self.local = local
        self.sock.setblocking(False)
        self.tokenizer = Tokenizer()
        self.elements: list = []
        self.fds: list[int] = []
        peer = Peer(Kind.CLIENT, "client", hub.new_outbox(attached=local))
        hub.carry(peer, SocketStream(ours), lambda exc: hub.remove(peer))

    def say(self, text: str) -> None:
        self.sock.send(text.encode())

    def look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self.sock, 1 << 20, 16)
                self.fds += fds
                if not data:
                    return
                self.elements += self.tokenizer.feed(data)

    def seen(self, tag: str, device: str, name: str | None = None) -> list:
        self.look()
        return [e for e in self.elements if e.tag == tag and e.device == device and name in (None, e.name)]

    async def get(self, tag: str, device: str, name: str | None = None, count: int = 1):
        await until(lambda: len(self.seen(tag, device, name)) >= count, f"{tag} {device} {name}")
        return self.seen(tag, device, name)[-1]

    def close(self) -> None:
        self.sock.close()
        shm.close_all(self.fds)


@contextlib.asynccontextmanager
async def serving(*drivers: ExDriver) -> AsyncIterator[Hub]:
    """A hub with drivers; afterwards no process and no descriptor is left."""
    await asyncio.sleep(0)
    before = fds()
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
    await until(lambda: not fds() - before, f"descriptors {fds() - before}")
    assert not psutil.Process().children(), "a child is left"


def python(code: str, **keywords) -> ExDriver:
    return ExDriver(sys.executable, "-c", HELLO + code, **keywords)


ONE_PROPERTY = "line(); define()\nwhile True: line()\n"


def test_a_simulator_is_asked_and_commanded():
    async def scenario():
        async with serving(ExDriver("indi_simulator_telescope")) as hub:
            client = Client(hub)
            client.say("<getProperties version='1.7'/>")
            await client.get("defSwitchVector", "Telescope Simulator", "CONNECTION")
            client.say(
                "<newSwitchVector device='Telescope Simulator' name='CONNECTION'>"
                "<oneSwitch name='CONNECT'>On</oneSwitch></newSwitchVector>"
            )
            await client.get("defNumberVector", "Telescope Simulator", "EQUATORIAL_EOD_COORD")
            client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("pipes", [False, True], ids=["socket", "pipes"])
def test_camera_frames_reach_tcp_and_local_clients(pipes):
    """Over the socket the simulator attaches its frames, over pipes it sends them in lines of 72 characters."""

    async def scenario():
        async with serving(ExDriver("indi_simulator_ccd", pipes=pipes)) as hub:
            remote, local = Client(hub), Client(hub, local=True)
            for client in (remote, local):
                client.say("<getProperties version='1.7'/><enableBLOB device='CCD Simulator'>Also</enableBLOB>")
            await remote.get("defSwitchVector", "CCD Simulator", "CONNECTION")
            remote.say(
                "<newSwitchVector device='CCD Simulator' name='CONNECTION'>"
                "<oneSwitch name='CONNECT'>On</oneSwitch></newSwitchVector>"
            )
            for frame in (1, 2, 3):  # more than one: the driver waits for the answer to its ping
                await remote.get("defNumberVector", "CCD Simulator", "CCD_EXPOSURE")
                remote.say(
                    "<newNumberVector device='CCD Simulator' name='CCD_EXPOSURE'>"
                    "<oneNumber name='CCD_EXPOSURE_VALUE'>0.05</oneNumber></newNumberVector>"
                )

                def with_content(client: Client) -> list:
                    return [e for e in client.seen("setBLOBVector", "CCD Simulator", "CCD1") if e.blob]

                await until(lambda: min(len(with_content(c)) for c in (remote, local)) >= frame, f"frame {frame}")  # noqa: B023
                inline = with_content(remote)[-1].members[0]
                attached = with_content(local)[-1].members[0]
                assert inline.data.startswith(b"SIMPLE  =")
                assert len(inline.data) == inline.blob_size
                assert attached.attrs["attached"] == "true"
                await until(lambda: len(local.fds) == frame)  # noqa: B023
                assert shm.read_all(local.fds[-1], attached.blob_length) == inline.data
                with pytest.raises(OSError):
                    os.write(local.fds[-1], b"x")
            remote.close()
            local.close()

    asyncio.run(scenario())


def test_a_blob_that_claims_size_0_does_not_shift_those_behind_it():
    """Its content leaves with a descriptor, and so with a size: one of size 0 announces none."""
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
                client.say("<getProperties version='1.7'/><enableBLOB device='Toy'>Also</enableBLOB>")
            for client in (remote, local):
                await client.get("defTextVector", "Toy")
            remote.say("<newTextVector device='Toy' name='T'><oneText name='m'>go</oneText></newTextVector>")
            for client in (remote, local):
                await client.get("setBLOBVector", "Toy", count=len(sent))
                members = [element.members[0] for element in client.seen("setBLOBVector", "Toy")]
                assert [member.blob_size for member in members] == [5, 6, 5]
                if client.local:
                    announced = [member.blob_length for member in members if member.attached]
                    await until(lambda: len(local.fds) == len(sent))
                    found = [shm.read_all(fd, length) for fd, length in zip(local.fds, announced, strict=True)]
                else:
                    found = [member.data for member in members]
                assert found == sent
                client.close()

    asyncio.run(scenario())


def test_death_and_return(caplog):
    async def scenario():
        driver = python("print('to the log', file=sys.stderr, flush=True)\n" + ONE_PROPERTY)
        async with serving(driver) as hub:
            client = Client(hub)
            client.say("<getProperties version='1.7'/>")
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


def test_what_a_driver_snoops_on_is_remembered():
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
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            watcher.args = (*watcher.args, os.path.join(folder, "asked"))
            async with serving(watcher, python("while True: line(); define()\n")) as hub:
                client = Client(hub)
                client.say("<getProperties version='1.7'/>")
                await client.get("defTextVector", "Watcher", "Heard")
                os.kill(watcher.pid, signal.SIGKILL)
                await client.get("delProperty", "Watcher")
                seen = len(client.seen("defTextVector", "Watcher", "Heard"))
                await client.get("defTextVector", "Watcher", "W", count=2)
                client.say("<getProperties version='1.7' device='Toy'/>")  # it has not asked again
                await client.get("defTextVector", "Watcher", "Heard", count=seen + 1)
                client.close()

    asyncio.run(scenario())


def test_the_restarts_end_and_are_told_in_the_words_that_others_look_for(caplog, monkeypatch):
    monkeypatch.setattr(exdriver, "FIRST_PAUSE", 0.01)

    async def scenario(driver: ExDriver):
        ended: list = []
        driver.on_terminated = ended.append
        async with serving(driver) as hub:
            await until(lambda: ended)
            assert ended == [driver]
            assert driver.peer not in hub.router.peers

    asyncio.run(scenario(ExDriver("false", max_restarts=0)))
    assert "Driver false: Terminated after #0 restarts." in caplog.text.splitlines()[-1]
    asyncio.run(scenario(ExDriver("false", max_restarts=3)))
    for number in range(3):
        assert f"Driver false: restart #{number}" in caplog.text
    assert "Driver false: Terminated after #3 restarts." in caplog.text


def test_a_healthy_driver_starts_with_a_clean_record(monkeypatch):
    monkeypatch.setattr(exdriver, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(exdriver, "HEALTHY", 0.0)

    async def scenario():
        driver = ExDriver("false", max_restarts=1)
        pids: set[int | None] = set()
        async with serving(driver):
            await until(lambda: pids.add(driver.pid) or len(pids) > 5)

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
            client.say("<getProperties version='1.7'/>")
            await client.get("delProperty", "Toy")
            assert not client.seen("setTextVector", "Toy")
            client.close()

    asyncio.run(scenario())


def test_a_driver_that_ignores_sigterm_is_killed():
    async def scenario():
        code = "import signal; signal.signal(15, signal.SIG_IGN); line(); define()\nwhile True: time.sleep(100)\n"
        driver = python(code, grace=0.1)
        async with serving(driver) as hub:
            await until(lambda: "Toy" in hub.router.owners)

    asyncio.run(scenario())


def test_a_driver_that_closes_its_output_is_started_again():
    async def scenario():
        code = "line(); define()\nos.close(1); os.close(0); time.sleep(1000)\n"
        driver = python(code, grace=0.1)
        async with serving(driver) as hub:
            client = Client(hub)
            client.say("<getProperties version='1.7'/>")
            await client.get("defTextVector", "Toy", count=2)
            client.close()

    asyncio.run(scenario())


def test_a_link_that_comes_back_begins_anew() -> None:
    """It was lost while a driver had no room for its commands; that must not end its next connection."""

    async def scenario() -> None:
        hub = Hub(Limits(), command_timeout=0.0)
        peer = Peer(Kind.REMOTE, "link", hub.new_outbox())
        lost: list[Exception | None] = []
        for round_ in range(2):
            ours, theirs = socket.socketpair()
            hub.carry(peer, SocketStream(ours), lost.append)
            if not round_:
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


def test_environment_is_added_to_ours():
    async def scenario():
        code = (
            "line(); assert 'PATH' in os.environ and 'HOME' not in os.environ\n"
            "define(os.environ['INDIDEV'])\nwhile True: line()\n"
        )
        async with serving(python(code, environment={"INDIDEV": "My Camera", "HOME": None})) as hub:
            await until(lambda: "My Camera" in hub.router.owners)

    asyncio.run(scenario())


def test_a_program_that_vanishes_counts_as_a_failed_restart(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(exdriver, "FIRST_PAUSE", 0.01)
    program = tmp_path / "toy"
    program.write_text(f"#!/bin/sh\nrm {program}\n")
    program.chmod(0o755)

    async def scenario():
        ended: list = []
        driver = ExDriver(str(program), max_restarts=2)
        driver.on_terminated = ended.append
        async with serving(driver):
            await until(lambda: ended)

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
    """libindi's drivers send one descriptor only for a vector with several BLOBs."""

    async def scenario():
        driver = python(TWO_BLOBS_ONE_DESCRIPTOR, forgiving=forgiving)
        async with serving(driver) as hub:
            client = Client(hub)
            client.say("<getProperties version='1.7'/><enableBLOB device='Toy'>Also</enableBLOB>")
            if forgiving:
                await client.get("defTextVector", "Toy", "After")
                assert driver.restarts == 0
            else:
                await client.get("delProperty", "Toy")
                await until(lambda: driver.restarts)
            assert not client.seen("setBLOBVector", "Toy")
            client.close()

    asyncio.run(scenario())
    assert "2 attached BLOBs came with" in caplog.text


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_the_descriptor_of_a_damaged_blob_does_not_become_that_of_the_next(at_once, early, caplog):
    code = (
        "import socket\n"
        "line(); define()\n"
        "sock = socket.socket(fileno=os.dup(1))\n"
        "def share(data):\n"
        "    fd = os.memfd_create('x'); os.write(fd, data); return fd\n"
        "one = \"<oneBLOB name='b' size='5' format='' attached='true'/>\"\n"
        "start = \"<setBLOBVector device='Toy' name='B' state='Ok'>\" + one\n"
        "whole = start + '</setBLOBVector>'\n"
        f"if {early}:\n"
        "    start = start.replace('state=', 'device=') + '</setBLOBVector>'\n"
        f"if {at_once}:\n"
        "    socket.send_fds(sock, [(start + whole).encode()], [share(b'WRONG'), share(b'right')])\n"
        "else:\n"
        "    socket.send_fds(sock, [start.encode()], [share(b'WRONG')])\n"
        "    define(name='Between')\n"
        "    while 'newTextVector' not in line(): pass\n"
        "    socket.send_fds(sock, [whole.encode()], [share(b'right')])\n"
        "while True: line()\n"
    )

    async def scenario():
        driver = python(code)
        async with serving(driver) as hub:
            client = Client(hub)
            client.say("<getProperties version='1.7'/><enableBLOB device='Toy'>Also</enableBLOB>")
            if at_once:
                await client.get("delProperty", "Toy")
                await until(lambda: driver.restarts)
                assert not client.seen("setBLOBVector", "Toy")
            else:
                await until(lambda: "Between" in [e.name for e in client.seen("defTextVector", "Toy")])
                client.say("<newTextVector device='Toy' name='Between'><oneText name='m'>go</oneText></newTextVector>")
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
            client.say("<getProperties version='1.7'/>")
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
            client.say("<getProperties version='1.7'/>")
            await until(lambda: "Toy" in hub.router.owners)
            client.say("<getProperties version='1.7'/>")
            await until(lambda: "Done" in [e.name for e in client.seen("defTextVector", "Toy")])
            client.close()

    asyncio.run(scenario())
