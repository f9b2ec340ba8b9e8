"""Frames that have URLs: kept for a while, within a bound, for whoever has such a URL.

A URL contains what it is for and when it lapses, and a digest of this that only this program can make. So it cannot be
guessed, it always stands for the same bytes, and caches may keep these until it lapses. Nothing is stored for a URL:
only the frames are, from the first time that somebody was told where to fetch them.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from indifast.client.formats import dotted
from indifast.protocol import jsonform
from indifast.protocol.jsonform import Plain
from indifast.web.bounds import PICTURES, URL_BYTES, URL_LIFE
from indifast.web.endpoints import SHARED
from indifast.web.frames import Kept
from indifast.web.views import SUFFIXES, View, view_of

_DIGEST = 18
"""Bytes of a digest: 144 bits, which nobody guesses."""

_OVERHEAD = 4096
"""Bytes that a frame takes besides its content, about: small frames are limited, too."""


class UnknownURL(Exception):
    """This program has told nobody such a URL; the message is one sentence."""


class Lapsed(Exception):
    """A URL is void, or its frame had to make room; the message says what to do."""


class Shared(NamedTuple):
    """What a URL stands for."""

    kept: Kept
    view: View | None
    """How a picture shows the frame; None: the URL is that of the frame itself."""
    left: float
    """Seconds until the URL lapses."""


class _Place:
    """A frame, and what was told about it."""

    def __init__(self, number: int, kept: Kept, until: int, end: float) -> None:
        self.number, self.kept = number, kept
        self.until = until
        """When its URLs lapse, in seconds since 1970."""
        self.end = end
        """The same by the clock of the event loop."""
        self.weight = 0
        self.notices: dict[View, str] = {}


class Shelf:
    """Keeps frames, and tells their URLs.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._places: OrderedDict[int, _Place] = OrderedDict()
        self._of: dict[Kept, _Place] = {}
        self._count = 0
        self._bytes = 0
        self._sweeping: asyncio.TimerHandle | None = None

    # -- URLs

    def plain(self, kept: Kept, view: View) -> Plain:
        """Keep a frame, unless it is kept, and return its URL, and that of a picture of it."""
        place = self._place(kept)
        return {
            "frame": kept.about,
            "url": self._url(place, None, _suffix(kept)),
            "preview": self._url(place, view, SUFFIXES[view.type]),
            "until": jsonform.moment(datetime.fromtimestamp(place.until, UTC)),
        }

    def notice(self, kept: Kept, view: View) -> str:
        """Return the same as an event in JSON, which is made once for all viewers."""
        notices = self._place(kept).notices
        if view not in notices:
            if len(notices) >= PICTURES:
                notices.clear()
            notices[view] = jsonform.text({"event": "frame", **self.plain(kept, view)}, indent=None)
        return notices[view]

    def find(self, digest: str, word: str) -> Shared:
        """Return what a URL stands for.

        Args:
            digest: The word before the last of the path.
            word: The last word of the path.

        Raises:
            UnknownURL: It is none of this program.
            Lapsed: It is void.
        """
        if not hmac.compare_digest(self._digest(word).encode(), digest.encode("utf-8", "surrogatepass")):
            raise UnknownURL("this is no URL of a frame, or one of before this program was started: ask for another")
        number, until, wanted = json.loads(base64.urlsafe_b64decode(word.partition(".")[0]))
        place = self._places.get(number)
        # Both clocks: the one that others know may be set while the frame is kept.
        left = 0.0 if place is None else min(until - self._clock(), place.end - _now())
        if place is None or left <= 0:
            raise Lapsed("this frame is not kept any more: ask for the newest one")
        return Shared(place.kept, None if wanted is None else view_of(wanted), left)

    def _url(self, place: _Place, view: View | None, suffix: str) -> str:
        content: list[Any] = [place.number, place.until, None if view is None else view.wanted]
        text = json.dumps(content, separators=(",", ":")).encode()
        # The padding of base64 would do no harm, but look like a parameter.
        text += b" " * (-len(text) % 3)
        word = base64.urlsafe_b64encode(text).decode() + suffix
        return f"{SHARED}{self._digest(word)}/{word}"

    def _digest(self, word: str) -> str:
        made = hmac.digest(self._key, word.encode("utf-8", "surrogatepass"), "sha256")
        return base64.urlsafe_b64encode(made[:_DIGEST]).decode()

    # -- What is kept

    def weigh(self, kept: Kept) -> None:
        """Note that more was made of a frame, so that it takes more memory."""
        if kept in self._of:
            self._weigh(self._of[kept])

    def _place(self, kept: Kept) -> _Place:
        """Return the place of a frame whose URLs will not lapse soon; if there is none, put the frame there."""
        place = self._of.get(kept)
        if place is None or min(place.until - self._clock(), place.end - _now()) < URL_LIFE / 2:
            kept.own()
            self._count += 1
            place = _Place(self._count, kept, int(self._clock() + URL_LIFE), _now() + URL_LIFE)
            self._places[place.number] = self._of[kept] = place
            self._weigh(place)
            if self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().call_at(place.end, self._sweep)
        return place

    def _weigh(self, place: _Place) -> None:
        weight = place.kept.weight + _OVERHEAD
        self._bytes += weight - place.weight
        place.weight = weight
        while self._bytes > URL_BYTES and len(self._places) > 1:
            self._drop_oldest()

    def _sweep(self) -> None:
        self._sweeping = None
        while self._places:
            end = next(iter(self._places.values())).end
            if end > _now():
                self._sweeping = asyncio.get_running_loop().call_at(end, self._sweep)
                break
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, place = self._places.popitem(last=False)
        self._bytes -= place.weight
        if self._of.get(place.kept) is place:
            del self._of[place.kept]


def _suffix(kept: Kept) -> str:
    """Return the end of a file name, if what the driver says is one."""
    suffix = dotted(kept.frame.format)
    return suffix if re.fullmatch(r"(\.[A-Za-z0-9]{1,8}){1,2}", suffix) else ""


def _now() -> float:
    return asyncio.get_running_loop().time()
