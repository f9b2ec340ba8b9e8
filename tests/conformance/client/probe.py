"""Runs one client library, and writes everything that a program can see of it to stdout as lines of JSON.

The conformance tests start it with the interpreter of either library: `probe.py MODULE HOST PORT`. It reads commands
from stdin as lines of JSON: [method, arguments, keywords]. The method is one of the client, or of the probe below.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import threading
from datetime import datetime, timezone
from typing import Any

MODULE, HOST, PORT = sys.argv[1], sys.argv[2], sys.argv[3]
ipc = importlib.import_module(MODULE)
logging.disable(logging.CRITICAL)

ATTRIBUTES = (
    "devicename", "vectorname", "state", "message", "timeout", "label", "group", "perm", "rule", "memberlabels",
    "sizeformat", "payload",
)  # fmt: skip


def plain(value: Any) -> str:
    return bytes(value).hex() if isinstance(value, (bytes, memoryview)) else repr(value)


def say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields, default=plain) + "\n")
    sys.stdout.flush()


def moment(timestamp: datetime | None) -> str | None:
    if timestamp is None:
        return None
    age = (datetime.now(timezone.utc) - timestamp).total_seconds()  # noqa: UP017 - the peer's Python
    return "now" if abs(age) < 60 else timestamp.isoformat()


def plain_root(event: Any) -> Any:
    root = event.root
    if root is None:
        return None
    return [root.tag, dict(root.attrib), [[c.tag, dict(c.attrib), "".join((c.text or "").split())] for c in root]]


class Probe(ipc.IPyClient):
    raising = ""

    async def rxevent(self, event: Any) -> None:
        notice = event.eventtype == "Message" and event.devicename is None and not self.is_marker(event)
        fields = {name: getattr(event, name) for name in ATTRIBUTES if hasattr(event, name)}
        if notice:
            fields["message"] = "(notice)"
            root = event.root.tag
        else:
            root = plain_root(event)
        say(
            event=event.eventtype,
            cls=type(event).__name__,
            timestamp=moment(event.timestamp),
            fields=fields,
            items=[[name, value] for name, value in event.items()] if hasattr(event, "items") else None,
            device=event.device is not None,
            vector=event.vector is not None,
            known=event.vector.state if event.vector is not None else None,
            root=root,
            connected=self.connected,
            devices=list(self),
        )
        if event.eventtype == self.raising:
            raise RuntimeError("from rxevent")

    @staticmethod
    def is_marker(event: Any) -> bool:
        return event.message.startswith("marker")

    # -- Commands of the probe

    def set(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def get(self, name: str) -> Any:
        value = getattr(self, name)
        return list(value) if name == "messages" else value

    def raise_on(self, eventtype: str) -> None:
        self.raising = eventtype

    def mapping(self) -> Any:
        """Return the contents of the client and its devices as mappings."""
        return {
            device: {
                vector: [dict(item.items()), len(item), item.vectortype, item.itemid]
                for vector, item in vectors.items()
            }
            for device, vectors in self.items()
        }

    def members(self, device: str, vector: str) -> Any:
        item = self[device][vector]
        return {
            name: {
                key: getattr(member, key)
                for key in ("name", "label", "membervalue", "user_string", "itemid", "format", "min", "max", "step",
                            "blobsize", "blobformat", "filename")
                if hasattr(member, key)
            }
            for name, member in item.members().items()
        }  # fmt: skip

    def formatted(self, device: str, vector: str) -> Any:
        item = self[device][vector]
        return [[item.getfloatvalue(name), item.getformattedvalue(name), item.memberlabel(name)] for name in item]

    def vector(self, device: str, vector: str) -> Any:
        item = self[device][vector]
        names = (
            "name", "label", "group", "state", "message", "vectortype", "devicename", "rule", "perm", "timeout",
            "enable", "user_string", "itemid",
        )  # fmt: skip
        times = {name: moment(getattr(item, name)) for name in ("timestamp", "message_timestamp")}
        return {**{name: getattr(item, name) for name in names}, **times}

    def dump(self, **keywords: Any) -> Any:
        plain = self.snapshot().dictdump(**keywords)
        plain.pop("indihost"), plain.pop("indiport")
        self.hide(plain)
        return plain

    def hide(self, item: Any) -> None:
        """Remove recent times and the wording of notices from plain data."""
        if isinstance(item, dict):
            for key, value in item.items():
                if key.endswith("timestamp") and value:
                    item[key] = moment(datetime.fromisoformat(value))
                elif key == "messages" and "devices" in item:
                    item[key] = len(value)
                elif key == "messages":
                    item[key] = [[moment(datetime.fromisoformat(when)), text] for when, text in value]
                else:
                    self.hide(value)

    def json(self, device: str, vector: str | None = None, **keywords: Any) -> Any:
        item = self[device] if vector is None else self[device][vector]
        return item.snapshot().dumps(**keywords)

    def assign(self, device: str, vector: str, name: str, value: Any) -> Any:
        try:
            if name == "[]":
                self[device][vector][value[0]] = value[1]
            else:
                setattr(self[device][vector], name, value)
        except Exception as error:
            return [cls.__name__ for cls in type(error).__mro__ if cls.__name__ in ("KeyError", "ParseException")]
        return None

    async def client_event(self, device: str, vector: str, **payload: Any) -> None:
        await self[device][vector].create_clientevent("Mine", **payload)

    def numbers(self, texts: list[str], formats: list[str], values: list[float]) -> Any:
        from importlib import import_module

        members = import_module(MODULE + ".propertymembers")

        def attempt(function: Any, *arguments: Any) -> str:
            try:
                return repr(function(*arguments))
            except Exception as error:
                return type(error).__name__

        read = [attempt(ipc.getfloat, text) for text in [*texts, 5, True, None, b"5", [1]]]
        shown = [
            attempt(members.NumberMember("n", format=form).getformattedstring, value)
            for form in formats
            for value in [*values, "1:2:3", "x"]
        ]
        return read + shown

    def falsy(self) -> Any:
        try:
            hash(self)
        except TypeError:
            return [bool(self), "unhashable"]
        return [bool(self), "hashable"]


async def main() -> None:
    loop = asyncio.get_running_loop()
    client = Probe(HOST, int(PORT))
    commands: asyncio.Queue[Any] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))
        loop.call_soon_threadsafe(commands.put_nowait, ["shutdown", [], {}])

    running = None
    threading.Thread(target=read, daemon=True).start()
    while True:
        name, arguments, keywords = await commands.get()
        if name == "run":
            running = asyncio.ensure_future(client.asyncrun())
            continue
        if "members" in keywords:
            keywords["members"] = {
                key: (value[0].encode(), *value[1:]) if isinstance(value, list) else value
                for key, value in keywords["members"].items()
            }
        try:
            result = getattr(client, name)(*arguments, **keywords)
            if asyncio.iscoroutine(result):
                result = await result
        except Exception as error:
            result = "raised " + type(error).__name__
        say(done=name, result=result)
        if name == "shutdown":
            break
    if running is not None:
        try:
            await running
        except Exception as error:
            say(ended=type(error).__name__)
    say(stopped=client.stopped.is_set(), connected=client.connected, devices=list(client))


asyncio.run(main())
