"""Faults R1 to R22 of indipydriver 3.1.2 and indipyserver 0.0.6: one test for each shows that indifast does not have it.

Where that is quick and reliable, the test also shows what the peer does; elsewhere the docstring says it.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import indifast as ipd
from tests.faults.support import (
    GET,
    Serve,
    ServeDriver,
    answers,
    blob,
    blob_definition,
    blobs_wanted,
    definition,
    do,
    ping,
    text,
    until_deleted,
    until_idle,
)
from tests.support.blackbox import (
    LIMIT,
    PYTHON,
    Channel,
    Child,
    Hub,
    descriptors,
    free_port,
    processor_seconds,
    python_environment,
    resident_bytes,
    tree,
    until,
)

PeerServer = Callable[[], Channel]

PEER_SERVER = """
import asyncio, sys
import indipydriver as ipd
from indipyserver import IPyServer
sw = ipd.SwitchVector("switch", "S", "G", "rw", "OneOfMany", "Ok", [ipd.SwitchMember("a")])
tx = ipd.TextVector("text", "T", "G", "rw", "Ok", [ipd.TextMember("t")])
class Driver(ipd.IPyDriver):
    async def rxevent(self, event):
        if event["t"] == "raise":
            raise RuntimeError("as requested")
        event.vector["t"] = event["t"]
        await event.vector.send_setVector()
