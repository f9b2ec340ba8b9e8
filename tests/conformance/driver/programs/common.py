"""Shared by the conformance programs: a driver that a client controls.

A program runs unchanged with every implementation. Its device `Control` has a text vector `run`. When a client writes
the name of a step into it, the program performs the step and answers `done NAME`. So the test knows what a step sends
without waiting for silence. What can't be seen from outside (events, return values, exceptions) is written to the file
CONFORMANCE_LOG, as one JSON object per line.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import sys

import indipydriver as ipd

try:
    from indipyserver import IPyServer
except ImportError:
    IPyServer = getattr(ipd, "IPyServer", None)

OLD_STYLE = os.environ.get("CONFORMANCE_STYLE") == "old"
STEPS = {}

_path = os.environ.get("CONFORMANCE_LOG")
_log = open(_path, "a", encoding="utf-8") if _path else sys.stderr  # noqa: SIM115 - stays open while the program runs


def log(**entry):
    print(json.dumps(entry, default=repr), file=_log, flush=True)


class _Counter(logging.Handler):
    """Records only the levels of log records, because their wording is not compared."""

    def emit(self, record):
        if record.name.startswith("indipydriver") and record.levelno >= logging.WARNING:
            log(logged=record.levelname)


logging.getLogger().addHandler(_Counter())


def step(function):
    STEPS[function.__name__] = function
    return function


def describe(event):
    """Return everything that user code can see of an event, but only whether there is a time of arrival."""
    entry = {"event": type(event).__name__, "devicename": event.devicename, "vectorname": event.vectorname}
    if hasattr(event, "items"):
        entry["items"] = [[name, value] for name, value in event.items()]
    for name in (
        "value",
        "state",
        "message",
        "label",
        "group",
        "perm",
        "rule",
        "timeout",
        "memberlabels",
        "sizeformat",
    ):
        if hasattr(event, name):
            entry[name] = getattr(event, name)
    if event.root is not None:
        entry["root"] = [event.root.tag, dict(event.root.attrib), [child.tag for child in event.root]]
        sent = event.root.get("timestamp")
        stamp = getattr(event, "timestamp", None)
        entry["timestamp"] = str(stamp) if sent else getattr(stamp, "tzinfo", None) is not None
    return entry


class Driver(ipd.IPyDriver):
    answer = None
    """The coroutine function of the program that reacts to events, if any."""

    async def _event(self, event):
        if event.devicename == "Control":
            if isinstance(event, ipd.newTextVector):
                await self._run(event)
            elif isinstance(event, ipd.getProperties):
                await event.vector.send_defVector()
            return
        log(**describe(event))
        if OLD_STYLE and isinstance(event, ipd.getProperties):
            await event.vector.send_defVector()
        if type(self).answer is not None:
            await type(self).answer(self, event)

    async def _run(self, event):
        name = event["step"]
        if name in STEPS:
            try:
                result = STEPS[name](self)
                if inspect.isawaitable(result):
                    result = await result
                if result is not None:
                    log(result=result)
            except Exception as exc:
                log(raised=type(exc).__name__)
        event.vector["step"] = "done " + name
        await event.vector.send_setVector()

    async def snoopevent(self, event):
        log(snooped=describe(event))

    if OLD_STYLE:

        async def clientevent(self, event):
            await self._event(event)

    else:

        async def rxevent(self, event):
            await self._event(event)


def control():
    member = ipd.TextMember(name="step", label="Step", membervalue="")
    return ipd.Device("Control", [ipd.TextVector("run", "Run", "Control", "rw", "Idle", [member])])


def make(*devices, cls=Driver):
    devices = [control(), *devices]
    return cls(devices=devices) if OLD_STYLE else cls(*devices)


def main(driver):
    """Run as `PROGRAM stdio`, `PROGRAM listen PORT` or `PROGRAM server PORT`."""
    mode = sys.argv[1]
    if mode == "server":
        port = int(sys.argv[2])
        server = IPyServer([driver], port=port) if OLD_STYLE else IPyServer(driver, port=port)
        asyncio.run(server.asyncrun())
        return
    if mode == "listen":
        driver.listen(host="localhost", port=int(sys.argv[2]))
    asyncio.run(driver.asyncrun())
