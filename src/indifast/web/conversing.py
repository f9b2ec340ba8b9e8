"""What all WebSockets have in common: one that sends or reads without end delays no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect


async def tell(socket: WebSocket, content: str | bytes) -> None:
    """Send a message, and let others have their turn.

    Sending waits only if much is unread. Without the turn of others, whoever always has something to send would also
    not learn that the peer has gone.

    Raises:
        WebSocketDisconnect: The peer has gone.
    """
    try:
        if isinstance(content, str):
            await socket.send_text(content)
        else:
            await socket.send_bytes(content)
    except RuntimeError:  # what both Starlette and uvicorn say if the connection was closed meanwhile
        raise WebSocketDisconnect(1006) from None
    await asyncio.sleep(0)


async def converse(*both: Coroutine[Any, Any, None]) -> None:
    """Hear and tell at the same time, until one of both ends, as when the peer goes."""
    tasks = [asyncio.ensure_future(each) for each in both]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, WebSocketDisconnect):
                raise ended


async def hear(socket: WebSocket, obey: Callable[[str], Awaitable[float]], pace: Pace) -> None:
    """Do what each message asks for, until the peer goes. `obey` returns how much that was."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        await pace.spend(await obey(message.get("text") or ""))


class Pace:
    """How much a WebSocket may ask for: some at once, and then so much in a second.

    Whoever asks for more is made to wait. Nothing is refused, and the peer can send only what fits into buffers.
    """

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._since = asyncio.get_running_loop().time()

    async def spend(self, cost: float) -> None:
        """Let others have their turn, and wait until what was asked for is earned."""
        now = asyncio.get_running_loop().time()
        self._left = min(self._burst, self._left + (now - self._since) * self._per_second) - cost
        self._since = now
        await asyncio.sleep(max(0.0, -self._left / self._per_second))
