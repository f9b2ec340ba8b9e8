"""The property vectors of a device: named groups of members with a state, sent as one message."""

# ruff: noqa: ASYNC109 - `timeout` is an attribute of INDI vectors, nothing that is waited for

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from indifast.driver.blobsender import BLOBSender
from indifast.driver.propertymembers import (
    BLOBMember,
    LightMember,
    NumberMember,
    PropertyMember,
    SwitchMember,
    TextMember,
)
from indifast.driver.threadsafe import FrameQueue
from indifast.protocol import wire
from indifast.protocol.message import Wire
from indifast.protocol.timestamps import timestamp_text
from indifast.protocol.vocabulary import PERMISSIONS, RULES, STATES

if TYPE_CHECKING:
    from indifast.driver.owners import OwningDevice, OwningDriver
    from indifast.driver.port import VectorPort

logger = logging.getLogger(__name__)


_T = TypeVar("_T")


class PropertyVector(UserDict[str, Any]):
    """A mapping of member name to member value; `data` maps the names to the member objects.

    Setting a value never raises: an unknown member or a wrong value is logged and the old value kept.

    Attributes:
        name, label, group: name is ASCII.
        enable: while False, nothing is sent and nothing received for this vector.
        devicename, driver: set when the vector becomes part of a device, and the device part of a driver.
        changed: state, time-out or message differ from what was last sent.

    Raises:
        ValueError: the name is not ASCII.
        TypeError: a member is of another kind than the vector.
    """

    _perm: str
    kind: ClassVar[str]
    member_class: ClassVar[type[PropertyMember]]

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, members: Iterable[PropertyMember]
    ) -> None:
        super().__init__()
        if not name.isascii():
            raise ValueError(f"the vector name {name!r} should be ASCII")
        self.name = name
        self.label = label
        self.group = group
        self.enable = True
        self.vectortype = type(self).__name__
        self.devicename: str | None = None
        self.driver: OwningDriver | None = None
        self.changed = True
        self._stop = False
        self._timeout = "0"
        self._message = ""
        self._last_message = ""
        self._state: str | None = None
        self.state = state
        self._set_perm(perm)
        for member in members:
            if not isinstance(member, self.member_class):
                allowed = self.member_class.__name__
                raise TypeError(f"the members of the {self.vectortype} {name} must all be {allowed}s")
            self.data[member.name] = member
        self._cache: tuple[tuple[object, ...], wire.Definition] | None = None
        self._frames = FrameQueue(self._send_values, self._where)

    # the mapping

    def __getitem__(self, membername: str) -> Any:
        return self.data[membername].membervalue

    def __setitem__(self, membername: str, value: object) -> None:
        try:
            self.data[membername].membervalue = value
        except KeyError:
            logger.error("%s has no member %r to set", self._where(), membername)
        except ValueError:
            logger.exception("%s.%s keeps its value", self._where(), membername)

    # attributes

    def checkvalue(self, value: _T, allowed: Iterable[object]) -> _T:
        """The value, if it is among those allowed; ValueError otherwise."""
        if value not in allowed:
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, allowed))}")
        return value

    @property
    def device(self) -> OwningDevice:
        """The device; TypeError while there is none."""
        return self.driver[self.devicename]  # type: ignore[index]

    @property
    def state(self) -> str | None:
        """`Idle`, `Ok`, `Busy` or `Alert`; None when the first one was none of these. A wrong one is logged."""
        return self._state

    @state.setter
    def state(self, value: str) -> None:
        try:
            value = self.checkvalue(value, STATES)
        except ValueError:
            logger.exception("%s keeps the state %s", self._where(), self._state)
            return
        if value != self._state:
            self._state = value
            self.changed = True

    @property
    def perm(self) -> str:
        """`ro`, `wo` or `rw`, seen from the client. A wrong one is logged and the old one kept."""
        return self._perm

    @perm.setter
    def perm(self, value: str) -> None:
        self._set_perm(value)

    def _set_perm(self, value: str) -> None:
        try:
            self._perm = self.checkvalue(value, PERMISSIONS)
        except ValueError:
            logger.exception("%s keeps its permission", self._where())

    @property
    def timeout(self) -> str:
        """Seconds within which a command should have been executed, as text; `"0"`: unknown."""
        return self._timeout

    @timeout.setter
    def timeout(self, value: float | str) -> None:
        text = str(value)
        if text != self._timeout:
            self._timeout = text
            self.changed = True

    @property
    def message(self) -> str:
        """The message that goes out with the next definition or update, and only with that."""
        return self._message

    @message.setter
    def message(self, value: str) -> None:
        if not isinstance(value, str):
            logger.error("%s: the message %r is no text", self._where(), value)
            return
        if value != self._message:
            self._message = value
            self.changed = True

    @property
    def stop(self) -> bool:
        """The vector's driver is told to stop."""
        return self._stop

    def shutdown(self) -> None:
        """Note that the driver stops."""
        self._stop = True

    def _where(self) -> str:
        owner = f"{self.devicename}." if self.devicename else ""
        return f"{self.vectortype} {owner}{self.name}"

    # sending

    async def send_defVector(
        self,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
    ) -> None:
        """Send the definition, by which clients learn the vector.

        Args:
            message: for the client's user.
            timestamp: UTC, aware or naive; None is now.
            timeout: the new time-out, if not None.
            state: the new state, if not None.
        """
        stamp = self._accept(timestamp, timeout, state)
        if stamp is not None:
            text = self._take_message(message)
            self.changed = False
            await self._transmit(self._definition(stamp, text))

    async def send_setVectorMembers(
        self,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
        members: Iterable[str] = [],
    ) -> None:
        """Send the state and the values of the members that are named; the arguments are those of send_defVector."""
        stamp = self._accept(timestamp, timeout, state)
        if stamp is not None:
            names = set(members)
            chosen = [member for name, member in self.data.items() if name in names]
            await self._send_set(chosen, stamp, self._take_message(message))

    async def send_delProperty(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Tell clients that the property is gone, and disable it."""
        stamp = self._stamp(timestamp)
        if stamp is None:
            return
        text = self._take_message(message)
        await self._transmit(wire.del_property(self._devicename(), self.name, stamp, text or None))
        self.enable = False
        self.changed = True
        for member in self.data.values():
            member.changed = True

    def send_threadsafe(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
        block: bool = False,
        queue: int = 2,
    ) -> bool:
        """Set values and send them, from any thread but that of the event loop.

        Updates that the event loop has not got to yet wait; when `queue` of them wait, the oldest is replaced
        (counted in the driver's `stats()`), or with `block` the call waits. When the call returns, buffers among the
        values are no longer read: without `block` they have been copied, with `block` they have been sent.

        Args:
            values: member name to value; None or empty: nothing but the state and message.
            message, timestamp, timeout, state: as for send_defVector.
            block: wait until the update has been sent instead of replacing an older one. Raises what sending raises.
            queue: how many updates may wait.

        Returns:
            False when an older update has been replaced, or this one has not been sent as the driver does not run.

        Raises:
            RuntimeError: called with `block` from the event loop's own thread, which would wait for itself.
        """
        options = {"message": message, "timestamp": timestamp, "timeout": timeout, "state": state}
        driver, devicename = self.driver, self.devicename
        if driver is None or devicename is None:
            return False
        blobs_of = self.name if self.kind == "BLOB" else None
        values = dict(values or {})
        port = driver._vectorport
        return self._frames.put(port, devicename, values, options, block=block, limit=queue, blobs_of=blobs_of)

    async def _send_values(self, values: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Set values and send just these members."""
        self.update(values)
        await self.send_setVectorMembers(**options, members=values)

    # how messages are made

    def _accept(self, timestamp: datetime | None, timeout: float | str | None, state: str | None) -> str | None:
        """Take over what a send method was given; the time stamp, or None when nothing is to be sent."""
        if timeout is not None:
            self.timeout = timeout
        if state:
            if state not in STATES:
                logger.error("%s not sent: %r is no state", self._where(), state)
                return None
            self.state = state
        stamp = self._stamp(timestamp)
        return stamp if self.enable and self.device.enable else None

    def _stamp(self, timestamp: datetime | None) -> str | None:
        try:
            return timestamp_text(timestamp)
        except (TypeError, ValueError) as error:
            logger.error("%s not sent: %s", self._where(), error)
            return None

    def _take_message(self, message: str) -> str:
        """The message for this one send: the argument, else what the attribute holds."""
        if not isinstance(message, str):
            logger.error("%s: the message %r is no text", self._where(), message)
            message = ""
        text: str = message or self._message
        self._message = ""
        if text:
            self._last_message = text
        return text

    def _devicename(self) -> str:
        if self.devicename is None:
            raise TypeError(f"{self._where()} is not part of a device")
        return self.devicename

    def _stated(self) -> str:
        if self._state is None:
            raise TypeError(f"{self._where()} has no valid state")
        return self._state

    def _definition(self, stamp: str, message: str) -> Wire:
        """The definition. What does not change between two definitions is written once."""
        key = self._key()
        if self._cache is None or self._cache[0] != key:
            self._cache = (key, self._write_definition())
        return self._cache[1].at(stamp, message)

    def _key(self) -> tuple[object, ...]:
        members = [member._key() for member in self.data.values()]
        return (self.devicename, self.name, self.label, self.group, self._state, self.perm, self._timeout, *members)

    def _write_definition(self) -> wire.Definition:
        attributes = {
            "device": self._devicename(),
            "name": self.name,
            "label": self.label,
            "group": self.group,
            "state": self._stated(),
            **self._definition_attributes(),
        }
        members = [member._definition() for member in self.data.values()]
        return wire.Definition(self.kind, attributes, self._sent_timeout(), members)

    def _definition_attributes(self) -> dict[str, str]:
        return {"perm": self.perm}

    def _sent_timeout(self) -> str | None:
        """Nothing is asked of a vector that only the driver sets: no time-out is sent."""
        return None if self.perm == "ro" else self._timeout

    async def _send_set(self, members: Iterable[PropertyMember], stamp: str, message: str) -> None:
        device, state, timeout = self._devicename(), self._stated(), self._sent_timeout()
        content = "".join([member._one() for member in self._in_order(members)])
        update = wire.set_vector(self.kind, device, self.name, state, stamp, timeout, message, content)
        self.changed = False
        for member in members:
            member.changed = False
        await self._transmit(update)

    def _in_order(self, members: Iterable[PropertyMember]) -> Iterable[PropertyMember]:
        return members

    async def _transmit(self, message: Wire) -> None:
        await self._vectorport().transmit(message)

    def _vectorport(self) -> VectorPort:
        if self.driver is None:
            raise TypeError(f"{self._where()} is not part of a driver")
        return self.driver._vectorport


class _SetVector(PropertyVector):
    """What all vectors but those of BLOBs can do."""

    async def send_setVector(
        self,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
        allvalues: bool = True,
    ) -> None:
        """Send the state and the values; the arguments are those of send_defVector.

        Args:
            allvalues: False sends the members that have changed, and nothing at all when neither a member nor the
                state, the time-out or the message has changed, unless the state is Ok.
        """
        stamp = self._accept(timestamp, timeout, state)
        if stamp is None:
            return
        members = [member for member in self.data.values() if allvalues or member.changed]
        text = message or self._message
        changed = bool(members) or self.changed or bool(text and text != self._last_message)
        if allvalues or changed or self._state == "Ok":
            await self._send_set(members, stamp, self._take_message(message))
        else:
            logger.debug("%s not sent: nothing has changed", self._where())


class SwitchVector(_SetVector):
    """Switches; the rule says how many of them may be On. It is for the clients: nothing here enforces it."""

    _rule: str

    kind = "Switch"
    member_class = SwitchMember

    def __init__(
        self,
        name: str,
        label: str,
        group: str,
        perm: str,
        rule: str,
        state: str,
        switchmembers: Iterable[SwitchMember],
    ) -> None:
        super().__init__(name, label, group, perm, state, switchmembers)
        self.rule = rule

    @property
    def rule(self) -> str:
        """`OneOfMany`, `AtMostOne` or `AnyOfMany`. A wrong one is logged and the old one kept."""
        return self._rule

    @rule.setter
    def rule(self, value: str) -> None:
        try:
            self._rule = self.checkvalue(value, RULES)
        except ValueError:
            logger.exception("%s keeps its rule", self._where())

    def _key(self) -> tuple[object, ...]:
        return (*super()._key(), self.rule)

    def _definition_attributes(self) -> dict[str, str]:
        return {"perm": self.perm, "rule": self.rule}

    def _in_order(self, members: Iterable[PropertyMember]) -> Iterable[PropertyMember]:
        """Off before On, so that a client never sees two of a OneOfMany on; other values are left out."""
        listed = list(members)
        return [member for value in ("Off", "On") for member in listed if member.membervalue == value]


class LightVector(_SetVector):
    """Lights, which only the driver sets."""

    kind = "Light"
    member_class = LightMember

    def __init__(self, name: str, label: str, group: str, state: str, lightmembers: Iterable[LightMember]) -> None:
        super().__init__(name, label, group, "ro", state, lightmembers)

    @property  # type: ignore[misc]
    def perm(self) -> str:
        """Always `ro`."""
        return "ro"

    def _definition_attributes(self) -> dict[str, str]:
        return {}


class TextVector(_SetVector):
    """Texts."""

    kind = "Text"
    member_class = TextMember

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, textmembers: Iterable[TextMember]
    ) -> None:
        super().__init__(name, label, group, perm, state, textmembers)


class NumberVector(_SetVector):
    """Numbers."""

    kind = "Number"
    member_class = NumberMember

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, numbermembers: Iterable[NumberMember]
    ) -> None:
        super().__init__(name, label, group, perm, state, numbermembers)

    def getfloatvalue(self, membername: str) -> float:
        """A value as a float; KeyError for an unknown member, TypeError when it is not the text of a number."""
        value: float = self.data[membername].getfloatvalue()
        return value

    def getformattedvalue(self, membername: str) -> str:
        """A value as its member's format shows it; raises as getfloatvalue does."""
        text: str = self.data[membername].getformattedvalue()
        return text


