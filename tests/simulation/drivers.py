"""Drivers: programs behind a socket, and links within the server's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from indifast.driver import blobsender
from indifast.driver.streamlink import StreamLink
from indifast.protocol import wire
from indifast.protocol.message import Opened, Routable
from indifast.routing.link import Link
from indifast.routing.queuelistener import Loss
from indifast.server.locallink import LocalLink
from indifast.transport import shm
from indifast.transport.stream import SocketStream
from tests.simulation.journal import Journal, Mismatch
from tests.simulation.knowledge import Knowledge
from tests.simulation.ledger import BlobMember, Damaged, Said, content, damaged, mark_of, write, write_frame
from tests.simulation.network import Connection
from tests.simulation.nodes import Node, is_frame

if TYPE_CHECKING:
    from tests.simulation.site import Site


VARIED = "varied"
"""Stands for BLOBs of several formats in a row."""

MODEST = 30
"""Updates of each property in a row that every client can take which reads at once."""


@dataclass
class Vector:
    """A property of a driver."""

    device: str
    name: str
    kind: str
    members: tuple[str, ...]
    defined: bool = True
    newest: Said | None = None
    """The newest definition or update without content."""
    newest_frame: Said | None = None


class ObservedStreamLink(StreamLink):
    """The link of a driver that is a program; what its queue loses is written down."""

    journal: Journal
    site: Site

    def on_lost(self, message: Routable, how: Loss) -> None:
        if isinstance(message, Damaged):
            return
        try:
            self.journal.lose(mark_of(message), how)
        except Mismatch as mismatch:
            self.site.fail(mismatch.invariant, str(mismatch))


class Driver:
    """One driver, which may die and return as often as it likes.

    Attributes:
        local: Whether it lives in the server's process.
        pipes: Whether a program has pipes instead of a socket that carries descriptors.
        asks_again: Whether it says anew what it snoops on when it returns.
    """

    def __init__(
        self,
        site: Site,
        node: Node,
        name: str,
        vectors: list[Vector],
        *,
        local: bool,
        pipes: bool = False,
        forgiving: bool = False,
        asks_again: bool = True,
    ) -> None:
        self.site, self.node, self.name = site, node, name
        self.local, self.pipes, self.forgiving = local, pipes, forgiving
        self.asks_again = asks_again or local
        self.vectors = {(vector.device, vector.name): vector for vector in vectors}
        self.life = 0
        self.wanted = False
        """Whether it is meant to run."""
        self.link: Link | None = None
        self.stalled = False
        self.knowledge = Knowledge()
        """What it has heard of others' devices."""
        self.snoops: list[tuple[str, str | None, str]] = []
        self.to_server: Journal | None = None
        self.from_server: Journal | None = None
        self.child: Child | None = None
        self.commands = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._program: object = None

    def __repr__(self) -> str:
        return f"<driver {self.name}>"

    @property
    def speaker(self) -> str:
        return f"{self.name}/{self.life}"

    @property
    def devices(self) -> list[str]:
        return list(dict.fromkeys(device for device, _ in self.vectors))

    # Life

    def do_start(self) -> None:
        """Start, or see to it that the server starts it."""
        self.wanted = True
        server = self.node.server
        if server is None or not self.node.up:
            return
        if self.local:
            if self.link is None:
                link = server.open_link(self.name)
                assert isinstance(link, LocalLink)
                peer = link._peer
                self.to_server = self.node.incoming[peer] = Journal(f"{self.name} to {self.node.name}", plain=True)
                self.from_server = self.node.outgoing[peer]
                self._open(link)
        elif self._program not in server.exdrivers:
            self._program = server.add_exdriver(self.name, pipes=self.pipes, forgiving=self.forgiving)

    def spawned(self, connection: Connection) -> None:
        """The server has started the program."""
        stream = SocketStream(connection.sockets[1], self.name)  # type: ignore[arg-type]
        link = ObservedStreamLink(
            stream, partial(self._refuse, connection), terminator=b"\n", limits=self.node.settings.limits, patient=True
        )
        link.site = self.site
        self.to_server = link.journal = connection.journals[1]
        self.to_server.title = f"{self.name} to {self.node.name}"
        self.from_server = None  # known when the server has bound it
        self._connection = connection
        link.start(lambda: self._over(link))
        self._open(link)

    def _refuse(self, connection: Connection, kind: object, text: str, *args: object) -> None:
        """Nothing that a server sends is refused, but for the half of a message behind which the connection ends."""
        link = self.link
        if connection is not self._connection or connection.pipes[0].over:
            return
        if link is None or (isinstance(link, StreamLink) and link._stream.closed):
            return
        self.site.fail("Intact", f"{self.name} refuses: {text % args if args else text}")

    def _open(self, link: Link) -> None:
        self.link = link
        self.life += 1
        self.stalled = False
        self.knowledge = Knowledge()
        link.on_receive(self._hear)
        if self.asks_again or self.life == 1:
            for snoop in self.snoops:
                self._snoop(*snoop)

    def do_die(self) -> None:
        """Die at once: what is still queued is lost."""
        link = self.link
        if link is None:
            return
        if isinstance(link, StreamLink):
            link._stream.abort()
        else:
            self._over(link)

    def do_cut(self) -> None:
        """Lose the connection, perhaps in the middle of a message."""
        if isinstance(self.link, StreamLink):
            self._connection.cut()
        else:
            self.do_die()

    def do_retire(self) -> None:
        """End for good; the server does not start it again."""
        self.wanted = False
        server = self.node.server
        if self.local:
            self.do_die()
        elif server is not None and self._program in server.exdrivers:
            self.site.spawn_task(server.remove_exdriver(self._program))  # type: ignore[arg-type]
        self._program = None

    def _over(self, link: Link) -> None:
        """The link is gone."""
        if self.link is not link:
            return
        self.link = None
        if self.to_server is not None:
            self.to_server.broken = True
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        link.on_receive(None)
        link.close()
        if self.child is not None:
            self.child.over(1)
            self.child = None

    # Hearing

    def do_stall(self, seconds: float) -> None:
        """Read nothing for a while."""
        self.stalled = True
        life = self.life
        self.site.loop.call_later(seconds, self.resume, life)

    def resume(self, life: int | None = None) -> None:
        if life in (None, self.life):
            self.stalled = False
            self._hear()

    def _hear(self) -> None:
        link = self.link
        while link is not None and link is self.link and not self.stalled:
            message = link.take()
            if message is None:
                if link.ended if isinstance(link, StreamLink) else link.closed:
                    self._over(link)
                return
            self._take(message)

    def _take(self, message: Routable) -> None:
        mark = self.site.mark(message)
        journal = self.from_server or self._connection.journals[0]
        self.site.arrive(journal, self, mark, message, is_frame(message))
        if mark.tag == "getProperties":
            for (device, name), vector in self.vectors.items():
                if vector.defined and mark.device in (None, device) and mark.name in (None, name):
                    self.say(vector, "def")
        elif mark.tag.startswith("new"):
            self.commands += 1
            vector = self.vectors.get((mark.device or "", mark.name or ""))
            if vector is not None and vector.defined:
                self.say(vector, "set")
        else:
            self.knowledge.learn(mark, self.site.ledger.find(mark.what), is_frame(message))

    # Saying

    def _send(self, said: Said, message: Routable, formats: tuple[str, ...] = ()) -> None:
        link = self.link
        assert link is not None
        assert self.to_server is not None
        if link.closed:
            return
        frame = bool(said.blobs) and said.tag == "setBLOBVector"
        self.to_server.tell(
            mark_of(message),
            frame=frame,
            size=message.size,
            carried=message.carried,
            formats=message.formats,
        )
        link.send(message)

    def say(self, vector: Vector, verb: str) -> None:
        """Define a property, or tell its values."""
        if self.link is None or self.link.closed:
            return
        tag = f"{verb}{vector.kind}Vector"
        said = self.site.ledger.say(self.site.now, self.speaker, tag, vector.device, vector.name, vector.members)
        vector.newest = said
        self._send(said, write(said, vector.members))

    def do_define(self, device: str, name: str) -> None:
        vector = self.vectors.get((device, name))
        if vector is not None and self.link is not None:
            vector.defined = True
            self.say(vector, "def")

    def do_update(self, device: str, name: str) -> None:
        vector = self.vectors.get((device, name))
        if vector is not None and vector.defined:
            self.say(vector, "set")

    def do_burst(self, device: str, count: int) -> None:
        """Tell all values of a device again and again, as fast as the link lets."""
        if self.link is None:
            return
        if count > MODEST:
            for client in self.site.clients.values():
                client.excused = client.excused or "there is more than its network takes"
        self._begin(self._burst(self.link, device, count))

    async def _burst(self, link: Link, device: str, count: int) -> None:
        for _ in range(count):
            for vector in self.vectors.values():
                if vector.device == device and vector.defined and self.link is link:
                    self.say(vector, "set")
                    await link.not_full()

    def do_frame(self, device: str, name: str, size: int, form: str, count: int) -> None:
        """Send BLOBs of some members."""
        vector = self.vectors.get((device, name))
        if vector is None or self.link is None or not vector.defined or vector.kind != "BLOB":
            return
        self._begin(self._frames(self.link, vector, size, form, count))

    async def _frames(self, link: Link, vector: Vector, size: int, form: str, count: int) -> None:
        for at in range(count):
            if self.link is not link or link.closed or not vector.defined:
                return
            demand = link.demand(vector.device, vector.name)
            for check in self.site.on_demand:
                check(self, vector, demand)
            if not any(demand):
                return
            members = vector.members if (at + size) % 4 else vector.members[:1]
            each_form = (".stream", ".fits", ".stream")[(at + size) % 3] if form == VARIED else form
            blobs = tuple(BlobMember(member, each_form, max(1, size - 7 * each)) for each, member in enumerate(members))
            said = self.site.ledger.say(
                self.site.now, self.speaker, "setBLOBVector", vector.device, vector.name, (), blobs
            )
            message, buffers = write_frame(said)
            vector.newest_frame = said
            self._send(said, message)
            try:
                await blobsender._make_wanted_forms(message, link, vector.device, vector.name)
            finally:
                message.release()
                for buffer in buffers:
                    buffer[:] = bytes(len(buffer))  # the next exposure
            await link.paced(vector.device, vector.name)

    def do_damage(self, device: str, name: str) -> None:
        """Send what looks like a BLOB in a file, but is no message, and then a good one."""
        vector = self.vectors.get((device, name))
        link = self.link
        if vector is None or not isinstance(link, StreamLink) or self.pipes or vector.kind != "BLOB":
            return
        assert self.to_server is not None
        self.to_server.damaged = True
        said = self.site.ledger.say(self.site.now, self.speaker, "setBLOBVector", device, name)
        fd = shm.share(content(said.number, "m0", 7))
        message = damaged(said, [fd])
        self.site.close_later(fd)
        link.send(message)
        self.do_frame(device, name, 300, ".bin", 1)

    def do_delete(self, device: str, name: str | None) -> None:
        """Delete a property, or a whole device."""
        if self.link is None:
            return
        found = [vector for key, vector in self.vectors.items() if key[0] == device and name in (None, key[1])]
        if not any(vector.defined for vector in found):
            return
        for vector in found:
            vector.defined = False
        said = self.site.ledger.say(self.site.now, self.speaker, "delProperty", device, name)
        self._send(said, write(said))

    def do_tell(self, device: str | None) -> None:
        """Say something to people."""
        if self.link is not None:
            said = self.site.ledger.say(self.site.now, self.speaker, "message", device, None)
            self._send(said, write(said))

    def do_forge(self, device: str, name: str, verb: str) -> None:
        """Speak for a device of somebody else's."""
        if self.link is None or any(device == own for own, _ in self.vectors):
            return
        if self.node.hub is None or device not in self.node.rules.owners:
            return
        tag = "delProperty" if verb == "del" else f"{verb}NumberVector"
        said = self.site.ledger.say(self.site.now, self.speaker, tag, device, name, ("m0",), forged=True)
        self._send(said, write(said))

    def do_snoop(self, device: str, name: str | None, policy: str) -> None:
        """Ask for a device of somebody else's, and for its BLOBs. The second time, it is only about the BLOBs."""
        if any(device == own for own, _ in self.vectors):
            return
        known = any((device, name) == each[:2] for each in self.snoops)
        self.snoops.append((device, name, policy))
        if self.link is not None:
            self._snoop(device, name, policy, known=known)

    def _snoop(self, device: str, name: str | None, policy: str, *, known: bool = False) -> None:
        link = self.link
        assert link is not None
        assert self.to_server is not None
        for message in (wire.get_properties(device, name), wire.enable_blob(device, name, policy))[known:]:
            if not link.closed:
                self.to_server.tell(mark_of(message))
                link.send(message)

    def _begin(self, work: object) -> None:
        task = self.site.loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Child:
    """What the server knows of the program: its stream, and its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: SocketStream, ask_to_end: Callable[[], None]) -> None:
        self.pid = 1
        self.stream = stream
        self._over: asyncio.Future[int] = loop.create_future()
        self._ask_to_end = ask_to_end
        self._loop = loop

    @property
    def returncode(self) -> int | None:
        return self._over.result() if self._over.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._over)

    async def stop(self, grace: float) -> int:
        if not self._over.done():
            self._loop.call_later(grace / 2, self._ask_to_end)
        return await self.wait()

    def kill(self) -> None:
        self._ask_to_end()

    def over(self, status: int) -> None:
        if not self._over.done():
            self._over.set_result(status)


def holds(message: Opened | Routable, said: Said) -> str | None:
    """Compare a message that has arrived with what was said; return what differs, None if nothing does."""
    if message.tag != said.tag or (message.device or None, message.name or None) != said.property:
        return f"it is a {message.tag} of {message.device}.{message.name}"
    if said.blobs:
        found = [(member.name, member.attrs.get("format"), bytes(member.data or b"")) for member in message.members]  # type: ignore[union-attr]
        expected = [(blob.name, blob.format, content(said.number, blob.name, blob.size)) for blob in said.blobs]
        if found != expected:
            return "its BLOBs are not those that were sent"
    elif said.values:
        values = message.values()  # type: ignore[union-attr]
        if values != said.values:
            return f"its values are {values}"
    return None
