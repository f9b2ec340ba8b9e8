"""Waiting for what a server does: definitions, states, answers, streams of events."""

from __future__ import annotations

import asyncio
import itertools
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from indifast.client import events
from indifast.client.commandchecks import INDICheckError, step_of
from indifast.protocol import wire
from indifast.protocol.numbers import getfloat

if TYPE_CHECKING:
    from indifast.client.ipyclient import IPyClient

Until: TypeAlias = "Mapping[str, Any] | Callable[[Any], bool] | None"
"""What an update must fulfil besides its state: values of members (numbers within half a step, or
(value, tolerance)), or a function of the vector."""


_Item = TypeVar("_Item")


class INDIAlert(Exception):
    """The driver answered with the state Alert; `message` is the last one of the vector or its device."""

    def __init__(self, devicename: str, vectorname: str, message: str) -> None:
        super().__init__(f"{devicename} {vectorname} went to Alert: {message or 'the driver gave no reason'}")
        self.devicename = devicename
        self.vectorname = vectorname
        self.message = message


class INDIDeleted(OSError):
    """The device or vector that was to answer was deleted: its driver has ended, or disconnected from its hardware.

    `vectorname` is None where the whole device went; `message` is what came with the deletion.
    """

    def __init__(self, devicename: str, vectorname: str | None, message: str = "") -> None:
        name = devicename if vectorname is None else f"{devicename}.{vectorname}"
        super().__init__(f"{name} has gone: {message or 'its driver has ended, or disconnected'}")
        self.devicename = devicename
        self.vectorname = vectorname
        self.message = message


def _deleted(event: Any, devicename: str, *vectornames: str) -> INDIDeleted | None:
    """The error, if an event says that a device, or one of its vectors, has gone."""
    if not isinstance(event, events.delProperty) or event.devicename != devicename:
        return None
    if event.vectorname is not None and event.vectorname not in vectornames:
        return None
    return INDIDeleted(devicename, event.vectorname, event.message)


class PingReply:
    """An answer to a ping, seen by watchers only."""

    eventtype = "PingReply"
    devicename = vectorname = None

    def __init__(self, uid: str) -> None:
        self.uid = uid


class Watcher:
    """Sees every event right after the model took it in, before `rxevent` does.

    None: the connection has ended, and with `client.stop` there will be no other.
    """

    holding = False
    """No more should be received until this watcher says so (by waking the connection)."""
    urgent = False
    """Something is waited for, so that nobody may hold up what is received."""

    def notify(self, event: Any) -> None:
        """An event."""
        raise NotImplementedError


class _Condition(Watcher):
    """Calls a function with every event until it gives a result or raises."""

    urgent = True

    def __init__(self, client: IPyClient, test: Callable[[Any], Any]) -> None:
        self._client = client
        self._test = test
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def notify(self, event: Any) -> None:
        if self._future.done():
            return
        try:
            result = self._test(event)
        except Exception as error:
            self._future.set_exception(error)
        else:
            if result is not None:
                self._future.set_result(result)
            elif event is None and self._client.stop:
                self._future.set_exception(ConnectionError("the client has stopped"))

    async def pause(self, seconds: float) -> None:
        """Let so much time go by; ConnectionError once the client has stopped."""
        done, _ = await asyncio.wait((self._future,), timeout=seconds)
        for future in done:
            future.result()

    async def wait(
        self, timeout: float | None, what: Callable[[], str], first: Coroutine[Any, Any, None] | None = None
    ) -> Any:
        """The result; TimeoutError, saying what was waited for, after `timeout` seconds.

        `first` is done before; a server that reads nothing can hold that up, too.
        """
        try:
            async with asyncio.timeout(timeout):
                if first is not None:
                    await first
                return await self._future
        except TimeoutError:
            raise TimeoutError(f"{what()} (waited {timeout:g} s)") from None

    def __enter__(self) -> _Condition:
        attach(self._client, self)
        wake(self._client)
        return self

    def __exit__(self, *exc_info: object) -> None:
        detach(self._client, self)
        self._future.cancel()


