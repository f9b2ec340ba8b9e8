"""Programs that override the methods by which a client sends."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from xml.etree.ElementTree import Element

import pytest

from tests.client.support import BLOBS, NUMBERS, Recorder, session
from tests.support.waiting import eventually


class Hooked(Recorder):
    """A client that notes what goes through its methods."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[tuple[str | None, ...]] = []

    async def send(self, xmldata: Element) -> None:
        self.calls.append(("send", xmldata.tag, xmldata.get("device"), xmldata.get("name")))
        await super().send(xmldata)

    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        self.calls.append(("getProperties", devicename))
        await super().send_getProperties("D")

    async def resend_enableBLOB(self, devicename: str, vectorname: str | None = None) -> None:
        self.calls.append(("resend", devicename, vectorname))
        await super().resend_enableBLOB(devicename, vectorname)


def test_the_library_calls_what_a_program_overrides(tmp_path: Path) -> None:
    async def run() -> None:
        async with session(NUMBERS, BLOBS, client=Hooked) as (server, client):
            await server.expect('<getProperties version="1.7" device="D"')
            assert client.calls[:2] == [("getProperties", None), ("send", "getProperties", "D", None)]
            await server.expect('name="B"')
            assert client.calls[2:] == [("resend", "D", "B"), ("send", "enableBLOB", "D", "B")]
            del client.calls[:]
            await client.send_newVector("D", "N", members={"a": 5})
            await client["D"]["B"].send_newBLOBVector(members={"img": (b"x", 0, ".b")})
            await client.send_enableBLOB("Also", "D", "B")
            assert [call[1:] for call in client.calls] == [
                ("newNumberVector", "D", "N"), ("newBLOBVector", "D", "B"), ("enableBLOB", "D", "B"),
            ]  # fmt: skip
            await server.expect("eA==</oneBLOB>")
            del client.calls[:]
            client.BLOBfolder = tmp_path
            await eventually(lambda: len(client.calls) == 4)
            assert [call for call in client.calls if call[0] == "resend"] == [
                ("resend", "D", None), ("resend", "D", "B"),
            ]  # fmt: skip

    asyncio.run(run())


def test_definitions_are_asked_for_again_by_the_method_of_the_program() -> None:
    async def run() -> None:
        async with session(NUMBERS, client=Hooked, idle_timeout=0.2) as (_, client):
            await eventually(lambda: client.calls.count(("getProperties", None)) >= 3)

    asyncio.run(run())


def test_a_send_that_is_replaced_gets_everything_and_sends_nothing() -> None:
    async def run() -> None:
        async with session(NUMBERS) as (server, client):
            client.send = AsyncMock()
            await client.send_newVector("D", "N", members={"a": 5}, complete=False)
            await client.send_getProperties("D", "N")
            (command,), _ = client.send.call_args_list[0]
            assert (command.tag, command.get("name"), command[0].text) == ("newNumberVector", "N", "5")
            (request,), _ = client.send.call_args_list[1]
            assert (request.tag, request.get("version")) == ("getProperties", "1.7")
            del client.send
            await client.send_getProperties("Last")
            await server.expect("Last")
            assert b"newNumberVector" not in server.received

    asyncio.run(run())


def test_a_fault_in_what_the_library_calls_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Recorder):
        async def resend_enableBLOB(self, devicename: str, vectorname: str | None = None) -> None:
            raise RuntimeError("a fault of the program")

    async def run() -> None:
        async with session(BLOBS, client=Faulty) as (server, client):
            await eventually(lambda: "a fault of the program" in caplog.text)
            await client.send_getProperties("Last")
            await server.expect("Last")

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
