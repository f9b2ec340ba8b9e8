"""Handling of refused messages: they are counted, logged once and reported to their sender."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from indifast.protocol import wire

if TYPE_CHECKING:
    from indifast.protocol.complaints import Complaints
    from indifast.routing.peer import Peer

_REPLY_BACKLOG = 1 << 20  # a peer with this many bytes waiting is not told of refusals


class Refusal(NamedTuple):
    """Why a message is refused."""

    reason: str
    """A few words under which the refusal is counted."""
    device: str | None = None
    text: str | None = None
    """What the peer sent, for the log; None if the peer is not to blame, and the refusal is only counted."""


class Refusals:
    """Counts refused messages and reports them."""

    def __init__(self, complaints: Complaints) -> None:
        self.counts: Counter[str] = Counter()
        """Messages that were refused, by reason."""
        self._complaints = complaints

    def refuse(
        self, peer: Peer, reason: str, device: str | None, text: str | None, now: float, *, tell: bool = False
    ) -> None:
        """Count a refused message, and log it once per peer, reason and device. With `tell`, tell the sender as well.

        `reason`, `device` and `text` are those of a `Refusal`.
        """
        self.counts[reason] += 1
        if text is None:
            return
        peer.refused[reason] += 1
        if peer.to_be_logged(reason, device):
            self._complaints.say(logging.WARNING, now, "%s sent %s: refused", peer.label, text)
        if tell and peer.outbox.queued < _REPLY_BACKLOG:
            peer.inlet.append(wire.message(f"refused: {text}", None, device), now)
