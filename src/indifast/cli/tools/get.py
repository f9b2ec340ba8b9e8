"""`indifast get`: print values of properties."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from indifast.cli.arguments import Parser, number, states
from indifast.cli.toolkit.definitions import add_patience, gather
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.following import add_no_messages, drawn, messages
from indifast.cli.toolkit.output import columns, labelled, line, shown, value_of
from indifast.cli.toolkit.patterns import Pattern, vectors_of
from indifast.cli.toolkit.session import add_server_options, connected, file_failure, run
from indifast.client import IPyClient, setBLOBVector
from indifast.client.events import setVector
from indifast.protocol import jsonform
from indifast.protocol.escape import for_terminal

DESCRIPTION = """\
Print values of properties, one line each: device.property.member=value

QUERY is device.property.member; * in any part stands for anything, and a part left out stands for all.
In place of a member, _LABEL _GROUP _STATE _PERM _TO _TS give attributes of the property itself.
Arguments and output are those of indi_getprop."""

EXAMPLES = """\
examples:
  indifast get                                              everything
  indifast get "CCD Simulator.CCD_*.*"                      some of it
  indifast get -1 "CCD Simulator.CCD_TEMPERATURE._STATE"    only the value
  indifast get -l "Mount.EQUATORIAL_EOD_COORD"              with units, labels and ranges
  indifast get --json "CCD*" | jq .                         everything known about it
  indifast get --wait Ok --timeout 90 "Mount.EQUATORIAL_EOD_COORD.*"

