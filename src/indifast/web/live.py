"""The WebSocket with live frames: always the newest one, never a queue, at the pace of each viewer.

A viewer says how many frames it can take (`more`) and how it wants to see them (`view`). For each that it has asked
for it is sent one: the newest, as soon as there is one that it has not seen, or not in this way. So one who reads
slowly, or not at all, is sent few frames or none, and what is made for others does not wait.

With `tell`, it is told where to fetch the frame instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from starlette.websockets import WebSocket

from indifast.client import INDICheckError
from indifast.client.commandchecks import INDIUnknown
from indifast.picture import NoPreview
from indifast.protocol import jsonform
from indifast.web.bounds import FRAME_WAIT, LIVE_AHEAD, LIVE_REQUESTS_PER_SECOND, LIVE_SHARE, LIVE_VIEWERS
from indifast.web.conversing import Pace, converse, hear, tell
from indifast.web.endpoints import name_in
from indifast.web.frames import Frames, Kept, Source
from indifast.web.guard import Refused
from indifast.web.hub import Busy, Hub
from indifast.web.shares import Shares, share_of
from indifast.web.shelf import Shelf
from indifast.web.views import NoView, View, view_of


class Live:
    """The endpoint of WebSockets with the frames of one server."""

    def __init__(self, hub: Hub, frames: Frames, shelf: Shelf) -> None:
        self._hub = hub
        self._frames = frames
        self._shelf = shelf
        self._viewing = Shares(LIVE_VIEWERS, LIVE_SHARE, "viewers of frames")

    async def answer(self, socket: WebSocket) -> None:
        """Serve one WebSocket until it ends."""
        device, name, member = (name_in(word) for word in socket.path_params.values())
        with contextlib.ExitStack() as taken:
            try:
                self._hub.blob(device, name, member)
                taken.enter_context(self._viewing.taking(share_of(socket.scope)))
                source = self._frames.of(device, name)
            except INDIUnknown as unknown:
                raise Refused(404, "unknown", str(unknown)) from None
            except INDICheckError as wrong:
                raise Refused(400, "invalid", str(wrong)) from None
            except Busy as busy:
                raise Refused(503, "unavailable", str(busy)) from None
            news = taken.enter_context(source.listening())
            await socket.accept()
            await _Showing(socket, source, self._shelf, member, news).run()


class _Showing:
    """What one viewer wants to see, and has seen."""

    def __init__(self, socket: WebSocket, source: Source, shelf: Shelf, member: str, news: asyncio.Event) -> None:
        self._socket, self._source, self._shelf, self._member, self._news = socket, source, shelf, member, news
        self._view = View()
        self._tells = False
        self._wanted = 0
        self._shown: tuple[int, View, bool] | None = None

    async def run(self) -> None:
        pace = Pace(LIVE_REQUESTS_PER_SECOND, LIVE_REQUESTS_PER_SECOND)
        await converse(hear(self._socket, self._obey, pace), self._show())

    async def _obey(self, text: str) -> int:
        try:
            self._take(text)
        except NoView as error:
            await self._fail("invalid", str(error))
        return 1

    def _take(self, text: str) -> None:
        try:
            given: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NoView(f"this is not JSON: {error}") from None
        if not isinstance(given, dict) or not given or set(given) - {"more", "view", "tell"}:
            raise NoView('send an object, as in {"more": 1, "view": {"size": 640}}')
        more, view, tells = given.get("more", 0), given.get("view"), given.get("tell", self._tells)
        if isinstance(more, bool) or not isinstance(more, int) or not 0 <= more <= LIVE_AHEAD:
            raise NoView(f"`more` must be a number of frames up to {LIVE_AHEAD}")
        if not isinstance(tells, bool):
            raise NoView("`tell` is true or false")
        if view is not None:
            if not isinstance(view, dict):
                raise NoView("`view` must be an object")
            self._view = view_of(view)
        self._tells = tells
        self._wanted = min(self._wanted + more, LIVE_AHEAD)
        self._news.set()

    async def _show(self) -> None:
        while True:
            self._news.clear()
            self._source.ask()
            kept = self._source.kept.get(self._member)
            if self._wanted and kept is not None and self._shown != (kept.number, self._view, self._tells):
                self._wanted -= 1
                self._shown = kept.number, self._view, self._tells
                if self._tells:
                    await tell(self._socket, self._shelf.notice(kept, self._view))
                else:
                    await self._send(kept, self._view)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FRAME_WAIT):
                        await self._news.wait()

    async def _send(self, kept: Kept, view: View) -> None:
        try:
            picture = await kept.picture(view)
        except NoPreview as error:
            await self._fail("unreadable", str(error))
            return
        self._shelf.weigh(kept)
        age = asyncio.get_running_loop().time() - kept.arrived
        head = f'{picture.text[:-1]}, "age": {age:.4f}, "rate": {self._source.rate:.2f}}}'.encode()
        await tell(self._socket, b"".join((len(head).to_bytes(4, "big"), head, picture.image)))

    async def _fail(self, code: str, message: str) -> None:
        failure = {"event": "error", **jsonform.of_failure(code, message)}
        await tell(self._socket, jsonform.text(failure, indent=None))
