"""The client behind the pages: what it knows, who is told of it, and what it is asked to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from indifast.client import ConnectionLost, ConnectionMade, INDICheckError
from indifast.client import Message as Said
from indifast.client.commandchecks import INDIUnknown, check_command, switch_state, unknown_member, why_unknown
from indifast.client.display import DisplayClient, Server
from indifast.client.events import defVector, delProperty, setVector
from indifast.protocol import jsonform, similar
from indifast.protocol.jsonform import Plain
from indifast.web import viewer
from indifast.web.bounds import COMMAND_SHARE, COMMANDS, CONNECTIONS
from indifast.web.concealed import secret_members
from indifast.web.curves import Curves
from indifast.web.rights import RIGHTS
from indifast.web.shares import Busy as Busy
from indifast.web.shares import Shares, share_in
from indifast.web.viewer import Subscription, Viewer, covers


class Answers:
    """The messages that come while a command waits for its answer: the last one about its property counts most."""

    def __init__(self, device: str, name: str) -> None:
        self.device, self.name = device, name
        self._about_it = self._from_device = ""

    def hear(self, event: Any) -> None:
        """Note what an event says, if it is about the device."""
        if event.devicename != self.device or not getattr(event, "message", ""):
            return
        if event.vectorname == self.name:
            self._about_it = event.message
        elif event.vectorname is None:
            self._from_device = event.message

    @property
    def message(self) -> str | None:
        """The driver's message, if there was one."""
        return self._about_it or self._from_device or None


class Blob(NamedTuple):
    """A BLOB that is to be sent."""

    content: bytes
    size: int
    """Bytes when it is inflated; 0: of the content."""
    format: str


