"""What `IPyServer.stats()` is made of, for type checkers and readers; the server itself does without it."""

from typing import NotRequired, TypedDict


class PeerStats(TypedDict):
    """Counters of a client, driver or link. Keys of the inner dicts: `device.property`, or a reason."""

    kind: str
    name: str
    devices: list[str]
    received: int
    refused: dict[str, int]
    queued_bytes: int
    queued_messages: int
    sent_bytes: int
    sent_messages: int
    queued: dict[str, int]
    """Messages that wait, by property."""
    replaced: dict[str, int]
    dropped: dict[str, int]
    sent: dict[str, int]
    frames_sent: NotRequired[dict[str, int]]
    """BLOBs; not for drivers."""
    skipped: NotRequired[dict[str, int]]
    """What could not be read; this and the following for those with a byte stream."""
    skipped_bytes: NotRequired[int]
    characters_replaced: NotRequired[int]
    pauses: NotRequired[int]


class ServerStats(TypedDict):
    """Counters of a server. Without a run there is nothing but `running` and `peers`."""

    running: bool
    peers: list[PeerStats]
    port: NotRequired[int | None]
    clients: NotRequired[int]
    surplus: NotRequired[int]
    """Connections that were closed at once, because there were enough."""
    devices: NotRequired[dict[str, str]]
    """Device to the name of its owner."""
    refused: NotRequired[dict[str, int]]
    unfinished_bytes: NotRequired[int]
    updates: NotRequired[dict[str, int]]
    """Updates by property."""
