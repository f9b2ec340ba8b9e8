"""A shutdown takes effect whenever it comes: before a run, while the run starts, and only for that run."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from indifast import Device, IPyClient, IPyDriver, IPyServer, NumberMember, NumberVector
from indifast.client import SyncClient
from indifast.client.queclient import QueClient, WakingDeque
from tests.support.blackbox import LIMIT
from tests.support.waiting import turns


def driver(name: str = "Dev") -> IPyDriver:
    return IPyDriver(Device(name, [NumberVector("nu", "", "", "rw", "Ok", [NumberMember("n")])]))


def listening() -> IPyDriver:
    alone = driver()
    alone.listen("127.0.0.1", 0)
    return alone


NO_SERVER = ("127.0.0.1", 1)
MAKERS: dict[str, Callable[[], Any]] = {
    "client": lambda: IPyClient(*NO_SERVER),
    "client of queues": lambda: QueClient(WakingDeque(), deque(), *NO_SERVER),
    "driver": listening,
    "server": lambda: IPyServer(driver(), port=0),
}
every_class = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


async def ended(run: asyncio.Task[None]) -> None:
    async with asyncio.timeout(LIMIT):
        await run


@every_class
def test_before_the_run(make: Callable[[], Any]) -> None:
    async def scenario() -> None:
        runner = make()
        runner.shutdown()
        await ended(asyncio.create_task(runner.asyncrun()))
        assert runner.stop and runner.stopped.is_set()

    asyncio.run(scenario())


@every_class
def test_before_the_first_step_of_the_run(make: Callable[[], Any]) -> None:
    async def scenario() -> None:
        runner = make()
        run = asyncio.create_task(runner.asyncrun())
        runner.shutdown()
        await ended(run)
        assert runner.stop and runner.stopped.is_set()

    asyncio.run(scenario())


@every_class
@pytest.mark.parametrize("steps", range(1, 6))
def test_while_the_run_starts(make: Callable[[], Any], steps: int) -> None:
    async def scenario() -> None:
        runner = make()
        run = asyncio.create_task(runner.asyncrun())
        await turns(steps)
        runner.shutdown()
        await ended(run)

    asyncio.run(scenario())


@every_class
def test_from_another_thread_at_any_moment(make: Callable[[], Any]) -> None:
    for _ in range(20):
        runner = make()
        thread = threading.Thread(target=lambda runner=runner: asyncio.run(runner.asyncrun()), daemon=True)
        thread.start()
        runner.shutdown()
        thread.join(LIMIT)
        assert not thread.is_alive()


@every_class
@pytest.mark.parametrize("first", ["shut down before", "shut down", "shut down twice"])
def test_a_shutdown_does_not_affect_the_next_run(make: Callable[[], Any], first: str) -> None:
    async def scenario() -> None:
        runner = make()
        run = asyncio.create_task(runner.asyncrun())
        if first != "shut down before":
            await asyncio.sleep(0)
        runner.shutdown()
        await ended(run)
        if first == "shut down twice":  # as in a `finally`
            runner.shutdown()
        async with asyncio.timeout(LIMIT):
            async with runner:
                assert not runner.stop and not runner.stopped.is_set()
                await turns()
                assert not runner.stopped.is_set(), "it runs"
            assert runner.stop and runner.stopped.is_set()
            async with runner:
                runner.shutdown()
                await runner.stopped.wait()

    asyncio.run(scenario())


@every_class
def test_only_one_run_at_a_time(make: Callable[[], Any]) -> None:
    async def scenario() -> None:
        async with make() as runner:
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="running already"):
                await runner.asyncrun()
            assert not runner.stop

    asyncio.run(scenario())


def test_ready_raises_if_the_server_does_not_start() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(LIMIT), IPyServer(driver(), port=0) as other:
            shut_down, in_the_way = IPyServer(driver(), port=0), IPyServer(driver(), port=other.port)
            shut_down.shutdown()
            for server in (shut_down, in_the_way, in_the_way):  # a second run behaves like the first
                ready = asyncio.create_task(server.ready())
                run = asyncio.create_task(server.asyncrun())
                with pytest.raises(RuntimeError, match="ended before clients could connect"):
                    await ready
                await asyncio.wait((run,))
                assert isinstance(run.exception(), OSError) == (server is in_the_way)

    asyncio.run(scenario())


def test_removing_a_driver_from_its_server_before_it_has_started() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(LIMIT), IPyServer(driver(), port=0) as server:
            other = driver("Other")
            server.add_driver(other)
            await server.remove_driver(other)
            assert other.stopped.is_set() and list(server.devices) == ["Dev"]
            assert "Other" not in server.stats()["devices"]

    asyncio.run(scenario())


def test_a_driver_that_was_already_shut_down_is_not_part_of_a_server() -> None:
    async def scenario() -> None:
        stopped = driver("Stopped")
        stopped.shutdown()
        async with asyncio.timeout(LIMIT), IPyServer(driver(), stopped, port=0) as server:
            await stopped.stopped.wait()
            await asyncio.sleep(0)
            assert list(server.stats()["devices"]) == ["Dev"]

    asyncio.run(scenario())


def test_background_coroutines_of_a_driver_that_never_runs_are_closed() -> None:
    async def background() -> None:
        raise AssertionError

    async def scenario() -> None:
        alone = listening()
        work = background()
        alone.add_background(work)
        alone.shutdown()
        await ended(asyncio.create_task(alone.asyncrun()))
        assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED

    asyncio.run(scenario())


def test_streams_and_waits_end_if_the_client_never_runs() -> None:
    async def scenario() -> None:
        client = IPyClient(*NO_SERVER)
        before = [asyncio.ensure_future(_all(client.events())), asyncio.ensure_future(_all(client.frames("D")))]
        await asyncio.sleep(0)
        client.shutdown()
        await ended(asyncio.create_task(client.asyncrun()))
        async with asyncio.timeout(LIMIT):
            assert await asyncio.gather(*before) == [[], []]
            assert await _all(client.events()) == [] == await _all(client.frames("D")), "the client has stopped"
            with pytest.raises(ConnectionError, match="stopped"):
                await client.wait_connected()

    asyncio.run(scenario())


async def _all(stream: Any) -> list[Any]:
    return [item async for item in stream]


def test_a_sync_client_ends_with_its_client() -> None:
    client = IPyClient(*NO_SERVER)
    client.shutdown()
    with SyncClient(client) as sync:
        sync._thread.join(LIMIT)
        assert not sync._thread.is_alive()
        with pytest.raises(RuntimeError, match="closed"):
            sync.snapshot()
    with SyncClient(client) as sync:  # another run
        assert not sync.snapshot().connected


def test_threads_do_not_wait_forever_for_a_sync_client_that_stops() -> None:
    for _ in range(20):
        sync = SyncClient(IPyClient(*NO_SERVER))

        def ask(sync: SyncClient = sync) -> None:
            with pytest.raises((RuntimeError, ConnectionError)):
                while True:
                    sync.snapshot()

        def wait(sync: SyncClient = sync) -> None:
            with pytest.raises((RuntimeError, ConnectionError)):
                sync.wait_for("D", timeout=None)

        threads = [threading.Thread(target=work, daemon=True) for work in (ask, ask, wait)]
        for thread in threads:
            thread.start()
        sync.client.shutdown()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        sync.close()
