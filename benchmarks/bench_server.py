"""What servers need for their work: frames to one client and to many, through a second server, and from a client;
small updates, and commands.

The driver and the clients are programs of Python's standard library that send prepared bytes and compare nothing, and
the figure is the processor time of the servers alone: what else the machine is doing changes it little. A server that
waits where it need not wait is no slower by that figure; the time of a command is therefore measured by the clock too.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.processes import cpu_seconds, wait_until_quiet

DRIVER = peers.HERE / "drivers" / "burst.py"
CHUNK = 1 << 20
FRAME = 4 << 20
CROWD = 20
UPDATES = 5000
COMMANDS = 200

SERVERS: list[int] = []
"""The process IDs of the servers that are measured."""


def cpu_time() -> float:
    """Return the CPU seconds used by the servers."""
    return sum(map(cpu_seconds, SERVERS))


class Client:
    """A TCP client that only looks at the end of what it receives."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=peers.PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(CHUNK)
        self._end = b""
        self.sock.sendall(b"<getProperties version='1.7'/><enableBLOB device='Burst'>Also</enableBLOB>")
        self.until(b"TAKEN", b"</defNumberVector>")

    def until(self, name: bytes, end: bytes = b"</setNumberVector>") -> None:
        """Receive until the last message is about this property."""
        while not self.receive(name, end):
            pass

    def receive(self, name: bytes, end: bytes = b"</setNumberVector>") -> bool:
        """Receive once, and return whether the last message is complete and about this property."""
        nbytes = self.sock.recv_into(self._buffer)
        if not nbytes:
            raise RuntimeError("the server closed the connection")
        self._end = (self._end + self._buffer[max(nbytes - 500, 0) : nbytes])[-500:]
        last = self._end.rstrip().rpartition(b"<" + end[2:-1])[2]
        return name in last and last.endswith(end)

    def ask(self, name: str, count: int) -> None:
        """Ask the driver for frames or updates."""
        self.sock.sendall(
            f"<newNumberVector device='Burst' name='{name}'><oneNumber name='n'>{count}</oneNumber></newNumberVector>"
            "\n".encode()
        )


@contextmanager
def serving(servers: int = 1, clients: int = 1, nbytes: int = FRAME) -> Iterator[list[Client]]:
    """Run servers in a row, the first with the driver; yield clients of the last."""
    with ExitStack() as stack:
        driver, SERVERS[:] = str(DRIVER), []
        for _ in range(servers):
            port, pid = stack.enter_context(peers.serving(driver, environment={"BURST_BYTES": str(nbytes)}))
            SERVERS.append(pid)
            driver = f"Burst@127.0.0.1:{port}"
        made = [Client(port) for _ in range(clients)]
        for client in made:
            stack.callback(client.sock.close)
        wait_until_quiet(SERVERS)
        yield made


def receive_all(clients: list[Client], name: bytes) -> None:
    """Receive with all clients, as fast as they can, until each has the update that ends a burst."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.sock, selectors.EVENT_READ, client)
        while selector.get_map():
            events = selector.select(peers.PATIENCE)
            if not events:
                raise RuntimeError("frames stopped coming")
            for key, _ in events:
                if key.data.receive(name):
                    selector.unregister(key.fileobj)


def measure(benchmark: Any, work: Callable[[], object], rounds: int, **units: int) -> None:
    """Measure many short rounds, of which the best counts."""
    benchmark.extra_info.update(units)
    benchmark.pedantic(work, rounds=rounds, warmup_rounds=3)


def frames(benchmark: Any, rounds: int, count: int, nbytes: int = FRAME, **layout: int) -> None:
    """Measure frames from the driver to the clients."""
    with serving(nbytes=nbytes, **layout) as clients:

        def burst() -> None:
            clients[0].ask("FRAMES", count)
            receive_all(clients, b"FRAMES")

        measure(benchmark, burst, rounds, bytes_per_round=count * nbytes * len(clients))


@pytest.mark.benchmark(group="server: processor time", timer=cpu_time)
def test_relay(benchmark: Any) -> None:
    frames(benchmark, 200, 4)


@pytest.mark.benchmark(group="server: processor time", timer=cpu_time)
def test_fan_out(benchmark: Any) -> None:
    frames(benchmark, 150, 2, nbytes=1 << 20, clients=CROWD)


@pytest.mark.benchmark(group="server: processor time", timer=cpu_time)
def test_remote(benchmark: Any) -> None:
    frames(benchmark, 150, 4, servers=2)


@pytest.mark.benchmark(group="server: processor time", timer=cpu_time)
def test_upload(benchmark: Any) -> None:
    content = base64.encodebytes(os.urandom(FRAME // 3 * 3))
    head = f"<newBLOBVector device='Burst' name='FRAME'><oneBLOB name='b' size='{FRAME}' format='.raw'>\n".encode()
    message = head + content + b"</oneBLOB></newBLOBVector>\n"
    with serving() as (client,):

        def upload() -> None:
            for _ in range(2):
                client.sock.sendall(message)
                client.until(b"TAKEN")

        measure(benchmark, upload, 200, bytes_per_round=2 * FRAME)


@pytest.mark.benchmark(group="server: processor time", timer=cpu_time)
@pytest.mark.parametrize("servers", [1, 2])
def test_flood(benchmark: Any, servers: int) -> None:
    with serving(servers) as (client,):

        def burst() -> None:
            client.ask("UPDATES", UPDATES)
            client.until(b"UPDATES")

        measure(benchmark, burst, 300, updates_per_round=UPDATES)


def commands(benchmark: Any, servers: int) -> None:
    """Measure commands, one at a time, each with its answer."""
    with serving(servers) as (client,):

        def ask() -> None:
            for _ in range(COMMANDS):
                client.ask("UPDATES", 0)
                client.until(b"UPDATES")

        measure(benchmark, ask, 150, commands_per_round=COMMANDS)


@pytest.mark.benchmark(group="server: processor time", timer=cpu_time)
@pytest.mark.parametrize("servers", [1, 2])
def test_commands(benchmark: Any, servers: int) -> None:
    commands(benchmark, servers)


@pytest.mark.benchmark(group="server: time")
@pytest.mark.noisy(2)
def test_commands_by_the_clock(benchmark: Any) -> None:
    commands(benchmark, 1)
