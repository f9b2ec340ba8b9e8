"""`indifast watch`: print changes as they happen."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from indifast.cli.arguments import Parser, number
from indifast.cli.toolkit.definitions import PATIENCE, gather
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.output import blob_text, shown
from indifast.cli.toolkit.patterns import Pattern, vectors_of
from indifast.cli.toolkit.session import add_reconnect, add_server_options, connected, run, say
from indifast.client import ConnectionLost, ConnectionMade, IPyClient, Message, delProperty
from indifast.client.events import defVector, setVector
from indifast.protocol import jsonform
from indifast.protocol.escape import one_line

DESCRIPTION = """\
Print changes of properties as they happen, until Ctrl-C: values, states, messages, deleted properties.

QUERY is device.property.member as for `indifast get`; without one, everything is watched. A query that matches nothing
yet is reported and waited for. Messages that name no device are always shown, except with --no-messages.

If the connection is lost, standard error says so, and the command connects again: what has changed in the meantime is
printed, and what is gone."""

EXAMPLES = """\
examples:
  indifast watch
  indifast watch "CCD Simulator.CCD_TEMPERATURE.*" --for 60
  indifast watch --json "Mount.*" >> night.jsonl
  indifast watch --blobs --count 1 "CCD Simulator.CCD1.*" && echo "a picture has arrived"

A line is: time device.property.member=value [state]
exit status: 0 after --count changes, or after --for; 2 no server, or (with --no-reconnect) a lost connection;
3 fewer than --count changes within --for; 130 Ctrl-C"""

_SETTLED = 2.0
"""Seconds without a definition after which what a server has not defined again after a reconnection is gone."""

_ABSENT = 15.0
"""Seconds for which nothing is gone after a reconnection while there is no definition at all."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run("indifast watch", parser().parse_args(arguments), _watch)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast watch", DESCRIPTION, EXAMPLES)
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="(default: everything)")
    parser.add_argument("--json", action="store_true", help="a JSON object per line")
    parser.add_argument("--all", action="store_true", help="every update, even if it changes nothing")
    parser.add_argument("--definitions", action="store_true", help="definitions, too: at first, those of everything")
    parser.add_argument("--no-messages", dest="messages", action="store_false", help="no messages from drivers")
    parser.add_argument("--blobs", action="store_true", help="request BLOBs, and print their sizes")
    parser.add_argument("--count", type=number(int, 1, 1e9), metavar="N", help="end after N changes")
    parser.add_argument("--for", dest="seconds", type=number(float, 0.05, 1e9), metavar="S", help="end after S seconds")
    add_reconnect(parser, "connect again")
    add_server_options(parser)
    return parser


async def _watch(options: argparse.Namespace) -> int:
    watcher = _Watcher(options)
    async with connected(options, reconnect=options.reconnect is not False) as client:
        events = client.events()
        await watcher.begin(client)
        missing = asyncio.create_task(watcher.tell_missing(client))
        try:
            async with asyncio.timeout(options.seconds):
                if await watcher.follow(client, events):
                    return Status.DONE
        except TimeoutError:
            if options.count is None:
                return Status.DONE
            sentence = f"only {watcher.count} of {options.count} changes in {options.seconds:g} s"
            raise ToolError(sentence, Status.TIMEOUT) from None
        finally:
            missing.cancel()
    raise AssertionError("the client has stopped without an error")


