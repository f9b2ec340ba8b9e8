"""The server of `indifast serve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indifast.protocol.message import Routable
from indifast.routing.peer import Peer
from indifast.server.core import Core
from indifast.server.ipyserver import IPyServer

if TYPE_CHECKING:
    from indifast.server.record import TrafficRecorder


class TappedServer(IPyServer):
    """A server whose traffic is shown to `taps`: (direction, "from" or "to"; peer; message)."""

    taps: Sequence[Callable[[str, Peer, Routable], None]] = ()

    recorder: TrafficRecorder | None = None

    def _make_core(self) -> Core:
        core = super()._make_core()
        if len(self.taps) == 1:
            core.tap = self.taps[0]
        elif self.taps:
            core.tap = self._tell_taps
        if self.recorder is not None:
            self.recorder.join(core)
        return core

    async def _close(self, core: Core) -> None:
        """The recording ends before everything is taken down: its devices are there to its end."""
        if self.recorder is not None:
            self.recorder.close()
        await super()._close(core)

    def _tell_taps(self, direction: str, peer: Peer, message: Routable) -> None:
        for tap in self.taps:
            tap(direction, peer, message)
