"""Raw frames from camera to client and back, with every server that may stand in between or at an end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

import indifast as ipd
from indifast.protocol.message import INLINE, RAW
from indifast.recording import Direction, Party, Recorder, Recording
from tests.flows.support import Camera, Watcher, watching
from tests.server.support import Client
from tests.support.blackbox import LIMIT, Child, free_port
from tests.support.servers import await_listener, indiserver
from tests.support.waiting import eventually

FRAME = os.urandom(1_000_003)


def content(number: int) -> bytes:
    return number.to_bytes(8) + FRAME


def forms(server: ipd.IPyServer) -> list[int]:
    """Return the forms in which the clients of a server are sent BLOBs."""
    return [peer.outbox.form for peer in server._indifast_clients]


async def frames_arrive(camera: Camera, *clients: Watcher, since: int = 0) -> None:
    """Take three frames, and check what the clients receive. The first may not have been wanted yet."""
    wanted = [(f"frame {number}", {"a": content(number), "b": b"small"}) for number in range(since, since + 3)]
    async with asyncio.timeout(LIMIT):
        while not all(client.frames for client in clients):
            await camera.expose(content(since), since)
            await asyncio.sleep(0.5)  # what is queued on the way until then has to arrive as well
    for number in range(since + 1, since + 3):
        await camera.expose(content(number), number)
    for client in clients:
        await eventually(lambda client=client: len(client.frames) >= 3 and client.frames[-1] == wanted[-1])
        got = [frame for index, frame in enumerate(client.frames) if not index or frame != client.frames[index - 1]]
        assert got == wanted
        client.frames.clear()


async def uploads_arrive(camera: Camera, client: Watcher) -> None:
    members = {name: (value, len(value), ".bin") for name, value in (("a", content(7)), ("b", b"x"))}
    await client.send_newVector("Cam", "frames", members=members)
    await eventually(lambda: camera.uploads)
    assert camera.uploads == [{"a": content(7), "b": b"x"}]


# -- Between indifast programs


@pytest.mark.parametrize("at_camera", [True, False])
@pytest.mark.parametrize("at_middle", [True, False])
@pytest.mark.parametrize("at_client", [True, False])
def test_frames_cross_two_servers_raw_where_both_sides_of_a_hop_allow_it(
    at_camera: bool, at_middle: bool, at_client: bool
) -> None:
    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0, raw_frames=at_camera) as first:
            middle = ipd.IPyServer(port=0, raw_frames=at_middle)
            remote = middle.add_remote("localhost", first.port, blob_enable=True)
            async with middle, watching(middle.port, raw_frames=at_client) as client:
                await frames_arrive(camera, client)
                await uploads_arrive(camera, client)
                assert remote.peer is not None
                near = RAW if at_camera and at_middle else INLINE
                far = RAW if at_middle and at_client else INLINE
                assert forms(first) == [near] and remote.peer.outbox.form == near
                assert forms(middle) == [far] and client.form == far

    asyncio.run(run())


@pytest.mark.parametrize(("fast_enough", "raw"), [(0.0, False), (1e12, True)])
def test_what_came_as_base64_goes_on_as_that_to_a_fast_peer_on_this_machine(
    fast_enough: float, raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indifast.transport.drain._NO_TUNNEL", fast_enough)

    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0, raw_frames=False) as first:
            middle = ipd.IPyServer(port=0)
            middle.add_remote("localhost", first.port, blob_enable=True)
            async with middle, watching(middle.port) as client:
                await frames_arrive(camera, client)
                await uploads_arrive(camera, client)
                assert client.form == RAW
                connection = client._indifast.link.connection
                assert connection is not None
                before = connection.received_bytes
                await camera.expose(content(9), 9)
                await eventually(lambda: client.frames)
                taken = connection.received_bytes - before
        assert len(FRAME) < taken < 1.01 * len(FRAME) if raw else taken > 1.33 * len(FRAME)

    asyncio.run(run())


def test_raw_frames_are_a_quarter_smaller_and_go_over_tls() -> None:
    authority = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(serving)
    authority.configure_trust(trusting)

    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0, ssl=serving) as server:
            taken = {}
            for raw in (True, False):
                async with watching(server.port, ssl=trusting, raw_frames=raw) as client:
                    await frames_arrive(camera, client)
                    await camera.expose(content(9), 9)
                    await eventually(lambda client=client: client.frames)
                    connection = client._indifast.link.connection
                    assert connection is not None
                    before = connection.received_bytes
                    await camera.expose(content(10), 10)
                    await eventually(lambda client=client: len(client.frames) == 2)
                    taken[raw] = connection.received_bytes - before
        assert len(FRAME) < taken[True] < 1.01 * len(FRAME) and taken[False] > 1.33 * len(FRAME)

    asyncio.run(run())


def test_clients_of_one_server_get_each_their_form(tmp_path: Path) -> None:
    async def run() -> None:
        camera = Camera()
        async with (
            ipd.IPyServer(camera, port=0, unix_socket=str(tmp_path / "socket")) as server,
            watching(server.port) as raw,
            watching(server.port, raw_frames=False) as inline,
            watching(7624, indihost=str(tmp_path / "socket")) as attached,
        ):
            await frames_arrive(camera, raw, inline, attached)
            assert sorted(forms(server)) == [0, 1, 2]

    asyncio.run(run())


def test_a_driver_that_listens_itself_sends_and_receives_raw_frames() -> None:
    async def run() -> None:
        for raw in (True, False):
            camera, port = Camera(), free_port()
            camera.listen("localhost", port)
            running = asyncio.create_task(camera.asyncrun())
            async with watching(port, raw_frames=raw) as client:
                await frames_arrive(camera, client)
                await uploads_arrive(camera, client)
                assert client.form == (RAW if raw else INLINE)
            camera.shutdown()
            await running

    asyncio.run(run())


def test_a_recording_has_the_frames_that_came_raw(tmp_path: Path) -> None:
    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0) as server, watching(server.port) as client:
            await frames_arrive(camera, client)
            recorder = Recorder(str(tmp_path / "night.indi"), source="camera", blobs=True)
            client.on_raw_message = partial(recorder.put, Direction.FROM, Party.SERVER, "camera")
            await camera.expose(content(5), 5)
            await eventually(lambda: client.frames)
            assert client.form == RAW
            recorder.close()

    asyncio.run(run())
    with Recording(tmp_path / "night.indi") as recording:
        messages = [record.message for record in recording if record.message is not None]
    (frame,) = [message for message in messages if message.tag == "setBLOBVector"]
    assert [member.data for member in frame.members] == [content(5), b"small"]


def test_a_new_connection_begins_anew() -> None:
    """A link that has agreed on raw frames may find another server at the same place later."""

    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(port=0) as near:
            port = free_port()
            async with ipd.IPyServer(camera, port=port):
                remote = near.add_remote("localhost", port, blob_enable=True)
                async with watching(near.port) as client:
                    await frames_arrive(camera, client)
                    assert remote.peer is not None and remote.peer.outbox.form == RAW
            await eventually(lambda: not remote.connected)
            camera = Camera()
            async with ipd.IPyServer(camera, port=port, raw_frames=False) as second, watching(near.port) as client:
                await frames_arrive(camera, client)
                await uploads_arrive(camera, client)
                assert remote.peer.outbox.form == INLINE and forms(second) == [INLINE]

    asyncio.run(run())


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "view"])
def test_an_upload_has_what_the_buffer_held_when_it_was_sent(kind: Callable[[bytes], bytearray | memoryview]) -> None:
    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0) as server, watching(server.port) as client:
            await eventually(lambda: client.form == RAW)
            buffer = kind(FRAME)
            await client.send_newVector("Cam", "frames", members={"a": (buffer, 0, "")})
            buffer[:] = bytes(len(FRAME))
            await eventually(lambda: camera.uploads)
            assert camera.uploads == [{"a": FRAME}]

    asyncio.run(run())


# -- Faults of the other side


RAW_FRAME = b'<%bBLOBVector device="Cam" name="frames"><oneBLOB name="a" size="4" format="" len="4" attached="raw"/>'
RAW_FRAME += b"</%bBLOBVector>1234%b"
INLINE_FRAME = b'<%bBLOBVector device="Cam" name="frames"><oneBLOB name="a" size="3" format=".x">QUJD</oneBLOB>'
INLINE_FRAME += b"</%bBLOBVector>"
COMMAND = INLINE_FRAME % (b"new", b"new")


@pytest.mark.parametrize(
    ("agreed", "words", "uploads"),
    [
        (False, RAW_FRAME % (b"new", b"new", b"<?end?>"), [b"ABC"]),
        (True, RAW_FRAME % (b"new", b"new", b"<?END?>"), [b"ABC"]),
        (True, RAW_FRAME % (b"new", b"new", b"<?end?>") + b"<newBLOBVector x=/>", [b"ABC", b"1234"]),
    ],
)
def test_a_server_hears_no_more_of_who_may_have_lost_count(agreed: bool, words: bytes, uploads: list[bytes]) -> None:
    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0) as server:
            client = await Client.to(server)
            await client.hears("defBLOBVector", "Cam")
            client.say((b"<?indi-offer raw?>" if agreed else b"") + COMMAND + words + COMMAND)
            async with asyncio.timeout(LIMIT):
                await client.closed.wait()
            await eventually(lambda: len(camera.uploads) == len(uploads))
            assert [upload["a"] for upload in camera.uploads] == uploads

    asyncio.run(run())


def test_a_client_hears_no_more_of_a_server_that_did_not_agree() -> None:
    defined = b'<defBLOBVector device="Cam" name="frames" state="Ok" perm="ro"><defBLOB name="a"/></defBLOBVector>'
    inline = INLINE_FRAME % (b"set", b"set")
    said = defined + inline + RAW_FRAME % (b"set", b"set", b"<?end?>") + inline
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        if len(connections) == 1:
            writer.write(said)
        while await reader.read(1 << 16):
            pass
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Watcher("127.0.0.1", server.sockets[0].getsockname()[1]) as client:
            await eventually(lambda: len(connections) == 2)
            assert client.frames == [("", {"a": b"ABC"})]
            assert "not agreed on" in client._indifast.link.failure

    asyncio.run(run())


# -- indifast before it had raw frames, in recorded exchanges

OLD_CLIENT = (
    b'<getProperties version="1.7" /><enableBLOB device="Cam" name="frames">Never</enableBLOB>'
    b'<enableBLOB device="Cam">Also</enableBLOB>'
    b'<newBLOBVector device="Cam" name="frames" timestamp="2026-11-28T22:29:00.928950">'
    b'<oneBLOB name="b" format=".x" size="6">dXBsb2Fk</oneBLOB></newBLOBVector>'
)
OLD_SERVER = (
    b'<pingReply uid="x" /><defBLOBVector device="Cam" name="frames" label="B" group="G" state="Ok" perm="rw"'
    b' timestamp="2026-11-28T22:28:44.978708" timeout="0"><defBLOB name="b" label="b" /></defBLOBVector>'
    b'<setBLOBVector device="Cam" name="frames" state="Ok" timestamp="2026-11-28T22:28:45.106320" timeout="0">'
    b'<oneBLOB name="b" format=".bin" size="6">AAECAwQF</oneBLOB></setBLOBVector>'
)


def test_an_old_client_is_sent_base64_and_no_instruction() -> None:
    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4 << 20)
            writer.write(OLD_CLIENT)
            await eventually(lambda: camera.uploads == [{"b": b"upload"}])
            await camera.expose(content(1), 1)
            said = await asyncio.wait_for(reader.readuntil(b"</setBLOBVector>"), LIMIT)
            assert b"<?" not in said and b'"raw"' not in said and b64encode(content(1)) in said
            writer.close()

    asyncio.run(run())


def test_an_old_server_is_sent_base64() -> None:
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OLD_SERVER)
        while data := await reader.read(1 << 16):
            heard.extend(data)
        writer.close()

    async def run() -> None:
        old = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with old, watching(old.sockets[0].getsockname()[1]) as client:
            await eventually(lambda: client.frames)
            assert client.frames[0][1] == {"b": bytes(range(6))}
            await client.send_newVector("Cam", "frames", members={"b": (b"upload", 6, ".x")})
            await eventually(lambda: b"</newBLOBVector>" in heard)
            assert heard.startswith(b"<?indi-offer raw pieces?><getProperties ") and b"dXBsb2Fk" in heard
            assert b"attached" not in heard and client.form == INLINE

    asyncio.run(run())


# -- Other servers

INDIPYSERVER = """
import asyncio, sys
from indipyserver import IPyServer
server = IPyServer(port=int(sys.argv[1]))
server.add_remote(host="localhost", port=int(sys.argv[2]), blob_enable=True)
asyncio.run(server.asyncrun())
"""


@contextlib.contextmanager
def libindi(program: Callable[[str], str], peers: dict[str, Path], folder: Path, port: int) -> Iterator[int]:
    with indiserver(program, f"@localhost:{port}") as (here, _):
        yield here


@contextlib.contextmanager
def indipyserver(program: Callable[[str], str], peers: dict[str, Path], folder: Path, port: int) -> Iterator[int]:
    here = free_port()
    words = [str(peers["d31"]), "-c", INDIPYSERVER, str(here), str(port)]
    with Child(words, folder, env={"PYTHONPATH": ""}) as child:
        await_listener(child, here)
        yield here


@pytest.mark.parametrize("middle", [libindi, indipyserver])
def test_another_server_in_between_passes_base64_on_and_no_offer(
    middle: Any, program: Callable[[str], str], peers: dict[str, Path], tmp_path: Path
) -> None:
    """Our client and our link offer raw frames to it, which it neither passes on nor accepts."""

    async def run() -> None:
        camera = Camera()
        async with ipd.IPyServer(camera, port=0) as first, contextlib.AsyncExitStack() as stack:
            port = await asyncio.to_thread(stack.enter_context, middle(program, peers, tmp_path, first.port))
            last = ipd.IPyServer(port=0)
            last.add_remote("localhost", port, blob_enable=True)
            async with last, watching(port) as beside, watching(last.port) as behind:
                await frames_arrive(camera, beside, behind)
                assert forms(first) == [INLINE] and beside.form == INLINE and behind.form == RAW
                await uploads_arrive(camera, behind)

    asyncio.run(run())


LISTENING = """
import asyncio, sys
import indipydriver as ipd
class Driver(ipd.IPyDriver):
    async def rxevent(self, event):
        pass
    async def clientevent(self, event):  # of the oldest release, instead of rxevent
        if isinstance(event, ipd.getProperties):
            await event.vector.send_defVector()
    async def hardware(self):
        while True:
            await asyncio.sleep(0.3)
            vector = self["Cam"]["frames"]
            vector["a"] = bytes(range(256)) * 1000
            await vector.send_setVectorMembers(members=["a"])
