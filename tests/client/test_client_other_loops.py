"""Sends that other threads await in event loops of their own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from indifast.client import IPyClient
from indifast.handover import Home
from tests.client.support import BLOBS, NUMBERS, SWITCHES, TEXTS, session
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

Sends = Callable[[IPyClient], Coroutine[Any, Any, Any]]

SENDS: list[tuple[Sends, str]] = [
    (lambda client: client.send_newVector("D", "N", members={"a": 5}), "<newNumberVector"),
    (lambda client: client["D"]["N"].send_newNumberVector(members={"a": 5}), "<newNumberVector"),
    (lambda client: client["D"]["T"].send_newTextVector(members={"x": "5"}), "<newTextVector"),
    (lambda client: client["D"]["S"].send_newSwitchVector(members={"on": "On"}), "<newSwitchVector"),
    (lambda client: client["D"]["B"].send_newBLOBVector(members={"img": (b"x", 0, ".b")}), "<newBLOBVector"),
    (lambda client: client.send_enableBLOB("Only", "D"), ">Only</enableBLOB>"),
    (lambda client: client.resend_enableBLOB("D"), '<enableBLOB device="D">'),
    (lambda client: client.send_getProperties("Other"), 'device="Other"'),
    (lambda client: client.send(fromstring('<message message="mine"/>')), "mine"),
]


def in_thread(coro: Coroutine[Any, Any, None]) -> threading.Thread:
    thread = threading.Thread(target=asyncio.run, args=(coro,), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("send", "text"), SENDS, ids=[text.strip("<>") for _, text in SENDS])
def test_it_is_sent_at_once_by_the_loop_of_the_client(send: Sends, text: str) -> None:
    async def run() -> None:
        async with session(NUMBERS, TEXTS, SWITCHES, BLOBS) as (server, client):
            used = []
            connection = client._indifast.link.connection
            sent = connection.send
            connection.send = lambda message: (used.append(threading.get_ident()), sent(message))[1]
            thread = in_thread(send(client))
            await server.expect(text)
            await eventually(lambda: not thread.is_alive())
            assert set(used) == {threading.get_ident()}

    asyncio.run(run())


def test_waiting_and_errors_work_from_a_thread() -> None:
    async def run() -> None:
        async with session(NUMBERS) as (server, client):
            results: list[object] = []

            async def command(name: str) -> None:
                try:
                    vector = await client.send_newVector("D", name, members={"a": 5}, wait=True)
                    results.append(vector["a"])
                except KeyError as error:
                    results.append(type(error))

            thread = in_thread(command("N"))
            await server.expect("<newNumberVector")
            await server.send(
                '<setNumberVector device="D" name="N" state="Ok"><oneNumber name="a">5</oneNumber></setNumberVector>'
            )
            await eventually(lambda: not thread.is_alive())
            thread = in_thread(command("nothing"))
            await eventually(lambda: not thread.is_alive())
            assert results == ["5", KeyError]

    asyncio.run(run())


def test_a_send_returns_if_the_run_ends_meanwhile() -> None:
    async def run() -> None:
        errors: list[Exception] = []
        async with session(NUMBERS) as (server, client):

            async def command() -> None:
                try:
                    await client.send_newVector("D", "N", members={"a": 5}, wait=True)
                except ConnectionError as error:
                    errors.append(error)

            thread = in_thread(command())
            await server.expect("<newNumberVector")
        await eventually(lambda: not thread.is_alive())
        assert len(errors) == 1
        thread = in_thread(client.send_getProperties())
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert client.stats()["not_sent"] == 1

    asyncio.run(run())


def test_the_methods_remain_what_they_seem() -> None:
    assert inspect.iscoroutinefunction(IPyClient.send_newVector)
    assert list(inspect.signature(IPyClient.send_getProperties).parameters) == ["self", "devicename", "vectorname"]
    assert IPyClient.send_newVector.__doc__


def test_a_command_that_a_run_leaves_behind_is_not_cancelled_by_the_next() -> None:
    async def run() -> None:
        async with session(NUMBERS) as (server, client):
            errors: list[BaseException] = []
            blocked = threading.Event()

            async def command() -> None:
                try:
                    await client.send_newVector("D", "N", members={"a": 5}, wait=True)
                except BaseException as error:
                    errors.append(error)

            def other_loop() -> None:
                loop = asyncio.new_event_loop()
                task = loop.create_task(command())
                loop.call_later(0.05, blocked.wait, LIMIT)  # it learns of the end of the run only in the next one
                loop.run_until_complete(task)
                loop.close()

            thread = threading.Thread(target=other_loop, daemon=True)
            thread.start()
            await server.expect("<newNumberVector")
            await asyncio.sleep(0.2)
            await client.__aexit__()
            await client.__aenter__()
            await server.connected(2)
            blocked.set()
            await eventually(lambda: not thread.is_alive())
            assert [type(error) for error in errors] in ([ConnectionError], [KeyError])

    asyncio.run(run())


def test_a_loop_that_was_closed_in_the_middle_of_a_run_is_no_home() -> None:
    home = Home()

    async def begin() -> None:
        home.begin()

    asyncio.run(begin())
    assert home.thread
    assert home.start(asyncio.sleep(0)) is None
    assert not home.thread, "otherwise, whoever sends from another thread would try for ever"