server = IPyServer(Driver(ipd.Device("Dev", [sw, tx])), port=int(sys.argv[1]))
asyncio.run(server.asyncrun())
"""


@pytest.fixture
def peer_server(peers: dict[str, Path], tmp_path: Path) -> Iterator[PeerServer]:
    """Starts an indipyserver 0.0.6 with a small driver, and returns a client that it serves."""
    children: list[Child] = []
    channels: list[Channel] = []

    def start() -> Channel:
        port = free_port()
        children.append(Child([str(peers["d31"]), "-c", PEER_SERVER, str(port)], tmp_path, env={"PYTHONPATH": ""}))
        channel = Channel.connect(port)
        channels.append(channel)
        channel.send(GET)
        channel.until_text('name="text"')
        return channel

    yield start
    for channel in channels:
        channel.close()
    for child in children:
        child.kill()


def driver_program(body: str, tmp_path: Path) -> list[str]:
    """Return the command line of a driver on stdin and stdout: `body` may use `ipd`, and defines `driver`."""
    path = tmp_path / "driver.py"
    path.write_text(f"import asyncio, os, sys\nimport indifast as ipd\n{body}\nasyncio.run(driver.asyncrun())\n")
    return [PYTHON, str(path)]


@contextmanager
def running_driver(body: str, tmp_path: Path) -> Iterator[tuple[Child, Channel]]:
    """The driver of `driver_program` in a child process, and the stream to it."""
    with Child(driver_program(body, tmp_path), tmp_path, env=python_environment(), stdio=True) as child:
        stream = child.channel()
        yield child, stream
        stream.close()


def text_vector() -> ipd.TextVector:
    return ipd.TextVector("text", "T", "G", "rw", "Ok", [ipd.TextMember("t")])


# R1


def test_r1_closed_clients_free_their_slots_at_once_and_cost_nothing(serve: Serve) -> None:
    """indipyserver 0.0.6 uses a whole processor per closed client, and keeps the slot until two writes have failed."""
    served = serve(server={"maxconnections": 2})
    for _ in range(10):
        served.client().close()
    until_idle(served.pid)
    answers(served.client())


# R2


def test_r2_malformed_bytes_of_a_client_cost_one_message(serve: Serve, peer_server: PeerServer) -> None:
    bad = b'<newTextVector device="Dev" name="text"><oneText name="t">x</oneBLOB></newTextVector>'
    client = serve().client()
    client.send(bad)
    answers(client, "after")
    client.send(b'<?xml version="1.0"?>\x00&<' + bad)
    answers(client, "again")

    peer = peer_server()
    peer.send(bad + text("after"))
    with pytest.raises((EOFError, OSError)):
        peer.until_text(">after<")


def test_r2_malformed_bytes_of_a_driver_cost_one_message(serve_driver: ServeDriver) -> None:
    served, driver = serve_driver()
    client = served.client()
    driver.send(b"<setTextVector device='X' na<<>&&&" + definition("X") + b"</wrong>" + definition("X", "t2"))
    client.until_text('name="t2"')


# R3


def test_r3_an_exception_in_rxevent_stops_nothing(serve: Serve, peer_server: PeerServer) -> None:
    served = serve(devices=["Dev", "Other"])
    client = served.client()
    client.send(do("raise"))
    answers(client)
    answers(client, "other", device="Other")
    assert "Traceback" in served.child.until_stderr("RuntimeError: as requested")

    peer = peer_server()
    peer.send(text("raise"))
    peer.until_end()
    assert peer.ended


def test_r3_an_exception_in_hardware_stops_nothing() -> None:
    class Broken(ipd.IPyDriver):
        async def hardware(self) -> None:
            raise RuntimeError("hardware is broken")

    class Sound(ipd.IPyDriver):
        async def rxevent(self, event: ipd.newTextVector) -> None:
            event.vector["t"] = event["t"]
            await event.vector.send_setVector()

    async def scenario() -> None:
        drivers = (Broken(ipd.Device("Broken", [text_vector()])), Sound(ipd.Device("Dev", [text_vector()])))
        server = ipd.IPyServer(*drivers, port=0)
        running = asyncio.create_task(server.asyncrun())
        await server.ready()
        client = await asyncio.to_thread(Channel.connect, server.port)
        client.send(GET)
        await asyncio.to_thread(client.until_text, 'device="Dev"')
        await asyncio.to_thread(answers, client)
        client.close()
        server.shutdown()
        await running

    asyncio.run(scenario())


# R4


def test_r4_a_wrong_vector_type_is_refused(serve: Serve, peer_server: PeerServer) -> None:
    wrong = b'<newTextVector device="Dev" name="switch"><oneText name="a">On</oneText></newTextVector>'
    client = serve().client()
    client.send(wrong)
    answers(client)

    peer = peer_server()
    peer.send(wrong)
    peer.until_end()
    assert peer.ended


# R5


def test_r5_a_client_cannot_define_the_device_of_a_driver(serve: Serve, peer_server: PeerServer) -> None:
    served = serve()
    watcher, hostile = served.client(), served.client()
    hostile.send(
        b'<defTextVector device="Dev" name="text" state="Ok" perm="rw"><defText name="t">hostile</defText></defTextVector>'
    )
    answers(watcher)
    assert b"hostile" not in watcher.raw

    peer = peer_server()
    peer.send(definition("Dev"))
    peer.until_end()
    assert peer.ended


# R6


def test_r6_messages_reach_a_snooping_driver(serve_driver: ServeDriver) -> None:
    """Every release of indipydriver looks up the event class under a wrong name, and ends with that error."""
    served, driver = serve_driver()
    client = served.client()
    driver.send(definition("X"))
    client.until_text('device="X"')
    client.send(do("snoop X"))
    client.until_text("done snoop X")
    driver.send(b'<message device="X" message="hello"/>')
    served.child.until_stderr("snooped Message X None")
    answers(client)


# R7


def test_r7_the_queue_to_a_client_that_does_not_read_is_bounded_and_delays_no_shutdown(serve: Serve) -> None:
    """indipyserver 0.0.6 keeps everything for the client (74 MB after 60 frames of 1 MB), and cannot shut down."""
    served = serve(server={"queue": 16 << 20})
    reader, stuck = served.client(blobs_wanted()), served.client(blobs_wanted())
    assert not stuck.ended
    before = resident_bytes(served.pid)
    for number in range(60):  # one by one, so that this reader is never far behind
        reader.send(do("blobs 1 1000000 .bin") + do(f"number {number}"))
        frames = [m for m in reader.until_text(f"done number {number}<") if m.startswith(b"<setBLOBVector")]
        assert len(frames) == 1
    assert resident_bytes(served.pid) - before < 64 << 20
    assert "ended" in served.stop()


# R8


def test_r8_an_empty_enable_blob_is_ignored(serve: Serve, peer_server: PeerServer) -> None:
    client = serve().client()
    client.send(b'<enableBLOB device="Dev"></enableBLOB><enableBLOB device="Dev"/><enableBLOB/>')
    answers(client)

    peer = peer_server()
    peer.send(b'<enableBLOB device="Dev"></enableBLOB>' + text("after"))
    with pytest.raises((EOFError, OSError)):
        peer.until_text(">after<")


# R9


def test_r9_clients_are_told_when_a_driver_dies_and_the_driver_is_restarted(
    serve_driver: ServeDriver, hub: Hub
) -> None:
    """indipyserver 0.0.6 logs an internal IndexError, tells no client, restarts nothing, and cannot shut down."""
    served, driver = serve_driver()
    client = served.client()
    driver.send(b'<?xml version="1.0"?>' + definition("X"))
    client.until_text('<defTextVector device="X"')
    driver.close()
    until_deleted(client, "X")
    _, driver = hub.accept()
    driver.until_text("getProperties")
    driver.send(definition("X"))
    client.until_text('<defTextVector device="X"')
    assert "ended" in served.stop()
    with pytest.raises(EOFError):
        driver.until_text("never")


def test_r9_neither_zombies_nor_orphans_are_left(serve: Serve, hub: Hub) -> None:
    served = serve(programs=[[hub.program("one")], ["sleep", "1000"]])
    hub.accept()
    children = Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()
    assert len(children) == 2
    served.stop()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), what="the end of the drivers")


# R10


def test_r10_a_message_waits_for_a_driver_that_does_not_run_yet(hub: Hub) -> None:
    """indipyserver 0.0.6 stops if a driver snoops at the start of `hardware`, when others have not been started yet."""

    class Early(ipd.IPyDriver):
        async def hardware(self) -> None:
            await self.send_getProperties("X")

    async def scenario() -> None:
        server = ipd.IPyServer(Early(ipd.Device("Dev", [])), port=0)
        server.add_exdriver(hub.program("one"))
        running = asyncio.create_task(server.asyncrun())
        await server.ready()
        _, driver = await asyncio.to_thread(hub.accept)
        await asyncio.to_thread(driver.until_text, "getProperties")
        assert not running.done()
        server.shutdown()
        await running

    asyncio.run(scenario())


# R11


@pytest.mark.xdist_group("processor time")
def test_r11_the_loss_of_a_remote_is_reported_once_and_the_connection_is_made_again(serve: Serve) -> None:
    """indipyserver 0.0.6 spins until two keep-alives have failed, and never deletes the devices.

    It also sends four messages every five seconds.
    """
    with socket.create_server(("127.0.0.1", 0)) as far:
        far.settimeout(LIMIT)
        served = serve(remotes=[["127.0.0.1", far.getsockname()[1], True]])
        peer, _ = far.accept()
        remote = Channel(peer.fileno(), peer.fileno(), peer)
        client = served.client()
        remote.until_text("getProperties")
        remote.send(definition("R"))
        client.until_text('<defTextVector device="R"')
        before = processor_seconds(served.pid)
        remote.close()
        until_deleted(client, "R")
        peer, _ = far.accept()
        remote = Channel(peer.fileno(), peer.fileno(), peer)
        assert processor_seconds(served.pid) - before < 1
        remote.until_text("getProperties")
        remote.send(definition("R"))
        client.until_text('<defTextVector device="R"')
        remote.close()
        until_deleted(client, "R")
        answers(client)
        assert client.raw.count(b'message="Remote') <= 4  # connected and lost, twice


# R12


INTERLEAVING = """
class Driver(ipd.IPyDriver):
    async def hardware(self):
        vector = self["Dev"]["blob"]
        beat = asyncio.Event()
        async def talk():
            while True:
                await self["Dev"]["text"].send_setVector()
                beat.set()
                await asyncio.sleep(0.001)  # texts are sent all the time, at a limited rate
        talking = asyncio.create_task(talk())
        for number in range(5):
            vector["b"] = bytes([number]) * 300000
            await vector.send_setVectorMembers(members=["b"])
            for _ in range(5):  # the event loop keeps running
                beat.clear()
                await beat.wait()
        talking.cancel()
        print("all sent", file=sys.stderr, flush=True)
        await self.send_message("finished")
