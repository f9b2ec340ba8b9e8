"""The types of what `IPyServer.stats()` returns, for type checkers and readers. The server does not import them."""

from typing import NotRequired, TypedDict


class PeerStats(TypedDict):
    """Counters of a client, driver or link. The keys of the inner dicts are `device.property` or a reason."""

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
    """Waiting messages by property."""
    replaced: dict[str, int]
    dropped: dict[str, int]
    sent: dict[str, int]
    frames_sent: NotRequired[dict[str, int]]
    """BLOBs. Not present for drivers."""
    skipped: NotRequired[dict[str, int]]
    """What could not be read. Present only if the peer has a byte stream, like the following keys."""
    skipped_bytes: NotRequired[int]
    characters_replaced: NotRequired[int]
    pauses: NotRequired[int]


class ServerStats(TypedDict):
    """Counters of a server. If it is not running, there are only `running` and `peers`."""

    running: bool
    peers: list[PeerStats]
    port: NotRequired[int | None]
    clients: NotRequired[int]
    surplus: NotRequired[int]
    """Connections that were closed at once, because there were too many clients."""
    devices: NotRequired[dict[str, str]]
    """The owner of each device."""
    refused: NotRequired[dict[str, int]]
    unfinished_bytes: NotRequired[int]
    updates: NotRequired[dict[str, int]]
    """Updates by property."""
