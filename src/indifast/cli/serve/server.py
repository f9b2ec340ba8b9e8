"""The server of `indifast serve`."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from indifast.protocol.message import Routable
from indifast.routing.peer import Peer
from indifast.routing.tap import TapFunction
from indifast.server.hub import Hub
from indifast.server.ipyserver import IPyServer
from indifast.server.metrics import Page
from indifast.transport.connect import listen_on
from indifast.transport.listener import Listener
from indifast.transport.stream import SocketStream

if TYPE_CHECKING:
    from indifast.server.trafficlog import TrafficRecorder


class TappedServer(IPyServer):
    """A server on sockets that already listen, with functions that see its traffic.

    Attributes:
        taps: Called with each message: direction ("from" or "to"), peer, message.
        recorder: Recorder to attach to the server.
        sockets: The listening sockets, TCP and local.
    """

    taps: Sequence[TapFunction] = ()
    recorder: TrafficRecorder | None = None
    sockets: Sequence[socket.socket]

    async def _indifast_listen_tcp(self, port: int) -> Listener:
        return listen_on(
            [sock for sock in self.sockets if sock.family != socket.AF_UNIX], self._indifast_accept, ssl=self.ssl
        )

    async def _indifast_listen_unix(self, path: str) -> Listener:
        return listen_on([sock for sock in self.sockets if sock.family == socket.AF_UNIX], self._indifast_accept)

    def connect_inside(self) -> socket.socket:
        """Return the other end of a connection that nobody else can have.

        Raises:
            ConnectionError: The server has ended.
        """
        if self.stop or self._indifast_hub is None:
            raise ConnectionError("the server has ended")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._indifast_accept(SocketStream(ours, "page in the browser"))
        return theirs

    def _indifast_tap(self) -> TapFunction | None:
        if len(self.taps) > 1:
            return self._call_taps
        return self.taps[0] if self.taps else super()._indifast_tap()

    def _indifast_make_hub(self) -> Hub:
        hub = super()._indifast_make_hub()
        if self.recorder is not None:
            self.recorder.join(hub)
        return hub

    def metrics(self) -> str:
        from indifast import version

        page = Page()
        page.gauge("info", "Always 1; the label is the version of indifast.", {version: 1}, "version")
        return f"{page}{super().metrics()}"

    async def _indifast_close(self, hub: Hub) -> None:
        """End the recording before the server is taken down, so that its devices exist until its end."""
        if self.recorder is not None:
            self.recorder.close()
        await super()._indifast_close(hub)

    def _call_taps(self, direction: str, peer: Peer, message: Routable) -> None:
        for tap in self.taps:
            tap(direction, peer, message)
