"""Faults to be planted, to show that the simulation finds what it is made for.

Each is an edit of the source of a function of the package, so it fails loudly when that source changes. Many were in
the package once; others are the kind of mistake that a change might bring.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock


class Edit(NamedTuple):
    """Replaces a piece of the source of a function."""

    where: str
    """Module and qualified name: "indifast.routing.rings:Rings.check"."""
    old: str
    new: str


class Fault(NamedTuple):
    """One fault."""

    name: str
    reason: str
    """What goes wrong, and why anybody would write it."""
    edits: tuple[Edit, ...]
    shape: str | None = None
    """The only kind of site in which it can show."""
    theme: str | None = None
    """What has to happen often for it to show soon."""
    past: bool = False
    """Whether the package had it once."""
    most_seeds: int = 60
    """Seeds within which it is found."""
    rare: bool = False
    """Whether finding it takes too long for every test run, or has failed so far; `--fault` looks for it."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Have the fault for a while."""
        with contextlib.ExitStack() as stack:
            for edit in self.edits:
                stack.enter_context(_edited(edit))
            yield


@contextlib.contextmanager
def _edited(edit: Edit) -> Iterator[None]:
    module_name, _, path = edit.where.partition(":")
    module = importlib.import_module(module_name)
    owner: Any = module
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    found = inspect.unwrap(owner.__dict__[name])
    source = textwrap.dedent(inspect.getsource(found.fget if isinstance(found, property) else found))
    if source.count(edit.old) != 1:
        raise LookupError(f"{edit.where} does not hold {edit.old!r} once: mend the fault in {__name__}")
    edited = source.replace(edit.old, edit.new)
    if parents:
        edited = edited.replace("super()", f"super({parents[-1]}, self)")
    names: dict[str, Any] = {}
    code = compile(f"from __future__ import annotations\n{edited}", inspect.getsourcefile(found) or "", "exec")
    exec(code, module.__dict__, names)
    with mock.patch.object(owner, name, names[name]):
        yield


