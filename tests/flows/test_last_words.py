"""What was sent before an end arrives: of clients, drivers, servers and links, at peers that read slowly."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from indifast import Device, IPyClient, IPyDriver, IPyServer, NumberMember, NumberVector
from indifast.client import ConnectionLost
from indifast.protocol import wire
from indifast.protocol.limits import Limits
from indifast.protocol.message import Wire
from indifast.server.exdriver import STOP_GRACE
from tests.server.support import Client
from tests.support.blackbox import LIMIT, Child, python_environment
from tests.support.commands import INDIFAST, SOON_STUCK
from tests.support.programs import python_program
from tests.support.waiting import eventually

SOON = 0.4
"""Seconds after which a slow reader reads on: within every usual grace time, but the tests wait longer if need be."""


class SlowPeer:
    """Accepts one connection in a thread, answers the first bytes, and reads everything else after `go` is set."""

    def __init__(self, answer: str = "") -> None:
        self.received = bytearray()
        self.go = threading.Event()
        self.asked = threading.Event()
        self._answer = answer.encode()
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        sock, _ = self._listening.accept()
        with sock, self._listening:
            self.received += sock.recv(65536)
            sock.sendall(self._answer)
            self.asked.set()
            self.go.wait(LIMIT)
            while data := sock.recv(1 << 20):
                self.received += data
                for uid in re.findall(rb"<pingRequest uid=[\"']([^\"']*)[\"']", data):
                    sock.sendall(b"<pingReply uid='" + uid + b"'/>")

    def reads_soon(self, delay: float = SOON) -> None:
        threading.Timer(delay, self.go.set).start()

    def all(self) -> bytes:
        """Wait until the far side has closed the connection, and return what it has sent."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        return bytes(self.received)


def element(size: int, mark: str = "last") -> ElementTree.Element:
    top = ElementTree.Element("newTextVector", device="D", name="T")
    ElementTree.SubElement(top, "oneText", name="m").text = "x" * size + mark
    return top


class Impatient(IPyClient):
    """It tries again soon, but its grace time is long."""

    retry_min = 0.05
    grace = LIMIT


def test_usual_grace_times_are_longer_than_those_of_the_readers_here() -> None:
    assert min(IPyClient.grace, IPyServer(port=None)._indifast_grace, STOP_GRACE) > 2 * SOON


def test_a_client_that_ends_has_sent_everything() -> None:
    peer = SlowPeer()

    async def program() -> None:
        async with Impatient("127.0.0.1", peer.port) as client:
            await client.wait_connected(LIMIT)
            for _ in range(9):
                await client.send(element(400_000))
            peer.reads_soon()
        assert client.stats()["not_sent"] == 0

    asyncio.run(program())
    assert peer.all().count(b"last") == 9


def test_what_a_client_could_not_send_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    peer = SlowPeer()

    async def program() -> None:
        async with Impatient("127.0.0.1", peer.port) as client:
            client.grace = 0.2
            await client.wait_connected(LIMIT)
            for _ in range(40):
                client._indifast.link.send_now(Wire("newTextVector", "D", "T", wire.tree(element(400_000)).encode()))
        assert client.stats()["not_sent"] > 0

    asyncio.run(program())
    peer.go.set()
    assert re.search(r"\d+ messages were queued but not sent: ", caplog.text)


def test_a_program_that_does_not_close_its_client_has_sent_everything(tmp_path: Path) -> None:
    peer = SlowPeer()
    text = f"""
import asyncio
from indifast import IPyClient
from indifast.transport import alive
from tests.flows.test_last_words import element
alive.RESEND_INTERVAL = 1
client = IPyClient("127.0.0.1", {peer.port})
loop = asyncio.new_event_loop()
running = loop.create_task(client.asyncrun())
loop.run_until_complete(client.wait_connected())
loop.run_until_complete(client.send(element(300_000)))
loop.run_until_complete(asyncio.sleep(0.1))
"""
    subprocess.run(
        [sys.executable, "-c", text], env=python_environment(), check=True, timeout=LIMIT, stderr=subprocess.DEVNULL
    )
    time.sleep(6)  # after which a kernel that sends again every second has given up data of a closed socket
    peer.go.set()
    assert b"last" in peer.all()


TAKES_FILES = """<defBLOBVector device="D" name="B" state="Ok" perm="rw"><defBLOB name="m"/></defBLOBVector>"""