class BLOBVector(PropertyVector):
    """Binary data: pictures, spectra, files."""

    kind = "BLOB"
    member_class = BLOBMember

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, blobmembers: Iterable[BLOBMember]
    ) -> None:
        super().__init__(name, label, group, perm, state, blobmembers)
        self._sender = BLOBSender(self._where)

    def set_blobsize(self, membername: str, blobsize: int) -> None:
        """What the `size` attribute of a member says from now on; 0: the size of what is sent."""
        if not isinstance(blobsize, int):
            logger.error("%s: the blobsize %r is no int", self._where(), blobsize)
        elif member := self.data.get(membername):
            member.blobsize = blobsize

    async def send_setVectorMembers(
        self,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
        members: Iterable[str] = [],
        *,
        compress: bool | None = None,
    ) -> None:
        """Send the state and the content of the members that are named.

        When this returns, the buffers that are the values are no longer read and may be used again. It waits for
        reading files, for the encoding, which is only done in the forms that somebody wants, and at most 100 ms for
        the fastest reader. Members without value are left out, members that can't be read are logged and left out.

        Args:
            compress: send all, or none, of the members compressed; None: as each member says.
        """
        stamp = self._accept(timestamp, timeout, state)
        if stamp is None:
            return
        names = set(members)
        chosen = [
            (member, member.membervalue)
            for name, member in self.data.items()
            if name in names and member.membervalue is not None
        ]
        await self._send_contents(chosen, stamp, self._take_message(message), compress)

    async def _send_values(self, values: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Send content without keeping it: the memory belongs to somebody else."""
        options = dict(options)
        message = options.pop("message")
        stamp = self._accept(**options)
        if stamp is not None:
            for name in values.keys() - self.data.keys():
                logger.error("%s has no member %r to send", self._where(), name)
            chosen = [(member, values[name]) for name, member in self.data.items() if name in values]
            await self._send_contents(chosen, stamp, self._take_message(message), None)

    async def _send_contents(
        self, contents: list[tuple[BLOBMember, Any]], stamp: str, message: str, compress: bool | None
    ) -> None:
        self.changed = False
        attributes = {
            "device": self._devicename(),
            "name": self.name,
            "state": self._stated(),
            "timestamp": stamp,
            "timeout": self._sent_timeout(),
            "message": message or None,
        }
        if contents:
            await self._sender.send(self._vectorport(), attributes, contents, compress)
        else:
            await self._transmit(wire.vector("setBLOBVector", attributes, ""))