ROUTER = "indifast.routing.router:Router"
OUTBOX = "indifast.routing.clientqueue:Outbox"
QUEUE = "indifast.routing.bytequeue:ByteQueue"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "definitions circulate",
        "A server takes a device by a definition that it has passed on itself: in a ring, one that is on its way when"
        " the device vanishes goes round for ever.",
        (Edit(f"{ROUTER}._definition", "if self._id in via and", "if False and"),),
        shape="a ring of three",
        past=True,
    ),
    Fault(
        "a ring is left without a device",
        "When the owner of a device is gone, the links that have offered it as well are not asked for it.",
        (Edit(f"{ROUTER}._release", "for other in self._ownership.release(peer, device):", "for other in ():"),),
        past=True,
    ),
    Fault(
        "a server that has lost a device is not believed",
        "A link that asks us for the device that we have from it is asked in turn: nobody has the device, all know it.",
        (Edit(f"{ROUTER}._get_properties", "and via_of(message):", "and False:"),),
        shape="a ring of three",
        past=True,
        theme="failing links",
        rare=True,
    ),
    Fault(
        "updates circulate through a foreign server",
        "A ring through a server that knows no owners is found, and nothing is done about it.",
        (Edit("indifast.routing.rings:Rings.arrived", "origin.ring_links.add(peer)", "pass"),),
        shape="a ring through a foreign server",
        past=True,
    ),
    Fault(
        "a link overflows once",
        "A queue remembers that it has overflowed when its peer comes back: it is not disconnected a second time, and"
        " what waits for it has no bound.",
        (Edit(f"{OUTBOX}._forget_all", "self._overflowed = False", "pass"),),
        past=True,
        theme="failing links",
        rare=True,
    ),
    Fault(
        "a link that has waited is ended for good",
        "The server remembers since when a link waits for a driver's room when that link is lost, and ends each later"
        " connection.",
        (Edit("indifast.server.hub:Hub._forget", "self._waiting_since.pop(peer, None)", "pass"),),
        past=True,
        theme="many commands",
    ),
    Fault(
        "frames come back into emptied books",
        "What was set aside while it was given out is put back after the queue has forgotten everything.",
        (
            Edit(
                f"{QUEUE}.clear",
                "self._offer.withdraw()  # first, because this puts back what was set aside\n    self._forget_all()",
                "self._forget_all()\n    self._offer.withdraw()",
            ),
        ),
        past=True,
        theme="slow readers of BLOBs",
        rare=True,
    ),
    Fault(
        "a newer frame replaces one across an epoch",
        "A frame takes the place of one behind which an update without content waits: the older state comes last.",
        (Edit("indifast.routing.replacing:Replaceable.followed", "return frame.epoch != self.epoch", "return False"),),
        past=True,
        theme="slow readers of BLOBs",
    ),
    Fault(
        "a frame overtakes another one of its property",
        "As before, with a frame in between that may not be replaced.",
        (Edit(f"{OUTBOX}._append_blob", "current.follow()", "pass"),),
        past=True,
        theme="slow readers of BLOBs",
        rare=True,
    ),
    Fault(
        "a deletion moves ahead",
        "In the full queue of a driver the newest deletion takes the place of an older one, before a definition.",
        (
            Edit("indifast.routing.driverqueue:Newest.end", "kinds.pop((_DELETION, None), None)", "pass"),
            Edit("indifast.routing.driverqueue:Newest.end_deletions", "kinds.pop((_DELETION, None), None)", "pass"),
        ),
        past=True,
        theme="busy snoopers",
        rare=True,
    ),
    Fault(
        "notes are lost",
        "A note that waits does not count the BLOBs that are dropped later: the client is told of fewer.",
        (Edit("indifast.routing.dropnotes:DropNotes.count", "note.count += 1", "pass"),),
        theme="slow readers of BLOBs",
    ),
    Fault(
        "a descriptor goes to the wrong message",
        "The descriptors of a damaged message stay in the queue, and the next BLOB has the content of the damaged one.",
        (
            Edit(
                "indifast.transport.shm:DescriptorQueue.settle",
                "self._mixed = waiting not in (announced, with_empty) or lost > 0",
                "self._mixed = False",
            ),
        ),
        past=True,
    ),
    Fault(
        "a driver that returns snoops no more",
        "What a driver has asked for is forgotten with its connection, although it does not ask again.",
        (Edit(f"{ROUTER}.lose", "if peer.kind is Kind.REMOTE:", "if True:"),),
        past=True,
    ),
    Fault(
        "a driver is waited for that nobody reads",
        "A frame that was dropped counts as not begun for ever: its producer is read ten times a second at most.",
        (
            Edit("indifast.server.connections:Connection._stop_waiting", "self._pace.begin()", "pass"),
            Edit("indifast.routing.peer:Pace.begin", "before.begin()", "pass"),
        ),
        past=True,
    ),
    Fault(
        "who asks for one device is not heard",
        "A driver that defines nothing unasked is asked only if somebody has asked before it came.",
        (Edit(f"{ROUTER}.introduce", "self._unasked[driver] = None", "pass"),),
        past=True,
        theme="choosy clients",
        rare=True,
    ),
    Fault(
        "held requests are forgotten",
        "Nothing wakes the server when requests for definitions that were held back are due.",
        (Edit("indifast.routing.asking:Asking.ask", "self._on_held()", "pass"),),
        theme="choosy clients",
        rare=True,
    ),
    Fault(
        "BLOBs are asked for that nobody wants",
        "When a client goes, the links are not told which BLOBs are not wanted any more.",
        (Edit(f"{ROUTER}.lose", "self._demands.update_all(now)", "pass"),),
        theme="choosy clients",
    ),
    Fault(
        "routes are not found anew",
        "A peer that asks for one property more is not noticed by those who send updates of it.",
        (Edit(f"{ROUTER}._widen", "self.peers.changed()", "pass"),),
    ),
    Fault(
        "a setting of BLOBs is not noticed",
        "The demand for BLOBs is remembered although a client has changed what it wants.",
        (Edit(f"{ROUTER}._enable_blob", "self.peers.changed()", "pass"),),
        theme="busy snoopers",
        rare=True,
    ),
    Fault(
        "the newest frame is dropped",
        "A frame larger than the limit of the queue makes room for itself by dropping itself.",
        (Edit(f"{OUTBOX}._drop_oldest", "if frame is None or frame is spare:", "if frame is None:"),),
        theme="slow readers of BLOBs",
    ),
    Fault(
        "an answer does not wake the queue",
        "An answer to a ping that comes while the next message is not ready is written when something else is.",
        (
            Edit(
                f"{QUEUE}.expedite", "if not self._notified or (self._blocked and self._growing is None):", "if False:"
            ),
        ),
    ),
    Fault(
        "who waited is not resumed",
        "A client that had to wait for a driver's room is read again only when it is disconnected.",
        (Edit("indifast.routing.room:Room.found", "if not peer.waits_for:", "if False:"),),
        theme="many commands",
        rare=True,
    ),
    Fault(
        "commands are dropped",
        "A full queue towards a driver treats commands as what the driver snoops on.",
        (
            Edit(
                f"{ROUTER}._command", "owner.inlet.append(message, now)", "owner.inlet.append_replaceable(message, now)"
            ),
        ),
        theme="many commands",
    ),
    Fault(
        "a cut write loses a byte",
        "What is left of a message of which a part was written begins a byte too late.",
        (
            Edit(
                f"{QUEUE}._remove_written",
                "memoryview(remaining[0])[nbytes:]",
                "memoryview(remaining[0])[nbytes + 1 :]",
            ),
        ),
    ),
    Fault(
        "a buffer is used again too early",
        "A driver's buffer counts as free before its content is encoded for all who want it.",
        (
            Edit("indifast.driver.blobsender:_make_wanted_forms", "if not missing:", "if True:"),
            Edit("indifast.transport.blobs:BlobMessage.release", "self._make(False)", "pass"),
        ),
    ),
    Fault(
        "descriptors are left open",
        "The descriptors that wait when a connection ends are not closed.",
        (Edit("indifast.transport.shm:DescriptorQueue.close", "close_all(self._waiting)", "pass"),),
    ),
    Fault(
        "empty slots pile up",
        "A queue whose reader does not read keeps the slots of all that was given up.",
        (Edit("indifast.routing.losses:LossyQueue._trim", "if self._gaps > _MAX_GAPS and", "if False and"),),
        past=True,
        theme="slow readers of BLOBs",
    ),
    Fault(
        "a gone device stays",
        "The devices of a driver that dies are released, but nobody is told.",
        (Edit(f"{ROUTER}.lose", "self._announce(peer, wire.del_property(device), now)", "pass"),),
    ),
    Fault(
        "a peer is kept",
        "The router keeps whoever was told something since it last looked.",
        (Edit(f"{ROUTER}.detach", "self._dirty.pop(peer, None)", "self._dirty[peer] = None"),),
    ),
    Fault(
        "an offered frame is replaced",
        "What is given out, and perhaps written in part, is taken for something that waits.",
        (Edit(f"{OUTBOX}._replace_older", "if frame.offered:", "if False:"),),
        past=True,
        theme="slow readers of BLOBs",
    ),
    Fault(
        "a link is told of what it offers",
        "Definitions and updates of a device are sent by the links that offer the same device.",
        (Edit(f"{ROUTER}._receivers", "device in other.conflicts", "False"),),
    ),
)
"""What is planted, one after the other."""


def fault(name: str) -> Fault:
    """Return the fault of a name."""
    return next(each for each in FAULTS if each.name == name)