driver = Driver(ipd.Device("Dev", [
    ipd.TextVector("text", "T", "G", "rw", "Ok", [ipd.TextMember("t")]),
    ipd.BLOBVector("blob", "B", "G", "ro", "Ok", [ipd.BLOBMember("b")])]))
"""


def test_r12_messages_on_stdout_never_interleave(tmp_path: Path) -> None:
    """In 3.1.2, 18 of 20 messages were written into the text of a BLOB that was sent at the same time."""
    with running_driver(INTERLEAVING, tmp_path) as (_, stream):
        messages = stream.until_text("finished")
        for message in messages:
            tree(message)
        assert len([m for m in messages if m.startswith(b"<setBLOBVector")]) == 5
        assert len([m for m in messages if m.startswith(b"<setTextVector")]) >= 25


def test_r12_a_slow_reader_of_stdout_does_not_stop_the_driver(tmp_path: Path) -> None:
    """3.1.2 writes in blocking mode, so its event loop stops while the pipe is full."""
    with running_driver(INTERLEAVING, tmp_path) as (child, stream):
        child.until_stderr("all sent")  # 2 MB, of which nothing has been read
        assert len([m for m in stream.until_text("finished") if m.startswith(b"<setBLOBVector")]) == 5


# R13


QUIET = """
driver = ipd.IPyDriver(ipd.Device("Dev", [ipd.TextVector("text", "T", "G", "rw", "Ok", [ipd.TextMember("t")])]))
"""


def test_r13_a_driver_ends_with_its_stdin(tmp_path: Path) -> None:
    """3.1.2 and 2.2.0 poll a closed stdin forever, so orphans remain when indiserver dies."""
    with running_driver(QUIET, tmp_path) as (child, stream):
        stream.send(GET)
        stream.until_text("defTextVector")
        stream.close()
        child.close_stdin()
        assert child.wait() == 0


def test_r13_an_idle_driver_uses_no_processor_time(tmp_path: Path) -> None:
    with running_driver(QUIET, tmp_path) as (child, stream):
        stream.send(GET)
        stream.until_text("defTextVector")
        until_idle(child.pid)


def test_r13_shared_descriptors_stay_in_blocking_mode(tmp_path: Path) -> None:
    """O_NONBLOCK belongs to the open file, not to the descriptor. On a terminal, it would affect every program there."""
    reading, writing = os.pipe()
    out_reading, out_writing = os.pipe()
    process = subprocess.Popen(
        driver_program(QUIET, tmp_path), stdin=reading, stdout=out_writing, env={**os.environ, **python_environment()}
    )
    try:
        stream = Channel(os.dup(out_reading), os.dup(writing))
        stream.send(GET)
        stream.until_text("defTextVector")
        os.set_blocking(out_reading, True)
        stream.close()
        os.close(writing)
        assert process.wait(LIMIT) == 0
        assert os.get_blocking(reading)
        assert os.get_blocking(out_writing)
    finally:
        process.kill()
        process.wait()
        for fd in (reading, out_reading, out_writing):
            os.close(fd)


# R14


def test_r14_snoop_may_be_called_while_the_snoops_are_watched(tmp_path: Path) -> None:
    """3.1.2 awaits while it iterates over the dictionary, so a call of `snoop` meanwhile causes a RuntimeError."""
    body = """
