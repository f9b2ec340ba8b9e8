"""The server: router, queues and connections, fed by several peers at once."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from fuzzing.checks import check_output, read_output
from fuzzing.inputs import Input, chunks
from fuzzing.world import MemoryStream, VirtualLoop, file_of, no_descriptor_left, running
from indifast._parser import Element, Tokenizer
from indifast.compression import METHODS
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import RAW, Routable
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.server.hub import Hub
from indifast.server.ipyserver import IPyServer
from indifast.transport.blobs import BlobMessage
from indifast.transport.rawframes import Agreement, offer
from indifast.transport.shm import DescriptorError

SEPARATOR = b"\xfe"
"""Stands between the steps of an input: a byte that no text has."""
SMALL = Limits(
    attribute=200, element=4000, blob=2000, depth=4, members=50, junk=100, queue=3000, stream=1000, small_queue=20_000
)
"""Limits that small inputs can exceed."""
MOST_HELD = 3000
"""Bytes of all unfinished messages together under these limits."""
MOST_STEPS = 120
FIRST_CONTENT = 128
"""Files have bytes above this one, by the number of the step."""
WINDOW = 2000
"""Bytes that a slow reader takes before it stops."""

_ASKING = ("getProperties", "enableBLOB")
_UNASKED = ("pingReply", "message")

DEFINITIONS = b"".join(
    b'<def%sVector device="%%s" name="%s" state="Idle" perm="rw"><def%s name="m">%s</def%s></def%sVector>'
    % (kind, kind[:1], kind, value, kind, kind)
    for kind, value in ((b"Number", b"1"), (b"Text", b"x"), (b"Switch", b"On"), (b"Light", b"Ok"), (b"BLOB", b""))
)
WANTS = b"<getProperties version='1.7'/>" + b"".join(
    b"<enableBLOB device='%s'>Also</enableBLOB>" % device for device in (b"D", b"E")
)


class End:
    """One peer of the server, with both ends of its connection."""

    def __init__(self, world: World, label: str, kind: Kind, *, local: bool = False, slow: bool = False) -> None:
        self.kind = kind
        self.label = label
        self.local = local
        self.slow = slow
        self._world = world
        if kind is Kind.DRIVER:
            self.peer = Peer(kind, label, DriverOutbox(terminator=b"\n"))
        elif kind is Kind.REMOTE:
            self.peer = Peer(kind, label, world.hub.new_outbox())
        self.connect()

    def connect(self) -> None:
        """Begin a connection."""
        world = self._world
        self.stream = MemoryStream(world.loop, self.label, local=self.local, window=WINDOW if self.slow else None)
        bounds: dict[str, Any] = dict(world.limits.tokenizer())
        self.heard = Tokenizer(**bounds)
        """Reads what this peer says, as the server should."""
        self.said: list[Element] = []
        self.void = 0
        """Descriptors up to this step belong to messages that were damaged, and to no later one."""
        hub = world.hub
        if self.kind is Kind.CLIENT:
            known = set(hub.router.peers)
            world.server._indifast_accept(self.stream)  # type: ignore[arg-type]
            (self.peer,) = set(hub.router.peers) - known
            return
        hub.carry(self.peer, self.stream, lambda exc: self._lost(), forgiving=True)  # type: ignore[arg-type]

    def _lost(self) -> None:
        if self.peer in self._world.hub.router.peers:
            self._world.hub.lose(self.peer)

    def say(self, data: bytes, fds: list[int]) -> None:
        """Send bytes, and descriptors with the first of them."""
        if not self.stream.deliver(data, fds):
            return
        skipped = self.heard.skipped_bytes
        self.said += self.heard.feed(data)
        if self.heard.skipped_bytes > skipped and not self.heard.held:
            self.void = self._world.step

    def check(self) -> None:
        """Check what the peer was told since it connected."""
        stream = self.stream
        told = bytes(stream.written)
        if stream.drained and not stream.closed:
            elements = check_output(told)
        else:  # the last message may be cut
            elements, _, _ = read_output(told)
        if self.kind is Kind.CLIENT:
            self._check_client([element for element in elements if element.tag != "pingReply"])
            if stream.drained and not stream.closed and self.peer.outbox.form != RAW:  # `heard` reads no raw frames
                asked = [element.attrs.get("uid", "") for element in self.said if element.tag == "pingRequest"]
                answered = [element.attrs["uid"] for element in elements if element.tag == "pingReply"]
                assert asked == answered, "a ping was not answered, or not in its turn"

    def _check_client(self, told: list[Element]) -> None:
        """Check that nobody is told what they did not ask for."""
        asked = any(element.tag in _ASKING or element.tag.startswith(("new", "def")) for element in self.said)
        if not asked:
            assert all(element.tag in _UNASKED for element in told), "told without asking"


class World:
    """A server and its peers."""

    def __init__(self, loop: VirtualLoop, options: int) -> None:
        self.loop = loop
        self.limits = SMALL if options & 1 else DEFAULT_LIMITS
        self.server = IPyServer(
            port=None,
            limits=self.limits,
            maxconnections=None,
            accept_links=not options & 2,
            raw_frames=bool(options & 64),
        )
        self.server.newest_wins = bool(options & 4)
        if options & 32:
            self.server._indifast_tap = lambda: self._tell  # type: ignore[method-assign]
        self.hub: Hub = self.server._indifast_make_hub()
        self.server._indifast_hub = self.hub
        if options & 1:
            self.hub.max_held = MOST_HELD
        self.step = 0
        self._speaker: Peer | None = None
        slow = bool(options & 8)
        self.ends = [
            End(self, "first client", Kind.CLIENT),
            End(self, "second client", Kind.CLIENT, slow=slow),
            End(self, "local client", Kind.CLIENT, local=True, slow=slow),
            End(self, "first driver", Kind.DRIVER, local=True),
            End(self, "second driver", Kind.DRIVER, slow=slow),
            End(self, "remote", Kind.REMOTE),
        ]
        if options & 64:
            self.ends[0].say(offer(METHODS).data, [])
            self.ends[5].say(Agreement(pieces=True, methods=METHODS).acceptance.data, [])
        loop.settle()

    def _tell(self, direction: str, peer: Peer, message: Routable) -> None:
        """Check each message that passes: who speaks for a device, and whose descriptors come with it."""
        if direction == "from":
            self._speaker = peer
            if isinstance(message, BlobMessage):
                self._check_descriptors(peer, message)
        elif message.device and message.tag.startswith(("def", "set")):
            assert self.hub.router.owners.get(message.device) is self._speaker, "somebody else speaks for a device"

    def _check_descriptors(self, peer: Peer, message: BlobMessage) -> None:
        (end,) = [end for end in self.ends if end.peer is peer]
        with contextlib.suppress(OSError, DescriptorError):  # the file is too short
            for member, view in message.views():
                if member.raw:
                    continue
                content = bytes(view())
                assert content in (b"", bytes([content[0]]) * len(content))
                assert not content or end.void < content[0] - FIRST_CONTENT, f"{member.name} has what is another's"

    def check(self) -> None:
        """Check what must hold at any moment."""
        hub = self.hub
        assert hub.held == sum(connection.held for connection in hub.connections.values())
        for connection in hub.connections.values():
            assert connection.held == connection.reader.held
            assert connection.peer.outbox.queued >= 0
        for end in self.ends:
            end.check()
        json.dumps(self.server.stats())

    def end(self) -> None:
        """End everything, and check that nothing is left."""
        for end in self.ends:
            end.stream.abort()
        self.loop.settle()
        for end in self.ends:
            self.hub.remove(end.peer)
        self.loop.advance(1)
        assert len(self.hub.router.peers) == 0 and not self.hub.router.owners and self.hub.held == 0
        assert not self.server._indifast_clients
        self.hub.close()


def run(data: bytes) -> None:
    """Let peers talk: a byte of options, then steps, see `_step`."""
    given = Input(data)
    options = given.byte()
    with no_descriptor_left(), running() as loop:
        world = World(loop, options)
        if options & 16:
            for end in world.ends[:3]:
                end.say(WANTS, [])
            for at, device in ((3, b"D"), (4, b"E")):
                world.ends[at].say(DEFINITIONS.replace(b"%s", device), [])
            loop.settle()
        for number, step in enumerate(given.rest().split(SEPARATOR)[:MOST_STEPS], 1):
            world.step = number
            _step(world, step)
        loop.settle()
        for end in world.ends:
            end.stream.grant(1 << 20)
        loop.advance(1)
        world.check()
        world.end()


def _step(world: World, step: bytes) -> None:
    """Do one thing: a byte that says what and with whom, then what belongs to it.

    The lower three bits are the peer. The others: 31 ends its connection and begins another, 30 lets time pass, 29 has
    a slow reader go on; anything else is the number of descriptors that come with what the peer says.
    """
    given = Input(step)
    head = given.byte()
    end, what = world.ends[(head & 7) % len(world.ends)], head >> 3
    if what == 31:
        end.stream.abort()
        world.loop.settle()
        end.connect()
    elif what == 30:
        world.loop.advance(given.byte() / 16)
    elif what == 29:
        end.stream.grant(given.byte() * 16)
    else:
        content = bytes([FIRST_CONTENT + world.step])
        fds = [file_of(content * size) for size in range(2, 2 + min(what, 4))] if end.local else []
        for number, chunk in enumerate(chunks(given.rest(), 0 if what < 8 else what)):
            end.say(chunk, [] if number else fds)
            if what & 4:
                world.loop.settle()
    world.loop.settle()
    if what >= 24:
        world.check()
