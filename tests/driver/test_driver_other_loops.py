"""Sends that other threads await in event loops of their own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from indifast import Device, IPyDriver
from indifast.driver import propertyvectors
from tests.driver.support import full_driver, listening
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

Sends = Callable[[IPyDriver], Coroutine[Any, Any, None]]

SENDS: list[tuple[Sends, str]] = [
    (lambda driver: driver["Dev"]["nu"].send_setVector(), "setNumberVector"),
    (lambda driver: driver["Dev"]["nu"].send_defVector(), "defNumberVector"),
    (lambda driver: driver["Dev"]["nu"].send_setVectorMembers(members=["n"]), "setNumberVector"),
    (lambda driver: driver["Dev"]["nu"].send_delProperty(), "delProperty"),
    (lambda driver: driver["Dev"]["bl"].send_setVectorMembers(members=["b1"]), "setBLOBVector"),
    (lambda driver: driver["Dev"].send_device_message("m"), "message"),
    (lambda driver: driver["Dev"].send_delProperty(), "delProperty"),
    (lambda driver: driver.send_message("m"), "message"),
    (lambda driver: driver.send(fromstring('<message message="m"/>')), "message"),
    (lambda driver: driver.send_getProperties("Other"), "getProperties"),
]


def in_thread(coro: Coroutine[Any, Any, None]) -> threading.Thread:
    thread = threading.Thread(target=asyncio.run, args=(coro,), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("send", "tag"), SENDS, ids=[str(number) for number in range(len(SENDS))])
def test_it_is_sent_at_once_by_the_loop_of_the_driver(send: Sends, tag: str) -> None:
    async def run() -> None:
        driver = full_driver()
        driver["Dev"]["bl"]["b1"] = b"x"
        used = []
        async with listening(driver) as client:
            await client.answers('<enableBLOB device="Dev">Also</enableBLOB>')
            link = driver._indifast_runtime.link
            assert link is not None
            sent = link.send
            link.send = lambda message: (used.append(threading.get_ident()), sent(message))[1]  # type: ignore[method-assign]
            thread = in_thread(send(driver))
            await client.next(tag)
            await eventually(lambda: not thread.is_alive())
            assert set(used) == {threading.get_ident()}

    asyncio.run(run())


def test_errors_reach_the_thread() -> None:
    async def run() -> None:
        driver = full_driver()
        errors = []

        async def send() -> None:
            try:
                await driver.send(fromstring("<nonsense/>"))
            except ValueError as error:
                errors.append(error)

        async with listening(driver):
            thread = in_thread(send())
            await eventually(lambda: not thread.is_alive())
        assert len(errors) == 1

    asyncio.run(run())


def test_a_send_returns_if_the_run_ends_meanwhile() -> None:
    async def run() -> None:
        driver = full_driver()
        async with listening(driver):
            link = driver._indifast_runtime.link
            assert link is not None
            full = asyncio.Event()
            entered = asyncio.Event()

            async def not_full() -> None:
                entered.set()
                await full.wait()

            link.not_full = not_full  # type: ignore[method-assign]
            thread = in_thread(driver["Dev"]["nu"].send_setVector())
            async with asyncio.timeout(LIMIT):
                await entered.wait()
        await eventually(lambda: not thread.is_alive())
        assert driver.stats()["sent_nowhere"] == 1

    asyncio.run(run())


def test_a_cancelled_send_is_cancelled_on_the_loop_of_the_driver() -> None:
    async def run() -> None:
        driver = full_driver()
        async with listening(driver):
            link = driver._indifast_runtime.link
            assert link is not None
            ends: list[type[BaseException]] = []
            entered = threading.Event()

            async def not_full() -> None:
                entered.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError as error:
                    ends.append(type(error))
                    raise

            link.not_full = not_full  # type: ignore[method-assign]

            async def send() -> None:
                sending = asyncio.create_task(driver["Dev"]["nu"].send_setVector())
                await eventually(entered.is_set)
                sending.cancel()
                await asyncio.wait((sending,))
                assert sending.cancelled()

            thread = in_thread(send())
            await eventually(lambda: not thread.is_alive())
            await eventually(lambda: ends)
            assert ends == [asyncio.CancelledError]

    asyncio.run(run())


def test_without_a_run_a_send_goes_nowhere_in_any_thread() -> None:
    driver = full_driver()
    thread = in_thread(driver["Dev"]["nu"].send_setVector())
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert driver.stats()["sent_nowhere"] == 1


def test_the_methods_remain_what_they_seem() -> None:
    for method in (
        propertyvectors.NumberVector.send_setVector,
        propertyvectors.BLOBVector.send_setVectorMembers,
        Device.send_delProperty,
        IPyDriver.send,
    ):
        assert inspect.iscoroutinefunction(method)
        assert method.__doc__
    assert list(inspect.signature(IPyDriver.send_message).parameters) == ["self", "message", "timestamp"]


def test_frames_of_several_threads_over_several_runs() -> None:
    driver = full_driver()
    vector = driver["Dev"]["bl"]
    vector["b1"] = b"x" * 1_000_000
    errors: list[Exception] = []
    ended = threading.Event()

    async def shoot() -> None:
        try:
            while not ended.is_set():
                await vector.send_setVectorMembers(members=["b1"])
        except Exception as error:
            errors.append(error)

    async def run() -> None:
        async with listening(driver) as client:
            await client.answers('<enableBLOB device="Dev">Also</enableBLOB>')
            for _ in range(5):
                await client.next("setBLOBVector")

    threads = [in_thread(shoot()) for _ in range(3)]
    for _ in range(3):
        asyncio.run(run())
    ended.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert errors == []
