"""Clients: those who connect to a server, ask, command, read slowly, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import RAW, Buffer, Routable
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.queuelistener import QueueListener
from indifast.transport.incoming import MessageReader
from indifast.transport.packing import ByRate, wanted
from indifast.transport.rawframes import ACCEPTED, Agreement, offer
from tests.simulation.journal import Journal
from tests.simulation.knowledge import Knowledge
from tests.simulation.ledger import BlobMember, mark_of, write
from tests.simulation.network import Connection
from tests.simulation.nodes import Node, is_frame
from tests.simulation.rules import Wish, Wishes
from tests.simulation.streams import JournalledStream

if TYPE_CHECKING:
    from tests.simulation.site import Site


class _Listener:
    """A server sends nothing that is left out."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _fail(self, text: str) -> None:
        self._client.site.fail("Intact", f"{self._client.name}: {text}")

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        if not self._client.ending:
            self._fail(f"{nbytes} bytes skipped ({reason}): {excerpt[:80]!r}")

    def refused(self, element: object, error: BaseException, /) -> None:
        self._fail(f"a BLOB that can't be read: {error}")

    def flooded(self, error: BaseException, /) -> None:
        self._fail(f"descriptors without messages: {error}")

    def outgrown(self, held: int, most: int, /) -> None:
        self._fail("a message without end")

    def stalled(self, held: int, /) -> None:
        """A slow network is nobody's fault."""

    def missing(self, what: str, /) -> None:
        self._fail(f"content is missing: {what}")

    def violated(self, why: str, /) -> None:
        self._fail(f"the server {why}")