class Hub:
    """Everything that is known of one server, for any number of viewers.

    What whoever asks must not see (`RIGHTS`) is not there for them.

    Args:
        server: The server.
        viewers: How many there may be; by default, so many that others can still connect.
    """

    def __init__(self, server: Server, viewers: int = CONNECTIONS // 2) -> None:
        self.server = server
        self.client = DisplayClient.of(server, self._hear)
        self.client.give_back_memory = False  # the next frame needs it
        self.connected = False
        """Whether there is a connection to the server, as far as the viewers are told."""
        self.curves = Curves(self._known)
        self._viewers: set[Viewer] = set()
        self._viewing = Shares(viewers, share_in(viewers), "viewers")
        self._commanding = Shares(COMMANDS, COMMAND_SHARE, "commands that wait for their answers")
        self._answers: set[Answers] = set()
        self._events: dict[tuple[str, str], str] = {}

    # -- What the server says

    def _hear(self, event: Any) -> None:
        for answers in self._answers:
            answers.hear(event)
        match event:
            case ConnectionMade() | ConnectionLost():
                self.connected = isinstance(event, ConnectionMade)
                if not self.connected:
                    self.curves.interrupt()
                self._events.clear()
                for each in self._viewers:
                    each.relinked()
            case defVector() | setVector():
                self._changed(event.devicename, (event.vectorname,))
            case delProperty(devicename=str(device), vectorname=name) if device in self.client:
                self._changed(device, list(self.client[device]) if name is None else (name,))
            case Said():
                message = jsonform.of_message(event)
                for each in self._viewers:
                    each.said(message)

    def _changed(self, device: Any, names: Iterable[Any]) -> None:
        for name in names:
            self.curves.mark(device, name)
            self._events.pop((device, name), None)
            for each in self._viewers:
                each.changed(device, name)

    # -- Viewers

    @contextmanager
    def viewing(self, whose: str | None = None) -> Iterator[Viewer]:
        """Add a viewer for the duration of a block, which gets it.

        Args:
            whose: Whose share it counts for; see `shares.share_of`.

        Raises:
            Busy: There are too many.
        """
        with self._viewing.taking(whose):
            new = Viewer(RIGHTS.get())
            self._viewers.add(new)
            try:
                yield new
            finally:
                self._viewers.discard(new)

    def subscribe(self, to: Viewer, *subscriptions: Subscription) -> None:
        """Subscribe a viewer, and have it told of everything that there is: in one pass, however much it asks for.

        Raises:
            TooManySubscriptions: There would be too many; none is added.
        """
        to.subscribe(*subscriptions)
        new = frozenset(subscriptions)
        devices = {device for device, _ in new}
        for device in self.names() if new else ():
            if device in devices or None in devices:
                for vector in self.client[device].values():
                    if vector.enable and covers(new, device, vector.name):
                        to.untold(device, vector.name)

    def why_nothing(self, device: str | None, name: str | None) -> str | None:
        """Return why there is nothing yet that a subscription is about, if that is the case."""
        try:
            if name is not None and device is not None:
                self.vector(device, name)
            elif device is not None:
                self.device(device)
        except (INDIUnknown, ConnectionError) as error:
            return str(error)
        return None

    def text(self, item: viewer.Property | viewer.Message | viewer.Link) -> str:
        """Return an item of a viewer's queue as JSON."""
        match item:
            case viewer.Link():
                return jsonform.text(
                    {"event": "link", "connected": self.connected, "connection": self.connection}, indent=None
                )
            case viewer.Message(content, missed):
                return jsonform.text(content | {"missed": missed}, indent=None)
            case viewer.Property(device, name, missed):
                if missed:
                    return jsonform.text(self._event(device, name, missed), indent=None)
                key = device, name
                if key not in self._events:
                    self._events[key] = jsonform.text(self._event(device, name, 0), indent=None)
                return self._events[key]

    def _event(self, device: str, name: str, missed: int) -> Plain:
        about: Plain = {"device": device, "property": name, "missed": missed}
        try:
            vector = self.vector(device, name)
        except (INDIUnknown, ConnectionError):
            return {"event": "delete"} | about
        return {"event": "property"} | about | {"content": self.plain(vector)}

    # -- What is known

    @property
    def connection(self) -> int:
        """How often the client has connected."""
        return self.client.stats()["connections"]

    def plain(self, vector: Any) -> Plain:
        """Return a property as JSON shows it, without what is secret."""
        return jsonform.of_vector(vector, secrets=secret_members)

    def plain_device(self, name: str) -> Plain:
        """Return a device with all its properties, without what is secret.

        Raises:
            INDIUnknown: There is none of that name.
        """
        return jsonform.of_whole_device(self.device(name), secret_members)

    def names(self) -> list[str]:
        """Return the names of the devices."""
        sees = RIGHTS.get().sees
        return [name for name, device in self.client.items() if device.enable and sees(name)]

    def messages(self) -> Plain:
        """Return the newest messages: those that name no device, and those of each device."""
        general = [] if RIGHTS.get().limited else jsonform.of_messages(self.client)
        return {
            "messages": general,
            "devices": {name: jsonform.of_messages(self.device(name)) for name in self.names()},
        }

    def device(self, name: str) -> Any:
        """Return a device.

        Raises:
            INDIUnknown: There is none of that name.
            ConnectionError: Nothing is known, for lack of a connection.
        """
        if name not in self.names():
            self._need_connection()
            raise INDIUnknown(self._why_unknown(name))
        return self.client[name]

    def vector(self, device: str, name: str) -> Any:
        """Return a property.

        Raises:
            INDIUnknown: There is none of that name.
            ConnectionError: Nothing is known, for lack of a connection.
        """
        vector = self._known(device, name) if RIGHTS.get().sees(device) else None
        if vector is None:
            self._need_connection()
            raise INDIUnknown(self._why_unknown(device, name))
        return vector

    def _known(self, device: str, name: str) -> Any:
        vector = self.client[device].get(name) if device in self.client else None
        return vector if vector is not None and vector.enable else None

    def _why_unknown(self, device: str, name: str | None = None) -> str:
        if RIGHTS.get().limited and device not in self.names():
            return why_unknown({each: self.client[each] for each in self.names()}, device)
        return why_unknown(self.client, device, name)

    def blob(self, device: str, name: str, member: str) -> Any:
        """Return a property whose member is a BLOB that can be read.

        Raises:
            INDICheckError: There is none of that name, or it is something else.
        """
        vector = self.vector(device, name)
        if member not in vector.data:
            raise unknown_member(vector, member)
        if vector.vectortype != "BLOBVector" or vector.perm == "wo":
            raise INDICheckError(f"{device}.{name} has no frames")
        return vector

    def near(self, device: str, name: str | None, members: Iterable[str]) -> list[str]:
        """Return names like the first of these that does not exist."""
        if device not in self.names():
            return similar.similar(device, self.names())
        known = [vector.name for vector in self.client[device].values() if vector.enable]
        if name is None or name not in known:
            return [] if name is None else similar.similar(name, known)
        data = self.client[device][name].data
        return [near for member in members if member not in data for near in similar.similar(member, data)]

    # -- Commands

    async def command(
        self,
        device: str,
        name: str,
        members: Mapping[str, Any],
        *,
        wait: bool,
        seconds: float,
        complete: bool,
        whose: str | None = None,
    ) -> str | None:
        """Send a command, and wait for its answer if asked to. `whose` share it counts for, `shares.share_of` says.

        Returns:
            The driver's message, if there was one.

        Raises:
            Busy: Too many commands wait.
            INDICheckError: The property cannot accept the command.
            Exception: What `IPyClient.send_newVector` raises.
        """
        vector = self._commanded(device, name)
        if vector.vectortype == "BLOBVector":
            raise INDICheckError(f"{device}.{name} takes BLOBs: PUT their bytes to its blobs/MEMBER")
        if vector.vectortype == "SwitchVector":
            members = {key: switch_state(value) for key, value in members.items()}
        return await self._send(vector, members, wait, seconds, complete, whose)

    def check_blob(self, device: str, name: str, member: str) -> None:
        """Check that a BLOB can be sent to a member.

        Raises:
            INDICheckError: There is none of that name, or it takes none.
        """
        vector = self._commanded(device, name)
        if vector.vectortype != "BLOBVector":
            raise INDICheckError(f"{device}.{name} takes no BLOBs")
        check_command(device, name, vector, {member: None})

    async def send_blob(
        self, device: str, name: str, member: str, blob: Blob, *, wait: bool, seconds: float, whose: str | None = None
    ) -> str | None:
        """Send a BLOB, as `command` sends other values.

        Raises:
            Busy: Too many commands wait.
            INDICheckError: The property cannot accept it.
            Exception: What `IPyClient.send_newVector` raises.
        """
        self.check_blob(device, name, member)
        return await self._send(self.vector(device, name), {member: blob}, wait, seconds, True, whose)

    def _commanded(self, device: str, name: str) -> Any:
        self._need_connection()
        return self.vector(device, name)

    def _need_connection(self) -> None:
        if not self.client.connected:
            raise ConnectionError(f"there is no connection to {self.server}")

    async def _send(
        self, vector: Any, members: Mapping[str, Any], wait: bool, seconds: float, complete: bool, whose: str | None
    ) -> str | None:
        device, name = vector.devicename, vector.name
        answers = Answers(device, name)
        with self._commanding.taking(whose):
            self._answers.add(answers)
            try:
                await self.client.send_newVector(
                    device, name, members=members, wait=wait, timeout=seconds if wait else None, check=True,
                    complete=complete,
                )  # fmt: skip
            except INDICheckError as error:
                if hidden := [key for key in secret_members(vector) - members.keys() if f" {key}: " in str(error)]:
                    raise INDICheckError(f"give {', '.join(hidden)}, too: its value cannot be sent along") from None
                raise
            finally:
                self._answers.discard(answers)
        return answers.message