members = [ipd.BLOBMember("a", blobformat=".x")]
device = ipd.Device("Cam", [ipd.BLOBVector("frames", "F", "G", "ro", "Ok", members)])
driver = Driver([device]) if sys.argv[2] == "driver" else Driver(device)
if sys.argv[2] == "server":
    from %s import IPyServer
    server = IPyServer(driver, port=int(sys.argv[1]))
    asyncio.run(server.asyncrun())
else:
    driver.listen(port=int(sys.argv[1]))
    asyncio.run(driver.asyncrun())
"""


@pytest.mark.parametrize(("release", "how", "module"), [
    ("d31", "server", "indipyserver"), ("d22", "server", "indipydriver"), ("d12", "driver", ""),
])  # fmt: skip
def test_every_package_serves_a_client_that_offers_raw_frames(
    peers: dict[str, Path], tmp_path: Path, release: str, how: str, module: str
) -> None:
    port = free_port()
    code = LISTENING.replace("%s", module or "nothing")
    with Child([str(peers[release]), "-c", code, str(port), how], tmp_path, env={"PYTHONPATH": ""}) as child:

        async def run() -> None:
            async with watching(port) as client:  # tries until the program listens
                await eventually(lambda: client.frames or not child.running())
                assert client.frames[0][1] == {"a": bytes(range(256)) * 1000} and client.form == INLINE

        asyncio.run(run())


def test_libindi_serves_a_client_that_offers_raw_frames(program: Callable[[str], str]) -> None:
    async def run() -> None:
        with indiserver(program, "indi_simulator_telescope") as (port, _):
            async with Watcher("localhost", port) as client:
                await eventually(lambda: "CONNECTION" in client.get("Telescope Simulator", {}))
                assert client.form == INLINE and client.stats()["skipped"] == 0

    asyncio.run(run())
