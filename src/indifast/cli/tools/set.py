"""`indifast set`: send commands to properties."""

from __future__ import annotations

import argparse
import asyncio
import os
import stat
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from indifast.cli.arguments import Parser, number, states
from indifast.cli.toolkit.assignments import TYPES, Assignment, parse_assignment
from indifast.cli.toolkit.definitions import PATIENCE, add_patience, gather
from indifast.cli.toolkit.delivery import nothing_taken, until_taken
from indifast.cli.toolkit.failures import Status, ToolError, file_failure
from indifast.cli.toolkit.following import Progress, add_no_messages, drawn, messages
from indifast.cli.toolkit.output import shown
from indifast.cli.toolkit.session import add_reconnect, add_server_options, connected, run, say
from indifast.client import (
    ConnectionLost,
    ConnectionMade,
    INDIAlert,
    INDICheckError,
    INDIDeleted,
    IPyClient,
    delProperty,
)
from indifast.client.commandchecks import check_members
from indifast.client.commands import COMPLETED
from indifast.client.commands import sent as sent_members
from indifast.client.events import defVector, setVector
from indifast.client.waiting import fulfilled
from indifast.protocol.escape import for_terminal
from indifast.protocol.timestamps import timestamp_text

DESCRIPTION = """\
Send commands to properties of devices.

SPEC is device.property.e1=v1;e2=v2 or device.property.e1;e2=v1;v2, as for indi_setprop. Before it is sent, names,
permission, range and rule are checked against the property. After -x (text), -n (number) or -s (switch), a SPEC is
sent without looking at the property, which is faster, but checks nothing. The value of a BLOB is the name of a file.
Only the members named are sent; with --all, the other numbers and texts go along with their current values.

With --wait and --reconnect, a lost connection is made again. A command that may have reached the driver is never sent
twice: what its property says afterwards decides."""

EXAMPLES = """\
examples:
  indifast set "CCD Simulator.CONNECTION.CONNECT=On"
  indifast set --wait Ok --timeout 60 "Mount.EQUATORIAL_EOD_COORD.RA;DEC=5:30;-5.2"
  indifast set --all "Mount.EQUATORIAL_EOD_COORD.RA=5:30"      also sends the current DEC
  indifast set -n "CCD Simulator.CCD_TEMPERATURE.CCD_TEMPERATURE_VALUE=-10"

exit status: 0 sent (with --wait: and done); 1 not sent: unknown, read-only, out of range; 2 no server, or wrong
arguments; 3 the property did not get there in time; 4 the driver answered with Alert"""

_PROGRAM = "indifast set"
_UNTYPED = "\0"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run(_PROGRAM, parser().parse_intermixed_args(_marked(arguments)), _set)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    usage = "indifast set [options] {[-x | -n | -s] SPEC} ..."
    parser = Parser("indifast set", DESCRIPTION, EXAMPLES, usage=usage)
    parser.add_argument("specs", nargs="+", metavar="SPEC", help="what to set")
    parser.add_argument("--wait", type=states, metavar="STATE", help="wait until the driver reports this state,"
                        " usually Ok (several: Ok,Idle)")  # fmt: skip
    parser.add_argument("--timeout", type=number(float, 0.05, 1e6), default=60.0, metavar="S",
                        help="how long --wait may take for each SPEC (default: 60)")  # fmt: skip
    parser.add_argument("--no-check", dest="check", action="store_false", help="send values even if out of range")
    parser.add_argument("--all", action="store_true", help="also send the current values of numbers and texts that are"
                        " not named, as some drivers need all (not for write-only properties)")  # fmt: skip
    add_reconnect(parser, "end")
    add_no_messages(parser)
    add_patience(parser)
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="report what is sent")
    add_server_options(parser)
    return parser


def _marked(words: Sequence[str]) -> list[str]:
    """Return the words with each type option (-x -n -s) moved into its SPEC, as argparse would lose their order."""
    marked: list[str] = []
    kind = ""
    for word in words:
        if word[:1] == "-" and word[1:] in TYPES:
            kind = word[1:]
        elif kind:
            marked.append(f"{_UNTYPED}{kind}{word}")
            kind = ""
        else:
            marked.append(word)
    return [*marked, _UNTYPED + kind] if kind else marked


def _assignment(word: str) -> Assignment:
    if word.startswith(_UNTYPED):
        return parse_assignment(word[2:], word[1])
    return parse_assignment(word)