def attach(client: IPyClient, watcher: Watcher) -> None:
    """Let a watcher see every event while it lives: an iterator that nobody holds any more holds nobody up."""
    watchers = client._watchers

    def gone(reference: weakref.ref[Watcher]) -> None:
        if reference in watchers:
            watchers.remove(reference)
        wake(client)

    watchers.append(weakref.ref(watcher, gone))


def detach(client: IPyClient, watcher: Watcher) -> None:
    """Let it see no more."""
    client._watchers[:] = [reference for reference in client._watchers if reference() is not watcher]


def wake(client: IPyClient) -> None:
    """Let a client that is held up look again."""
    if client._connection is not None:
        client._connection.wake()


async def wait_connected(client: IPyClient, timeout: float | None) -> None:
    """Wait until the server has taken the connection, at once if it has.

    TimeoutError after `timeout` seconds; ConnectionError once the client has stopped, as it does after a failure
    without `IPyClient.reconnect`: then `IPyClient.asyncrun` raises why.
    """
    with _Condition(client, lambda _: True if client.connected else None) as condition:
        condition.notify(None)
        await condition.wait(timeout, lambda: f"not connected to {client.indihost}:{client.indiport}")


async def ready(client: IPyClient, timeout: float | None, names: Iterable[Any], quiet: float) -> None:
    """Wait until the server's devices are known.

    Without names: until there is at least one device and no new definition came for `quiet` seconds. With names: until
    all of them are defined, each a device name or a pair (device name, vector name). An answered ping would not tell:
    servers answer pings themselves. TimeoutError, saying what is missing, after `timeout` seconds.
    """
    wanted = [(name, None) if isinstance(name, str) else tuple(name) for name in names]
    if wanted:

        def missing() -> list[Any]:
            return [name for name in wanted if _defined(client, *name) is None]

        with _Condition(client, lambda _: None if missing() else True) as condition:
            condition.notify(None)
            await condition.wait(timeout, lambda: f"not defined: {missing()}")
        return
    last = time.monotonic()

    def definition(event: Any) -> None:
        nonlocal last
        if isinstance(event, events.defVector):
            last = time.monotonic()

    with _Condition(client, definition) as condition:
        try:
            async with asyncio.timeout(timeout):
                while (rest := last + quiet - time.monotonic()) > 0 or not client._any_enabled():
                    await condition.pause(rest if rest > 0 else quiet)
        except TimeoutError:
            state = "no device was defined" if client.connected else f"not connected to {client.indihost}"
            raise TimeoutError(f"{state} (waited {timeout:g} s)") from None


def _defined(client: IPyClient, devicename: str, vectorname: str | None) -> Any:
    device = client.data.get(devicename)
    if device is None or not device.enable:
        return None
    if vectorname is None:
        return device
    vector = device.data.get(vectorname)
    return vector if vector is not None and vector.enable else None


async def wait_for(
    client: IPyClient,
    devicename: str,
    vectorname: str | None,
    state: str | Iterable[str] | None,
    timeout: float | None,
    there: bool = False,
) -> Any:
    """Wait until a device, or a vector, is defined and, if `state` is given, has that state or one of those.

    Returns the device or vector, at once if all that is so already. TimeoutError after `timeout` seconds. What is
    deleted is waited for until it comes back, unless it was to be `there`: then INDIDeleted.
    """
    states = None if state is None else {state} if isinstance(state, str) else set(state)

    def test(_: Any) -> Any:
        found = _defined(client, devicename, vectorname)
        if found is None and there:
            if not client.connected:
                raise ConnectionError("the connection was lost")
            raise INDIDeleted(devicename, vectorname)
        if found is None or (states is not None and vectorname is not None and found.state not in states):
            return None
        return _Box(found)

    def what() -> str:
        found = _defined(client, devicename, vectorname)
        name = " ".join(part for part in (devicename, vectorname) if part)
        return f"{name} is not defined" if found is None else f"{name} is {found.state}, not {sorted(states or ())}"

    with _Condition(client, test) as condition:
        condition.notify(None)
        box = await condition.wait(timeout, what)
        return box.content


