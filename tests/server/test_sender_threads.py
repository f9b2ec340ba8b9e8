"""A server whose frames leave by threads: real clients that compare every byte, come and go, and read slowly."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from functools import cache

import numpy as np
import pytest

from indifast._parser import Tokenizer
from indifast.driver.device import Device
from indifast.driver.ipydriver import IPyDriver
from indifast.server import IPyServer
from tests.server.support import GET, blob_vector
from tests.support.blackbox import LIMIT
from tests.support.descriptors import no_fd_leak
from tests.support.loops import on_every_loop, run_on
from tests.support.waiting import eventually

MIB = 1 << 20
WANTS = GET + "<enableBLOB device='Cam'>Also</enableBLOB><pingRequest uid='ready'/>"


@cache
def frame(number: int) -> bytes:
    """Return a frame of some MiB, of which no part is in another one; its number comes first."""
    rng = np.random.default_rng(number)
    return number.to_bytes(8) + rng.bytes(int(rng.integers(MIB, 3 * MIB)))


class Camera(IPyDriver):
    def __init__(self) -> None:
        super().__init__(Device("Cam", [blob_vector()]))

    async def shoot(self, number: int) -> None:
        member = self["Cam"]["B"].data["m"]
        member.blobformat = ".fits"
        member.membervalue = frame(number)
        await self["Cam"]["B"].send_setVectorMembers(members=["m"])


class Watcher(threading.Thread):
    """A client in a thread that compares frames until the server ends, or leaves in the middle of one."""

    def __init__(self, port: int, *, leaves_after: int | None = None, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.frames: list[int] = []
        self.faults: list[str] = []
        self._leaves_after = leaves_after
        self._pause = pause
        self._socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self._socket.sendall(WANTS.encode())
        self.start()

    def run(self) -> None:
        tokenizer = Tokenizer(on_skip=lambda reason, count, excerpt: self.faults.append(f"{reason}: {excerpt!r}"))
        taken = 0
        with self._socket as sock:
            while self._leaves_after is None or taken < self._leaves_after:
                try:
                    data = sock.recv(MIB)
                except OSError as error:
                    self.faults.append(repr(error))
                    return
                if not data:
                    if tokenizer.held:
                        self.faults.append("the last frame is not whole")
                    return
                taken += len(data)
                for element in tokenizer.feed(data):
                    if element.tag == "pingReply":
                        self.ready.set()
                    elif element.tag == "setBLOBVector":
                        self._compare(element.members[0].data or b"")
                time.sleep(self._pause)

    def _compare(self, data: bytes) -> None:
        number = int.from_bytes(data[:8])
        if data != frame(number):
            self.faults.append(f"frame {number} is damaged")
        if self.frames and number <= self.frames[-1]:
            self.faults.append(f"frame {number} after {self.frames[-1]}")
        self.frames.append(number)


async def ended(watchers: list[Watcher]) -> None:
    for watcher in watchers:
        await asyncio.to_thread(watcher.join, LIMIT)
        assert not watcher.is_alive()


@on_every_loop
@pytest.mark.parametrize("senders", [0, 1, 3])
def test_clients_come_and_go_in_the_middle_of_frames(loop: str, senders: int) -> None:
    """Descriptors are used again at once. Those who stay get every frame, all get only whole bytes of their own."""
    count = 25
    rng = random.Random(senders)

    async def run() -> None:
        camera = Camera()
        server = IPyServer(camera, port=0, maxconnections=None, senders=senders, grace=LIMIT)
        async with server:
            staying = [Watcher(server.port or 0) for _ in range(3)]
            slow = Watcher(server.port or 0, pause=0.002)
            for watcher in (*staying, slow):
                await eventually(watcher.ready.is_set)
            leaving = []
            for number in range(count):
                await camera.shoot(number)
                leaving += [
                    Watcher(server.port or 0, leaves_after=rng.randrange(4 * MIB)) for _ in range(rng.randrange(4))
                ]
                await asyncio.sleep(rng.choice((0, 0.005)))
            hub = server._indifast_hub
            assert hub is not None
            if senders:
                assert hub.senders is not None and 0 < hub.senders.threads <= senders
            else:
                assert hub.senders is None
        await ended([*staying, slow, *leaving])
        assert [watcher.faults for watcher in (*staying, slow)] == [[]] * 4
        assert all(watcher.frames == list(range(count)) for watcher in staying), "nobody misses a frame"
        assert len(leaving) > 10
        assert [fault for watcher in leaving for fault in watcher.faults if "frame" in fault] == []

    run_on(loop, run())


def test_a_shutdown_with_frames_in_flight_flushes_them() -> None:
    async def run() -> None:
        camera = Camera()
        server = IPyServer(camera, port=0, maxconnections=None, senders=2, grace=LIMIT)
        async with no_fd_leak():
            async with server:
                watchers = [Watcher(server.port or 0) for _ in range(4)]
                for watcher in watchers:
                    await eventually(watcher.ready.is_set)
                for number in range(5):
                    await camera.shoot(number)
                hub = server._indifast_hub
                assert hub is not None and hub.senders is not None
            assert hub.senders.threads == 0
            await ended(watchers)
        assert all(not watcher.faults and watcher.frames == list(range(5)) for watcher in watchers)

    asyncio.run(run())


def test_a_shutdown_waits_for_readers_that_have_stopped_no_longer_than_it_should() -> None:
    async def run() -> None:
        camera = Camera()
        server = IPyServer(camera, port=0, maxconnections=None, senders=2, grace=0.2)
        async with no_fd_leak():
            async with server:
                stalled = [socket.create_connection(("127.0.0.1", server.port or 0)) for _ in range(3)]
                for sock in stalled:
                    sock.sendall(WANTS.encode())
                await asyncio.to_thread(lambda: [sock.recv(1) for sock in stalled])
                for number in range(6):
                    await camera.shoot(number)
            for sock in stalled:
                sock.close()
        assert server._indifast_hub is None

    asyncio.run(run())


def test_by_default_the_cores_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(cores: set[int]) -> bool:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
        async with IPyServer(Camera(), port=0) as server:
            assert server._indifast_hub is not None
            return server._indifast_hub.senders is not None

    assert not asyncio.run(run({0}))
    assert asyncio.run(run(set(range(8)))) == hasattr(os, "eventfd")
