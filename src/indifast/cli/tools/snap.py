"""`indifast snap`: show everything that a server says about its devices."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from indifast.cli.arguments import Parser
from indifast.cli.toolkit.definitions import add_patience, gather
from indifast.cli.toolkit.failures import Status
from indifast.cli.toolkit.output import columns, value_with_unit
from indifast.cli.toolkit.patterns import devices_of
from indifast.cli.toolkit.session import add_server_options, connected, device_of, run
from indifast.protocol import jsonform
from indifast.protocol.escape import one_line

DESCRIPTION = """\
Show the whole state of a server: every device, group, property and member, with labels, units and messages."""

EXAMPLES = """\
examples:
  indifast snap                              for people
  indifast snap "CCD Simulator"              one device
  indifast snap --json > state.json          for programs and bug reports

exit status: 0 shown; 1 no such device; 2 no server; 3 the server has no devices, or none in time"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run("indifast snap", parser().parse_args(arguments), _snap)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast snap", DESCRIPTION, EXAMPLES)
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="(default: all)")
    parser.add_argument("--json", action="store_true", help="a JSON object with everything")
    add_patience(parser)
    add_server_options(parser)
    return parser


async def _snap(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        await gather(client, lambda: False, options.patience)
        for name in options.devices:
            device_of(client, name)
        state = client.snapshot()
    names = options.devices or [device.devicename for device in devices_of(state)]
    if options.json:
        print(jsonform.text(jsonform.of_server(state, names)))
    else:
        for name in names:
            print(*map(one_line, _device(state[name])), sep="\n", end="\n\n")
    return Status.DONE


def _device(device: Any) -> Iterator[str]:
    yield device.devicename
    vectors = [vector for vector in device.values() if vector.enable]
    groups = list(dict.fromkeys(vector.group or "" for vector in vectors))
    vectors.sort(key=lambda vector: groups.index(vector.group or ""))
    for group, members in groupby(vectors, key=lambda vector: vector.group or ""):
        yield f"  {group or '(no group)'}"
        for vector in members:
            yield from _vector(vector)
    for timestamp, message in reversed(device.messages):
        yield f"  {timestamp.replace(tzinfo=None).isoformat()} {message}"


def _vector(vector: Any) -> Iterator[str]:
    label = f" ({vector.label})" if vector.label and vector.label != vector.name else ""
    yield f"    {vector.name}{label} [{vector.state}, {vector.perm}]"
    rows = []
    for name in vector:
        about = vector.memberlabel(name)
        rows.append((f"      {name}", value_with_unit(vector, name), "" if about in (None, name) else f"({about})"))
    yield from columns(rows)