class Driver(ipd.IPyDriver):
    async def hardware(self):
        for number in range(50):
            self.snoop("Far", f"v{number}", timeout=5)
            await asyncio.sleep(0.05)  # 2.5 s in total: unanswered requests are repeated after 2 s
        await self.send_message("finished")
driver = Driver(ipd.Device("Dev", []))
"""
    with running_driver(body, tmp_path) as (child, stream):
        asked = re.findall(rb'name="(v\d+)"', b"".join(stream.until_text("finished")))
        assert set(asked) == {b"v%d" % number for number in range(50)}
        assert asked.count(b"v0") >= 2, "the snoops were watched meanwhile"
        assert child.running()


# R15, R16


def sent_by(tmp_path: Path, hardware: str) -> list[bytes]:
    """Return the messages of a driver with this body of `hardware`."""
    body = f"""
class Driver(ipd.IPyDriver):
    async def hardware(self):
        blob, text = self["Dev"]["blob"], self["Dev"]["text"]
{hardware}
        await self.send_message("finished")
driver = Driver(ipd.Device("Dev", [
    ipd.TextVector("text", "T", "G", "rw", "Ok", [ipd.TextMember("t")]),
    ipd.BLOBVector("blob", "B", "G", "ro", "Ok", [ipd.BLOBMember("b")])]))
