"""Frames in pieces between real programs: what is about other devices arrives while a frame is on its way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any

import pytest
import trustme

import indifast as ipd
from indifast.client import IPyClient
from indifast.protocol.limits import Limits
from indifast.protocol.message import Routable, opened
from indifast.transport.rawframes import ACCEPTANCE, ACCEPTED, OFFER, OFFERED
from tests.server.support import GET, NEW, Echo
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually
from tests.transport.support import ReaderLog

BUFFER = 32 << 10


@cache
def frame_content() -> bytes:
    """Return the content of all frames, which only the process that runs these tests makes."""
    return os.urandom(20_000_003)


class SlowReader:
    """Reads no more than it is told to, and keeps the messages."""

    def __init__(self, reader: asyncio.StreamReader, expected: bytes) -> None:
        self.log = ReaderLog(Limits())
        self.log.reader.expect_raw(expected, lambda agreed: None)
        self.messages: list[Routable] = []
        self._reader = reader

    async def read(self, until: Callable[[], Any]) -> None:
        async with asyncio.timeout(LIMIT):
            while not until():
                data = await self._reader.read(BUFFER)
                assert data, self.messages
                self.messages += self.log.reader.read(data, 0, len(data), [])
                assert not self.log.violations

    def find(self, tag: str, device: str, state: str = "") -> int | None:
        """Return the place of a message among those that have arrived."""
        for at, message in enumerate(self.messages):
            if (message.tag, message.device) == (tag, device) and state in message.element().attrs.get("state", ""):
                return at
        return None


class Camera(ipd.IPyDriver):
    """Sends frames."""

    def __init__(self) -> None:
        members = [ipd.BLOBMember("m", blobformat=".bin")]
        super().__init__(ipd.Device("Cam", [ipd.BLOBVector("frames", "F", "G", "rw", "Ok", members)]))

    async def expose(self) -> None:
        self["Cam"]["frames"]["m"] = frame_content()
        await self["Cam"]["frames"].send_setVectorMembers(members=["m"])


@contextlib.asynccontextmanager
async def connected(
    port: int, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[SlowReader, asyncio.StreamWriter]]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    keywords = {"ssl": context, "server_hostname": "localhost"} if context else {}
    reader, writer = await asyncio.open_connection(sock=sock, limit=BUFFER, **keywords)  # type: ignore[arg-type]
    try:
        yield SlowReader(reader, ACCEPTED), writer
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("tls", [False, True], ids=["", "TLS"])
def test_an_answer_passes_the_frame_of_another_device(tls: bool) -> None:
    serving = trusting = None
    if tls:
        authority = trustme.CA()
        serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
        authority.issue_cert("localhost").configure_cert(serving)
        authority.configure_trust(trusting)

    async def run() -> None:
        camera, echo = Camera(), Echo("Roof")
        async with ipd.IPyServer(camera, echo, port=0, ssl=serving) as server, connected(server.port, trusting) as pair:
            slow, writer = pair
            writer.write(OFFER.data + GET.encode() + b"<enableBLOB device='Cam'>Also</enableBLOB>")
            await slow.read(lambda: slow.find("defBLOBVector", "Cam") is not None)
            outbox = next(iter(server._indifast_clients)).outbox
            await eventually(lambda: outbox.piece)
            exposing = asyncio.create_task(camera.expose())
            await slow.read(lambda: slow.log.reader.held > 100_000)
            writer.write(NEW.format("Roof").encode())
            await eventually(lambda: echo["Roof"]["P"].state == "Ok" and echo.events)
            await camera["Cam"].send_device_message("later")
            await slow.read(lambda: slow.find("message", "Cam") is not None)
            await exposing
            answer, frame = slow.find("setNumberVector", "Roof", "Ok"), slow.find("setBLOBVector", "Cam")
            assert answer is not None and frame is not None and answer < frame
            assert frame < (slow.find("message", "Cam") or 0), "what is about the camera keeps its order"
            assert [member.data for member in opened(slow.messages[frame]).members] == [frame_content()]

    asyncio.run(run())


DEFINITIONS = (
    b"<defBLOBVector device='Cam' name='frames' state='Ok' perm='rw'><defBLOB name='m'/></defBLOBVector>"
    b"<defNumberVector device='Cam' name='P' state='Ok' perm='rw'><defNumber name='m' format='%g' min='0' max='9'"
    b" step='1'>1</defNumber></defNumberVector>"
    b"<defNumberVector device='Roof' name='P' state='Ok' perm='rw'><defNumber name='m' format='%g' min='0' max='9'"
    b" step='1'>1</defNumber></defNumberVector>"
)


@pytest.mark.parametrize("linked", [False, True], ids=["client", "server"])
def test_a_command_passes_an_upload_to_another_device(linked: bool) -> None:
    """From a client to a server, and from a server to a remote one."""
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await arrived.put((reader, writer))

    async def run() -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listening.bind(("127.0.0.1", 0))
        far = await asyncio.start_server(accept, sock=listening, limit=BUFFER)
        port = far.sockets[0].getsockname()[1]
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(far)
            near = ipd.IPyServer(port=0)
            if linked:
                near.add_remote("127.0.0.1", port, blob_enable=True)
                await stack.enter_async_context(near)
            client = IPyClient("127.0.0.1", near.port if linked else port)
            await stack.enter_async_context(client)
            reader, writer = await arrived.get()
            writer.write(ACCEPTANCE.data)
            slow = SlowReader(reader, OFFERED)
            async with asyncio.timeout(LIMIT):
                while "Roof" not in client or "P" not in client["Roof"]:  # the client may not have asked yet
                    writer.write(DEFINITIONS)
                    await asyncio.sleep(0.05)
            members = {"m": (frame_content(), len(frame_content()), ".bin")}
            sending = [asyncio.create_task(client.send_newVector("Cam", "frames", members=members))]
            await slow.read(lambda: slow.log.reader.held > 100_000)
            for device in ("Roof", "Cam"):
                sending.append(asyncio.create_task(client.send_newVector(device, "P", members={"m": 5})))
            await slow.read(lambda: slow.find("newNumberVector", "Cam") is not None)
            await asyncio.gather(*sending)
            command, upload = slow.find("newNumberVector", "Roof"), slow.find("newBLOBVector", "Cam")
            assert command is not None and upload is not None and command < upload
            assert upload < (slow.find("newNumberVector", "Cam") or 0)
            assert [member.data for member in opened(slow.messages[upload]).members] == [frame_content()]
            writer.transport.abort()

    asyncio.run(run())
