"""Property vectors of a device: named groups of members with a state, sent as one message."""

# ruff: noqa: ASYNC109 - `timeout` is an attribute of INDI vectors; nothing waits for it

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Awaitable, Iterable, Mapping
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
from indifast.handover import at_home
from indifast.protocol import wire
from indifast.protocol.message import Wire
from indifast.protocol.rules import not_one_of
from indifast.protocol.timestamps import timestamp_text
from indifast.protocol.vocabulary import PERMISSIONS, RULES, STATES

if TYPE_CHECKING:
    from indifast.driver.owners import OwningDevice, OwningDriver
    from indifast.driver.port import VectorPort

logger = logging.getLogger(__name__)


_T = TypeVar("_T")


def timestamp_string(timestamp: datetime | None = None) -> str | None:
    """Return a timestamp as it is sent, by default the current time; None if it is not a UTC time."""
    try:
        return timestamp_text(timestamp)
    except (TypeError, ValueError):
        return None


class PropertyVector(UserDict[str, Any]):
    """Mapping of member name to member value; `data` maps the names to the member objects.

    Setting a value never raises: an unknown member or an invalid value is logged, and the old value is kept.

    Raises:
        ValueError: The name is not ASCII.
        TypeError: A member is of another kind than the vector.

    Attributes:
        name: The name, in ASCII.
        label: The name that clients show.
        group: The name under which clients show the vector with others.
        enable: While False, the vector receives nothing and sends nothing but its deletion.
        devicename: Set when the vector becomes part of a device.
        driver: Set when the device becomes part of a driver.
        changed: Whether the state, timeout or message differs from what was last sent.
    """

    _perm: str
    kind: ClassVar[str]
    member_class: ClassVar[type[PropertyMember]]

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, members: Iterable[PropertyMember]
    ) -> None:
        super().__init__()
        if not name.isascii():
            raise ValueError(f"the vector name {name!r} must be ASCII")
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

    # -- Mapping

    def __getitem__(self, membername: str) -> Any:
        return self.data[membername].membervalue

    def __setitem__(self, membername: str, value: object) -> None:
        try:
            self.data[membername].membervalue = value
        except KeyError:
            logger.error("%s has no member %r to set", self._where(), membername)
        except ValueError:
            logger.exception("%s.%s keeps its value", self._where(), membername)

    # -- Attributes

    def checkvalue(self, value: _T, allowed: Iterable[object]) -> _T:
        """Return the value if it is allowed.

        Raises:
            ValueError: The value is not one of those allowed.
        """
        if why := not_one_of(value, allowed):
            raise ValueError(why)
        return value

    @property
    def device(self) -> OwningDevice:
        """Device of the vector; raises TypeError while it has none."""
        return self.driver[self.devicename]  # type: ignore[index]

    @property
    def state(self) -> str | None:
        """`Idle`, `Ok`, `Busy` or `Alert`; None if the initial state was invalid. Setting an invalid one is logged."""
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
        """`ro`, `wo` or `rw`, as seen from the client. Setting an invalid one logs an error and keeps the old one."""
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
        """Seconds within which a command should be done, as text; `"0"` if unknown."""
        return self._timeout

    @timeout.setter
    def timeout(self, value: float | str) -> None:
        text = str(value)
        if text != self._timeout:
            self._timeout = text
            self.changed = True

    @property
    def message(self) -> str:
        """Message to send with the next definition or update, and only with that one."""
        return self._message

    @message.setter
    def message(self, value: str) -> None:
        if not isinstance(value, str):
            logger.error("%s: the message %r is not a string", self._where(), value)
            return
        if value != self._message:
            self._message = value
            self.changed = True

    @property
    def stop(self) -> bool:
        """Whether the driver has been told to stop."""
        return self._stop

    def shutdown(self) -> None:
        """Note that the driver is stopping: set `stop`."""
        self._stop = True

    def _where(self) -> str:
        owner = f"{self.devicename}." if self.devicename else ""
        return f"{self.vectortype} {owner}{self.name}"

    # -- Sending

    @at_home("driver._indifast_port.home")
    async def send_defVector(
        self,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
    ) -> None:
        """Send the definition, which tells clients about the vector.

        Args:
            message: A message for the users of clients.
            timestamp: UTC, aware or naive; None means now.
            timeout: The new timeout; None leaves it unchanged.
            state: The new state; None leaves it unchanged.
        """
        stamp = self._accept(timestamp, timeout, state)
        if stamp is not None:
            text = self._take_message(message)
            self.changed = False
            await self._transmit(self._definition(stamp, text))

    @at_home("driver._indifast_port.home")
    async def send_setVectorMembers(
        self,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
        members: Iterable[str] = [],
    ) -> None:
        """Send the state and the values of the named members. See `send_defVector` for the other arguments."""
        stamp = self._accept(timestamp, timeout, state)
        if stamp is not None:
            names = set(members)
            chosen = [member for name, member in self.data.items() if name in names]
            await self._send_set(chosen, stamp, self._take_message(message))

    @at_home("driver._indifast_port.home")
    async def send_delProperty(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Tell clients that the property is gone, and disable it. See `send_defVector` for the arguments."""
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
        """Set values and send them, from any thread except that of the event loop.

        Updates wait until the event loop gets to them. If `queue` updates are waiting already, the oldest is replaced
        (and counted in the driver's `stats()`); with `block`, the call waits instead. When the call returns, buffers
        among the values are no longer read: they have been copied or, with `block`, sent.

        Args:
            values: Member name to value; None or empty to send only the state and the message.
            message: As in `send_defVector`.
            timestamp: As in `send_defVector`.
            timeout: As in `send_defVector`.
            state: As in `send_defVector`.
            block: Wait until the update has been sent instead of replacing an older one, and raise any error in
                sending it.
            queue: The number of updates that may wait.

        Returns:
            False if an older update was replaced, or if this one was not sent because the driver is not running.

        Raises:
            RuntimeError: Called with `block` from the event loop's own thread, which would wait for itself.
        """
        options = {"message": message, "timestamp": timestamp, "timeout": timeout, "state": state}
        driver, devicename = self.driver, self.devicename
        if driver is None or devicename is None:
            return False
        blobs_of = self.name if self.kind == "BLOB" else None
        values = dict(values or {})
        port = driver._indifast_port
        return self._frames.put(port, devicename, values, options, block=block, limit=queue, blobs_of=blobs_of)

    async def _send_values(self, values: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Set values and send only these members."""
        self.update(values)
        await self.send_setVectorMembers(**options, members=values)

    # -- Making messages

    def _accept(self, timestamp: datetime | None, timeout: float | str | None, state: str | None) -> str | None:
        """Apply the arguments of a send method. Return the timestamp, or None if nothing is to be sent."""
        if timeout is not None:
            self.timeout = timeout
        if state:
            if state not in STATES:
                logger.error("%s not sent: %r is not a state", self._where(), state)
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
        """Return the message to send this time: the argument or, if that is empty, the attribute."""
        if not isinstance(message, str):
            logger.error("%s: the message %r is not a string", self._where(), message)
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
        """Return the definition. It is only rewritten if anything but the timestamp and the message has changed."""
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
        """Return the timeout to send; None for read-only vectors, which no command can keep waiting."""
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

    def _transmit(self, message: Wire) -> Awaitable[None]:
        return self._vectorport().transmit(message)

    def _vectorport(self) -> VectorPort:
        if self.driver is None:
            raise TypeError(f"{self._where()} is not part of a driver")
        return self.driver._indifast_port


class _SetVector(PropertyVector):
    """Base class of all vectors except BLOB vectors."""

    @at_home("driver._indifast_port.home")
    async def send_setVector(
        self,
        message: str = "",
        timestamp: datetime | None = None,
        timeout: float | str | None = None,
        state: str | None = None,
        allvalues: bool = True,
    ) -> None:
        """Send the state and the values.

        Args:
            message: A message for the users of clients.
            timestamp: UTC, aware or naive; None means now.
            timeout: The new timeout; None leaves it unchanged.
            state: The new state; None leaves it unchanged.
            allvalues: If False, send only the members that have changed; send nothing at all if no member has changed,
                nor the state, timeout or message, unless the state is Ok.
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
    """Vector of switches. Its rule tells clients how many of them may be On; nothing here enforces it."""

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
        """`OneOfMany`, `AtMostOne` or `AnyOfMany`. Setting an invalid one logs an error and keeps the old one."""
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
        """Return Off members before On ones, so that no client sees two of a OneOfMany On. Leave out other values."""
        listed = list(members)
        return [member for value in ("Off", "On") for member in listed if member.membervalue == value]


class LightVector(_SetVector):
    """Vector of lights, which only the driver sets."""

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
    """Vector of texts."""

    kind = "Text"
    member_class = TextMember

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, textmembers: Iterable[TextMember]
    ) -> None:
        super().__init__(name, label, group, perm, state, textmembers)


class NumberVector(_SetVector):
    """Vector of numbers."""

    kind = "Number"
    member_class = NumberMember

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, numbermembers: Iterable[NumberMember]
    ) -> None:
        super().__init__(name, label, group, perm, state, numbermembers)

    def getfloatvalue(self, membername: str) -> float:
        """Return a member's value as a float.

        Raises:
            KeyError: There is no such member.
            TypeError: The value is not a number.
        """
        value: float = self.data[membername].getfloatvalue()
        return value

    def getformattedvalue(self, membername: str) -> str:
        """Return a member's value as its format shows it.

        Raises:
            KeyError: There is no such member.
            TypeError: The value is not a number, or the format can't show it.
        """
        text: str = self.data[membername].getformattedvalue()
        return text


class BLOBVector(PropertyVector):
    """Vector of binary data: pictures, spectra, files."""

    kind = "BLOB"
    member_class = BLOBMember

    def __init__(
        self, name: str, label: str, group: str, perm: str, state: str, blobmembers: Iterable[BLOBMember]
    ) -> None:
        super().__init__(name, label, group, perm, state, blobmembers)
        self._sender = BLOBSender(self._where)

    def set_blobsize(self, membername: str, blobsize: int) -> None:
        """Set the `size` attribute that is sent for a member; 0 stands for the size of the content."""
        if not isinstance(blobsize, int):
            logger.error("%s: the blobsize %r is not an int", self._where(), blobsize)
        elif member := self.data.get(membername):
            member.blobsize = blobsize

    @at_home("driver._indifast_port.home")
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
        """Send the state and the content of the named members.

        When the call returns, the buffers among the values are no longer read and may be reused. The call waits until
        files have been read and the content has been encoded (only in the forms that clients want), and a bounded time
        for the fastest reader: 100 ms, or 10 ms per megabyte on the wire if that is more. Members without a value are
        left out; members that can't be read are logged and left out.

        Args:
            message: A message for the users of clients.
            timestamp: UTC, aware or naive; None means now.
            timeout: The new timeout; None leaves it unchanged.
            state: The new state; None leaves it unchanged.
            members: The names of the members to send.
            compress: Whether to compress the content; None lets each member decide.
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
        """Send content without keeping it: the memory belongs to the caller."""
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
        if contents and (self._vectorport().filtered() or any(member.overrides for member, _ in contents)):
            assert self.driver is not None
            await self.driver.send(await self._sender.tree(attributes, contents, compress))
        elif contents:
            await self._sender.send(self._vectorport(), attributes, contents, compress)
        else:
            await self._transmit(wire.vector("setBLOBVector", attributes, ""))