class _Box:
    """A result that may be an empty mapping."""

    def __init__(self, content: Any) -> None:
        self.content = content


async def command(
    client: IPyClient,
    devicename: str,
    vectorname: str,
    timestamp: datetime | None,
    members: Mapping[str, Any],
    timeout: float | None,
    accept: Iterable[str],
    until: Until,
    result: Callable[[Any], Any] = lambda vector: vector,
    complete: bool = True,
) -> Any:
    """Send a command and wait for its effect.

    Returns the vector at the first update of it with a state, or definition anew, received after sending, that leaves
    it in a state of `accept` and fulfils `until`; Busy, and whatever else is not accepted, keeps waiting. INDI cannot
    tell which command an update answers: where other clients command the same vector, or a driver repeats itself,
    `until` makes sure.

    `result` makes of the vector what is returned, at once: by the time the caller runs, more may have come.

    Raises INDIAlert at an update with Alert (unless accepted), TimeoutError after `timeout` seconds, INDIDeleted if the
    vector or its device is deleted, ConnectionError if the connection is lost, KeyError for a vector that is not
    defined, INDICheckError if there was nothing to send: lights take no command.
    """
    vector = _defined(client, devicename, vectorname)
    if vector is None:
        raise KeyError(f"{devicename} {vectorname} is not defined")
    if not client._can_send:
        raise ConnectionError("not connected")
    accepted = {accept} if isinstance(accept, str) else set(accept)
    commands = vector._commands
    # What has come before and was not looked at yet says nothing of this command.
    earlier = [] if client._connection is None else client._connection.unread(devicename, vectorname)

    def test(event: Any) -> Any:
        if event is None:
            raise ConnectionError(f"the connection was lost before {devicename} {vectorname} answered")
        if (gone := _deleted(event, devicename, vectorname)) is not None:
            raise gone
        if vector._commands == commands or event.vectorname != vectorname or event.devicename != devicename:
            return None
        if not isinstance(event, (events.setVector, events.defVector)):
            return None
        if event.state is None:  # it says nothing of the command: the state is still the one from before
            return None
        if any(event._element is element for element in earlier):
            return None
        now = event.vector  # another one, if it was defined anew as another type
        if now.state in accepted and _fulfilled(now, until):
            return _Box(result(now))
        if now.state == "Alert" and "Alert" not in accepted:
            raise INDIAlert(devicename, vectorname, event.message or _last_message(now))
        return None

    async def send() -> None:
        await client._send_members(vector, timestamp, members, complete)
        if not vector.enable:
            raise INDIDeleted(devicename, vectorname)
        if vector._commands == commands and client._can_send:
            raise INDICheckError(f"{devicename} {vectorname}: nothing was sent, so there is nothing to wait for")

    def what() -> str:
        return f"{devicename} {vectorname} is {vector.state}, last message: {_last_message(vector)!r}"

    with _Condition(client, test) as condition:
        box = await condition.wait(timeout, what, send())
        return box.content


def _last_message(vector: Any) -> str:
    messages = vector.device.messages
    return vector.message or (messages[0][1] if messages else "")


def _fulfilled(vector: Any, until: Until) -> bool:
    if until is None:
        return True
    if callable(until):
        return bool(until(vector))
    return all(_has(vector, name, target) for name, target in until.items())


def _has(vector: Any, name: str, target: Any) -> bool:
    member = vector.data[name]
    if vector.vectortype != "NumberVector":
        return bool(member.membervalue == target)
    if isinstance(target, tuple):
        value, tolerance = (getfloat(part) for part in target)
    else:
        value = getfloat(target)
        tolerance = max(step_of(member) / 2, 1e-6 * abs(value), 1e-9)
    return bool(abs(member.getfloatvalue() - value) <= tolerance)


_uids = itertools.count(1)


async def ping(client: IPyClient, timeout: float | None) -> float:
    """Seconds until the server answers a pingRequest."""
    if not client._can_send:
        raise ConnectionError("not connected")
    uid = f"indifast/{next(_uids)}"

    def test(event: Any) -> Any:
        if event is None:
            raise ConnectionError("the connection was lost")
        return True if isinstance(event, PingReply) and event.uid == uid else None

    with _Condition(client, test) as condition:
        began = time.monotonic()
        request = client._transmit(wire.ping_request(uid))
        await condition.wait(timeout, lambda: "the server does not answer pings", request)
        return time.monotonic() - began