"""
    with running_driver(body, tmp_path) as (_, stream):
        return stream.until_text("finished")[:-1]


def test_r15_the_size_is_that_of_the_content(tmp_path: Path) -> None:
    messages = sent_by(
        tmp_path,
        """
        for content in (b"12345", b"1234567"):
            blob["b"] = content
            await blob.send_setVectorMembers(members=["b"])
""",
    )
    assert [tree(m)[0].get("size") for m in messages] == ["5", "7"]


def test_r16_a_message_is_sent_once(tmp_path: Path) -> None:
    messages = sent_by(
        tmp_path,
        """
        await text.send_setVector(message="once")
        await text.send_setVector()
""",
    )
    assert [tree(m).get("message") for m in messages] == ["once", None]


# R17


def test_r17_a_read_only_property_cannot_be_set(serve: Serve) -> None:
    client = serve().client()
    client.send(text("intruder", "fixed"))
    answers(client)
    assert b"intruder" not in client.raw


def test_r17_events_of_a_vector_do_not_overlap(serve: Serve) -> None:
    """In indipyserver 0.0.6, three events started in the order 1, 2, 3 and ended in the order 2, 3, 1."""
    client = serve().client()
    client.send(b"".join(text(f"number {n}") for n in range(20)))
    messages = client.until_text(">number 19<")
    values = [tree(m)[0].text for m in messages if b"number " in m]
    assert values == [f"number {n}" for n in range(20)]
    assert tree(messages[-1]).get("message") == "overlaps 0"


# R18


def test_r18_snooping_drivers_receive_empty_texts_and_bare_states(serve_driver: ServeDriver) -> None:
    served, driver = serve_driver()
    client = served.client()
    driver.send(definition("X"))
    client.until_text('device="X"')
    client.send(do("snoop X"))
    client.until_text("done snoop X")
    driver.send(
        b'<defSwitchVector device="X" name="s" state="Ok" perm="rw" rule="OneOfMany"><defSwitch name="a"></defSwitch></defSwitchVector>'
        b'<setNumberVector device="X" name="bare" state="Busy"/>'
        b'<defNumberVector device="X" name="n" state="Ok" perm="rw"><defNumber name="a" format="" min="" max="" step="">1</defNumber></defNumberVector>'
        + blob_definition("X")
        + blob("X", "b", b"hello", form="")
        + b'<setTextVector device="X" name="last" state="Ok"><oneText name="t">x</oneText></setTextVector>'
    )
    heard = served.child.until_stderr("snooped setTextVector X last")
    assert "snooped setNumberVector X bare" in heard
    assert "snooped setBLOBVector X b" in heard
    answers(client)


# R19


@pytest.mark.parametrize("count", [0, 1], ids=["no driver", "a driver"])
def test_r19_a_port_in_use_is_an_error_with_port_and_remedy(count: int) -> None:
    """indipyserver 0.0.6 returns None from asyncrun, as if nothing had happened."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            drivers = [ipd.IPyDriver(ipd.Device("Dev", []))] * count
            server = ipd.IPyServer(*drivers, host="127.0.0.1", port=port)
            with pytest.raises(OSError, match=str(port)) as caught:
                await server.asyncrun()
            assert len(str(caught.value)) > 30  # a sentence, not just a number
            assert "port" in str(caught.value)
            assert server.stopped.is_set()

    asyncio.run(scenario())


