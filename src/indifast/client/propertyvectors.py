"""Live vectors of the client's model."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from indifast.client import commands
from indifast.client.propertymembers import (
    STATES,
    BLOBMember,
    LightMember,
    Member,
    NumberMember,
    ParseException,
    SwitchMember,
    TextMember,
)
from indifast.client.snapvectors import Numbers, SnapNumberVector, SnapVector, Vector, VectorRecord
from indifast.handover import at_home
from indifast.protocol.rules import not_one_of
from indifast.protocol.vocabulary import PERMISSIONS, RULES

if TYPE_CHECKING:
    from indifast.client.events import (
        defBLOBVector,
        defVector,
        setBLOBVector,
        setNumberVector,
        setVector,
    )
    from indifast.client.sender import Expected, Sender
    from indifast.protocol.vectors import DefinedMember

__all__ = [
    "BLOBVector", "ClientEvent", "LightVector", "NumberVector", "PropertyVector", "SnapNumberVector", "SnapVector",
    "SwitchVector", "TextVector", "Vector",
]  # fmt: skip


class PropertyVector(Vector):
    """A vector of the model, kept up to date while the connection lasts."""

    _snap_class: type[SnapVector] = SnapVector
    _child: type[Member]

    def __init__(self, event: defVector, sender: Sender) -> None:
        assert event.vectorname is not None and event.devicename is not None
        self.data: dict[str, Any] = {}
        self.name = event.vectorname
        self.devicename = event.devicename
        self.device = event.device
        self._sender = sender
        self._label = event.label
        self._group = event.group
        self._message = event.message
        self._message_timestamp = event.timestamp
        self._user_string = ""
        self._itemid: Any = None
        self._expected: Expected | None = None
        self._commands = 0  # number sent so far
        self._record: VectorRecord | None = None
        self._adopt(event)

    # -- Snapshots

    def _touch(self) -> None:
        if self._record is not None:
            self._record = None
            self.device._touch_vector(self.name)

    def _frozen(self) -> VectorRecord:
        """Return the record of the current state, made at most once per change."""
        record = self._record
        if record is None:
            record = self._record = VectorRecord(self)
        return record

    def snapshot(self) -> SnapVector:
        """Return the vector as it is now, safe to pass to another thread."""
        return SnapVector._of(self._frozen())

    # -- Attributes

    @property
    def enable(self) -> bool | None:
        """False if the vector was deleted."""
        return self._enable

    @enable.setter
    def enable(self, value: bool) -> None:
        self._enable = value
        self.device._note_enabled(self)
        self._touch()

    @property
    def state(self) -> str:
        """Idle, Ok, Busy or Alert; assigning anything else raises ParseException."""
        return self._state

    @state.setter
    def state(self, value: str) -> None:
        self._state = self.checkvalue(value, STATES)
        self._touch()

    @property
    def perm(self) -> str | None:
        """ro, wo or rw; assigning anything else raises ParseException."""
        return self._perm

    @perm.setter
    def perm(self, value: str) -> None:
        self._perm = self.checkvalue(value, PERMISSIONS)
        self._touch()

    @property
    def rule(self) -> str | None:
        """OneOfMany, AtMostOne or AnyOfMany; None but for switches. Assigning another word raises ParseException."""
        return self._rule

    @rule.setter
    def rule(self, value: str) -> None:
        self._rule = self.checkvalue(value, RULES)
        self._touch()

    def checkvalue(self, value: Any, allowed: Any) -> Any:
        """Return `value` if it is one of `allowed`, otherwise raise ParseException."""
        if why := not_one_of(value, allowed):
            raise ParseException(why)
        return value

    def __setitem__(self, membername: str, value: Any) -> None:
        raise KeyError("only the server changes the values of a vector: send a new vector to ask for it")

    async def create_clientevent(self, eventtype: str = "ClientEvent", **payload: Any) -> None:
        """Create an event about this vector, with `payload`, and pass it to `rxevent`. See `ClientEvent`."""
        await self._sender.emit(ClientEvent(eventtype, self.device, self, **payload))

    def checktimedout(self, nowtime: float) -> bool:
        """Return whether the answer to a command is overdue at `nowtime`, in seconds of `time.monotonic()`."""
        return self._expected is not None and not self._expected.over and nowtime >= self._expected.due

    # -- Received messages

    def _adopt(self, event: defVector) -> list[Member]:
        """Apply a definition, removing members that it no longer has; return the new members."""
        if self.enable is not None and event.label:
            self._label = event.label
        if event.group:
            self._group = event.group
        self._state = event.state
        self._timestamp = event.timestamp
        self._clock = event._clock
        if event.message:
            self._message = event.message
            self._message_timestamp = event.timestamp
        self._timeout = getattr(event, "timeout", None)
        self._perm = getattr(event, "perm", "ro")
        self._rule = getattr(event, "rule", None)
        defined = event._definition.members
        for name in [name for name in self.data if name not in defined]:
            del self.data[name]
        self._damaged = False
        new = []
        for name, details in defined.items():
            member = self.data.get(name)
            if member is None:
                member = self._new_member(name)
                member._vector = self
                self.data[name] = member
                new.append(member)
            member._label = details.label or name
            self._define_member(member, details)
            member.received = details.received
            self._damaged = self._damaged or details.received is not None
        self._enable = True
        self._answered()
        self._touch()
        return new

    _enable: bool | None = None
    _damaged = False
    """Whether there may be members whose value could not be read."""

    def _new_member(self, name: str) -> Any:
        return self._child(name)

    def _define_member(self, member: Any, details: DefinedMember) -> None:
        member._membervalue = details.value.strip()

    def _update(self, event: setVector) -> None:
        """Apply an update."""
        members = self.data
        for name, value in event.data.items():
            member = members.get(name)
            if member is not None:
                member._membervalue = value
        self._changed(event)

    def _changed(self, event: setVector) -> None:
        if self._damaged:
            for name in event.data:
                if name in self.data:
                    self.data[name].received = None
        if event.state is not None:
            self._state = event.state
        self._timestamp = event.timestamp
        self._clock = event._clock
        if event.message:
            self._message = event.message
            self._message_timestamp = event.timestamp
        if event.timeout is not None:
            self._timeout = event.timeout
        if self._expected is not None:
            self._answered()
        if self._record is not None:
            self._touch()

    def _answered(self) -> None:
        """Stop the timeout of a command: the server has sent something about the vector, or the vector is gone."""
        if self._expected is not None:
            self._expected.over = True
            self._expected = None

    # -- Commands

    def _ready_to_send(self) -> bool:
        """Return whether a command can be sent: the vector was not deleted, and the client is connected."""
        return bool(self._enable and self._sender.can_send)

    async def _command(self, timestamp: datetime | None, members: str) -> None:
        """Send a new…Vector with these members, given as XML. This makes the vector Busy."""
        stamp = commands.stamp_text(timestamp, self.name)
        if stamp is None:
            return
        message = commands.new_vector(f"new{self.vectortype}", self.devicename, self.name, stamp, members)
        self._sending()
        await self._sender.transmit(message)

    def _sending(self) -> None:
        self._state = "Busy"
        self._commands += 1
        self._touch()
        self._expected = self._sender.expect(self)


class SwitchVector(PropertyVector):
    """A vector of switches."""

    vectortype = "SwitchVector"
    _child = SwitchMember

    async def _send(self, timestamp: datetime | None, members: Mapping[str, Any], complete: bool) -> None:
        await self.send_newSwitchVector(timestamp, members)

    @at_home("_sender.home")
    async def send_newSwitchVector(
        self, timestamp: datetime | None = None, members: Mapping[str, str] | None = None
    ) -> None:
        """Ask the driver to set switches.

        Only the switches given are sent, those to be turned Off first. The rule is not enforced.

        Args:
            timestamp: Time of the command, by default now.
            members: On or Off by member name.
        """
        if self._ready_to_send():
            await self._command(timestamp, commands.switches(self, commands.given(members)))


class LightVector(PropertyVector):
    """A vector of lights, which only the driver sets."""

    vectortype = "LightVector"
    _child = LightMember

    @property
    def perm(self) -> str:
        """Always ro; assigning it has no effect."""
        return "ro"

    @perm.setter
    def perm(self, value: str) -> None:
        pass

    def checktimedout(self, nowtime: float) -> bool:
        """Return False, as lights take no commands."""
        return False


class TextVector(PropertyVector):
    """A vector of texts."""

    vectortype = "TextVector"
    _child = TextMember

    async def _send(self, timestamp: datetime | None, members: Mapping[str, Any], complete: bool) -> None:
        await self.send_newTextVector(timestamp, members, complete=complete)

    @at_home("_sender.home")
    async def send_newTextVector(
        self, timestamp: datetime | None = None, members: Mapping[str, str] | None = None, *, complete: bool = True
    ) -> None:
        """Ask the driver to set texts.

        Args:
            timestamp: Time of the command, by default now.
            members: Texts by member name.
            complete: Send the other texts along, with their current values, unless the vector is write-only.

        Raises:
            TypeError: A value is not a str.
        """
        if self._ready_to_send():
            await self._command(timestamp, commands.texts(self, commands.given(members), complete))


class NumberVector(Numbers, PropertyVector):
    """A vector of numbers."""

    vectortype = "NumberVector"
    _snap_class = SnapNumberVector
    _child = NumberMember

    def _define_member(self, member: Any, details: DefinedMember) -> None:
        member._format, member._min, member._max, member._step = details.details
        member._membervalue, member._float = details.value, details.number

    def _update(self, event: setNumberVector) -> None:  # type: ignore[override]
        members = self.data
        for (name, text), number in zip(event.data.items(), event._floats, strict=False):
            member = members.get(name)
            if member is not None:
                member._membervalue = text
                member._float = number
        self._changed(event)

    async def _send(self, timestamp: datetime | None, members: Mapping[str, Any], complete: bool) -> None:
        await self.send_newNumberVector(timestamp, members, complete=complete)

    @at_home("_sender.home")
    async def send_newNumberVector(
        self, timestamp: datetime | None = None, members: Mapping[str, Any] | None = None, *, complete: bool = True
    ) -> None:
        """Ask the driver to set numbers.

        Args:
            timestamp: Time of the command, by default now.
            members: Numbers by member name; text is sent as it is.
            complete: Send the other numbers along, with their current values, unless the vector is write-only.
        """
        if self._ready_to_send():
            await self._command(timestamp, commands.numbers(self, commands.given(members), complete))


class BLOBVector(PropertyVector):
    """A vector of BLOBs."""

    vectortype = "BLOBVector"
    _child = BLOBMember

    def __init__(self, event: defBLOBVector, sender: Sender) -> None:
        self._enableBLOB: str = event.device._enableBLOB
        super().__init__(event, sender)

    def set_blobsize(self, membername: str, blobsize: int) -> None:
        """Record the size of a member's content; ignore unknown members and sizes that are not int."""
        if membername in self.data and isinstance(blobsize, int):
            self.data[membername].blobsize = blobsize

    def set_blobformat(self, membername: str, blobformat: str) -> None:
        """Record the format of a member's content; ignore unknown members."""
        if membername in self.data:
            self.data[membername].blobformat = blobformat

    def _define_member(self, member: Any, details: DefinedMember) -> None:
        """Keep the last content, as a definition has none."""

    def _update(self, event: setBLOBVector) -> None:  # type: ignore[override]
        for name, content in event.data.items():
            member = self.data.get(name)
            if member is not None:
                member._membervalue = content if event._keep else None
                member._blobsize, member._blobformat = event.sizeformat[name]
                member._filename = event._filenames.get(name, "")
        self._changed(event)

    async def _send(self, timestamp: datetime | None, members: Mapping[str, Any], complete: bool) -> None:
        await self.send_newBLOBVector(timestamp, members)

    @at_home("_sender.home")
    async def send_newBLOBVector(
        self, timestamp: datetime | None = None, members: Mapping[str, Any] | None = None
    ) -> None:
        """Send BLOBs.

        Args:
            timestamp: Time of the command, by default now.
            members: (content, size, format) by member name. For the content, see `BLOBMember.getbytes`. Size 0 stands
                for the number of bytes. An empty format stands for the suffixes of a path or, without a path, for the
                last format received.

        Raises:
            ValueError: Content is empty or cannot be read. Nothing was sent.
        """
        if not self._ready_to_send():
            return
        stamp = commands.stamp_text(timestamp, self.name)
        if stamp is None:
            return
        message = await commands.new_blobs(self, stamp, commands.given(members), raw=self._sender.raw)
        if self._ready_to_send():
            self._sending()
            await self._sender.transmit(message)


class ClientEvent(UserDict[str, Any]):
    """An event that the program created about a vector: a mapping of its members to values.

    See `PropertyVector.create_clientevent`.
    """

    root = None

    def __init__(self, eventtype: str, device: Any, vector: Any, **payload: Any) -> None:
        self.data = dict(vector.items())
        self.eventtype = eventtype
        self.device = device
        self.devicename = device.devicename
        self.vector = vector
        self.vectorname = vector.name
        self.timestamp = datetime.now(UTC)
        self.payload = payload
