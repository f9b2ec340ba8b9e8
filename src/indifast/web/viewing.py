"""Who looks at which frames: pictures are made once, written once, and sent straight to all who want them.

A viewer says how many frames it can take (`more`) and how it wants to see them (`view`). For each that it has asked
for it is sent one: the newest, as soon as there is one that it has not seen, or not in this way. So one who reads
slowly, or not at all, is sent few frames or none, and what is made for others does not wait.

With `tell`, it is told where to fetch the frame instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import sys
from collections import deque
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple

from indifast.picture import NoPreview
from indifast.protocol import jsonform
from indifast.web.access import Session
from indifast.web.bounds import FRAME_WAIT, HELD, LIVE_AHEAD, LIVE_REQUESTS_PER_SECOND, LIVE_VIEWS
from indifast.web.direct import Crowd, Direct, crowd, frame_of
from indifast.web.frames import Kept, Shown, Source
from indifast.web.guard import LOGIN_ENDED, WHY_ENDED
from indifast.web.shares import Busy, Shares, share_in
from indifast.web.shelf import Shelf
from indifast.web.views import NoView, View, view_of

logger = logging.getLogger(__name__)

_ENDS = 1012
"""The same: the program ends."""

_AT_ONCE = 64
"""Viewers who are sent a frame before the event loop looks at anything else."""

_FRESH = 0.05
"""Seconds for which what is said about the age of a frame holds."""

_SHORT = 100
"""Bytes of a request that others are likely to send, too."""


class _Request(NamedTuple):
    more: int
    view: View | None
    tells: bool | None


def _read_request(text: bytes) -> _Request:
    """Return what a message asks for.

    Raises:
        NoView: It is not understood.
    """
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoView(f"this is not JSON: {error}") from None
    if not isinstance(given, dict) or not given or set(given) - {"more", "view", "tell"}:
        raise NoView('send an object, as in {"more": 1, "view": {"size": 640}}')
    more, view, tells = given.get("more", 0), given.get("view"), given.get("tell")
    if isinstance(more, bool) or not isinstance(more, int) or not 0 <= more <= LIVE_AHEAD:
        raise NoView(f"`more` must be a number of frames up to {LIVE_AHEAD}")
    if "tell" in given and not isinstance(tells, bool):
        raise NoView("`tell` is true or false")
    if view is not None and not isinstance(view, dict):
        raise NoView("`view` must be an object")
    return _Request(more, None if view is None else view_of(view), tells)


_short_request = lru_cache(256)(_read_request)


def _failure(code: str, message: str) -> bytes:
    return frame_of(jsonform.text({"event": "error", **jsonform.of_failure(code, message)}, indent=None))


class _Key(NamedTuple):
    """What viewers have in common who share pictures, or URLs."""

    source: Source
    member: str
    view: View
    tells: bool


_WHOLE = View(size=0, type="")
"""How most look at a frame, in whatever size and type."""


class _Looker(Direct):
    """A viewer."""

    __slots__ = (
        "_asked_now", "_viewing", "channel", "member", "session", "shown", "source", "tells", "view", "wanted", "whose"
    )  # fmt: skip

    def __init__(
        self, viewing: Viewing, fd: int, source: Source, member: str, session: Session | None, whose: str | None
    ) -> None:
        super().__init__(viewing.crowd, fd)
        self._viewing = viewing
        self.source, self.member, self.session, self.whose = source, member, session, whose
        self.view, self.tells = View(), False
        self.channel: _Channel | None = None
        self.wanted = 0
        self.shown = 0
        """The number of the frame that was sent last, in this view. The frame itself may take much memory."""
        self._asked_now = 0

    def count(self) -> None:
        self._asked_now += 1
        if self._asked_now >= LIVE_REQUESTS_PER_SECOND:
            self.waits = True  # nothing is refused; what is not read stays with the system

    def obey(self, message: bytes) -> None:
        try:
            more, view, tells = _short_request(message) if len(message) <= _SHORT else _read_request(message)
            if self.channel is None or view is not None or tells is not None:
                view = view or self.view
                tells = self.tells if tells is None else tells
                if self.channel is None or (view, tells) != (self.view, self.tells):
                    self._viewing.move(self, view, tells)
        except NoView as error:
            self.note(_failure("invalid", str(error)))
            return
        except Busy as error:
            self.note(_failure("unavailable", str(error)))
            return
        self.wanted = min(self.wanted + more, LIVE_AHEAD)
        if self.stuck is None:
            self.free()

    def free(self) -> None:
        if self.wanted and self.channel is not None and not self.busy:
            self.channel.serve(self)

    def check(self, now: float) -> None:
        super().check(now)
        waited, self.waits, self._asked_now = self.waits, False, 0
        if self.session is not None and not self.session.active:
            self.expire()
        if waited:
            self._crowd.resume(self)

    def expire(self) -> None:
        """Note that the login has ended."""
        self.close(LOGIN_ENDED, WHY_ENDED)

    def lost(self) -> None:
        self._viewing.lost(self)


class _Written:
    """The frames that were written: those that slow viewers have not read yet take memory."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0

    def add(self, frame: bytes, crowd: Crowd) -> None:
        """Note a frame. If all of them are too much, the viewers who are behind the oldest are disconnected."""
        self._frames.append(frame)
        self._bytes += len(frame)
        if self._bytes > HELD:
            self._forget_read()
        while self._bytes > HELD and len(self._frames) > 1:
            oldest = self._frames.popleft()
            self._bytes -= len(oldest)
            crowd.end_behind(oldest)

    def _forget_read(self) -> None:
        frames, self._frames = list(self._frames), deque()
        # What nobody needs any more is referred to by the list, the name, and the argument.
        self._frames.extend(frame for frame in frames if sys.getrefcount(frame) > 3)
        self._bytes = sum(map(len, self._frames))


