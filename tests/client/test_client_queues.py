"""The client behind two queues, used as programs of threads use it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from indifast.client import queclient
from indifast.client.queclient import EventItem, QueClient, WakingDeque, runqueclient
from tests.client.support import BLOBS, LIMIT, NUMBERS, TEXTS, Server

Make = Callable[[], Any]


class Door:
    """The two queues of a client that runs in a thread, whatever they are."""

    def __init__(self, txque: Any, rxque: Any) -> None:
        self.txque = txque
        self.rxque = rxque
        self.items: list[EventItem] = []

    def put(self, item: Any) -> None:
        if isinstance(self.txque, collections.deque):
            self.txque.append(item)
        else:
            self.txque.put(item)

    async def take(self) -> EventItem:
        limit = time.monotonic() + LIMIT
        while time.monotonic() < limit:
            with contextlib.suppress(IndexError, queue.Empty):
                item = self.rxque.popleft() if isinstance(self.rxque, collections.deque) else self.rxque.get_nowait()
                self.items.append(item)
                return item
            await asyncio.sleep(0.005)
        raise AssertionError(f"nothing came after {[item.eventtype for item in self.items]}")

    async def until(self, eventtype: str) -> EventItem:
        while (item := await self.take()).eventtype != eventtype:
            pass
        return item


@contextlib.asynccontextmanager
async def threaded(txque: Any, rxque: Any) -> AsyncIterator[tuple[Server, Door]]:
    server = Server()
    await server.start()
    thread = threading.Thread(target=runqueclient, args=(txque, rxque, "127.0.0.1", server.port))
    thread.start()
    door = Door(txque, rxque)
    try:
        await server.expect("<getProperties")
        yield server, door
    finally:
        door.put(None)
        await asyncio.get_running_loop().run_in_executor(None, thread.join, LIMIT)
        await server.close()


@pytest.mark.parametrize("make", [queue.Queue, collections.deque, WakingDeque], ids=lambda make: make.__name__)
def test_requests_and_events(make: Make) -> None:
    async def scenario() -> None:
        async with threaded(make(), make()) as (server, door):
            await server.send(NUMBERS, TEXTS, BLOBS)
            await door.until("DefineBLOB")
            kinds = [item.eventtype for item in door.items]
            assert kinds == ["Message", "Message", "ConnectionMade", "Message", "Define", "Define", "DefineBLOB"]
            assert list(door.items[4].snapshot["D"]) == ["N"]
            assert list(door.items[6].snapshot["D"]) == ["N", "T", "B"]
            assert door.items[2].snapshot.connected

            door.put(("D", "N", {"a": 5}))
            item = await door.until("State")
            assert item.snapshot["D"]["N"].state == "Busy"
            await server.expect('<oneNumber name="a">5</oneNumber>')
            stamp = item.timestamp.replace(tzinfo=None).isoformat()
            await server.expect(f'timestamp="{stamp}"')

            door.put(("D", "N", "snapshot"))
            assert (await door.until("snapshot")).snapshot["a"] == "1"
            door.put(("D", None, "snapshot"))
            assert list((await door.until("snapshot")).snapshot) == ["N", "T", "B"]
            door.put((None, None, "snapshot"))
            assert (await door.until("snapshot")).snapshot.indiport == server.port
            door.put(("D", "N", "Get"))
            await server.expect('<getProperties version="1.7" device="D" name="N" />')
            door.put(("D", "B", "Only"))
            await server.expect('<enableBLOB device="D" name="B">Only</enableBLOB>')

            # What makes no sense is logged and ends nothing.
            empty = {"img": (b"", 0, "")}
            for nonsense in ("snapshot", 5, ("D", "N", "what"), ("X", "Y", "snapshot"), ("D", "B", empty)):
                door.put(nonsense)
            door.put(("D", "X", {"a": 1}))
            assert (await door.until("State")).vectorname in ("B", "X")

    asyncio.run(scenario())


def test_asyncio_queues_in_the_same_loop() -> None:
    async def scenario() -> None:
        server = Server()
        await server.start()
        txque: asyncio.Queue[Any] = asyncio.Queue()
        rxque: asyncio.Queue[Any] = asyncio.Queue(1)
        client = QueClient(txque, rxque, "127.0.0.1", server.port)
        assert client.clientdata == {"txque": txque, "rxque": rxque}
        running = asyncio.ensure_future(client.asyncrun())
        await server.expect("<getProperties")
        await server.send(NUMBERS)
        async with asyncio.timeout(LIMIT):
            kinds = [(await rxque.get()).eventtype for _ in range(5)]
            assert kinds == ["Message", "Message", "ConnectionMade", "Message", "Define"]
            await txque.put(None)
            await running
        await server.close()

    asyncio.run(scenario())


def test_a_full_queue_stalls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items wait in order for the program; the client goes on, until a long line waits."""

    async def scenario() -> None:
        async with threaded(queue.Queue(), queue.Queue(2)) as (server, door):
            await server.send(NUMBERS)
            await server.send('<pingRequest uid="alive"/>')
            await server.expect('<pingReply uid="alive" />')
            update = '<setNumberVector device="D" name="N"><oneNumber name="a">{}</oneNumber></setNumberVector>'
            for value in range(30):
                await server.send(update.format(value))
            await server.send('<pingRequest uid="still alive"/>')
            values = []
            while len(values) < 30:
                item = await door.take()
                if item.eventtype == "Set":
                    values.append(int(item.snapshot["D"]["N"]["a"]))
            assert values == list(range(30))

    monkeypatch.setattr(queclient, "WAITING_ITEMS", 8)
    asyncio.run(scenario())


def test_requests_left_in_a_queue_stay_there() -> None:
    """The thread that waits for requests takes none once the client is to stop."""

    async def scenario() -> None:
        txque: queue.Queue[Any] = queue.Queue()
        client = QueClient(txque, collections.deque(), "127.0.0.1", 1)
        others = set(threading.enumerate())
        running = asyncio.ensure_future(client.asyncrun())
        async with asyncio.timeout(LIMIT):
            while not any(thread.name == "indifast queue" for thread in set(threading.enumerate()) - others):
                await asyncio.sleep(0.005)
        client.shutdown()
        await running
        txque.put("later")
        await asyncio.sleep(0.05)
        assert txque.qsize() == 1

    asyncio.run(scenario())


def test_wrong_queues() -> None:
    with pytest.raises(TypeError, match="list"):
        asyncio.run(asyncio.wait_for(QueClient([], queue.Queue(), "127.0.0.1", 1).asyncrun(), LIMIT))
    with pytest.raises(KeyError):
        QueClient(queue.Queue(), queue.Queue(), blobfolder="/nowhere at all")
