"""A TCP relay whose faults are those of a network: it stalls, delays, splits messages, cuts and resets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_CHUNK = 64 << 10
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing discards what waits, and resets the connection


class Network:
    """The event loop, in a thread, that all proxies of a run share."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def do(self, action: Callable[[], Result]) -> Result:
        """Call a function in the thread of the network; what it returns."""

        async def call() -> Result:
            return action()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(30)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(_end_tasks(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()


async def _end_tasks() -> None:
    """Cancel all other tasks of this event loop, and wait for them."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Relay:
    """One connection through a proxy: two sockets, and a task for each direction."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self.proxy = proxy
        self.sockets = (near, far)
        self._reset = False
        self._pumps = [asyncio.ensure_future(self._pump(direction)) for direction in (0, 1)]
        self._closing = asyncio.ensure_future(self._close())

    async def _pump(self, direction: int) -> None:
        """Pass on what one side says. If it does not end in an orderly way, end both directions."""
        source, target = self.sockets[direction], self.sockets[1 - direction]
        loop, proxy = asyncio.get_running_loop(), self.proxy
        try:
            while data := await loop.sock_recv(source, _CHUNK):
                while data:
                    await proxy.open[direction].wait()
                    if proxy.delay:
                        await asyncio.sleep(proxy.delay)
                    piece, cut = proxy.next_piece(direction, data)
                    await loop.sock_sendall(target, piece)
                    if cut:
                        self.end()
                        return
                    data = data[len(piece) :]
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.end()

    async def _close(self) -> None:
        """Close the sockets when nothing uses them any more."""
        await asyncio.wait(self._pumps)
        for sock in self.sockets:
            if self._reset:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
        self.proxy.relays.discard(self)

    def end(self, *, reset: bool = False) -> None:
        self._reset = self._reset or reset
        for pump in self._pumps:
            pump.cancel()


class Proxy:
    """Relays connections to `port` of this machine until it is closed. All methods may be called from any thread."""

    def __init__(self, network: Network, listen: int, port: int) -> None:
        self.network = network
        self.port = listen
        self.target = port
        self.relays: set[_Relay] = set()
        self.delay = 0.0
        self.piece = 0  # bytes that are passed on at a time; 0: what has arrived
        self.cut_within: int | None = None
        self.cut_direction = 0
        self.cuts = 0
        self.nbytes = 0
        self._accepting: asyncio.Task[None] | None = None
        network.do(self._begin)

    def next_piece(self, direction: int, data: bytes) -> tuple[bytes, bool]:
        """What is passed on next of what has arrived, and whether the connection is cut behind it."""
        piece = data[: self.piece or len(data)]
        cut = False
        if self.cut_within is not None and direction == self.cut_direction:
            cut = len(piece) >= self.cut_within
            piece = piece[: self.cut_within]
            self.cut_within = None if cut else self.cut_within - len(piece)
            self.cuts += cut
        self.nbytes += len(piece)
        return piece, cut

    def _begin(self) -> None:
        self.open = (asyncio.Event(), asyncio.Event())
        for gate in self.open:
            gate.set()
        self._listen()

    def _listen(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port), backlog=64)
        listening.setblocking(False)
        self._accepting = asyncio.ensure_future(self._accept(listening))

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                near, _ = await loop.sock_accept(listening)
                far = socket.socket()
                for sock in (near, far):
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    async with asyncio.timeout(5):
                        await loop.sock_connect(far, ("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    far.close()
                    continue
                self.relays.add(_Relay(self, near, far))

    # -- Faults

    def stall(self, directions: tuple[int, ...] = (0, 1)) -> None:
        """Pass nothing on until `resume`. Direction 0 is from the side that has connected, 1 is towards it."""

        def stall() -> None:
            for direction in directions:
                self.open[direction].clear()

        self.network.do(stall)

    def resume(self) -> None:
        """End all faults: pass on at once, whole, and everything."""

        def resume() -> None:
            self.delay, self.piece, self.cut_within = 0.0, 0, None
            for gate in self.open:
                gate.set()

        self.network.do(resume)

    def slow(self, delay: float, piece: int) -> None:
        """Wait before each piece that is passed on."""
        self.delay, self.piece = delay, piece

    def cut(self, within: int, direction: int) -> None:
        """Close the connection after so many more bytes, which most likely end within a message."""
        self.cut_direction, self.cut_within = direction, within

    def reset(self) -> None:
        """Reset all connections, and lose what is on its way."""

        def reset() -> None:
            for relay in list(self.relays):
                relay.end(reset=True)

        self.network.do(reset)

    def refuse(self) -> None:
        """Accept nothing until `accept`; the connections that there are end."""

        def refuse() -> None:
            if self._accepting is not None:
                self._accepting.cancel()
                self._accepting = None
            for relay in list(self.relays):
                relay.end()

        self.network.do(refuse)

    def accept(self) -> None:
        """Accept connections again."""
        self.network.do(self._listen)

    def close(self) -> None:
        """End everything."""
        self.refuse()


def choose(draw: random.Random) -> int:
    """A number of bytes after which to cut: often little, sometimes in the middle of a large frame."""
    return draw.choice((draw.randrange(1, 200), draw.randrange(200, 20_000), draw.randrange(20_000, 2_000_000)))