class _Channel:
    """Those who look at the same member in the same way."""

    def __init__(self, key: _Key, shelf: Shelf, crowd: Crowd, written: _Written, taken: contextlib.ExitStack) -> None:
        self.key = key
        self._written = written
        self._crowd = crowd
        self.viewers: set[_Looker] = set()
        self._source, self._member, self._view, self._tells = key
        self._shelf = shelf
        self._taken = taken
        self._waiting: dict[_Looker, None] = {}
        self._kept: Kept | None = None
        self._picture: Shown | None = None
        self._frame = b""
        self._fresh = 0.0
        self._sending = False
        self._news = taken.enter_context(self._source.listening())
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name=f"viewers of {self._member}")

    def serve(self, viewer: _Looker) -> None:
        """Send the newest frame to a viewer who wants one, unless it was sent that; then have it wait for another."""
        newest = self._source.kept.get(self._member)
        # While a frame is being sent, there may be a newer one already. If that held back the rest of those who wait,
        # the same ones would always be the rest.
        if self._kept is not None and viewer.shown != self._kept.number and (self._sending or self._kept is newest):
            if monotonic() > self._fresh:
                self._write(self._kept)
            viewer.wanted -= 1
            viewer.shown = self._kept.number
            viewer.send(self._frame)
            if not viewer.patient and viewer.fd >= 0:
                self._crowd.settle(viewer)
        if viewer.wanted and not viewer.busy:
            self._waiting[viewer] = None
            if newest is not self._kept:
                self._news.set()

    def leave(self, viewer: _Looker) -> None:
        """Forget a viewer."""
        self.viewers.discard(viewer)
        self._waiting.pop(viewer, None)

    def close(self) -> None:
        """Make no more pictures."""
        self._task.cancel()
        self._taken.close()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            self._source.ask()
            newest = self._source.kept.get(self._member)
            if newest is not None and newest is not self._kept and self._waiting:
                await self._show(newest)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FRAME_WAIT):
                        await self._news.wait()

    async def _show(self, newest: Kept) -> None:
        """Send a frame to all who wait for one."""
        try:
            self._picture = None if self._tells else await newest.picture(self._view)
            if self._picture is not None:
                self._shelf.weigh(newest)
            self._write(newest)
        except NoPreview as error:
            self._frame, self._fresh = _failure("unreadable", str(error)), math.inf
        except Exception:
            logger.exception("nothing was made of a frame")
            self._frame, self._fresh = _failure("fault", "a fault of this program; its log says more"), math.inf
        self._kept = newest
        waiting, self._waiting = self._waiting, {}
        self._sending = True
        for number, viewer in enumerate(waiting, 1):
            if viewer.channel is self:
                viewer.free()
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._sending = False

    def _write(self, kept: Kept) -> None:
        """Write the frame of the WebSocket that shows a frame: once, for all viewers of the next moments."""
        self._fresh = monotonic() + _FRESH
        if self._picture is None:
            self._frame = frame_of(self._shelf.notice(kept, self._view))
        else:
            about = f'"age": {self._loop.time() - kept.arrived:.4f}, "rate": {self._source.rate:.2f}'
            head = f"{self._picture.text[:-1]}, {about}}}".encode()
            self._frame = frame_of(b"".join((len(head).to_bytes(4, "big"), head, self._picture.image)))
        self._written.add(self._frame, self._crowd)