async def far_behind(
    driver: IPyDriver, grace: float | None = None
) -> tuple[asyncio.Task[None], asyncio.StreamReader, asyncio.StreamWriter]:
    """Run a driver that listens, with messages queued for a client that does not read."""
    driver.listen("127.0.0.1", 0)
    run = asyncio.create_task(driver.asyncrun(grace=grace))
    await eventually(lambda: driver.listening_port)
    reader, writer = await asyncio.open_connection("127.0.0.1", driver.listening_port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    link: Any = driver._indifast_runtime.link
    await eventually(lambda: link._client is not None)
    while link._client._outbox.messages < 2:
        await driver.send_message("x" * 400_000)
        await asyncio.sleep(0.01)
    return run, reader, writer


def test_what_a_driver_could_not_send_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        driver = Parked()
        run, _, writer = await far_behind(driver)
        driver.shutdown()
        await run
        assert driver.stats()["refused"] == 1
        writer.close()

    asyncio.run(scenario())
    assert re.search(r"\d+ messages to 127.0.0.1:\d+ were queued but not sent: closed after 2 s", caplog.text)


def test_the_grace_of_a_driver_is_also_that_of_its_stream() -> None:
    async def scenario() -> bytes:
        driver = Parked()
        run, reader, writer = await far_behind(driver, grace=LIMIT)
        await driver.send_message("last")
        driver.shutdown()
        await asyncio.sleep(3.0)  # longer than the time that a peer has at least
        assert not run.done()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = await reader.read()
        await run
        writer.close()
        return received

    assert b"last" in asyncio.run(scenario())


def test_a_driver_that_is_cancelled_does_not_wait_for_its_peer_for_that_long() -> None:
    async def scenario() -> None:
        driver = Parked()
        run, _, writer = await far_behind(driver, grace=10 * LIMIT)
        run.cancel()
        async with asyncio.timeout(LIMIT):
            with pytest.raises(asyncio.CancelledError):
                await run
        writer.close()

    asyncio.run(scenario())


DEFINED = """<defTextVector device="D" name="T" state="Ok" perm="rw"><defText name="m"/></defTextVector>"""


def test_set_waits_until_a_slow_server_has_everything(tmp_path: Path) -> None:
    peer, file = SlowPeer(TAKES_FILES), tmp_path / "large"
    file.write_bytes(bytes(3_600_000))  # more than the kernel takes
    words = [*INDIFAST, "set", "-h", "127.0.0.1", "-p", str(peer.port), "-t", "6", f"D.B.m={file}"]
    with subprocess.Popen(words, env=python_environment(), stderr=subprocess.PIPE, text=True) as tool:
        assert peer.asked.wait(LIMIT)
        peer.reads_soon(8.0)  # later than the definition had to come
        _, said = tool.communicate(timeout=LIMIT)
    assert (tool.returncode, said) == (0, "")
    assert b"</newBLOBVector>" in peer.all()


def test_set_reports_a_server_that_takes_nothing(tmp_path: Path) -> None:
    peer, file = SlowPeer(TAKES_FILES), tmp_path / "large"
    file.write_bytes(bytes(3_600_000))
    words = [*SOON_STUCK, "set", "-h", "127.0.0.1", "-p", str(peer.port), "-t", str(LIMIT), f"D.B.m={file}"]
    with Child(words, tmp_path, env=python_environment()) as tool:
        assert tool.wait() == 3
    assert re.search(r"the server has taken nothing for 0.5 s: up to \d+ bytes were not sent\n", tool.stderr)
    peer.go.set()


def test_set_reports_what_it_could_not_send_besides(tmp_path: Path) -> None:
    """A file that is not there is not forgotten because the server takes nothing of the one before it."""
    peer, file = SlowPeer(TAKES_FILES + TAKES_FILES.replace('"B"', '"C"')), tmp_path / "file"
    file.write_bytes(bytes(2_900_000))  # more than the kernel takes, but less than makes it wait
    words = ["-p", str(peer.port), "-t", str(LIMIT), f"D.B.m={file}", "D.C.m=missing"]
    with Child([*SOON_STUCK, "set", "-h", "127.0.0.1", *words], tmp_path, env=python_environment()) as tool:
        assert tool.wait() == 2
    stuck, other = tool.stderr.splitlines()
    assert stuck.startswith("indifast set: the server has taken nothing for 0.5 s: up to ")
    assert other == "indifast set: missing: no such file or directory"
    peer.go.set()


TERMINATED = """
import os, signal, sys
def end(*_):
    for number in range(40):
        text = "x" * 60_000 + f"last {number}"
        data = f"<setTextVector device='Toy' name='T' state='Ok'><oneText name='m'>{text}</oneText></setTextVector>\\n"
        data = data.encode()
        while data:
            data = data[os.write(1, data):]
    os._exit(0)
signal.signal(signal.SIGTERM, end)
os.write(1, b"<defTextVector device='Toy' name='T' state='Ok' perm='ro'><defText name='m'/></defTextVector>\\n")
while True:
    if not os.read(0, 65536):
        end()
"""


@pytest.mark.parametrize("pipes", [False, True])
def test_the_last_words_of_a_driver_that_is_told_to_end_arrive(tmp_path: Path, pipes: bool) -> None:
    program = python_program(tmp_path / "toy", TERMINATED)

    async def scenario() -> None:
        async with IPyServer(port=0, grace=LIMIT) as server:
            server.add_exdriver(str(program), pipes=pipes, grace=LIMIT)
            client = await Client.to(server)
            await client.hears("defTextVector", "Toy")
            server.shutdown()
            await client.closed.wait()
            ends = [each.members[0].text.rpartition("x")[2] for each in client.heard if each.tag == "setTextVector"]
            assert ends == [f"last {number}" for number in range(40)]

    asyncio.run(scenario())


def test_a_link_has_passed_on_every_command_when_its_server_ends() -> None:
    peer = SlowPeer(DEFINED)

    async def scenario() -> None:
        async with IPyServer(port=0, limits=Limits(small_queue=64 << 20), grace=LIMIT) as server:
            server.add_remote("127.0.0.1", peer.port)
            client = await Client.to(server)
            await client.hears("defTextVector", "D")
            for number in range(1500):
                text = f"{'x' * 4000}{number}"
                client.say(f"<newTextVector device='D' name='T'><oneText name='m'>{text}</oneText></newTextVector>")
            client.say("<pingRequest uid='all'/>")
            await client.hears("pingReply")
            peer.reads_soon()
            server.shutdown()

    asyncio.run(scenario())
    assert peer.all().count(b"</newTextVector>") == 1500


class Parked(IPyDriver):
    """A driver that notes in its own `shutdown` that it was called."""

    def __init__(self) -> None:
        super().__init__(Device("D", [NumberVector("N", "", "", "rw", "Ok", [NumberMember("n")])]))
        self.calls = 0

    def shutdown(self) -> None:
        self.calls += 1
        super().shutdown()


async def _cancel(run: asyncio.Task[None]) -> None:
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


def _fails(runner: IPyDriver | IPyClient) -> None:
    async def hardware() -> None:
        raise ZeroDivisionError

    runner.hardware = hardware  # type: ignore[method-assign]


@pytest.mark.parametrize("end", ["cancelled", "failed", "stopped", "shut down"])
def test_the_own_shutdown_of_a_driver_is_called_once_at_every_end(end: str) -> None:
    async def scenario() -> None:
        driver = Parked()
        driver.listen("127.0.0.1", 0)
        if end == "failed":
            _fails(driver)
        run = asyncio.create_task(driver.asyncrun())
        if end == "failed":
            with pytest.raises(ZeroDivisionError):
                await run
        else:
            await eventually(lambda: driver.listening_port)
            if end == "cancelled":
                await _cancel(run)
            elif end == "stopped":
                driver._stop = True
                await run
            else:
                driver.shutdown()
                await run
        assert driver.calls == 1 and driver.stop

    asyncio.run(scenario())


def test_the_own_shutdown_of_a_driver_that_fails_is_reported_and_the_run_ends(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Parked):
        def shutdown(self) -> None:
            raise ZeroDivisionError("no mount")

    async def scenario() -> None:
        async with asyncio.timeout(LIMIT):
            driver = Broken()
            async with IPyServer(driver, port=0) as server:
                await eventually(lambda: driver._indifast_runtime.up.is_set())
                server.shutdown()
                assert server.devices

    asyncio.run(scenario())
    assert "no mount" in caplog.text


def test_the_own_asyncrun_of_a_driver_is_what_a_server_runs() -> None:
    class Camera(Parked):
        async def asyncrun(self) -> None:  # type: ignore[override]
            said.append("open")
            await super().asyncrun()
            said.append("close")

    said: list[str] = []

    async def scenario() -> None:
        async with IPyServer(Camera(), port=0) as server:
            client = await Client.to(server)
            await client.hears("defNumberVector", "D")
            await client.close()

    asyncio.run(scenario())
    assert said == ["open", "close"]


@pytest.mark.parametrize("kind", [IPyServer, IPyClient])
def test_the_own_shutdown_of_a_server_and_a_client_is_called_when_the_run_is_cancelled(
    kind: type[IPyServer] | type[IPyClient],
) -> None:
    calls: list[bool] = []

    class Own(kind):  # type: ignore[misc,valid-type]
        def shutdown(self) -> None:
            calls.append(True)
            super().shutdown()

    async def scenario() -> None:
        own = Own(port=0) if kind is IPyServer else Own("127.0.0.1", 1)
        run = asyncio.create_task(own.asyncrun())
        await asyncio.sleep(0.1)
        await _cancel(run)
        assert calls == [True] and own.stop
        again = asyncio.create_task(own.asyncrun())
        await asyncio.sleep(0.1)
        assert not own.stop, "an earlier shutdown does not end a later run"
        own.shutdown()
        await again
        assert calls == [True, True]

    asyncio.run(scenario())


def test_a_cancelled_client_hears_that_its_connection_is_lost() -> None:
    events: list[object] = []

    class Own(IPyClient):
        async def rxevent(self, event: object) -> None:
            events.append(event)

    async def scenario() -> None:
        async with IPyServer(Parked(), port=0) as server:
            client = Own("127.0.0.1", server.port)
            run = asyncio.create_task(client.asyncrun())
            await client.ready(LIMIT, "D", quiet=0)
            await _cancel(run)
        assert isinstance(events[-1], ConnectionLost)

    asyncio.run(scenario())


def test_a_driver_of_a_server_that_has_ended_may_be_given_to_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def scenario() -> None:
        driver = Parked()
        for _ in range(2):
            async with IPyServer(driver, port=0) as server:
                client = await Client.to(server)
                await client.hears("defNumberVector", "D")
                await client.close()
                with pytest.raises(RuntimeError, match="already assigned"):
                    IPyServer(driver, port=0)

    asyncio.run(scenario())
    assert not caplog.text


def test_a_port_may_be_text() -> None:
    assert IPyServer(port="0").port == 0


def test_a_client_that_is_cancelled_has_sent_everything() -> None:
    peer = SlowPeer()

    async def program() -> None:
        client = Impatient("127.0.0.1", peer.port)
        run = asyncio.create_task(client.asyncrun())
        await client.wait_connected(LIMIT)
        for _ in range(9):
            await client.send(element(400_000))
        peer.reads_soon()
        await _cancel(run)
        assert client.stats()["not_sent"] == 0

    asyncio.run(program())
    assert peer.all().count(b"last") == 9


def test_a_client_that_is_cancelled_twice_has_ended_and_may_run_again() -> None:
    class Own(IPyClient):
        async def rxevent(self, event: object) -> None:
            if isinstance(event, ConnectionLost):
                told.set()
                await asyncio.sleep(LIMIT)

    told = asyncio.Event()

    async def scenario() -> None:
        async with IPyServer(Parked(), port=0) as server:
            client = Own("127.0.0.1", server.port)
            run = asyncio.create_task(client.asyncrun())
            await client.ready(LIMIT, "D", quiet=0)
            run.cancel()
            await told.wait()
            await _cancel(run)
            assert client.stopped.is_set()
            async with client:
                await client.ready(LIMIT, "D", quiet=0)

    asyncio.run(scenario())


def test_a_driver_serves_the_next_client_after_one_that_read_nothing() -> None:
    async def scenario() -> None:
        driver = Parked()
        driver["D"]["N"].label = "x" * 20_000
        driver.listen("127.0.0.1", 0)
        async with driver:
            assert driver.listening_port is not None
            port = driver.listening_port
            rude = socket.create_connection(("127.0.0.1", port))
            rude.setblocking(False)
            for _ in range(400):  # until the driver reads nothing more
                try:
                    rude.send(b"<getProperties version='1.7'/>" * 100)
                except BlockingIOError:
                    await asyncio.sleep(0.005)
            rude.close()

            async def served() -> bool:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"<getProperties version='1.7'/>")
                try:
                    return bool(await reader.read(1))
                finally:
                    writer.close()

            async with asyncio.timeout(LIMIT):
                while not await served():
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())


FORKING = """
import os, time
os.write(1, b"<defTextVector device='Toy' name='T' state='Ok' perm='ro'><defText name='m'/></defTextVector>\\n")
if os.fork() == 0:
    os.setsid()
    while True:  # as long as somebody reads it
        time.sleep(0.3)
        os.write(1, b"<message device='Toy' message='still here'/>\\n")
os._exit(0)
"""


def test_a_driver_is_restarted_although_a_child_of_it_still_writes(tmp_path: Path) -> None:
    program = python_program(tmp_path / "toy", FORKING)

    async def scenario() -> None:
        async with IPyServer(port=0) as server:
            exdriver = server.add_exdriver(str(program))
            await eventually(lambda: exdriver.restarts >= 2)

    asyncio.run(scenario())
