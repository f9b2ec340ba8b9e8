"""The server: router, queues and connections, fed by several peers at once."""

from __future__ import annotations

import gc
import json
import os
from typing import Any

from fuzzing.checks import check_output
from fuzzing.inputs import Input, chunks
from fuzzing.world import MemoryStream, VirtualLoop, running
from indifast._parser import Element, Tokenizer
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.server.hub import Hub
from indifast.server.ipyserver import IPyServer

SEPARATOR = b"\xfe"
"""Stands between the steps of an input: a byte that no text has."""
SMALL = Limits(
    attribute=200, element=4000, blob=2000, depth=4, members=50, junk=100, queue=3000, stream=1000, small_queue=20_000
)
"""Limits that small inputs can exceed."""
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
        self.peer = Peer(kind, label, DriverOutbox(terminator=b"\n")) if kind is Kind.DRIVER else None
        self.connect()

    def connect(self) -> None:
        """Begin a connection."""
        world = self._world
        self.stream = MemoryStream(world.loop, self.label, local=self.local, window=WINDOW if self.slow else None)
        bounds: dict[str, Any] = dict(world.limits.tokenizer())
        self.heard = Tokenizer(**bounds)
        """Reads what this peer says, as the server should."""
        self.said: list[Element] = []
        self.gone = False
        hub = world.hub
        if self.kind is Kind.CLIENT:
            world.server._accept(self.stream)  # type: ignore[arg-type]
            return
        if self.kind is Kind.REMOTE:
            self.peer = self.peer or Peer(Kind.REMOTE, self.label, hub.new_outbox())
        assert self.peer is not None
        hub.carry(self.peer, self.stream, lambda exc: self._lost(), forgiving=True)  # type: ignore[arg-type]

    def _lost(self) -> None:
        self.gone = True
        if self.peer is not None and self.peer in self._world.hub.router.peers:
            self._world.hub.lose(self.peer)

    def say(self, data: bytes, fds: list[int]) -> None:
        """Send bytes, and descriptors with the first of them."""
        if not self.stream.deliver(data, fds):
            for fd in fds:
                os.close(fd)
            return
        self.said += self.heard.feed(data)

    def check(self) -> None:
        """Check what the peer was told since it connected."""
        stream = self.stream
        told = bytes(stream.written)
        if stream.drained and not stream.closed:
            elements = check_output(told)
        else:  # the last message may be cut
            tokenizer = Tokenizer(relay=True)
            elements = tokenizer.feed(told)
            assert tokenizer.skipped == {}, f"written, but not readable: {tokenizer.skipped}"
        if self.kind is Kind.CLIENT:
            self._check_client([element for element in elements if element.tag != "pingReply"])
            if stream.drained and not stream.closed:
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
        self.server = IPyServer(port=None, limits=self.limits, maxconnections=None, accept_links=not options & 2)
        self.server.newest_wins = bool(options & 4)
        self.hub: Hub = self.server._make_hub()
        self.server._hub = self.hub
        slow = bool(options & 8)
        self.ends = [
            End(self, "first client", Kind.CLIENT),
            End(self, "second client", Kind.CLIENT, slow=slow),
            End(self, "local client", Kind.CLIENT, local=True, slow=slow),
            End(self, "first driver", Kind.DRIVER, local=True),
            End(self, "second driver", Kind.DRIVER, slow=slow),
            End(self, "remote", Kind.REMOTE),
        ]
        loop.settle()

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
            if end.peer is not None:
                self.hub.remove(end.peer)
        self.loop.advance(1)
        assert len(self.hub.router.peers) == 0 and not self.hub.router.owners and self.hub.held == 0
        assert not self.server._clients
        self.hub.close()


def run(data: bytes) -> None:
    """Let peers talk: a byte of options, then steps, see `_step`."""
    given = Input(data)
    options = given.byte()
    before = len(os.listdir("/proc/self/fd"))
    with running() as loop:
        world = World(loop, options)
        if options & 16:
            for end in world.ends[:3]:
                end.say(WANTS, [])
            for at, device in ((3, b"D"), (4, b"E")):
                world.ends[at].say(DEFINITIONS.replace(b"%s", device), [])
            loop.settle()
        for step in given.rest().split(SEPARATOR):
            _step(world, step)
        loop.settle()
        for end in world.ends:
            end.stream.grant(1 << 20)
        loop.advance(1)
        world.check()
        world.end()
    del world
    if len(os.listdir("/proc/self/fd")) != before:
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


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
        fds = [_file(size) for size in range(min(what, 4))] if end.local else []
        for number, chunk in enumerate(chunks(given.rest(), 0 if what < 8 else what)):
            end.say(chunk, [] if number else fds)
            if what & 4:
                world.loop.settle()
    world.loop.settle()
    if what >= 24:
        world.check()


def _file(size: int) -> int:
    """Return a descriptor of a small file."""
    fd = os.memfd_create("fuzzing", os.MFD_CLOEXEC)
    os.write(fd, b"abcd"[:size])
    return fd