def test_r19_stopped_is_set_when_everything_has_ended() -> None:
    async def scenario() -> None:
        started, ending, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        ended: list[str] = []

        class Driver(ipd.IPyDriver):
            async def hardware(self) -> None:
                started.set()
                try:
                    await self.shutdownrequested.wait()
                    ending.set()
                    await may_end.wait()
                finally:
                    ended.append("hardware")

        server = ipd.IPyServer(Driver(ipd.Device("Dev", [])), port=0)
        running = asyncio.create_task(server.asyncrun())
        await server.ready()
        await started.wait()
        server.shutdown()
        await ending.wait()
        assert not server.stopped.is_set()
        may_end.set()
        await server.stopped.wait()
        assert ended == ["hardware"]
        await running

    asyncio.run(scenario())


# R20


def test_r20_a_client_that_resets_its_connection_does_not_affect_others(serve: Serve) -> None:
    served = serve()
    watcher = served.client(blobs_wanted())
    for _ in range(5):
        victim = served.client(blobs_wanted())
        victim.send(do("blobs 3 200000 .bin"))
        served.vanish(victim)
    answers(watcher)
    assert "Traceback" not in served.child.stderr


# R21


def test_r21_a_new_client_receives_nothing_meant_for_the_one_before(serve: Serve) -> None:
    served = serve(server={"maxconnections": 1})
    first = served.client(blobs_wanted())
    first.send(do("blobs 20 500000 .bin"))
    first.until_text("setBLOBVector")
    served.vanish(first)
    second = served.connect()
    assert [m for m in ping(second) if not m.startswith(b"<message")] == []
    second.send(GET)
    second.until_text("defBLOBVector")
    assert b"oneBLOB" not in second.raw


# R22


def test_r22_input_is_limited(serve: Serve) -> None:
    """No release of the peers has any limit, so one connection can use up the memory."""
    served = serve()
    client = served.client()
    before = resident_bytes(served.pid)
    client.send(b'<newTextVector device="Dev" name="text" junk="')
    client.send(b"x" * (10 << 20))
    client.send(b'"><oneText name="t">x</oneText></newTextVector>')
    answers(client, "attribute")
    client.send(b'<newTextVector device="Dev" name="text">' + b"<a>" * 10000)
    answers(client, "depth")
    client.send(b'<newTextVector device="Dev" name="text"><oneText name="t">')
    for _ in range(20):
        client.send(b"y" * (1 << 20))
    client.send(b"</oneText></newTextVector>")
    answers(client, "element")
    assert resident_bytes(served.pid) - before < 40 << 20


def test_no_descriptors_leak(serve_driver: ServeDriver, hub: Hub) -> None:
    """A hundred clients and two restarts of a driver leave none behind."""
    served, driver = serve_driver()
    served.client()
    before = descriptors(served.pid)
    for _ in range(100):
        served.connect(GET).close()
    for _ in range(2):
        driver.close()
        _, driver = hub.accept()
    answers(served.client())
    until(lambda: descriptors(served.pid) <= before + 2, what="the release of descriptors")
