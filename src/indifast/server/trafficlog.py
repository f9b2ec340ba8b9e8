"""What the server's command writes down: all traffic, heads of messages, and what drivers say to people."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Protocol

from indifast.protocol.message import Routable
from indifast.recording import Direction, Party, Recorder
from indifast.routing.clientqueue import Outbox
from indifast.routing.peer import Kind, Peer
from indifast.routing.rings import RING_CHECK
from indifast.transport.blobs import BlobMessage

logger = logging.getLogger(__name__)

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?=T)")
_HEAD_ATTRIBUTES = 200  # characters of a message's head


def xml_of(message: Routable) -> str:
    """A message as it is written, without the content of its BLOBs."""
    data = message.head() if isinstance(message, BlobMessage) else b"".join(message.parts(False) or ())
    return data.decode("utf-8", "backslashreplace").rstrip()


def head_of(message: Routable) -> str:
    """The start tag of a message."""
    head = xml_of(message).split(">", 1)[0]
    return (head if len(head) <= _HEAD_ATTRIBUTES else head[:_HEAD_ATTRIBUTES] + "…") + ">"


class PeerHost(Protocol):
    """Where peers take part in a server's traffic."""

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        """The peer takes part; `wake` tells it that its outbox has something."""
        ...


class TrafficRecorder:
    """A recording of all that peers say and are told; see `indifast.recording`.

    A file that is there already is left alone: the recording goes beside it, under the same name with a number.
    Raises OSError when no file can be made.
    """

    def __init__(self, path: str, *, blobs: bool) -> None:
        self._recorder = _new_recorder(path, blobs=blobs)
        self._self = _RecordingPeer(blobs=blobs)
        self._said: Routable | None = None
        if self._recorder.path != path:
            logger.error("%s is there already: recording to %s", path, self._recorder.path)

    def join(self, host: PeerHost) -> None:
        """Take part in the server's traffic: as somebody who wants BLOBs, and hears what the server itself says."""
        host.attach(self._self, lambda: None)

    def note(self, direction: str, peer: Peer, message: Routable) -> None:
        """Record one message; `direction` is "from" or "to"."""
        if direction == "from":
            self._said = message
            if message.tag == "delProperty" and message.device == RING_CHECK:
                return
            self._recorder.put(Direction.FROM, *_who(peer.kind, peer.label), message)
        elif peer is not self._self:
            self._recorder.put(Direction.TO, *_who(peer.kind, peer.label), message)
        elif message is not self._said:  # nobody but the server has said it
            self._recorder.put(Direction.FROM, Party.SERVER, "indifast", message)

    def close(self) -> None:
        """Write what waits, and end the recording."""
        self._recorder.close()

    def discard(self) -> None:
        """End the recording; a file in which nothing was said goes."""
        self._recorder.close()
        if not self._recorder.messages and os.path.isfile(self._recorder.path):
            with contextlib.suppress(OSError):
                os.unlink(self._recorder.path)


class _RecordingPeer(Peer):
    """Stands for the recording among the peers: it makes BLOBs wanted, and is told when devices vanish.

    Updates don't go to it: nobody's pace should depend on it.
    """

    def __init__(self, *, blobs: bool) -> None:
        super().__init__(Kind.CLIENT, "Recording", _Nowhere())
        self._wants_blobs = blobs

    def wants(self, message: Routable) -> bool:
        return message.tag == "delProperty"

    def wants_content(self, device: str, name: str | None) -> bool:
        return self._wants_blobs


class _Nowhere(Outbox):
    """What is put in is gone: the tap has seen it."""

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        self.sent_messages += 1


_PARTIES = {Kind.CLIENT: Party.CLIENT, Kind.DRIVER: Party.DRIVER, Kind.REMOTE: Party.REMOTE}


@lru_cache(1000)
def _who(kind: Kind, label: str) -> tuple[Party, str]:
    """What a peer is, and its label without the word for that."""
    word, _, rest = label.partition(" ")
    return _PARTIES[kind], rest if rest and word.lower() == kind.value else label


def _new_recorder(path: str, *, blobs: bool) -> Recorder:
    stem, suffix = os.path.splitext(path)
    for number in count(2):
        try:
            return Recorder(path, source=f"indifast serve on {socket.gethostname()}", blobs=blobs, on_error=_tell_error)
        except FileExistsError:
            path = f"{stem}-{number}{suffix}"
    raise AssertionError  # count() never ends


def _tell_error(error: OSError) -> None:
    logger.error("%s: %s; nothing more is recorded", error.filename, error.strerror or error)


class MessageLog:
    """What drivers say to people, one file per day: `folder/YYYY-MM-DD.islog` with lines `time: device: text`.

    Day and time are those of the message, as in libindi's indiserver. When one can't be written, that is logged once,
    and how many could not when one can be written again. Raises OSError when the folder can't take files.
    """

    def __init__(self, folder: str) -> None:
        if not os.path.isdir(folder):
            kind = NotADirectoryError if os.path.exists(folder) else FileNotFoundError
            raise kind(f"{folder} is not a folder to write the log of messages to: make it, or name another")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"no file can be made in {folder}, where the log of messages is to go")
        self._folder = folder
        self._failed = 0

    def note(self, direction: str, peer: Peer, message: Routable) -> None:
        """Write down the `message` attribute of whatever a driver sends."""
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
                logger.error("message log: %d messages could not be written", self._failed)
                self._failed = 0


def _open_at_once(path: str, flags: int) -> int:
    """As `open` does it, but without waiting where the name is that of a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def tell_head(direction: str, peer: Peer, message: Routable) -> None:
    """Log the head of a message (-vv)."""
    logger.info("%s: %s %s", peer.label, "read" if direction == "from" else "send", head_of(message))


def tell_xml(direction: str, peer: Peer, message: Routable) -> None:
    """Log a message (-vvv)."""
    logger.info("%s: %s %s", peer.label, "read" if direction == "from" else "send", xml_of(message))
