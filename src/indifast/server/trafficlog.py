"""Logs and recordings of the server command: all traffic, heads of messages, and messages from drivers to users."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from indifast.protocol.message import Routable
from indifast.recording import Direction, Party, Recorder
from indifast.routing.clientqueue import Outbox
from indifast.routing.peer import Kind, Peer
from indifast.routing.rings import RING_CHECK
from indifast.transport.blobs import BlobMessage

logger = logging.getLogger(__name__)

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?=T)")
_HEAD_ATTRIBUTES = 200  # maximum characters of a message's head


def xml_of(message: Routable) -> str:
    """Return a message as it is written, without the content of its BLOBs."""
    data = message.head() if isinstance(message, BlobMessage) else b"".join(message.parts(False) or ())
    return data.decode("utf-8", "backslashreplace").rstrip()


def head_of(message: Routable) -> str:
    """Return the start tag of a message, shortened if it is long."""
    head = xml_of(message).split(">", 1)[0]
    return (head if len(head) <= _HEAD_ATTRIBUTES else head[:_HEAD_ATTRIBUTES] + "…") + ">"


class PeerHost(Protocol):
    """What a recording needs from the server."""

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        """Attach a peer to the router. `wake` is called when there is something in its outbox."""
        ...


class TrafficRecorder:
    """Records all messages from and to peers. See `indifast.recording`.

    An existing file is not overwritten; a number is then added to the name of the recording.

    Args:
        path: The file.
        blobs: Whether to record BLOBs, which makes the server request them.

    Raises:
        OSError: No file can be made.
    """

    def __init__(self, path: str, *, blobs: bool) -> None:
        self._recorder = _new_recorder(path, blobs=blobs)
        self._peer = _RecordingPeer(blobs=blobs)
        self._last_received: Routable | None = None
        if self._recorder.path != path:
            logger.warning("%s already exists: recording to %s", path, self._recorder.path)

    def join(self, host: PeerHost) -> None:
        """Attach to the server as a peer, in order to request BLOBs and to receive messages from the server itself."""
        host.attach(self._peer, lambda: None)

    def note(self, direction: str, peer: Peer, message: Routable) -> None:
        """Record one message; `direction` is "from" or "to"."""
        if direction == "from":
            self._last_received = message
            if message.tag == "delProperty" and message.device == RING_CHECK:
                return
            self._recorder.put(Direction.FROM, *_party_of(peer.kind, peer.label), message)
        elif peer is not self._peer:
            self._recorder.put(Direction.TO, *_party_of(peer.kind, peer.label), message)
        elif message is not self._last_received:  # it comes from the server itself
            self._recorder.put(Direction.FROM, Party.SERVER, "indifast", message)

    def close(self) -> None:
        """Write what is waiting, and end the recording."""
        self._recorder.close()

    def discard(self) -> None:
        """End the recording, and delete its file if it contains no messages."""
        self._recorder.close()
        if not self._recorder.messages and os.path.isfile(self._recorder.path):
            with contextlib.suppress(OSError):
                os.unlink(self._recorder.path)


class _RecordingPeer(Peer):
    """The recording as a peer: it requests BLOBs, and is told when devices vanish.

    It gets no updates, so that no producer waits for it.
    """

    def __init__(self, *, blobs: bool) -> None:
        super().__init__(Kind.CLIENT, "Recording", _NullOutbox())
        self._wants_blobs = blobs

    def wants(self, message: Routable) -> bool:
        return message.tag == "delProperty"

    def wants_content(self, device: str, name: str | None) -> bool:
        return self._wants_blobs


class _NullOutbox(Outbox):
    """An outbox that discards everything, because the tap has already recorded it."""

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        self.sent_messages += 1


_PARTIES = {Kind.CLIENT: Party.CLIENT, Kind.DRIVER: Party.DRIVER, Kind.REMOTE: Party.REMOTE}


@lru_cache(1000)
def _party_of(kind: Kind, label: str) -> tuple[Party, str]:
    """Return the kind of party that a peer is, and its label without the word for that kind."""
    word, _, name = label.partition(" ")
    return _PARTIES[kind], name if name and word.lower() == kind.value else label


def _new_recorder(path: str, *, blobs: bool) -> Recorder:
    stem, suffix = os.path.splitext(path)
    number = 1
    while True:
        try:
            return Recorder(path, source=f"indifast serve on {socket.gethostname()}", blobs=blobs, on_error=_log_error)
        except FileExistsError:
            number += 1
            path = f"{stem}-{number}{suffix}"


def _log_error(error: OSError) -> None:
    logger.error("%s: %s; recording has ended", error.filename, error.strerror or error)


class MessageLog:
    """Logs the messages from drivers to users, one file per day: `folder/YYYY-MM-DD.islog`.

    Each line is `time: device: text`. Day and time are those of the message, as in libindi's indiserver. If a message
    can't be written, an error is logged once; when writing works again, the number of lost messages is logged.

    Args:
        folder: The folder for the files.

    Raises:
        OSError: No files can be made in the folder. The text says what to do.
    """

    def __init__(self, folder: str) -> None:
        if not os.path.isdir(folder):
            kind = NotADirectoryError if os.path.exists(folder) else FileNotFoundError
            raise kind(f"{folder} is not a folder for the message log: make it, or name another")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"no permission to write the message log to {folder}: name another folder")
        self._folder = folder
        self._failed = 0

    def note(self, direction: str, peer: Peer, message: Routable) -> None:
        """Log the `message` attribute of anything that a driver sends."""
        if direction != "from" or peer.kind is not Kind.DRIVER or isinstance(message, BlobMessage):
            return
        attributes = message.element().attrs
        text = attributes.get("message")
        if not text:
            return
        stamp = attributes.get("timestamp") or time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        day = _DATE.match(stamp)
        path = os.path.join(self._folder, f"{day[0] if day else time.strftime('%Y-%m-%d', time.gmtime())}.islog")
        try:
            with open(path, "a", encoding="utf-8", opener=_open_at_once) as file:
                file.write(f"{stamp}: {message.device or ''}: {text}\n")
        except OSError as exc:
            if not self._failed:
                logger.error("message log: %s", exc)
            self._failed += 1
        else:
            if self._failed:
                logger.warning("message log: %d messages could not be written", self._failed)
                self._failed = 0


def _open_at_once(path: str, flags: int) -> int:
    """Open a file like `open`, but without waiting if it is a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def tell_head(direction: str, peer: Peer, message: Routable) -> None:
    """Log the head of a message (-vv)."""
    logger.debug("%s: %s %s", peer.label, "read" if direction == "from" else "send", head_of(message))


def tell_xml(direction: str, peer: Peer, message: Routable) -> None:
    """Log a message (-vvv)."""
    logger.debug("%s: %s %s", peer.label, "read" if direction == "from" else "send", xml_of(message))
