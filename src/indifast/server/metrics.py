"""Counters of a server as text for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from indifast.routing.clientqueue import Outbox
from indifast.routing.peer import Peer

MOST_LABELS = 200
"""Devices, drivers, links and reasons that have samples of their own, each. The others share one, without a name."""

LONGEST_LABEL = 200
"""Maximum characters of a name that has samples of its own."""

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Labels:
    """Decides which names have samples of their own: the first that come, for as long as the server exists.

    Peers may invent any number of names of any length.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, name: str | None) -> str:
        """Return the name if it has samples of its own; otherwise an empty string."""
        if not name or name in self._known:
            return name or ""
        if len(self._known) >= MOST_LABELS or len(name) > LONGEST_LABEL or not _is_text(name):
            return ""
        self._known.add(name)
        return name

    def sums(self, counts: Iterable[tuple[str | None, int]]) -> Counter[str]:
        """Add up numbers by name."""
        found: Counter[str] = Counter()
        for name, count in counts:
            found[self.of(name)] += count
        return found


def _is_text(name: str) -> bool:
    """Return whether the format can express the name: it has no way of writing NUL, or half of a surrogate pair."""
    return "\0" not in name and not any("\ud800" <= each <= "\udfff" for each in name)


class Traffic:
    """What peers have sent and been sent, added up, also of those that are gone."""

    KINDS = ("client", "driver", "remote")

    def __init__(self, labels: Labels, before: Traffic | None = None) -> None:
        self._labels = labels
        nothing = dict.fromkeys(self.KINDS, 0)
        self.received: Counter[str] = Counter(before.received if before else nothing)
        """Messages by kind of peer, like the next two."""
        self.sent: Counter[str] = Counter(before.sent if before else nothing)
        self.sent_bytes: Counter[str] = Counter(before.sent_bytes if before else nothing)
        self.blobs: Counter[str] = Counter(before.blobs if before else ())
        """Messages with BLOBs that clients and links were sent, by device."""
        self.dropped: Counter[str] = Counter(before.dropped if before else ())
        """Messages by device, like the next."""
        self.replaced: Counter[str] = Counter(before.replaced if before else ())

    def add(self, peer: Peer) -> None:
        """Add what a peer has counted so far."""
        kind, outbox = peer.kind.value, peer.outbox
        self.received[kind] += peer.received
        self.sent[kind] += outbox.sent_messages
        self.sent_bytes[kind] += outbox.sent_bytes
        for total, counter in ((self.dropped, outbox.dropped), (self.replaced, outbox.replaced)):
            total.update(self._labels.sums((device, count) for (device, _), count in counter.items()))
        if isinstance(outbox, Outbox):
            self.blobs.update(self._labels.sums((device, count) for (device, _), count in outbox.frames_sent.items()))


class Page:
    """The text in Prometheus' format, put together metric by metric."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def gauge(self, name: str, text: str, values: Mapping[str, float] | float, label: str = "") -> None:
        """Add a number that goes up and down, or several by the values of a label."""
        self._add("gauge", f"indifast_{name}", text, values, label)

    def counter(self, name: str, text: str, values: Mapping[str, float] | float, label: str = "") -> None:
        """Add a number that only goes up, or several by the values of a label."""
        self._add("counter", f"indifast_{name}_total", text, values, label)

    def _add(self, kind: str, name: str, text: str, values: Mapping[str, float] | float, label: str) -> None:
        self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        if not isinstance(values, Mapping):
            self._lines.append(f"{name} {values}")
            return
        for value, number in values.items():
            labels = f'{{{label}="{value.translate(_ESCAPES)}"}}' if value else ""
            self._lines.append(f"{name}{labels} {number}")

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)