async def _set(options: argparse.Namespace) -> int:
    assignments = [_assignment(word) for word in options.specs]
    looked_up = [each for each in assignments if _needs_property(each, options)]
    if options.reconnect and options.wait is None:
        raise ToolError("--reconnect is for waiting: it needs --wait STATE")
    async with connected(options, reconnect=bool(options.reconnect)) as client:
        if looked_up:
            await gather(client, lambda: all(each.target(client) for each in looked_up), options.patience)
        for assignment in assignments:
            if assignment.problem and assignment.target(client) is None:
                raise ToolError(assignment.problem)  # before anything is sent
        if options.wait is not None:
            return await _send_all(client, assignments, options)
        status = await _taken(client, _send_all(client, assignments, options))
        # Servers answer in order, so a reply means that the server has everything. Old servers do not reply at all.
        with suppress(TimeoutError):
            await client.ping(options.patience or PATIENCE)
        return status


async def _send_all(client: IPyClient, assignments: Sequence[Assignment], options: argparse.Namespace) -> Status:
    status = Status.DONE
    for assignment in assignments:
        if not (client.connected or options.reconnect):
            raise ConnectionError("the connection was lost")
        try:
            await _send(client, assignment, options)
        except (INDICheckError, ToolError) as error:
            if getattr(error, "status", Status.NOTHING) != Status.NOTHING:
                raise
            say(_PROGRAM, str(error))
            status = Status.NOTHING
    return status


async def _taken(client: IPyClient, sending: Coroutine[Any, Any, Status]) -> Status:
    """Wait until the server's machine has taken all that is sent, and return what `sending` returns.

    Raises:
        ToolError: It takes nothing for a while.
        Exception: `sending` raised it. What was sent before is taken first.
    """
    task = asyncio.ensure_future(sending)
    try:
        if left := await until_taken(lambda: {"server": client.unsent} if client.connected else {}, task):
            stuck = nothing_taken("the server has", left)
            if not task.done() or task.exception() is None:
                raise ToolError(stuck, Status.TIMEOUT)
            say(_PROGRAM, stuck)
        return await task
    finally:
        task.cancel()


def _needs_property(assignment: Assignment, options: argparse.Namespace) -> bool:
    """Return whether the definition of the property is needed."""
    return assignment.kind is None or options.wait is not None or options.all


async def _send(client: IPyClient, assignment: Assignment, options: argparse.Namespace) -> None:
    target = assignment.target(client)
    if target is None and options.reconnect and _needs_property(assignment, options):
        target = await _target_again(client, assignment, options)
    if not _needs_property(assignment, options):
        _tell(assignment.names[0][:2], assignment.values, options)
        await client.send(_command(assignment))
        return
    if target is None:
        raise assignment.missing(client)
    vector = client[target[0]][target[1]]
    given = assignment.given(vector)
    values: dict[str, Any] = _blobs(given) if vector.vectortype == "BLOBVector" else dict(given)
    check_members(vector, values)
    sent = sent_members(vector, values, options.all)
    _tell(target, {name: given.get(name, value) for name, value in sent.items()}, options)
    keywords = {"members": values, "check": options.check, "complete": options.all}
    if options.wait is None:
        await client.send_newVector(*target, **keywords)
        return
    async with messages(client, _PROGRAM, target[:1], shown=options.messages):
        progress = Progress(lambda: client[target[0]].get(target[1]) if target[0] in client else None, sent)
        async with drawn(progress.line):
            try:
                await _send_and_wait(client, vector, sent, keywords, options)
            except asyncio.CancelledError:
                say(_PROGRAM, _goes_on(client, target))
                raise


def _goes_on(client: IPyClient, target: tuple[str, str]) -> str:
    """Return what becomes of a command that nobody waits for any more, and what would stop it."""
    name = ".".join(target)
    if not client.connected:
        return f"stopped without a connection: if the driver works on {name}, it goes on"
    device: Any = client.get(target[0], {})
    vector = device.get(target[1])
    if vector is None or vector.state != "Busy":
        return f"{name}: the command was sent, and the driver may go on"
    said = f"{name} is still Busy: the command was sent, and the driver goes on"
    aborts = [each for each in device.values() if each.enable and each.vectortype == "SwitchVector"
              and "ABORT" in each.name.split("_")[1:]]  # fmt: skip
    own = [each for each in aborts if each.name.split("_")[0] == target[1].split("_")[0]]
    commands = [f'indifast set "{target[0]}.{each.name}.{next(iter(each))}=On"' for each in own or aborts]
    return f"{said}; to stop it, run: {' or '.join(commands)}" if commands else said


