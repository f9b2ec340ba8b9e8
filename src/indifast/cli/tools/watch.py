"""`indifast watch`: print changes as they happen."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any

from indifast.cli.arguments import Parser, number
from indifast.cli.toolkit.definitions import PATIENCE, gather
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.output import as_json, blob_text, time_text
from indifast.cli.toolkit.patterns import Pattern, vectors_of
from indifast.cli.toolkit.session import add_server_options, connected, run
from indifast.client import IPyClient, Message, delProperty
from indifast.client.events import defVector, setVector
from indifast.protocol.escape import for_terminal, one_line

DESCRIPTION = """\
Print changes of properties as they happen, until Ctrl-C: values, states, messages, deleted properties.

QUERY is device.property.member as for `indifast get`; without one, everything is watched. A query that matches nothing
yet is reported and waited for. Messages that name no device are always shown, except with --no-messages."""

EXAMPLES = """\
examples:
  indifast watch
  indifast watch "CCD Simulator.CCD_TEMPERATURE.*" --for 60
  indifast watch --json "Mount.*" >> night.jsonl
  indifast watch --blobs --count 1 "CCD Simulator.CCD1.*" && echo "a picture has arrived"

A line is: time device.property.member=value [state]
exit status: 0 after --count changes, or after --for; 2 no server, or the connection was lost;
3 fewer than --count changes within --for; 130 Ctrl-C"""


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
    add_server_options(parser)
    return parser


async def _watch(options: argparse.Namespace) -> int:
    watcher = _Watcher(options)
    async with connected(options) as client:
        events = client.events()
        await watcher.begin(client)
        missing = asyncio.create_task(watcher.tell_missing(client))
        try:
            async with asyncio.timeout(options.seconds):
                if await watcher.follow(events):
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

    async def begin(self, client: IPyClient) -> None:
        """Remember what is already defined, so that it does not count as a change; request BLOBs if wanted."""
        if self.options.blobs:
            client.enableBLOBdefault = "Also"
        for vector in list(vectors_of(client)):
            if self.options.blobs and vector.vectortype == "BLOBVector":
                await client.send_enableBLOB("Also", vector.devicename, vector.name)
            self._last[vector.devicename, vector.name] = {**vector, "_STATE": vector.state}

    async def tell_missing(self, client: IPyClient) -> None:
        """Report the queries that match nothing once the definitions have arrived; they stay watched."""
        try:
            await gather(client, lambda: False, PATIENCE)
        except TimeoutError as error:
            if not self.options.queries:
                self._complain(str(error))
                return
        except ConnectionError:
            return  # `follow` reports it
        for pattern in self.patterns if self.options.queries else ():
            if not any(True for vector in vectors_of(client) for _ in pattern.members(vector)):
                self._complain(str(pattern.unmatched(client)))

    def _complain(self, sentence: str) -> None:
        print(for_terminal(f"indifast watch: {sentence} (waiting for it)"), file=sys.stderr, flush=True)

    async def follow(self, events: AsyncIterator[Any]) -> bool:
        """Print changes, and return True after --count of them.

        Raises:
            ConnectionError: The client stopped.
        """
        async for event in events:
            for text in self._lines(event):
                print(one_line(text), flush=True)
                self.count += 1
                if self.count == self.options.count:
                    return True
        raise ConnectionError("the client has stopped")

    def _lines(self, event: Any) -> Iterator[str]:
        match event:
            case setVector():
                yield from self._update(event)
            case defVector(devicename=str(device), vectorname=str(name)):
                self._last[device, name] = {**event, "_STATE": event.state}
                if self.options.definitions:
                    yield from self._tell(event, "define", self._meant(event.vector, dict(event)))
            case delProperty(devicename=str()):
                yield from self._gone(event)
            case Message(devicename=str(device)) if self.options.messages and self._about(device):
                yield self._message(event, f"{device}: ")
            case Message(devicename=None, own=False) if self.options.messages:  # may be about any device
                yield self._message(event, "")

    def _message(self, event: Any, who: str) -> str:
        if self.options.json:
            return self._json(event, "message", {"message": event.message})
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
        message = getattr(event, "message", None) if self.options.messages else None
        if not values and not (message and any(pattern.names_vector(event.vector) for pattern in self.patterns)):
            return
        state = self._last[event.devicename, event.vectorname]["_STATE"]
        if self.options.json:
            members = {name: _plain(value) for name, value in values.items() if name != "_STATE"}
            about = {"property": event.vectorname, "state": state, "members": members}
            yield self._json(event, kind, about | ({"message": message} if message else {}))
            return
        name = f"{event.devicename}.{event.vectorname}"
        for member, value in values.items():
            yield f"{_stamp(event.timestamp)} {name}.{member}={_text(value)} [{state}]"
        if message:
            yield f"{_stamp(event.timestamp)} {name}: {message}"

    def _meant(self, vector: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values that the queries match; the state if they match anything of the property."""
        names = {name for pattern in self.patterns for name in pattern.members(vector)}
        return {name: value for name, value in values.items() if name in names or (name == "_STATE" and names)}

    def _gone(self, event: Any) -> Iterator[str]:
        if not self._about(event.devicename):
            return
        if event.vectorname is None:
            gone = [key for key in self._last if key[0] == event.devicename]
        else:
            vector = event.device.get(event.vectorname)  # None for an empty name: nothing is gone
            if vector is None or not any(pattern.names_vector(vector) for pattern in self.patterns):
                return
            gone = [(event.devicename, event.vectorname)]
        for key in gone:
            self._last.pop(key, None)
        if self.options.json:
            yield self._json(event, "delete", {"property": event.vectorname})
        else:
            name = ".".join(part for part in (event.devicename, event.vectorname) if part)
            yield f"{_stamp(event.timestamp)} {name} is gone"

    def _about(self, device: str) -> bool:
        return any(pattern.names_device(device) for pattern in self.patterns)

    def _json(self, event: Any, kind: str, more: dict[str, Any]) -> str:
        head = {"time": f"{time_text(event.timestamp)}Z", "event": kind, "device": event.devicename}
        return as_json(head | more, indent=None)


def _stamp(timestamp: datetime) -> str:
    return timestamp.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else blob_text(value)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | None) else {"size": len(value)}