exit status: 0 something found for each query; 1 nothing found for one; 2 no server, or wrong arguments;
3 --wait: not in that state in time; 4 --wait: Alert instead of that state"""

_PROGRAM = "indifast get"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run(_PROGRAM, parser().parse_args(arguments), _get)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast get", DESCRIPTION, EXAMPLES)
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="(default: everything)")
    parser.add_argument("-1", dest="bare", action="store_true", help="only the value, of one query for one member")
    parser.add_argument("-l", dest="labels", action="store_true", help="with units, labels, states and ranges")
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON object: devices, properties, members (with -m: one per line and update)",
    )
    parser.add_argument("-w", dest="write_only", action="store_true", help="include write-only properties")
    parser.add_argument("-m", dest="monitor", action="store_true", help="keep printing updates until none arrives for"
                        " -t seconds (0: forever); save BLOBs of queries that name device and property in full"
                        " as device.property.member.format")  # fmt: skip
    parser.add_argument("--wait", type=states, metavar="STATE", help="first wait until the properties are Ok, Idle,"
                        " Busy or Alert (several: Ok,Idle)")  # fmt: skip
    parser.add_argument("--timeout", type=number(float, 0.05, 1e6), default=60.0, metavar="S",
                        help="how long --wait may take (default: 60)")  # fmt: skip
    add_no_messages(parser)
    add_patience(parser)
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="report what is done")
    add_server_options(parser)
    return parser


async def _get(options: argparse.Namespace) -> int:
    patterns = [Pattern(text) for text in options.queries or ["*.*.*"]]
    async with connected(options) as client:
        if options.verbose:
            print(f"connected to {client.indihost}:{client.indiport}", file=sys.stderr)
        await gather(client, lambda: _complete(client, patterns), options.patience or 2.0)
        if options.wait is not None:
            await _wait(client, patterns, options)
        found = _found(client, patterns, options.write_only)
        _print(client, options, found)
        if options.monitor:
            await _monitor(client, options, patterns)
            return Status.DONE
        return _complain(client, patterns, options.write_only)


def _complete(client: IPyClient, patterns: list[Pattern]) -> bool:
    """Return whether every query has found all that it can match."""
    if any(pattern.wild for pattern in patterns):
        return False
    known = list(vectors_of(client))
    return all(any(pattern.is_member(vector) for vector in known) for pattern in patterns)


def _found(client: IPyClient, patterns: list[Pattern], write_only: bool) -> list[tuple[Any, str]]:
    """Return (property, member) of everything the queries match, in order of the definitions, then of the queries."""
    return [(vector, member) for vector in vectors_of(client) for member in _shown(vector, patterns, write_only)]


def _shown(vector: Any, patterns: list[Pattern], write_only: bool) -> list[str]:
    if vector.perm == "wo" and not write_only:
        return []
    names = dict.fromkeys(name for pattern in patterns for name in pattern.members(vector))
    if vector.vectortype != "BLOBVector":
        return list(names)
    # Before a BLOB has arrived, show the property only if a query names it in full.
    named = any(pattern.explicit and pattern.names_vector(vector) for pattern in patterns)
    arrived = any(content is not None for content in vector.values())
    return [name for name in names if (vector[name] is not None if name in vector else named or arrived)]


def _print(client: IPyClient, options: argparse.Namespace, found: list[tuple[Any, str]]) -> None:
    if options.json:
        print(jsonform.text({"devices": _tree(found)}, indent=None if options.monitor else 2))
    elif options.labels:
        print(*columns([labelled(vector, member) for vector, member in found]), sep="\n", end="\n" if found else "")
    elif options.bare and len(options.queries) == 1 and not Pattern(options.queries[0]).wild:
        for vector, member in found:
            print(for_terminal(value_of(vector, member)))
    else:
        for vector, member in found:
            print(line(vector, member))
    sys.stdout.flush()


def _tree(found: list[tuple[Any, str]]) -> dict[str, Any]:
    """Return what was found as plain data: properties by device, each with the members that are wanted."""
    wanted: dict[tuple[str, str], tuple[Any, list[str]]] = {}
    for vector, member in found:
        wanted.setdefault((vector.devicename, vector.name), (vector, []))[1].append(member)
    devices: dict[str, Any] = {}
    for (device, name), (vector, members) in wanted.items():
        known = devices.setdefault(device, {"device": device, "properties": {}})
        known["properties"][name] = jsonform.of_vector(vector, [each for each in members if each in vector])
    return devices


def _complain(client: IPyClient, patterns: list[Pattern], write_only: bool) -> int:
    """Report the queries that match nothing, and return the exit status."""
    status = Status.DONE
    for pattern in patterns:
        if not _found(client, [pattern], write_only):
            print(for_terminal(f"indifast get: {pattern.unmatched(client)}"), file=sys.stderr)
            status = Status.NOTHING
    return status


async def _wait(client: IPyClient, patterns: list[Pattern], options: argparse.Namespace) -> None:
    """Wait until all properties that the queries match have one of the states."""
    wanted, patience = options.wait, options.timeout
    meant = [vector for vector in vectors_of(client) if any(pattern.names_vector(vector) for pattern in patterns)]
    if not meant:
        raise patterns[0].unmatched(client)
    async with (
        messages(client, _PROGRAM, {vector.devicename for vector in meant}, shown=options.messages),
        drawn(lambda: _waiting_for(meant, wanted)),
    ):
        await _all(client, meant, wanted, patience)


def _waiting_for(meant: list[Any], wanted: frozenset[str]) -> str:
    """Return a line that says what is waited for."""
    others = [vector for vector in meant if vector.state not in wanted]
    if not others:
        return ""
    first = others[0]
    values = [shown(first, name) for name in first] if first.vectortype == "NumberVector" else []
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return f"{first.name} is {' '.join([first.state, *values])}{more}"


async def _all(client: IPyClient, meant: list[Any], wanted: frozenset[str], patience: float) -> None:
    """Wait until all these properties have one of the states."""
    deadline = time.monotonic() + patience
    for vector in meant:
        left = max(0.0, deadline - time.monotonic())
        try:
            await client.wait_for(vector.devicename, vector.name, wanted | {"Alert"}, left, there=True)
        except TimeoutError:
            missed = f"not {' or '.join(sorted(wanted))} after {patience:g} s"
            sentence = f"{vector.devicename}.{vector.name} is {vector.state}, {missed}"
            raise ToolError(sentence, Status.TIMEOUT) from None
        if vector.state not in wanted:
            why = vector.message or "the driver gave no reason"
            raise ToolError(f"{vector.devicename}.{vector.name} is in Alert: {why}", Status.ALERT)


async def _monitor(client: IPyClient, options: argparse.Namespace, patterns: list[Pattern]) -> None:
    """Print updates until none has arrived for the time that -t gives."""
    updates = client.events(types=setVector)
    for vector in vectors_of(client):
        if vector.vectortype == "BLOBVector" and any(
            pattern.names_vector(vector) for pattern in patterns if pattern.explicit
        ):
            await client.send_enableBLOB("Also", vector.devicename, vector.name)
    quiet_since = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(quiet_since + options.patience - time.monotonic() if options.patience else None):
                event = await anext(updates)
        except TimeoutError:
            return
        except StopAsyncIteration:
            raise ConnectionError("the client has stopped") from None
        if isinstance(event, setBLOBVector):
            await _save(event, patterns)
        names = _shown(event.vector, patterns, True) if event.vector.enable else []
        found = [(event.vector, name) for name in names if name not in event.vector or name in event]
        if found:
            _print(client, options, found)
            quiet_since = time.monotonic()


async def _save(event: setBLOBVector, patterns: list[Pattern]) -> None:
    """Write the BLOBs that the queries match to the current folder, under the names that indi_getprop uses."""
    wanted = {name for pattern in patterns for name in pattern.members(event.vector)}
    for name, content in event.items():
        if name not in wanted or content is None:
            continue
        form = event.vector.member(name).blobformat or ""
        path = Path(f"{event.devicename}.{event.vectorname}.{name}{form}".replace(os.sep, "_"))
        try:
            await asyncio.to_thread(path.write_bytes, content)
        except OSError as error:
            raise file_failure(error, str(path)) from error
