"""What people see while a command waits: messages of the driver, and on a terminal how far it is."""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from indifast.cli.toolkit import console
from indifast.client import IPyClient, Message, getfloat
from indifast.client.events import setVector
from indifast.client.streams import EventStream
from indifast.protocol.rules import range_of

_STEP = 0.1
"""Seconds between two looks at the progress."""

_HARDLY = 0.001
"""Share of the range of a member: a shorter way says little, as a mount that tracks moves that far in between, too."""

_COUNTING_DOWN = "_EXPOSURE"
"""How properties are named whose number is the time that is left."""

_HELD = 0.2
"""Seconds for which a message is held back: if the wait fails, the error has the last one."""


def add_no_messages(parser: argparse.ArgumentParser) -> None:
    """Add the option --no-messages to a parser."""
    parser.add_argument(
        "--no-messages", dest="messages", action="store_false",
        help="do not print messages from the driver on standard error while waiting",
    )  # fmt: skip


@asynccontextmanager
async def messages(
    client: IPyClient, program: str, devices: Collection[str], *, shown: bool = True
) -> AsyncIterator[None]:
    """Print messages of some devices, and those that name no device, on standard error while the block runs.

    A message that is in the error with which the block ends is left to the error.

    Args:
        client: A connected client.
        program: The name of the command.
        devices: Names of devices.
        shown: Whether to do that at all.
    """
    if not shown:
        yield
        return
    held: list[tuple[float, str, str]] = []
    events = client.events(types=(Message, setVector))  # not in the task: what is sent next may be answered before
    task = asyncio.create_task(_listen(events, program, devices, held))
    failure = ""
    try:
        yield
    except Exception as error:
        failure = str(error)
        raise
    finally:
        task.cancel()
        _print(program, [each for each in held if each[2] not in failure])


async def _listen(
    events: EventStream, program: str, devices: Collection[str], held: list[tuple[float, str, str]]
) -> None:
    last = ("", "")
    while True:
        try:
            async with asyncio.timeout(held[0][0] + _HELD - time.monotonic() if held else None):
                event = await anext(events, None)
        except TimeoutError:
            now = time.monotonic()
            due = [each for each in held if each[0] + _HELD <= now]
            del held[: len(due)]
            _print(program, due)
            continue
        if event is None:
            return
        device, text = event.devicename, event.message
        if not text or (device not in devices and (device is not None or event.own)) or last == (device, text):
            continue
        last = device, text
        held.append((time.monotonic(), device or "", text))


def _print(program: str, held: list[tuple[float, str, str]]) -> None:
    for _, device, text in held:
        console.say(program, f"{device}: {text}" if device else text)


@asynccontextmanager
async def drawn(line: Callable[[], str], shown: bool = True) -> AsyncIterator[None]:
    """Show the line that a function returns, again and again, on a terminal while the block runs."""
    if not shown or not console.columns():
        yield
        return
    task = asyncio.create_task(_draw(line))
    try:
        yield
    finally:
        task.cancel()
        console.clear()


async def _draw(line: Callable[[], str]) -> None:
    while True:
        console.show(line())
        await asyncio.sleep(_STEP)


class Progress:
    """How far a property is on its way to the numbers that were commanded, as far as the driver tells it.

    Args:
        find: Returns the property, or None while there is none.
        wanted: What was commanded.
    """

    def __init__(self, find: Callable[[], Any], wanted: Mapping[str, Any]) -> None:
        self._find = find
        self._began = time.monotonic()
        self._wanted: dict[str, float] = {}
        self._first: dict[str, float] = {}
        vector = find()
        if vector is not None and vector.vectortype == "NumberVector":
            for name, text in wanted.items():
                value = _number(text)
                if name in vector and value is not None:
                    self._wanted[name] = value
                    self._first[name] = vector.member(name).getfloatvalue()

    def line(self) -> str:
        """Return the line to show: a bar if the numbers change, their values, state and time."""
        vector = self._find()
        seconds = f"{time.monotonic() - self._began:.0f} s"
        if vector is None or not vector.enable:
            return f"waiting, {seconds}"
        parts = [f"{name} {vector.member(name).getshownvalue().strip()}" for name in self._wanted if name in vector]
        text = ", ".join([f"{vector.state}", seconds, *parts])
        shares = self._shares(vector)
        return f"{console.bar(min(shares), len(text) + 1)} {text}" if shares and vector.state == "Busy" else text

    def _shares(self, vector: Any) -> list[float]:
        """Return how much of its way each member has gone. Those that hardly move count only if no others move."""
        shares = {name: share for name in self._wanted if (share := self._share(vector, name)) is not None}
        return [share for name, share in shares.items() if self._far(vector, name)] or [*shares.values()]

    def _far(self, vector: Any, name: str) -> bool:
        limits = range_of(vector.member(name).min, vector.member(name).max)
        return limits is None or abs(self._wanted[name] - self._first[name]) > _HARDLY * (limits[1] - limits[0])

    def _share(self, vector: Any, name: str) -> float | None:
        if name not in vector:
            return None
        now, first, wanted = float(vector.member(name).getfloatvalue()), self._first[name], self._wanted[name]
        if not all(map(math.isfinite, (now, first, wanted))):
            return None
        if vector.name.endswith(_COUNTING_DOWN):
            return 1 - now / wanted if 0 <= now <= wanted and wanted else None
        if math.isclose(first, wanted, rel_tol=1e-6):
            return None
        return min(1.0, max(0.0, 1 - abs(wanted - now) / abs(wanted - first)))


def _number(text: Any) -> float | None:
    try:
        return float(getfloat(text))
    except (TypeError, ValueError):
        return None