class Viewing:
    """Everybody who looks at frames by a WebSocket.

    Args:
        shelf: The frames that have URLs.
        most: How many there may be.
    """

    def __init__(self, shelf: Shelf, most: int) -> None:
        self._shelf = shelf
        self._shares = Shares(most, share_in(most), "viewers of frames")
        self._views = Shares(LIVE_VIEWS, share_in(LIVE_VIEWS), "views of their own")
        self._channels: dict[_Key, _Channel] = {}
        self._written = _Written()
        self._crowd: Crowd | None = None
        self._closed = False

    @property
    def crowd(self) -> Crowd:
        """Who tells the viewers when they can read and write."""
        if self._crowd is None:
            self._crowd = crowd()
        return self._crowd

    def take(self, whose: str | None) -> None:
        """Take a place for a viewer.

        Args:
            whose: Whose share it counts for; see `shares.share_of`.

        Raises:
            Busy: There are too many.
        """
        self._shares.take(whose)

    def give_back(self, whose: str | None) -> None:
        """Give a place back that no viewer has come to."""
        self._shares.give_back(whose)

    def add(self, fd: int, source: Source, member: str, session: Session | None, whose: str | None) -> None:
        """Add a viewer, for whom a place was taken.

        Args:
            fd: The connection, on which a WebSocket was accepted.
            source: The frames.
            member: Which of them.
            session: The login with which the WebSocket ends.
            whose: As for `take`.
        """
        try:
            if self._closed:
                raise ConnectionAbortedError
            looker = _Looker(self, fd, source, member, session, whose)
            self.crowd.add(looker)
        except OSError:  # the program ends, or the system has no memory for it
            os.close(fd)
            self.give_back(whose)
            return
        if session is not None:
            session.endings.add(looker.expire)

    def move(self, looker: _Looker, view: View, tells: bool) -> None:
        """Have a viewer look in another way.

        Raises:
            Busy: There are too many different ways already.
        """
        key = _Key(looker.source, looker.member, view, tells)
        channel = self._channels.get(key)
        if channel is None:
            with contextlib.ExitStack() as taken:
                if view._replace(size=0, type="") != _WHOLE:
                    taken.enter_context(self._views.taking(looker.whose))
                channel = self._channels[key] = _Channel(key, self._shelf, self.crowd, self._written, taken.pop_all())
        former, looker.channel = looker.channel, channel
        if former is not None:
            self._leave(former, looker)
        channel.viewers.add(looker)
        looker.view, looker.tells, looker.shown = view, tells, 0

    def lost(self, looker: _Looker) -> None:
        """Forget a viewer."""
        self._shares.give_back(looker.whose)
        if looker.session is not None:
            looker.session.endings.discard(looker.expire)
        if looker.channel is not None:
            self._leave(looker.channel, looker)

    def _leave(self, channel: _Channel, looker: _Looker) -> None:
        channel.leave(looker)
        if not channel.viewers:
            del self._channels[channel.key]
            channel.close()

    def close(self) -> None:
        """End all WebSockets, and those that still come."""
        self._closed = True
        ended, self._crowd = self._crowd, None  # it may be said twice that the program ends
        if ended is not None:
            ended.close(_ENDS)