class _Watcher:
    """Remembers what it has printed, and prints what is new."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.patterns = [Pattern(text) for text in options.queries or ["*.*.*"]]
        self.count = 0
        self._last: dict[tuple[str, str], dict[str, Any]] = {}
        self._gone: dict[tuple[str, str], dict[str, Any]] = {}
        """What was deleted, to be compared when it comes back."""
        self._told: set[tuple[str, str]] = set()
        """What a line of JSON has been printed about: its later ones have only what has changed."""
        self._doubtful: set[tuple[str, str]] = set()
        """What has not been defined again since the connection was lost."""
        self._settled: float | None = None
        """When what is still doubtful is gone, in seconds of `time.monotonic`; None while nothing is."""

    async def begin(self, client: IPyClient) -> None:
        """Remember what is already defined, so that it does not count as a change; request BLOBs if wanted."""
        if self.options.blobs:
            client.enableBLOBdefault = "Also"
        for vector in list(vectors_of(client)):
            if self.options.blobs and vector.vectortype == "BLOBVector":
                await client.send_enableBLOB("Also", vector.devicename, vector.name)
            values = {} if vector.vectortype == "BLOBVector" else dict(vector)
            self._last[vector.devicename, vector.name] = {**values, "_STATE": vector.state}

    async def tell_missing(self, client: IPyClient) -> None:
        """Report the queries that match nothing once the definitions have arrived; they stay watched."""
        try:
            await gather(client, lambda: False, PATIENCE)
        except TimeoutError as error:
            if not client.connected:
                return  # which is reported, too
            if not self.options.queries:
                self._complain(str(error))
                return
        except ConnectionError:
            return  # `follow` reports it
        for pattern in self.patterns if self.options.queries else ():
            if not any(True for vector in vectors_of(client) for _ in pattern.members(vector)):
                self._complain(str(pattern.unmatched(client)))

    def _complain(self, sentence: str) -> None:
        say("indifast watch", f"{sentence} (waiting for it)")

    async def follow(self, client: IPyClient, events: AsyncIterator[Any]) -> bool:
        """Print changes, and return True after --count of them.

        Raises:
            ConnectionError: The client stopped.
        """
        async for event in self._with_pause(events):
            for text in self._vanished(client) if event is None else self._lines(event):
                print(one_line(text), flush=True)
                self.count += 1
                if self.count == self.options.count:
                    return True
        raise ConnectionError("the client has stopped")

    async def _with_pause(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Yield the events, and None when the definitions after a reconnection have ended."""
        while True:
            try:
                async with asyncio.timeout(None if self._settled is None else self._settled - time.monotonic()):
                    event = await anext(events)
            except TimeoutError:
                event = None
            except StopAsyncIteration:
                return
            if event is None:
                self._settled = None
            elif isinstance(event, ConnectionLost):
                self._settled = None
                self._doubtful = set(self._last)
            elif isinstance(event, ConnectionMade):
                self._settled = time.monotonic() + _ABSENT
            elif self._settled is not None and isinstance(event, defVector):
                self._settled = time.monotonic() + _SETTLED
            yield event
            if self._settled is not None and time.monotonic() >= self._settled:
                self._settled = None
                yield None

    def _vanished(self, client: IPyClient) -> Iterator[str]:
        """Tell what has not come back after a reconnection."""
        there = {name for name, device in client.items() if device.enable}
        gone = dict.fromkeys((name, vector if name in there else None) for name, vector in sorted(self._doubtful))
        self._doubtful.clear()
        now = datetime.now(UTC)
        for device, vector in gone:
            if self._about(device) if vector is None else any(each.names(device, vector) for each in self.patterns):
                yield from self._forget(device, vector, now, now)

    def _lines(self, event: Any) -> Iterator[str]:
        match event:
            case setVector():
                yield from self._update(event)
            case defVector(devicename=str(device), vectorname=str(name)):
                before = self._gone.pop((device, name), None)
                if (device, name) in self._doubtful:
                    self._doubtful.discard((device, name))
                    before = self._last[device, name]
                self._last[device, name] = now = {**event, "_STATE": event.state}
                if self.options.definitions:
                    values = dict(event)
                    if self.options.json and not values:  # BLOBs
                        values = dict.fromkeys(event.vector)
                    yield from self._tell(event, "define", self._meant(event.vector, values))
                elif before is not None:  # the connection was lost, or the driver has ended
                    new = {member: value for member, value in event.items() if before.get(member) != value}
                    if not new and before.get("_STATE") != event.state:
                        new = {"_STATE": now["_STATE"]}
                    yield from self._tell(event, "set", self._meant(event.vector, new))
            case delProperty(devicename=str()):
                yield from self._deleted(event)
            case Message(devicename=str(device)) if self.options.messages and self._about(device):
                yield self._message(event, f"{device}: ")
            case Message(devicename=None, own=False) if self.options.messages:  # may be about any device
                yield self._message(event, "")

    def _message(self, event: Any, who: str) -> str:
        if self.options.json:
            return jsonform.text(jsonform.of_message(event), indent=None)
        return f"{_stamp(event.timestamp)} {who}{event.message}"

    def _update(self, event: Any) -> Iterator[str]:
        last = self._last.setdefault((event.devicename, event.vectorname), {})
        state = event.state or last.get("_STATE")
        if event.vector.vectortype == "BLOBVector":
            new = {name: content for name, content in event.items() if content is not None}
        else:
            new = {name: value for name, value in event.items() if self.options.all or last.get(name) != value}
            last.update(event)
        if not new and (self.options.all or last.get("_STATE") != state):
            new["_STATE"] = state
        last["_STATE"] = state
        yield from self._tell(event, "set", self._meant(event.vector, new))

    def _tell(self, event: Any, kind: str, values: dict[str, Any]) -> Iterator[str]:
        message = event.message if self.options.messages else ""
        if not values and not (message and any(pattern.names_vector(event.vector) for pattern in self.patterns)):
            return
        state = self._last[event.devicename, event.vectorname]["_STATE"]
        if self.options.json:
            change = jsonform.of_change(kind, event, self._members(event, values), state, message)
            yield jsonform.text(change, indent=None)
            return
        name = f"{event.devicename}.{event.vectorname}"
        for member, value in values.items():
            yield f"{_stamp(event.timestamp)} {name}.{member}={_text(event.vector, member, value)} [{state}]"
        if message:
            yield f"{_stamp(event.timestamp)} {name}: {message}"

    def _members(self, event: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values for a line of JSON: at first all that the queries match, afterwards what has changed."""
        key = event.devicename, event.vectorname
        if key not in self._told and event.vector.vectortype != "BLOBVector":
            values = self._meant(event.vector, self._last[key]) | values
        self._told.add(key)
        return {name: value for name, value in values.items() if name != "_STATE"}

    def _meant(self, vector: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values that the queries match; the state if they match anything of the property."""
        names = {name for pattern in self.patterns for name in pattern.members(vector)}
        return {name: value for name, value in values.items() if name in names or (name == "_STATE" and names)}

    def _deleted(self, event: Any) -> Iterator[str]:
        if not self._about(event.devicename):
            return
        if event.vectorname is not None:
            vector = event.device.get(event.vectorname)  # None for an empty name: nothing is gone
            if vector is None or not any(pattern.names_vector(vector) for pattern in self.patterns):
                return
        yield from self._forget(event.devicename, event.vectorname, event.timestamp, event.arrived)

    def _forget(self, device: str, vector: str | None, when: datetime, arrived: datetime) -> Iterator[str]:
        for key in [key for key in self._last if key[0] == device and vector in (None, key[1])]:
            self._gone[key] = self._last.pop(key)
            self._doubtful.discard(key)
            self._told.discard(key)
        if self.options.json:
            yield jsonform.text(jsonform.of_deletion(device, vector, when, arrived), indent=None)
        else:
            yield f"{_stamp(when)} {'.'.join(part for part in (device, vector) if part)} is gone"

    def _about(self, device: str) -> bool:
        return any(pattern.names_device(device) for pattern in self.patterns)


def _stamp(timestamp: datetime) -> str:
    return timestamp.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _text(vector: Any, member: str, value: Any) -> str:
    return shown(vector, member, value) if isinstance(value, str) else blob_text(value)