class Session(QueueListener):
    """One connection of a client."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self.client = client
        self.connection = connection
        self.stream = JournalledStream(connection.sockets[0], client.name, connection.journals[0])
        self.reader = MessageReader(
            _Listener(client), client.node.settings.limits, client.site.loop.call_later, relay=False
        )
        self.queue = ByteQueue(attached=self.stream.local, listener=self)
        self.to_server: Journal = connection.journals[0]
        self.to_server.plain = True
        self.to_server.title = f"{client.name} to {client.node.name}"
        self.over = False
        self.began = client.site.now

    def start(self) -> None:
        if self.client.raw:
            methods = wanted(self.client.site.compress, self.stream)
            self.reader.expect_raw(ACCEPTED, self._raw_agreed, methods)
            self.queue.instruct(offer(methods()), self.began)
        self.stream.start(self, self.queue)

    def _raw_agreed(self, agreed: Agreement) -> None:
        self.queue.form = RAW
        if agreed.pieces:
            self.stream.pace(self.queue, ByRate(self.client.site.compress, agreed.methods))

    def send(self, message: Routable) -> None:
        if self.over:
            return
        self.to_server.tell(mark_of(message))
        self.queue.append(message, self.client.site.now)

    def on_pending(self) -> None:
        self.stream.wake_soon()

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        for message in self.reader.read(data, start, end, fds):
            self.client.take(self, message)

    @property
    def held(self) -> int:
        return self.reader.held

    def connection_lost(self, exc: Exception | None) -> None:
        self.client.ending = True
        self.over = True
        self.to_server.broken = True
        self.reader.close()
        self.queue.clear()
        self.client.ending = False
        self.client.lost(self, exc)


class Client:
    """One client, which may come and go.

    Attributes:
        local: Whether it is on the server's machine, so that BLOBs come as descriptors.
        raw: Whether it offers raw frames: every second one of the others does.
        excused: Why the server may end its connection, if it may.
    """

    def __init__(self, site: Site, node: Node, name: str, *, local: bool) -> None:
        self.site, self.node, self.name, self.local = site, node, name, local
        self.raw = not local and sum(name.encode()) % 2 == 0
        self.session: Session | None = None
        self.wanted = False
        self.excused: str | None = None
        self.ending = False
        self.asked: list[Wish] = []
        """What it has asked for, to be asked again by the next connection."""
        self.knowledge = Knowledge()
        self.pings: dict[str, float] = {}
        self.slowest_reply = 0.0
        self.texts: list[str] = []
        """Messages without a device."""
        self.stalled_until = 0.0

    def __repr__(self) -> str:
        return f"<client {self.name}>"

    @property
    def wishes(self) -> Wishes:
        """What it wants to hear, by its own words."""
        wishes = Wishes(driver=False)
        for wish in self.asked:
            wishes.add(wish)
        return wishes

    def do_connect(self) -> None:
        """Connect, and ask for what it has asked for before."""
        self.wanted = True
        if self.session is not None or not self.node.up:
            return
        connection = self.site.network.connect(self.name, local=self.local)
        self.knowledge = Knowledge()
        self.pings.clear()
        self.excused = self.site.excuse_of(connection.conditions)
        self.stalled_until = 0.0
        session = self.session = Session(self, connection)
        connection.owner = self
        session.start()
        self.site.loop.call_later(connection.conditions.latency, self._accepted, connection)
        for wish in self.asked:
            self._send_wish(wish)

    def _accepted(self, connection: Connection) -> None:
        if self.node.up:
            self.node.accept(connection)
        else:
            self.excused = "the server is down"
            connection.cut()

    def do_leave(self) -> None:
        """Disconnect in good order."""
        self.wanted = False
        if self.session is not None:
            self.excused = "it leaves"
            self.session.over = True
            self.session.stream.close()

    def do_cut(self) -> None:
        """Lose the connection."""
        if self.session is not None:
            self.excused = "its connection was cut"
            self.session.connection.cut()

    def lost(self, session: Session, exc: Exception | None) -> None:
        """The connection is over."""
        if self.session is session:
            self.session = None
            if self.excused is None and self.node.up:
                self.site.fail("EverybodyServed", f"{self.name} was disconnected ({exc}), and has done nothing wrong")

    # Hearing

    def take(self, session: Session, message: Routable) -> None:
        """Take one message."""
        mark = self.site.mark(message)
        frame = is_frame(message)
        if not self.site.arrive(session.connection.journals[1], self, mark, message, frame):
            return
        if mark.tag == "pingReply":
            asked = self.pings.pop(mark.what, None)
            if asked is None:
                self.site.fail("Answered", f"{self.name} hears the answer {mark.what}, which it does not wait for")
            else:
                self.slowest_reply = max(self.slowest_reply, self.site.now - asked)
                self.site.replied(self, self.site.now - asked)
        elif mark.tag == "message" and mark.device is None:
            self.texts.append(mark.what)
        elif mark.tag != "message":
            self.knowledge.learn(mark, self.site.ledger.find(mark.what), frame)

    def do_stall(self, seconds: float) -> None:
        """Read nothing for a while."""
        if self.session is not None:
            self.excused = self.excused or "it does not read"
            self.stalled_until = max(self.stalled_until, self.site.now + seconds)
            self.session.stream.pause_reading()
            self.session.reader.pause()
            self.site.loop.call_later(seconds, self.resume, self.session)

    def resume(self, session: Session | None) -> None:
        """Read again, if this is the connection that has stalled, and long enough."""
        if session is not None and self.session is session and self.site.now >= self.stalled_until:
            session.reader.resume()
            session.stream.resume_reading()

    def do_partition(self, seconds: float) -> None:
        """Lose the network for a while."""
        if self.session is not None:
            self.excused = self.excused or "its network fails"
            self.session.connection.partition()
            self.site.loop.call_later(seconds, self.session.connection.heal)

    # Saying

    def _send_wish(self, wish: Wish) -> None:
        assert self.session is not None
        if wish.tag == "getProperties":
            self.session.send(wire.get_properties(wish.device, wish.name))
        else:
            assert wish.device is not None
            self.session.send(wire.enable_blob(wish.device, wish.name, wish.policy))

    def _wish(self, wish: Wish) -> None:
        self.asked.append(wish)
        if self.session is not None:
            self._send_wish(wish)

    def do_ask(self, device: str | None, name: str | None) -> None:
        self._wish(Wish("getProperties", device, name))

    def do_enable(self, device: str, name: str | None, policy: str) -> None:
        self._wish(Wish("enableBLOB", device, name, policy))

    def do_crowd(self, device: str | None, count: int) -> None:
        """Ask for the same again and again: for everything, or the properties of a device by turns."""
        names = [None] if device is None else [name for own, name in self.site.properties() if own == device] or [None]
        for at in range(count):
            if self.session is not None:
                self.session.send(wire.get_properties(device, names[at % len(names)]))

    def do_ping(self) -> None:
        if self.session is not None and not self.session.over:
            uid = f"{self.name}-{self.site.next_number()}"
            self.pings[uid] = self.site.now
            self.session.send(wire.ping_request(uid))

    def do_command(self, device: str, name: str, kind: str, count: int) -> None:
        """Command a property some times in a row."""
        for _ in range(count):
            self._say(f"new{kind}Vector", device, name, ("m0", "m1"))

    def do_upload(self, device: str, name: str, size: int) -> None:
        """Send a BLOB to a driver."""
        self._say("newBLOBVector", device, name, (), (BlobMember("m0", ".up", size),))

    def do_forge(self, device: str, name: str, verb: str) -> None:
        """Speak for a device that is a driver's."""
        tag = {"del": "delProperty", "message": "message"}.get(verb, f"{verb}NumberVector")
        self._say(tag, device, None if verb == "message" else name, ("m0",), forged=True)

    def _say(
        self,
        tag: str,
        device: str,
        name: str | None,
        members: tuple[str, ...],
        blobs: tuple[BlobMember, ...] = (),
        *,
        forged: bool = False,
    ) -> None:
        if self.session is None or self.session.over:
            return
        said = self.site.ledger.say(
            self.site.now, f"{self.name}#{id_of(self.session)}", tag, device, name, members, blobs, forged=forged
        )
        self.session.send(write(said))


def id_of(session: Session) -> str:
    """Return the number of a client's connection."""
    return session.connection.name.rpartition("#")[2]
