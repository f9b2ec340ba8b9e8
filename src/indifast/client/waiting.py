"""Waiting for connections, definitions, states, and answers to commands and pings."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from indifast.client import events
from indifast.client.commandchecks import INDICheckError, check_states, check_until, step_of, why_unknown
from indifast.client.commands import send_command
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.model import Model
from indifast.client.settings import Settings
from indifast.client.watchers import PingReply, Watcher, Watchers
from indifast.protocol import wire
from indifast.protocol.numbers import getfloat

Until: TypeAlias = "Mapping[str, Any] | Callable[[Any], bool] | None"
"""A condition on a vector besides its state.

Either values of members (numbers to within half a step, or pairs of value and tolerance), or a function of the vector.
"""


class INDIAlert(Exception):
    """The driver answered with the state Alert; `message` is the last message of the vector or its device."""

    def __init__(self, devicename: str, vectorname: str, message: str) -> None:
        super().__init__(f"{devicename} {vectorname} went to Alert: {message or 'the driver gave no reason'}")
        self.devicename = devicename
        self.vectorname = vectorname
        self.message = message


class INDIDeleted(OSError):
    """The device or vector that was to answer was deleted: its driver has ended, or disconnected from its hardware.

    `vectorname` is None if the whole device was deleted; `message` is the message that came with the deletion.
    """

    def __init__(self, devicename: str, vectorname: str | None, message: str = "") -> None:
        name = devicename if vectorname is None else f"{devicename}.{vectorname}"
        super().__init__(f"{name} has gone: {message or 'its driver has ended, or disconnected'}")
        self.devicename = devicename
        self.vectorname = vectorname
        self.message = message


def _deleted(event: Any, devicename: str, *vectornames: str) -> INDIDeleted | None:
    """Return the error if an event says that the device, or one of these vectors, was deleted."""
    if not isinstance(event, events.delProperty) or event.devicename != devicename:
        return None
    if event.vectorname is not None and event.vectorname not in vectornames:
        return None
    return INDIDeleted(devicename, event.vectorname, event.message)


class _Condition(Watcher):
    """Calls a function with every event until the function returns a result or raises."""

    urgent = True

    def __init__(self, watchers: Watchers, lifecycle: Lifecycle, test: Callable[[Any], Any]) -> None:
        self._watchers = watchers
        self._lifecycle = lifecycle
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
            elif event is None and self._lifecycle.stopping:
                self._future.set_exception(ConnectionError("the client has stopped"))

    async def pause(self, seconds: float) -> None:
        """Sleep for `seconds`; raise ConnectionError if the client has stopped."""
        done, _ = await asyncio.wait((self._future,), timeout=seconds)
        for future in done:
            future.result()

    async def wait(
        self, timeout: float | None, what: Callable[[], str], first: Coroutine[Any, Any, None] | None = None
    ) -> Any:
        """Wait for the result and return it.

        Args:
            timeout: Seconds to wait, or None for no limit.
            what: Returns a sentence for the TimeoutError that says what was waited for.
            first: Something to do before. It counts towards the time: a server that reads nothing can hold it up.

        Raises:
            TimeoutError: There was no result in time.
        """
        try:
            async with asyncio.timeout(timeout):
                if first is not None:
                    await first
                return await self._future
        except TimeoutError:
            raise TimeoutError(f"{what()} (waited {timeout:g} s)") from None

    def __enter__(self) -> _Condition:
        self._watchers.attach(self)
        self._watchers.wake()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._watchers.detach(self)
        self._future.cancel()


class _Box:
    """Holds a result, which may be an empty mapping."""

    def __init__(self, content: Any) -> None:
        self.content = content


_uids = itertools.count(1)


class Waits:
    """Everything that a client can wait for."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle, link: Link, model: Model, watchers: Watchers) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._link = link
        self._model = model
        self._watchers = watchers

    def _condition(self, test: Callable[[Any], Any]) -> _Condition:
        return _Condition(self._watchers, self._lifecycle, test)

    async def connected(self, timeout: float | None) -> None:
        """Wait until the server has accepted the connection. See `IPyClient.wait_connected`."""
        with self._condition(lambda _: True if self._link.connected else None) as condition:
            condition.notify(None)
            await condition.wait(timeout, self._not_connected)

    def _not_connected(self) -> str:
        """Return a sentence that says why the client isn't connected."""
        where = f"{self._settings.indihost}:{self._settings.indiport}"
        # What people need of `[Errno 111] cannot connect to localhost:7624: Connection refused` is its end.
        why = re.sub(r"^\[Errno -?\d+\] ", "", self._link.failure).removeprefix(f"cannot connect to {where}: ")
        return f"not connected to {where}: {why}" if why else f"not connected to {where}"

    def _undefined(self, devicename: str, vectorname: str | None) -> str:
        """Return a sentence that says why a device or vector isn't defined."""
        name = " ".join(part for part in (devicename, vectorname) if part)
        if not self._link.connected:
            return f"{name} is not defined: {self._not_connected()}"
        return f"{name} is not defined: {why_unknown(self._model.devices, devicename, vectorname)}"

    async def ready(self, timeout: float | None, names: Iterable[str | tuple[str, str]], quiet: float) -> None:
        """Wait until the server's devices are known. See `IPyClient.ready`.

        A ping is no help here: servers answer pings themselves, without waiting for their drivers.
        """
        wanted = [(name, None) if isinstance(name, str) else tuple(name) for name in names]
        if wanted:

            def missing() -> list[Any]:
                return [name for name in wanted if self._model.defined(*name) is None]

            def what() -> str:
                if not self._link.connected:
                    return self._not_connected()
                return "; ".join(self._undefined(*name) for name in missing())

            with self._condition(lambda _: None if missing() else True) as condition:
                condition.notify(None)
                await condition.wait(timeout, what)
            return
        last = time.monotonic()

        def definition(event: Any) -> None:
            nonlocal last
            if isinstance(event, events.defVector):
                last = time.monotonic()

        with self._condition(definition) as condition:
            try:
                async with asyncio.timeout(timeout):
                    while (remaining := last + quiet - time.monotonic()) > 0 or not self._model.any_enabled():
                        await condition.pause(remaining if remaining > 0 else quiet)
            except TimeoutError:
                state = "no device was defined" if self._link.connected else self._not_connected()
                raise TimeoutError(f"{state} (waited {timeout:g} s)") from None

    async def wait_for(
        self,
        devicename: str,
        vectorname: str | None,
        state: str | Iterable[str] | None,
        timeout: float | None,
        there: bool = False,
    ) -> Any:
        """Wait until a device or vector is defined and, if asked for, has a state. See `IPyClient.wait_for`."""
        states = None if state is None else {state} if isinstance(state, str) else set(state)
        check_states(states or ())

        def test(_: Any) -> Any:
            found = self._model.defined(devicename, vectorname)
            if found is None and there:
                if not self._link.connected:
                    raise ConnectionError("the connection was lost")
                raise INDIDeleted(devicename, vectorname)
            if found is None or (states is not None and vectorname is not None and found.state not in states):
                return None
            return _Box(found)

        def what() -> str:
            found = self._model.defined(devicename, vectorname)
            if found is None:
                return self._undefined(devicename, vectorname)
            return f"{devicename} {vectorname} is {found.state}, not {' or '.join(sorted(states or ()))}"

        with self._condition(test) as condition:
            condition.notify(None)
            box = await condition.wait(timeout, what)
            return box.content

    async def command(
        self,
        devicename: str,
        vectorname: str,
        timestamp: datetime | None,
        members: Mapping[str, Any],
        timeout: float | None,
        accept: Iterable[str],
        until: Until,
        complete: bool = True,
    ) -> Any:
        """Send a command, wait for its effect, and return the vector. See `IPyClient.send_newVector`."""
        vector = self._model.defined(devicename, vectorname)
        if vector is None:
            raise KeyError(f"{devicename} {vectorname} is not defined")
        if not self._link.can_send:
            raise ConnectionError("not connected")
        accepted = {accept} if isinstance(accept, str) else set(accept)
        check_states(accepted)
        check_until(vector, until)
        commands = vector._commands
        # Messages that were received before but not yet handled cannot answer this command.
        earlier = self._link.unread(devicename, vectorname)

        def test(event: Any) -> Any:
            if event is None:
                raise ConnectionError(f"the connection was lost before {devicename} {vectorname} answered")
            if (gone := _deleted(event, devicename, vectorname)) is not None:
                raise gone
            if vector._commands == commands or event.vectorname != vectorname or event.devicename != devicename:
                return None
            if not isinstance(event, (events.setVector, events.defVector)):
                return None
            if event.state is None:  # this says nothing about the command: the vector still has its old state
                return None
            if any(event._element is element for element in earlier):
                return None
            now = event.vector  # another vector if it was defined again with another type
            if now.state in accepted and fulfilled(now, until):
                return _Box(now)
            if now.state == "Alert" and "Alert" not in accepted:
                raise INDIAlert(devicename, vectorname, event.message or _last_message(now))
            return None

        async def send() -> None:
            await send_command(vector, timestamp, members, complete)
            if not vector.enable:
                raise INDIDeleted(devicename, vectorname)
            if vector._commands == commands and self._link.can_send:
                raise INDICheckError(f"{devicename} {vectorname}: nothing was sent, so there is nothing to wait for")

        def what() -> str:
            message = _last_message(vector)
            return f"{devicename} {vectorname} is {vector.state}{f', last message: {message!r}' if message else ''}"

        with self._condition(test) as condition:
            box = await condition.wait(timeout, what, send())
            return box.content

    async def ping(self, timeout: float | None) -> float:
        """Send a pingRequest and return the seconds until the server answers. See `IPyClient.ping`."""
        if not self._link.can_send:
            raise ConnectionError("not connected")
        uid = f"indifast/{next(_uids)}"

        def test(event: Any) -> Any:
            if event is None:
                raise ConnectionError("the connection was lost")
            return True if isinstance(event, PingReply) and event.uid == uid else None

        with self._condition(test) as condition:
            began = time.monotonic()
            request = self._link.transmit(wire.ping_request(uid))
            await condition.wait(timeout, lambda: "the server does not answer pings", request)
            return time.monotonic() - began


def _last_message(vector: Any) -> str:
    messages = vector.device.messages
    return vector.message or (messages[0][1] if messages else "")


def fulfilled(vector: Any, until: Until) -> bool:
    """Return whether a vector fulfills a condition."""
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


class AlertWatch(Watcher):
    """Makes a future fail when a vector goes to Alert or can no longer answer.

    The error is INDIAlert, INDIDeleted if the vector or one of `needed` was deleted, or ConnectionError if the
    connection was lost.
    """

    urgent = True

    def __init__(
        self, watchers: Watchers, devicename: str, vectorname: str, needed: Iterable[str], future: asyncio.Future[None]
    ) -> None:
        self._watchers = watchers
        self._names = devicename, vectorname
        self._needed = (vectorname, *needed)
        self._future = future
        watchers.attach(self)

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
        """Stop watching."""
        self._watchers.detach(self)
