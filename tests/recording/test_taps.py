"""The hooks that recording and replay use: `IPyClient.on_raw_message` and `IPyServer.open_link`."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import weakref
from pathlib import Path

import pytest

from indifast import IPyServer
from indifast.client import IPyClient
from indifast.protocol.message import opened
from tests.recording.support import DEFINITION, PICTURE, angle, elements, picture
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

NOISE = random.Random(3).randbytes(300_000)


def test_a_link_can_only_be_opened_while_the_server_runs() -> None:
    async def main() -> None:
        server = IPyServer(port=0)
        with pytest.raises(RuntimeError, match="not running"):
            server.open_link("early")
        async with server:
            link = server.open_link("weather")
            link.send(elements(DEFINITION)[0])
            assert server.stats()["devices"] == {"Dome": "Driver weather"}
            assert not link.closed
        assert link.closed
        with pytest.raises(RuntimeError):
            server.open_link("late")

    asyncio.run(main())


@pytest.mark.parametrize("asked", ["", " device='Dome'"])
def test_a_new_link_gets_earlier_requests_of_clients(asked: str) -> None:
    """A client may ask, once, before a replay has opened its link."""

    async def main() -> None:
        async with IPyServer(port=0) as server:
            first = server.open_link("first")
            await asyncio.sleep(0)
            assert first.receive() is None
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"<getProperties version='1.7'{asked}/><pingRequest uid='1'/>".encode())
            await reader.readuntil(b"/>")
            link = server.open_link("weather")
            request = link.receive()
            assert request is not None and request.tag == "getProperties"
            link.send(elements(DEFINITION)[0])
            assert b"Dome" in await reader.readuntil(b">")
            writer.close()

    asyncio.run(main())


def test_closed_links_are_released() -> None:
    async def main() -> None:
        async with IPyServer(port=0) as server:
            kept = server.open_link("kept")
            gone = []
            for number in range(20):
                link = server.open_link(f"weather {number}")
                link.send(elements(DEFINITION)[0])
                link.close()
                gone.append(weakref.ref(link))
            del link
            server.open_link("newest")
            await asyncio.sleep(0)
            gc.collect()
            assert [each() for each in gone] == [None] * 20
            assert not kept.closed
        assert kept.closed

    asyncio.run(main())


def test_a_link_receives_commands_and_reaches_clients() -> None:
    async def main() -> None:
        received: list[str] = []

        def receive() -> None:
            while (element := link.receive()) is not None:
                received.append(element.tag)

        async with IPyServer(port=0) as server:
            link = server.open_link("weather")
            link.on_receive(receive)
            link.send(elements(DEFINITION)[0])
            async with IPyClient("localhost", server.port) as client:
                await eventually(lambda: "getProperties" in received)
                link.send(elements(DEFINITION)[0])
                await client.wait_for("Dome", "ANGLE", timeout=LIMIT)
                await client.send_newVector("Dome", "ANGLE", members={"AZ": 5})
                await eventually(lambda: "newNumberVector" in received)
                link.close()
                await eventually(lambda: not client["Dome"].enable)

    asyncio.run(main())


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_on_message_gets_everything_as_received(tmp_path: Path, unix: bool) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        seen: list = []

        def answer() -> None:
            while (element := link.receive()) is not None:
                for one in elements(DEFINITION + PICTURE) if element.tag == "getProperties" else ():
                    link.send(one)

        async with IPyServer(port=0, unix_socket=path) as server:
            link = server.open_link("weather")
            link.on_receive(answer)
            client = IPyClient(f"unix:{path}") if unix else IPyClient("localhost", server.port)
            client.enableBLOBdefault = "Also"
            client.on_raw_message = seen.append
            async with client:
                await eventually(lambda: any(link.demand("Dome", "PICTURE")))
                link.send(elements(angle("no number"))[0])  # type: ignore[arg-type] # refused by the client
                link.send(picture(NOISE, encoded=False))
                await eventually(lambda: any(message.blob for message in seen))
                frame = next(message for message in seen if message.blob)
                assert (frame.tag, frame.formats) == ("setBLOBVector", (".fits",))
                assert opened(frame).members[0].data == NOISE
                assert any(b"no number" in b"".join(message.parts(False) or ()) for message in seen if not message.blob)
                assert client["Dome"]["PICTURE"]["ALL"] == NOISE, "the client goes on as usual"

    asyncio.run(main())


def test_an_exception_in_on_message_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: object) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with IPyServer(port=0) as server:
            link = server.open_link("weather")
            client = IPyClient("localhost", server.port)
            client.on_raw_message = fail
            async with client:
                await eventually(lambda: client.connected and link.receive())
                link.send(elements(DEFINITION)[0])
                await client.wait_for("Dome", "ANGLE", timeout=LIMIT)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "Error in on_raw_message" in caplog.text
