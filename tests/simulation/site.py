"""A site while it runs: servers, drivers, clients and links, the network, and the checkers who watch."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import sys
import traceback
import weakref
import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any

from indifast.compression import METHODS
from indifast.protocol.compress import OFF
from indifast.protocol.message import Opened, Routable
from indifast.routing.peer import Peer
from indifast.server.locallink import LocalOutbox
from indifast.transport.blobs import BlobMessage
from indifast.transport.stream import SocketStream, Stream
from tests.simulation import scale
from tests.simulation.checkers import CHECKERS, Checker
from tests.simulation.clients import Client
from tests.simulation.clock import START, JobLock, Stuck, VirtualLoop
from tests.simulation.drivers import Child, Driver, Vector
from tests.simulation.foreign import ForeignServer
from tests.simulation.journal import Journal, Mismatch
from tests.simulation.ledger import Ledger, Mark, mark_of
from tests.simulation.network import Conditions, Connection, Network
from tests.simulation.nodes import Node, ObservedHub, Routing, SmallExDriver
from tests.simulation.script import STYLES, THEMES, LinkPlan, Script, Step
from tests.simulation.streams import JournalledStream, ModelledSenders

HEALING = 50.0
"""Seconds after which everybody has noticed that the faults are over."""

MOST_EVENTS = 100_000
"""More than any run needs: something circulates."""

MEASURED = 23
"""One of so many messages is routed while its cost is counted."""


@dataclass
class Violation(Exception):
    """An invariant that does not hold."""

    invariant: str
    text: str
    at: float

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text} (at {self.at:.4f})"


@dataclass
class Outcome:
    """How a run went."""

    violation: Violation | None
    events: int
    messages: int
    seconds: float
    """In virtual time."""
    digest: int
    """Differs for two runs that did not go the same way."""


class LinkActor:
    """A link between two servers, as something that is made and fails."""

    def __init__(self, site: Site, number: int, plan: LinkPlan) -> None:
        self.site, self.plan = site, plan
        self.name = f"link{number}"
        self.title = f"{plan.near}>{plan.far}/{number}"
        self.made = False

    def do_make(self) -> None:
        """Let the one server connect to the other one, again and again."""
        if not self.made:
            self.made = True
            near = self.site.nodes.get(self.plan.near) or self.site.foreign[self.plan.near]
            near.link(self.title, self.plan.blobs, self.plan.device)

    def connection(self) -> Connection | None:
        return self.site.network.named(self.title)

    def do_cut(self) -> None:
        """Lose the connection."""
        if (connection := self.connection()) is not None:
            connection.cut()

    def do_partition(self, seconds: float) -> None:
        """Let nothing pass for a while."""
        if (connection := self.connection()) is not None:
            connection.partition()
            self.site.loop.call_later(seconds, connection.heal)


class ServerActor:
    """A server, as something that ends and comes back."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def do_crash(self) -> None:
        """End, with all drivers."""
        site = self.node.site
        for driver in site.drivers.values():
            if driver.node is self.node:
                driver.do_cut()
        for client in site.clients.values():
            if client.node is self.node:
                client.excused = "the server crashes"
        site.spawn_task(self.node.crash())

    def do_start(self) -> None:
        """Come back, with all drivers that ran before."""
        self.node.site.spawn_task(self.node.site.restart(self.node))


