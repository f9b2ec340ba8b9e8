"""What becomes of messages that are not obeyed: counted, logged once, told to their sender."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from indifast.protocol import wire

if TYPE_CHECKING:
    from indifast.protocol.complaints import Complaints
    from indifast.routing.peer import Peer

_REPLY_BACKLOG = 1 << 20  # bytes at which a peer gets no more refusals in writing


class Refusal(NamedTuple):
    """Why something is not obeyed."""

    reason: str
    """A few words under which it is counted."""
    device: str | None = None
    text: str | None = None
    """What the peer sent, for the log; None: nobody's fault, which is only counted."""


class Refusals:
    """Counts and tells what is refused."""

    def __init__(self, complaints: Complaints) -> None:
        self.counts: Counter[str] = Counter()
        """Messages that were not obeyed, by reason."""
        self._complaints = complaints

    def refuse(
        self, peer: Peer, reason: str, device: str | None, text: str | None, now: float, *, tell: bool = False
    ) -> None:
        """Count what is not obeyed, log it once per peer and device; with `tell` let the sender know as well.

        See `Refusal` for the meaning of the first three.
        """
        self.counts[reason] += 1
        if text is None:
            return
        peer.refused[reason] += 1
        if peer.to_be_logged(reason, device):
            self._complaints.say(logging.WARNING, now, "%s sent %s: refused", peer.label, text)
        if tell and peer.outbox.queued < _REPLY_BACKLOG:
            peer.inlet.append(wire.message(f"refused: {text}", None, device), now)
