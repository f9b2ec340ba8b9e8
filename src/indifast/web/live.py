"""The WebSocket with live frames: always the newest one, never a queue, at the pace of each viewer.

This is where it is decided who may look at what. Those who may are handed over to `viewing`, each with its connection.
"""

from __future__ import annotations

from starlette.websockets import WebSocket, WebSocketDisconnect

from indifast.client import INDICheckError
from indifast.client.commandchecks import INDIUnknown
from indifast.web.endpoints import HAND_OVER, name_in
from indifast.web.frames import Frames
from indifast.web.guard import Refused, asker_of
from indifast.web.hub import Busy, Hub
from indifast.web.shares import share_of
from indifast.web.viewing import Viewing


class Live:
    """The endpoint of WebSockets with the frames of one server."""

    def __init__(self, hub: Hub, frames: Frames, viewing: Viewing) -> None:
        self._hub = hub
        self._frames = frames
        self._viewing = viewing

    async def answer(self, socket: WebSocket) -> None:
        """Accept a WebSocket, and hand it over."""
        device, name, member = (name_in(word) for word in socket.path_params.values())
        whose = share_of(socket.scope)
        try:
            self._hub.blob(device, name, member)
            source = self._frames.of(device, name)
            self._viewing.take(whose)
        except INDIUnknown as unknown:
            raise Refused(404, "unknown", str(unknown)) from None
        except INDICheckError as wrong:
            raise Refused(400, "invalid", str(wrong)) from None
        except (Busy, ConnectionError) as busy:
            raise Refused(503, "unavailable", str(busy)) from None
        asker = asker_of(socket)
        try:
            await socket.accept()
            fd = socket.scope["extensions"][HAND_OVER]()
        except WebSocketDisconnect:
            self._viewing.give_back(whose)
            return
        except BaseException:
            self._viewing.give_back(whose)
            raise
        self._viewing.add(fd, source, member, None if asker is None else asker.session, whose)
