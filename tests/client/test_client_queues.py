"""The client with two queues, as programs with threads use it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from indifast.client import queclient
from indifast.client.queclient import EventItem, QueClient, WakingDeque, runqueclient
from tests.client.support import BLOBS, NUMBERS, TEXTS, Server
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

Make = Callable[[], Any]


class Queues:
    """The two queues of a client that runs in a thread, of whatever type they are."""

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
        """Return the next item."""
        take = self.rxque.popleft if isinstance(self.rxque, collections.deque) else self.rxque.get_nowait

        def taken() -> EventItem | None:
            with contextlib.suppress(IndexError, queue.Empty):
                return take()
            return None

        self.items.append(await eventually(taken, f"an item after {[item.eventtype for item in self.items]}"))
        return self.items[-1]

    async def until(self, eventtype: str) -> EventItem:
        """Return the next item of a type, skipping those before it."""
        while (item := await self.take()).eventtype != eventtype:
            pass
        return item


@contextlib.asynccontextmanager
async def threaded(txque: Any, rxque: Any) -> AsyncIterator[tuple[Server, Queues]]:
    """A server, and a client that runs in a thread."""
    async with Server() as server:
        thread = threading.Thread(target=runqueclient, args=(txque, rxque, "127.0.0.1", server.port))
        thread.start()
        queues = Queues(txque, rxque)
        try:
            await server.expect("<getProperties")
            yield server, queues
        finally:
            queues.put(None)
            await asyncio.to_thread(thread.join, LIMIT)


@pytest.mark.parametrize("make", [queue.Queue, collections.deque, WakingDeque], ids=lambda make: make.__name__)
def test_requests_and_events(make: Make) -> None:
    async def scenario() -> None:
        async with threaded(make(), make()) as (server, queues):
            await server.send(NUMBERS, TEXTS, BLOBS)
            await queues.until("DefineBLOB")
            kinds = [item.eventtype for item in queues.items]
            assert kinds == ["Message", "Message", "ConnectionMade", "Message", "Define", "Define", "DefineBLOB"]
            assert list(queues.items[4].snapshot["D"]) == ["N"]
            assert list(queues.items[6].snapshot["D"]) == ["N", "T", "B"]
            assert queues.items[2].snapshot.connected

            queues.put(("D", "N", {"a": 5}))
            item = await queues.until("State")
            assert item.snapshot["D"]["N"].state == "Busy"
            await server.expect('<oneNumber name="a">5</oneNumber>')
            stamp = item.timestamp.replace(tzinfo=None).isoformat()
            await server.expect(f'timestamp="{stamp}"')

            queues.put(("D", "N", "snapshot"))
            assert (await queues.until("snapshot")).snapshot["a"] == "1"
            queues.put(("D", None, "snapshot"))
            assert list((await queues.until("snapshot")).snapshot) == ["N", "T", "B"]
            queues.put((None, None, "snapshot"))
            assert (await queues.until("snapshot")).snapshot.indiport == server.port
            queues.put(("D", "N", "Get"))
            await server.expect('<getProperties version="1.7" device="D" name="N" />')
            queues.put(("D", "B", "Only"))
            await server.expect('<enableBLOB device="D" name="B">Only</enableBLOB>')

            # Invalid requests are logged, and the client goes on.
            empty = {"img": (b"", 0, "")}
            for invalid in ("snapshot", 5, ("D", "N", "what"), ("X", "Y", "snapshot"), ("D", "B", empty)):
                queues.put(invalid)
            queues.put(("D", "X", {"a": 1}))
            assert (await queues.until("State")).vectorname in ("B", "X")

    asyncio.run(scenario())


def test_asyncio_queues_in_the_same_loop() -> None:
    async def scenario() -> None:
        async with Server() as server, asyncio.timeout(LIMIT):
            txque: asyncio.Queue[Any] = asyncio.Queue()
            rxque: asyncio.Queue[Any] = asyncio.Queue(1)
            client = QueClient(txque, rxque, "127.0.0.1", server.port)
            assert client.clientdata == {"txque": txque, "rxque": rxque}
            running = asyncio.ensure_future(client.asyncrun())
            await server.expect("<getProperties")
            await server.send(NUMBERS)
            kinds = [(await rxque.get()).eventtype for _ in range(5)]
            assert kinds == ["Message", "Message", "ConnectionMade", "Message", "Define"]
            await txque.put(None)
            await running

    asyncio.run(scenario())


def test_a_full_queue_does_not_block_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items wait in order for the program, and the client goes on until too many of them wait."""

    async def scenario() -> None:
        async with threaded(queue.Queue(), queue.Queue(2)) as (server, queues):
            await server.send(NUMBERS)
            await server.send('<pingRequest uid="alive"/>')
            await server.expect('<pingReply uid="alive" />')
            update = '<setNumberVector device="D" name="N"><oneNumber name="a">{}</oneNumber></setNumberVector>'
            for value in range(30):
                await server.send(update.format(value))
            await server.send('<pingRequest uid="still alive"/>')
            values = []
            while len(values) < 30:
                item = await queues.take()
                if item.eventtype == "Set":
                    values.append(int(item.snapshot["D"]["N"]["a"]))
            assert values == list(range(30))

    monkeypatch.setattr(queclient, "WAITING_ITEMS", 8)
    asyncio.run(scenario())


def test_requests_left_in_a_queue_stay_there() -> None:
    """The thread that waits for requests takes none once the client is stopping."""

    async def scenario() -> None:
        txque: queue.Queue[Any] = queue.Queue()
        client = QueClient(txque, collections.deque(), "127.0.0.1", 1)
        others = set(threading.enumerate())

        def waiting() -> list[threading.Thread]:
            return [thread for thread in set(threading.enumerate()) - others if thread.name == "indifast queue"]

        running = asyncio.ensure_future(client.asyncrun())
        (thread,) = await eventually(waiting)
        client.shutdown()
        await running
        txque.put("later")
        await asyncio.to_thread(thread.join, LIMIT)
        assert not thread.is_alive()
        assert txque.qsize() == 1

    asyncio.run(scenario())


def test_invalid_queues() -> None:
    with pytest.raises(TypeError, match="list"):
        asyncio.run(asyncio.wait_for(QueClient([], queue.Queue(), "127.0.0.1", 1).asyncrun(), LIMIT))
    with pytest.raises(KeyError):
        QueClient(queue.Queue(), queue.Queue(), blobfolder="/nowhere at all")
