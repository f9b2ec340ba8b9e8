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
    shape: str
    """The kind of site where it shows."""
    theme: str
    """What has to happen often for it to show soon."""
    seed: int
    """A seed at which it has shown. It is tried first: see `report.find`."""
    past: bool = False
    """Whether the package had it once."""

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
BACKLOG = "indifast.routing.backlog:Backlog"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "definitions circulate",
        "A server accepts a definition that it passed on itself. In a ring, one that is under way while its device"
        " vanishes goes round for ever.",
        (Edit(f"{ROUTER}._definition", "if self._id in via and", "if False and"),),
        past=True,
        shape="a ring of three",
        theme="brief devices",
        seed=8,
    ),
    Fault(
        "a ring is left without a device",
        "When the owner of a device is gone, the others that offer the same device are not asked for it.",
        (
            Edit(
                f"{ROUTER}._release",
                "for other in self._ownership.release(peer, device):",
                "for other in self._ownership.release(peer, device) and ():",
            ),
        ),
        past=True,
        shape="one server",
        theme="rivals",
        seed=16,
    ),
    Fault(
        "a server that has lost a device is not believed",
        "A linked server asks us for a device that we have from it, so it has lost the device; but we keep the"
        " device, and ask that server in turn.",
        (Edit(f"{ROUTER}._get_properties", "and via_of(message):", "and False:"),),
        past=True,
        shape="a ring of three",
        theme="brief devices",
        seed=18,
    ),
    Fault(
        "a deletion is kept from a link for good",
        "A property is deleted while a link is cut for its device. The linked server has taken the device from what we"
        " said before, and is never told.",
        (Edit("indifast.routing.ownership:Ownership.withhold", "True", "False"),),
        past=True,
        shape="a ring of three",
        theme="brief devices",
        seed=66,
    ),
    Fault(
        "updates circulate through a foreign server",
        "A ring through a server that does not know who owns what is noticed, but still used.",
        (Edit("indifast.routing.rings:Rings.arrived", "origin.ring_links.add(peer)", "pass"),),
        past=True,
        shape="a ring through a foreign server",
        theme="choosy clients",
        seed=1,
    ),
    Fault(
        "requests for BLOBs circulate through a foreign server",
        "In such a ring, our own request for BLOBs comes back to us, and counts as a wish of the server that passed"
        " it on.",
        (Edit("indifast.routing.demand:Demands.of", "owner not in peer.ring_links and ", ""),),
        past=True,
        shape="a ring through a foreign server",
        theme="choosy clients",
        seed=2,
    ),
    Fault(
        "BLOBs go on that nobody wants any more",
        "A linked server deletes a BLOB property and defines it again, or the device comes from elsewhere in the"
        " meantime. Nobody tells the server that its BLOBs are no longer wanted.",
        (
            Edit("indifast.routing.demand:Demands.defined", "if asked and", "if False and"),
            Edit("indifast.routing.demand:Demands.contested", "if (device, name) in peer.asked_blobs:", "if False:"),
        ),
        past=True,
        shape="one link",
        theme="changing minds",
        seed=26,
    ),
    Fault(
        "a link overflows once",
        "The queue of a link remembers that it overflowed when the link comes back. The second time nothing"
        " disconnects the link, and the queue grows without limit.",
        (Edit(f"{OUTBOX}._forget_all", "self._overflowed = False", "pass"),),
        past=True,
        shape="one link",
        theme="stalled links",
        seed=17,
    ),
    Fault(
        "a link that has waited is ended for good",
        "The server remembers how long a link has waited for a driver even after the link is lost, and ends each"
        " later connection.",
        (Edit("indifast.server.hub:Hub._forget", "self._waiting_since.pop(peer, None)", "pass"),),
        past=True,
        shape="one link",
        theme="many commands",
        seed=120,
    ),
    Fault(
        "frames come back into emptied books",
        "A queue is emptied while some of it is being written. What was set aside for that time comes back afterwards.",
        (
            Edit(
                f"{QUEUE}.clear",
                "self._offer.withdraw()  # first, because this puts back what was set aside\n    self._forget_all()",
                "self._forget_all()\n    self._offer.withdraw()",
            ),
        ),
        past=True,
        shape="one link",
        theme="stalled links",
        seed=64,
    ),
    Fault(
        "a newer frame replaces one across an epoch",
        "A newer BLOB takes the place of an older one although an update without content waits behind it: the older"
        " state arrives last.",
        (Edit("indifast.routing.replacing:Replaceable.followed", "return frame.epoch != self.epoch", "return False"),),
        past=True,
        shape="one server",
        theme="slow readers of BLOBs",
        seed=1,
    ),
    Fault(
        "a frame overtakes another one of its property",
        "The same with a BLOB in between that must not be replaced.",
        (Edit(f"{OUTBOX}._append_blob", "current.follow()", "pass"),),
        past=True,
        shape="one server",
        theme="slow readers of BLOBs",
        seed=1,
    ),
    Fault(
        "a message passes a frame of its device",
        "What is said about a device goes between the pieces of a frame that it follows.",
        (Edit("indifast.routing.cutting:Bypass.passes", "if device is not None and", "if device is not None or"),),
        shape="one server",
        theme="slow readers of BLOBs",
        seed=1,
    ),
    Fault(
        "a deletion moves ahead",
        "In the full queue of a driver, the newest deletion takes the place of an older one, ahead of a definition.",
        (
            Edit("indifast.routing.driverqueue:Newest.end", "kinds.pop((_DELETION, None), None)", "pass"),
            Edit("indifast.routing.driverqueue:Newest.end_deletions", "kinds.pop((_DELETION, None), None)", "pass"),
        ),
        past=True,
        shape="one server",
        theme="busy snoopers",
        seed=40,
    ),
    Fault(
        "notes are lost",
        "A waiting note about dropped BLOBs does not count those that are dropped later, so a client is told of fewer.",
        (Edit("indifast.routing.dropnotes:DropNotes.count", "note.count += 1", "pass"),),
        shape="one server",
        theme="slow readers of BLOBs",
        seed=1,
    ),
    Fault(
        "a descriptor goes to the wrong message",
        "The descriptors of a damaged message stay in line, and the next BLOB gets the content of the damaged one.",
        (
            Edit(
                "indifast.transport.descriptors:DescriptorQueue.settle",
                "self._mixed = waiting not in (announced, with_empty) or lost > 0",
                "self._mixed = False",
            ),
        ),
        past=True,
        shape="one server",
        theme="a bit of everything",
        seed=1,
    ),
    Fault(
        "a driver that returns snoops no more",
        "What a driver snoops on is forgotten with its connection, although many drivers do not ask again.",
        (Edit(f"{ROUTER}.lose", "if peer.kind is REMOTE:", "if True:"),),
        past=True,
        shape="one server",
        theme="busy snoopers",
        seed=0,
    ),
    Fault(
        "a driver is waited for that nobody reads",
        "A BLOB that was dropped still counts as waiting to be read, so its driver is slowed down to ten BLOBs a"
        " second.",
        (
            Edit("indifast.server.connections:Connection._stop_waiting", "self._pace.begin()", "pass"),
            Edit("indifast.routing.peer:Pace.begin", "before.begin()", "pass"),
        ),
        past=True,
        shape="one server",
        theme="slow readers of BLOBs",
        seed=4,
    ),
    Fault(
        "who asks for one device is not heard",
        "A driver that defines nothing until it is asked is only asked if somebody had asked for something before it"
        " started.",
        (Edit(f"{ROUTER}.introduce", "self._unasked[driver] = None", "pass"),),
        past=True,
        shape="one server",
        theme="choosy clients",
        seed=5,
    ),
    Fault(
        "held requests are forgotten",
        "Requests for definitions that were held back during a crowd are never sent.",
        (Edit("indifast.routing.asking:Asking.ask", "self._on_held()", "pass"),),
        shape="one server",
        theme="choosy clients",
        seed=6,
    ),
    Fault(
        "BLOBs are asked for that nobody wants",
        "When a client leaves, linked servers are not told which BLOBs are no longer wanted.",
        (Edit(f"{ROUTER}.lose", "self._demands.update_all(now)", "pass"),),
        shape="one link",
        theme="choosy clients",
        seed=29,
    ),
    Fault(
        "routes are not found anew",
        "A peer asks for one more property, but updates go to those who had asked before.",
        (Edit(f"{ROUTER}._widen", "self.peers.changed()", "pass"),),
        shape="one server",
        theme="choosy clients",
        seed=4,
    ),
    Fault(
        "a setting of BLOBs is not noticed",
        "A driver that snoops changes whether it wants BLOBs, but BLOBs go to those who wanted them before.",
        (Edit(f"{ROUTER}._enable_blob", "self.peers.changed()", "pass"),),
        shape="one server",
        theme="changing minds",
        seed=17,
    ),
    Fault(
        "the newest frame is dropped",
        "A BLOB that is larger than the limit of a queue drops itself to make room.",
        (Edit(f"{OUTBOX}._drop_oldest", "if frame is None or frame is spare:", "if frame is None:"),),
        shape="one server",
        theme="slow readers of BLOBs",
        seed=4,
    ),
    Fault(
        "an answer does not wake the queue",
        "While the next message of a queue is being encoded, the answer to a ping waits until something else is"
        " written.",
        (
            Edit(
                f"{BACKLOG}._notify_urgent",
                "if not self._notified or (self._blocked and self._growing is None):",
                "if False:",
            ),
        ),
        shape="one server",
        theme="a bit of everything",
        seed=0,
    ),
    Fault(
        "who waited is not resumed",
        "A client that had to wait for a driver is not read again when the driver has room.",
        (Edit("indifast.routing.room:Room.found", "if not peer.waits_for:", "if False:"),),
        shape="one server",
        theme="many commands",
        seed=4,
    ),
    Fault(
        "commands are dropped",
        "The full queue of a driver gives up commands as if they were snooped updates.",
        (
            Edit(
                f"{ROUTER}._command", "owner.inlet.append(message, now)", "owner.inlet.append_replaceable(message, now)"
            ),
        ),
        shape="one server",
        theme="many commands",
        seed=4,
    ),
    Fault(
        "a cut write loses a byte",
        "After part of a message was written, the rest begins one byte too late.",
        (
            Edit(
                f"{QUEUE}._remove_written",
                "memoryview(remaining[0])[nbytes:]",
                "memoryview(remaining[0])[nbytes + 1 :]",
            ),
        ),
        shape="one server",
        theme="a bit of everything",
        seed=0,
    ),
    Fault(
        "a buffer is used again too early",
        "A driver may fill its buffer again before the BLOB in it is encoded for everybody who wants it.",
        (
            Edit("indifast.driver.blobsender:_make_wanted_forms", "if not missing:", "if True:"),
            Edit("indifast.transport.blobs:BlobMessage.release", "self._make(INLINE)", "pass"),
        ),
        shape="one server",
        theme="a bit of everything",
        seed=1,
    ),
    Fault(
        "descriptors are left open",
        "When a connection ends, the descriptors that have arrived without their messages are not closed.",
        (Edit("indifast.transport.descriptors:DescriptorQueue.close", "close_all(self._waiting)", "pass"),),
        shape="one server",
        theme="slow readers of BLOBs",
        seed=3,
    ),
    Fault(
        "empty slots pile up",
        "While nobody reads from a queue, the slots of everything that it gave up stay.",
        (Edit("indifast.routing.losses:LossyQueue._trim", "if self._gaps > _MAX_GAPS and", "if False and"),),
        past=True,
        shape="one server",
        theme="slow readers of BLOBs",
        seed=6,
    ),
    Fault(
        "a gone device stays",
        "When a driver dies, nobody is told that its devices are gone.",
        (Edit(f"{ROUTER}.lose", "self._announce(peer, wire.del_property(device), now)", "pass"),),
        shape="one server",
        theme="a bit of everything",
        seed=1,
    ),
    Fault(
        "a peer is kept",
        "The router keeps a reference to a peer that has left.",
        (Edit(f"{ROUTER}.detach", "self._dirty.pop(peer, None)", "self._dirty[peer] = None"),),
        shape="one server",
        theme="a bit of everything",
        seed=0,
    ),
    Fault(
        "an offered frame is replaced",
        "A BLOB of which a part may already be written is replaced by a newer one.",
        (Edit(f"{OUTBOX}._replace_older", "if frame.offered:", "if False:"),),
        past=True,
        shape="one server",
        theme="slow readers of BLOBs",
        seed=1,
    ),
    Fault(
        "a link is told of what it offers",
        "Definitions and updates of a device are also sent to linked servers that offer the same device.",
        (Edit(f"{ROUTER}._receivers", "device in other.conflicts", "False"),),
        shape="a ring of two",
        theme="a bit of everything",
        seed=0,
    ),
    Fault(
        "what waits is forgotten while a frame is compressed",
        "A queue holds only a frame that is partly sent and still being compressed, and forgets that messages may have"
        " to wait behind it. The next message waits, and a later one of the same device passes it.",
        (Edit(f"{BACKLOG}._after_removal", "and not self.messages ", ""),),
        past=True,
        shape="one server",
        theme="failing links",
        seed=24,
    ),
)
"""What is planted, one after the other."""


def fault(name: str) -> Fault:
    """Return the fault of a name."""
    return next(each for each in FAULTS if each.name == name)
