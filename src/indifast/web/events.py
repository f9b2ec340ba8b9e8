"""The WebSocket: who opens it subscribes to properties, and is told of what happens to them."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from starlette.websockets import WebSocket

from indifast.protocol import jsonform
from indifast.protocol.jsonform import Plain
from indifast.web.bounds import REQUESTS, REQUESTS_PER_SECOND, SUBSCRIPTIONS
from indifast.web.conversing import Pace, converse, hear, tell
from indifast.web.guard import Refused
from indifast.web.hub import Busy, Hub
from indifast.web.shares import share_of
from indifast.web.viewer import Subscription, TooManySubscriptions, Viewer


class Invalid(ValueError):
    """A request was not understood; the message is one sentence."""


class Events:
    """The endpoint of WebSockets about one server."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def answer(self, socket: WebSocket) -> None:
        """Serve one WebSocket until it ends."""
        try:
            with self._hub.viewing(share_of(socket.scope)) as viewer:
                await socket.accept()
                await self._serve(socket, viewer)
        except Busy as busy:
            raise Refused(503, "unavailable", str(busy)) from None

    async def _serve(self, socket: WebSocket, viewer: Viewer) -> None:
        viewer.relinked()  # the first that it is told
        obey = partial(self._obey, socket, viewer)
        await converse(hear(socket, obey, Pace(REQUESTS, REQUESTS_PER_SECOND)), self._tell(socket, viewer))

    async def _tell(self, socket: WebSocket, viewer: Viewer) -> None:
        while True:
            await tell(socket, self._hub.text(await viewer.next()))

    async def _obey(self, socket: WebSocket, viewer: Viewer, text: str) -> int:
        """Do what a message asks for. Returns how much that was."""
        try:
            request = _request(text)
            viewer.unsubscribe(*request["unsubscribe"])
            self._hub.subscribe(viewer, *request["subscribe"])
        except (Invalid, TooManySubscriptions) as error:
            await _answer(socket, {"event": "error", **jsonform.of_failure("invalid", str(error))})
            return 1
        for device, name in request["subscribe"]:
            note = self._hub.why_nothing(device, name)
            await _answer(socket, {"event": "subscribed", "device": device, "property": name, "note": note})
        return max(1, sum(map(len, request.values())))


async def _answer(socket: WebSocket, answer: Plain) -> None:
    await tell(socket, jsonform.text(answer, indent=None))


def _request(text: str) -> dict[str, list[Subscription]]:
    try:
        request: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"this is not JSON: {error}") from None
    if not isinstance(request, dict) or not request or set(request) - {"subscribe", "unsubscribe"}:
        raise Invalid('send an object, as in {"subscribe": [{"device": "CCD Simulator"}]}')
    return {key: _subscriptions(key, request.get(key, [])) for key in ("subscribe", "unsubscribe")}


def _subscriptions(key: str, given: Any) -> list[Subscription]:
    if not isinstance(given, list) or len(given) > SUBSCRIPTIONS:
        raise Invalid(f"`{key}` must be a list of at most {SUBSCRIPTIONS} objects")
    found: dict[Subscription, None] = {}
    for each in given:
        if not isinstance(each, dict) or set(each) - {"device", "property"}:
            raise Invalid(f"`{key}` must be a list of objects with `device` and `property`, or one of them, or none")
        if not all(isinstance(name, str) for name in each.values()):
            raise Invalid("the names of devices and properties are texts")
        found[each.get("device"), each.get("property")] = None
    return list(found)