class Site:
    """One run of a script."""

    def __init__(self, script: Script, steps: Sequence[int] | None = None) -> None:
        self.script = script
        self.steps = [script.steps[number] for number in (range(len(script.steps)) if steps is None else steps)]
        self.loop = VirtualLoop()
        self.rng = random.Random(f"{script.seed}/site")
        self.loop.job_time = lambda: self.rng.choice((0.0001, 0.002, 0.02))
        self.compress = random.Random(f"{script.seed}/compress").choice((OFF, *METHODS))
        """How frames are compressed between any two that agree on raw frames."""
        self.network = Network(self.loop, str(script.seed), self._conditions)
        self.ledger = Ledger()
        self.violation: Violation | None = None
        self.messages = 0
        """Messages that servers have routed."""
        self.digest = 0
        self.nodes = {name: Node(self, name, script.settings) for name in script.servers if name.isupper()}
        self.foreign = {name: ForeignServer(self, name) for name in script.servers if name.islower()}
        self.drivers = {
            plan.name: Driver(
                self,
                self.nodes[plan.server],
                plan.name,
                [Vector(*vector) for vector in plan.vectors],
                local=plan.local,
                pipes=plan.pipes,
                forgiving=plan.forgiving,
                asks_again=plan.asks_again,
            )
            for plan in script.drivers
        }
        self.clients = {
            plan.name: Client(self, self.nodes[plan.server], plan.name, local=plan.local) for plan in script.clients
        }
        self.links = {f"link{number}": LinkActor(self, number, plan) for number, plan in enumerate(script.links)}
        self.actors: dict[str, Any] = {**self.drivers, **self.clients, **self.links}
        self.actors |= {name: ServerActor(node) for name, node in self.nodes.items()}
        self.peers: weakref.WeakSet[Peer] = weakref.WeakSet()
        self.blob_messages: weakref.WeakSet[BlobMessage] = weakref.WeakSet()
        self.operations: Callable[[Node, Routing, int], None] | None = None
        self._number = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last: tuple[Routable | None, Mark | None] = (None, None)
        self._measuring = False
        self.checkers: list[Checker] = [checker(self) for checker in CHECKERS]
        self.on_told = self._who("told")
        self.on_routed = self._who("routed")
        self.on_lost = self._who("lost")
        self.on_gone = self._who("gone")
        self.on_arrived = self._who("arrived")
        self.on_demand = self._who("demanded")
        self.on_turn = self._who("turn")
        self.on_flushed = self._who("flushed")

    def _who(self, hook: str) -> list[Callable[..., None]]:
        """Return the methods of those checkers that have something to say there."""
        return [getattr(each, hook) for each in self.checkers if hook in type(each).__dict__]

    @property
    def now(self) -> float:
        return self.loop.time()

    # Running

    def run(self) -> Outcome:
        """Do all steps, then let everything heal, and look."""
        descriptors = open_files()
        frozen = gc.get_freeze_count() > 0  # by the test session, for all of its tests
        if not frozen:
            gc.freeze()
        try:
            with scale.scaled(), self._surroundings():
                orderly = False
                try:
                    self.loop.run_until_complete(self._main())
                    orderly = True
                except (Violation, Stuck, RuntimeError) as error:
                    if self.violation is None:
                        if isinstance(error, Violation):
                            self.violation = error
                        elif isinstance(error, Stuck):
                            self.violation = Violation("EverybodyServed", f"everything waits: {error}", self.now)
                        else:
                            raise
                finally:
                    self._clean_up(orderly)
        finally:
            if not frozen:
                gc.unfreeze()
        if self.violation is None:
            self.violation = self._left(descriptors)
        return Outcome(self.violation, self.loop.poll.events, self.messages, self.now - START, self.digest)

    async def _main(self) -> None:
        loop = self.loop
        loop.set_exception_handler(self._unhandled)
        for node in self.nodes.values():
            await node.start()
        begin = self.now
        loop.after_turn = self._after_turn
        for step in self.steps:
            if (pause := begin + step.at - self.now) > 0:
                await asyncio.sleep(pause)
            self.do(step)
        await asyncio.sleep(1.0)
        await self._heal()
        await self._check("quiet")
        for checker in self.checkers:
            checker.going_round = False
        await self._last_words()
        await self._check("served")
        for client in self.clients.values():
            client.do_leave()
        await asyncio.sleep(5.0)
        await self._check("left")
        for node in self.nodes.values():
            for driver in self.drivers.values():
                if driver.node is node:
                    driver.do_retire()
        await asyncio.sleep(5.0)
        for node in self.nodes.values():
            await node.stop()
        for foreign in self.foreign.values():
            foreign.stop()
        await asyncio.sleep(2.0)
        await self._check("over")
        self._stop_on_violation()

    def do(self, step: Step) -> None:
        """Do one step, if its actor can."""
        actor = self.actors.get(step.who)
        if actor is not None:
            getattr(actor, f"do_{step.does}")(*step.args)

    async def _heal(self) -> None:
        """End all faults, and wait until everybody has noticed."""
        for connection in self.network.connections:
            connection.conditions.bandwidth = float("inf")
            if connection.conditions.partitioned:
                connection.heal()
        for driver in self.drivers.values():
            driver.resume()
        for client in self.clients.values():
            client.stalled_until = 0.0
            client.resume(client.session)
        for node in self.nodes.values():
            await self.restart(node)
        for _ in range(2):
            for driver in self.drivers.values():
                if driver.wanted:
                    driver.do_start()
            for client in self.clients.values():
                if client.wanted:
                    client.do_connect()
            await asyncio.sleep(HEALING)
        for node in self.nodes.values():
            if node.server is not None:
                node.server.keepalive = 0.0
        await asyncio.sleep(1.0)
        quiet_since = self.messages
        await asyncio.sleep(20.0)
        if self.messages != quiet_since:
            self.fail("NoCirculation", f"{self.messages - quiet_since} messages in 20 seconds after all is said")

    async def _last_words(self) -> None:
        """Let each driver say all its values, and send a BLOB of each property."""
        for driver in self.drivers.values():
            for vector in driver.vectors.values():
                if vector.defined:
                    driver.do_update(vector.device, vector.name)
                    driver.do_frame(vector.device, vector.name, 200, ".last", 1)
                    await asyncio.sleep(0.3)
        for client in self.clients.values():
            client.do_ping()
        await asyncio.sleep(5.0)

    async def restart(self, node: Node) -> None:
        """Start a server again, with the drivers that it is meant to have."""
        while node.hub is not None:
            if node.server is not None:
                return
            await asyncio.sleep(0.1)  # the one before has not ended yet
        if node.server is not None:
            return
        await node.start()
        for driver in self.drivers.values():
            if driver.node is node and driver.wanted:
                driver.do_start()

    async def _check(self, hook: str) -> None:
        self._stop_on_violation()
        self._last = (None, None)
        for checker in self.checkers:
            if hook in type(checker).__dict__:
                getattr(checker, hook)()
                self._stop_on_violation()

    def _stop_on_violation(self) -> None:
        if self.violation is not None:
            raise self.violation

    def _after_turn(self) -> None:
        if self.violation is not None:
            self.loop.stop()
            return
        for check in self.on_turn:
            check()
        if self.loop.poll.events > MOST_EVENTS:
            self.fail("NoCirculation", f"there is no end after {MOST_EVENTS} events")

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        where = "".join(traceback.format_exception(exception)[-3:]) if exception is not None else ""
        self.fail("NoFaults", f"{context.get('message')}: {exception!r}\n{where}")

    # What others need

    def fail(self, invariant: str, text: str) -> None:
        """Note that an invariant does not hold; the run ends with this turn. The first failure counts."""
        if self.violation is None:
            self.violation = Violation(invariant, text, self.now - START)

    def properties(self) -> list[tuple[str, str]]:
        """Return device and name of each property that drivers may define."""
        return [key for driver in self.drivers.values() for key in driver.vectors]

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def mark(self, message: Routable | Opened) -> Mark:
        """Return what identifies a message."""
        last, mark = self._last
        if last is message:
            assert mark is not None
            return mark
        if isinstance(message, BlobMessage):
            self.blob_messages.add(message)
        mark = mark_of(message)
        self._last = (message, mark)  # type: ignore[assignment]
        return mark

    def arrive(self, journal: Journal, reader: object, mark: Mark, message: Routable, frame: bool) -> bool:
        """Somebody has received a message; return whether it should have."""
        self.digest = zlib.crc32(f"{self.now} {journal.title} {mark}".encode(), self.digest)
        try:
            entry = journal.arrive(mark, frame=frame)
        except Mismatch as mismatch:
            self.fail(mismatch.invariant, str(mismatch))
            return False
        for check in self.on_arrived:
            check(reader, journal, mark, message, entry)
        return True

    def replied(self, client: Client, seconds: float) -> None:
        """A client has heard the answer to a ping."""
        if client.excused is None and seconds > 1.0:
            self.fail("Answered", f"{client.name} has waited {seconds:.3f} s for an answer, and reads everything")

    def excuse(self, connection: Connection, why: str) -> None:
        """A server may end this client's connection."""
        if isinstance(connection.owner, Client):
            connection.owner.excused = connection.owner.excused or why

    def excuse_of(self, conditions: Conditions) -> str | None:
        """Return why a server may end a connection, if its network is too slow for everything."""
        return None if self.script.style == "fast" else "its network is slow"

    def stream(self, connection: Connection, side: int, name: str) -> SocketStream:
        """Return a server's stream over one end of a connection."""
        sock = connection.sockets[side]
        stream = JournalledStream(sock, name, connection.journals[side])
        if connection.rng.random() < THEMES[self.script.theme].threads:
            stream.senders = ModelledSenders(sock, connection.rng)  # type: ignore[assignment]
        return stream

    def spawn_task(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close_later(self, fd: int) -> None:
        """Close a descriptor once its message is surely sent."""
        self.loop.call_later(30.0, os.close, fd)

    @contextlib.contextmanager
    def measured(self, node: Node, routing: Routing) -> Iterator[None]:
        """Count what routing a message costs, now and then."""
        if self.operations is None or self.messages % MEASURED or sys.gettrace() is not None:
            yield
            return
        counted = 0

        def trace(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal counted
            if frame.f_globals.get("__name__", "").startswith("tests."):
                return None
            counted += 1
            return trace

        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(None)
        self.operations(node, routing, counted)

    # The surroundings of the code

    def _conditions(self, name: str) -> Conditions:
        rng = random.Random(f"{self.script.seed}/conditions/{name}")
        conditions = replace(rng.choice(STYLES[self.script.style]))
        if name in self.drivers:  # on the same machine
            conditions.latency, conditions.bandwidth = 0.0001, float("inf")
            conditions.capacity = min(conditions.capacity, 6 << 10)
        return conditions

    @contextlib.contextmanager
    def _surroundings(self) -> Iterator[None]:
        """Let the code see this site's clock, network and programs instead of the system's."""
        clock = scale.namespace("time", monotonic=self.loop.time)
        entropy = random.Random(f"{self.script.seed}/entropy")
        values: dict[str, dict[str, Any]] = {
            "indifast.routing.rings": {"os": SimpleNamespace(urandom=entropy.randbytes)},
            "indifast.server.ipyserver": {
                "time": clock,
                "Hub": ObservedHub,
                "LocalOutbox": partial(LocalOutbox, self.script.settings.driver_room),
            },
            "indifast.server.hub": {"time": clock},
            "indifast.server.connections": {"time": clock},
            "indifast.server.locallink": {"time": clock},
            "indifast.server.exdriver": {
                "time": clock,
                "spawn": self._spawn,
                "ExDriver": type("ExDriver", (SmallExDriver,), {"room": self.script.settings.driver_room}),
            },
            "indifast.server.remote": {
                "time": clock,
                "open_tcp": self._open_tcp,
                "varied": lambda seconds: seconds * self.rng.uniform(0.75, 1.25),
            },
            "indifast.transport.incoming": {"time": clock},
            "indifast.transport.blobs": {"time": clock, "threading": SimpleNamespace(Lock=JobLock)},
            "indifast.transport.stream": {"time": clock, "_read_buffers": None},
            "indifast.driver.streamlink": {"time": clock},
            "indifast.protocol.timestamps": {"timestamp_text": lambda *args: f"t{self.now:.6f}"},
        }
        logger, handler = logging.getLogger("indifast"), _Faults(self)
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.ERROR)
        logger.addHandler(handler)
        logger.propagate = False
        try:
            with contextlib.ExitStack() as stack:
                for module, names in values.items():
                    stack.enter_context(scale.patched(module, **names))
                yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate

    def _spawn(self, program: str, args: Sequence[str], **options: Any) -> Child:
        """Start a program: see `indifast.transport.process.spawn`."""
        driver = self.drivers[program]
        connection = self.network.connect(program, local=not driver.pipes)
        stream = self.stream(connection, 0, program)
        child = Child(self.loop, stream, driver.do_die)
        if driver.child is not None:
            driver.child.over(1)
        driver.child = child
        driver.spawned(connection)
        return child

    async def _open_tcp(self, host: str, port: int, **options: Any) -> Stream:
        """Connect: see `indifast.transport.connect.open_tcp`."""
        connection = await self.connect_link(host)
        return self.stream(connection, 0, host)

    async def connect_link(self, title: str) -> Connection:
        """Connect to the server that the title of a link names."""
        name = title.partition(">")[2].partition("/")[0]
        far = self.nodes.get(name) or self.foreign[name]
        await asyncio.sleep(0.001)
        if not far.up:
            raise ConnectionRefusedError(111, "the server is down")
        connection = self.network.connect(title)
        await asyncio.sleep(connection.conditions.latency)
        self.loop.call_later(connection.conditions.latency * self.rng.random(), far.accept, connection)
        return connection

    # The end

    def _clean_up(self, orderly: bool) -> None:
        """End what is left: whatever still runs, unless the run went to its end."""
        loop = self.loop
        loop.after_turn = None
        loop.finish_jobs()
        if not orderly:
            loop.set_exception_handler(lambda *args: None)
            for _ in range(5):
                for task in asyncio.all_tasks(loop):
                    task.cancel()
                with contextlib.suppress(Exception):
                    loop.run_until_complete(asyncio.sleep(40.0))
        self.network.destroy()
        loop.run_until_complete(asyncio.sleep(40.0))
        loop.close()

    def _left(self, descriptors: dict[int, str]) -> Violation | None:
        """What is left when all is over."""
        gc.collect()
        left = {fd: file for fd, file in open_files().items() if descriptors.get(fd) != file}
        if left:
            return Violation("NothingKept", f"descriptors are open that were not before: {left}", self.now - START)
        return None


class _Faults(logging.Handler):
    """An exception that is only logged is a fault all the same."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._site.fail("NoFaults", f"{record.getMessage()}: {record.exc_info[1]!r}")


def open_files() -> dict[int, str]:
    """Return the open descriptors of this process, and what each is one of."""
    found = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found
