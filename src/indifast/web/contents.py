"""Answers with the bytes of frames and pictures: as a whole, or the part that is asked for.

They are sent from memory. uvicorn cannot send files, and `sendfile` from a file in memory took as much processor time
altogether: what it saves in this program, the system needs more.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from indifast.web.bounds import PIECE
from indifast.web.guard import Refused

_MARGIN = 1
"""Seconds that a cache is given less than are left: caches count whole seconds, some of them one more."""


def until(name: str, left: float) -> dict[str, str]:
    """Return headers that let caches keep an answer as long as it is valid.

    `Expires` says the same as `Cache-Control`, for web servers that keep answers but do not say how old these are:
    with the latter, browsers would count from when they have got the answer.

    Args:
        name: What stands for the bytes, and for no others.
        left: Seconds.
    """
    headers = {"ETag": f'"{name}"'}
    seconds = int(left) - _MARGIN
    if seconds > 0:
        headers["Cache-Control"] = f"public, max-age={seconds}, immutable"
        headers["Expires"] = formatdate(int(time.time()) + seconds, usegmt=True)
    return headers


def whole(
    request: Request,
    content: memoryview,
    kind: str,
    headers: dict[str, str],
    sending: contextlib.AbstractContextManager[None],
) -> Response:
    """Return an answer with all of the content, which is sent within `sending`.

    Raises:
        Exception: What entering `sending` raises.
    """
    return _answer(request, content, 200, kind, headers, sending)


def whole_or_part(
    request: Request,
    content: memoryview,
    kind: str,
    headers: dict[str, str],
    sending: contextlib.AbstractContextManager[None] | None = None,
) -> Response:
    """Return an answer with what is asked for of content that has an `ETag`.

    Args:
        request: The request.
        content: The content.
        kind: Its type.
        headers: Headers of the answer.
        sending: What the content is sent within.

    Raises:
        Refused: There is no such part.
        Exception: What entering `sending` raises.
    """
    tag = headers["ETag"]
    if _names(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    headers = headers | {"Accept-Ranges": "bytes"}
    if request.method == "GET" and request.headers.get("if-range", tag) == tag:
        part = _part(request.headers.get("range", ""), len(content))
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(content)}"
            content = content[part.start : part.stop]
            return _answer(request, content, 206, kind, headers, sending or contextlib.nullcontext())
    return _answer(request, content, 200, kind, headers, sending or contextlib.nullcontext())


def _answer(
    request: Request,
    content: memoryview,
    status: int,
    kind: str,
    headers: dict[str, str],
    sending: contextlib.AbstractContextManager[None],
) -> Response:
    headers = headers | {"Content-Length": str(len(content))}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=kind)
    return _Sending(content, status, kind, headers, sending)


class _Sending(StreamingResponse):
    """An answer that is sent piece by piece, within a context that is entered at once."""

    def __init__(
        self,
        content: memoryview,
        status: int,
        kind: str,
        headers: dict[str, str],
        sending: contextlib.AbstractContextManager[None],
    ) -> None:
        super().__init__(_pieces(content), status, headers, kind)
        self._sending = contextlib.ExitStack()
        self._sending.enter_context(sending)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._sending:
            await super().__call__(scope, receive, send)


async def _pieces(content: memoryview) -> AsyncIterator[memoryview]:
    for at in range(0, len(content), PIECE):
        yield content[at : at + PIECE]


def _names(header: str, tag: str) -> bool:
    """Return whether `If-None-Match` names what has this tag."""
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in header.split(","))


def _part(header: str, length: int) -> range | None:
    """Return the part that `Range` asks for; None if that is all, or several parts, or not understood.

    Raises:
        Refused: There is no such part.
    """
    found = re.fullmatch(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", header, re.ASCII)
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.group(1, 2)
    if not first:
        part = range(max(length - int(last), 0), length)
    else:
        part = range(int(first), min(int(last) + 1 if last else length, length))
        if last and int(last) < int(first):
            return None
    if not part:
        raise Refused(416, "range", f"there are {length} bytes", Content_Range=f"bytes */{length}")
    return part