class Queue(Protocol[_Item]):
    """As much of a deque as a stream needs."""

    def append(self, item: _Item, /) -> None: ...

    def popleft(self) -> _Item: ...

    def clear(self) -> None: ...

    def __len__(self) -> int: ...


class Stream(Watcher, AsyncIterator[_Item]):
    """What waits to be taken, one thing after the other; it ends when the client stops."""

    def __init__(self, client: IPyClient) -> None:
        self._client = client
        self._waiting: Queue[_Item] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._open = True

    def _wake(self) -> None:
        """Look again at what waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end_with_client(self) -> None:
        """The connection has ended."""
        if self._client.stop:
            self._open = False
            self._wake()

    async def _arrival(self) -> None:
        """Return when something waits; StopAsyncIteration when nothing will any more.

        RuntimeError while another task waits here, as with asynchronous generators: of two that take turns nobody could
        say who gets what, and one that was forgotten would take something away.
        """
        if self._waiter is not None:
            raise RuntimeError("another task waits for what comes next in this stream: only one can")
        while not self._waiting:
            if not self._open or self._client.stopped.is_set():
                self.close()
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """Take no more."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """The same as `close`, for `contextlib.aclosing`."""
        self.close()


class EventStream(Stream[Any]):
    """Events as an asynchronous iterator, from the moment it was made.

    Filtered by device name, vector name and event class (one, or a tuple of them). It ends when the client stops. When
    `queue` events wait, no more is received until some were taken, except while somebody waits for an answer.
    """

    def __init__(
        self,
        client: IPyClient,
        device: str | None,
        vector: str | None,
        types: type | tuple[type, ...] | None,
        queue: int,
    ) -> None:
        super().__init__(client)
        self._device = device
        self._vector = vector
        self._types = types
        self._most = queue
        attach(client, self)

    @property
    def holding(self) -> bool:  # type: ignore[override]
        """So many events wait that no more should be received."""
        return len(self._waiting) >= self._most

    def notify(self, event: Any) -> None:
        if event is None:
            self._end_with_client()
            return
        if isinstance(event, PingReply) or (self._types is not None and not isinstance(event, self._types)):
            return
        if (self._device is None or event.devicename == self._device) and (
            self._vector is None or event.vectorname == self._vector
        ):
            self._waiting.append(event)
            self._wake()

    async def __anext__(self) -> Any:
        await self._arrival()
        held = self.holding
        event = self._waiting.popleft()
        if held:
            wake(self._client)
        return event

    def close(self) -> None:
        """Take no more events."""
        self._open = False
        self._waiting.clear()
        detach(self._client, self)
        wake(self._client)
        self._wake()


class AlertWatch(Watcher):
    """Makes a future fail: INDIAlert once a vector goes to Alert, INDIDeleted once it, or one of `needed`, is deleted,
    ConnectionError once the connection is lost.
    """

    urgent = True

    def __init__(
        self, client: IPyClient, devicename: str, vectorname: str, needed: Iterable[str], future: asyncio.Future[None]
    ) -> None:
        self._client = client
        self._names = devicename, vectorname
        self._needed = (vectorname, *needed)
        self._future = future
        attach(client, self)

    def notify(self, event: Any) -> None:
        if self._future.done():
            return
        if event is None:
            self._future.set_exception(ConnectionError(f"the connection was lost before {self._names[0]} answered"))
        elif (gone := _deleted(event, self._names[0], *self._needed)) is not None:
            self._future.set_exception(gone)
        elif (
            isinstance(event, events.setVector)
            and (event.devicename, event.vectorname) == self._names
            and event.state == "Alert"
        ):
            self._future.set_exception(INDIAlert(*self._names, event.message or _last_message(event.vector)))

    def close(self) -> None:
        """Watch no more."""
        detach(self._client, self)