async def _send_and_wait(
    client: IPyClient, vector: Any, sent: dict[str, Any], keywords: dict[str, Any], options: argparse.Namespace
) -> None:
    target = vector.devicename, vector.name
    began = time.monotonic()
    try:
        await client.send_newVector(*target, **keywords, wait=True, timeout=options.timeout, accept=options.wait)
    except (ConnectionError, INDIDeleted) as error:
        if not options.reconnect or client.stop:
            raise
        say(_PROGRAM, f"{error}; the command may have reached the driver, so it is not sent again: watching"
            f" {'.'.join(target)} for what it brings")  # fmt: skip
        wanted = sent if vector.vectortype != "BLOBVector" else {}
        await _watch(client, target, wanted, options, began + options.timeout)
    except (INDIAlert, TimeoutError) as error:
        left_out = [name for name in vector if name not in sent]
        if vector.vectortype not in COMPLETED or not left_out:
            raise
        status = Status.ALERT if isinstance(error, INDIAlert) else Status.TIMEOUT
        were, them = ("were", "them") if left_out[1:] else ("was", "it")
        hint = f"give {them} as well" if vector.perm == "wo" else f"give {them} as well, or use --all"
        sentence = f"{error}; {', '.join(left_out)} {were} not sent: {hint}"
        raise ToolError(sentence, status) from None


async def _target_again(client: IPyClient, assignment: Assignment, options: argparse.Namespace) -> tuple[str, str]:
    """Wait until the property is defined, perhaps after a reconnection, and return its name.

    Raises:
        ToolError: It was not defined in time.
    """
    events = client.events(types=(ConnectionMade, defVector))
    with suppress(TimeoutError):
        # Without a connection there is reason to wait for longer than for the definitions of a server that is there.
        async with asyncio.timeout(options.patience if client.connected else options.timeout):
            while assignment.target(client) is None:
                if await anext(events, None) is None:
                    raise ConnectionError("the client has stopped")
    target = assignment.target(client)
    if target is None:
        raise assignment.missing(client)
    return target


async def _watch(
    client: IPyClient,
    target: tuple[str, str],
    wanted: dict[str, Any],
    options: argparse.Namespace,
    deadline: float,
) -> None:
    """Wait, over reconnections, until a property has one of the states and the values that were commanded.

    Raises:
        ToolError: It went to Alert, or it did not get there in time.
    """
    events = client.events(types=(ConnectionLost, ConnectionMade, defVector, setVector, delProperty))
    name = ".".join(target)
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
            while True:
                vector = client[target[0]].get(target[1]) if target[0] in client else None
                if vector is not None and vector.enable:
                    if vector.state in options.wait and not _different(vector, wanted):
                        return
                    if vector.state == "Alert" and "Alert" not in options.wait:
                        why = vector.message or "the driver gave no reason"
                        raise ToolError(f"{name} is in Alert: {why}", Status.ALERT)
                if await anext(events, None) is None:
                    raise ConnectionError("the client has stopped")
    except TimeoutError:
        pass
    if not client.connected:
        now = "no connection"
    elif vector is None or not vector.enable:
        now = f"{name} is not defined"
    else:
        now = f"{name} is {vector.state}"
        if different := _different(vector, wanted):
            now += f", but {different}: the command may be lost"
    raise ToolError(f"{now} (waited {options.timeout:g} s)", Status.TIMEOUT)


def _different(vector: Any, wanted: dict[str, Any]) -> str:
    """Return which members do not have the values that were commanded."""
    others = [member for member in wanted if member not in vector or not fulfilled(vector, {member: wanted[member]})]
    return " and ".join(f"{name} is {shown(vector, name)}, not {wanted[name]}" for name in others if name in vector)


def _tell(target: tuple[str, str], values: dict[str, Any], options: argparse.Namespace) -> None:
    """Print what is sent, if -v was given."""
    if options.verbose:
        for member, value in values.items():
            print(for_terminal(f"{'.'.join(target)}.{member} <- {value}"), file=sys.stderr)


def _blobs(values: dict[str, str]) -> dict[str, Any]:
    """Return the contents of files to send in place of their names."""
    return {member: (_content(name), 0, "".join(Path(name).suffixes)) for member, name in values.items()}


def _content(name: str) -> bytes:
    """Return what a file contains.

    Raises:
        ToolError: It can't be read, or there is nothing in it.
    """
    try:
        mode = os.stat(name).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ToolError(f"{name}: not a file that can be sent as a BLOB")
        content = Path(name).read_bytes()
    except OSError as error:
        raise file_failure(error, name) from error
    if not content:
        raise ToolError(f"{name}: the file is empty")
    return content


def _command(assignment: Assignment) -> ElementTree.Element:
    """Return the message of a command whose property was not looked up."""
    device, name, _ = assignment.names[0]
    attributes = {"device": device, "name": name, "timestamp": timestamp_text()}
    root = ElementTree.Element(f"new{assignment.kind}Vector", attributes)
    for member, value in assignment.values.items():
        ElementTree.SubElement(root, f"one{assignment.kind}", {"name": member}).text = value
    return root
