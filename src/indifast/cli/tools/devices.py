"""`indifast devices`: list the devices of a server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from indifast.cli.arguments import Parser
from indifast.cli.toolkit.definitions import add_patience, gather
from indifast.cli.toolkit.failures import Status
from indifast.cli.toolkit.output import columns
from indifast.cli.toolkit.patterns import devices_of
from indifast.cli.toolkit.session import add_server_options, connected, run
from indifast.protocol import jsonform

DESCRIPTION = """\
List the devices of a server by name: whether connected to the hardware, kind, and driver."""

EXAMPLES = """\
examples:
  indifast devices
  indifast devices dome.local:7624                    or -h dome.local -p 7624, as with every command
  indifast devices --json | jq -r '.devices[] | select(.connected) | .device'

exit status: 0 there are devices; 2 no server; 3 the server has no devices, or none in time"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run("indifast devices", parser().parse_args(arguments), _devices)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast devices", DESCRIPTION, EXAMPLES)
    parser.add_argument("--json", action="store_true", help="a JSON object with the devices")
    add_patience(parser)
    add_server_options(parser, word=True)
    return parser


async def _devices(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        await gather(client, lambda: False, options.patience)
        devices = [jsonform.of_device(device) for device in devices_of(client)]
    if options.json:
        print(jsonform.text({"devices": {each["device"]: each for each in devices}}))
    else:
        print(*columns([("DEVICE", "CONNECTED", "KIND", "DRIVER"), *map(_row, devices)]), sep="\n")
    return Status.DONE


def _row(device: jsonform.Plain) -> tuple[str, ...]:
    connected = {True: "yes", False: "no", None: "-"}[device["connected"]]
    if device["state"] in ("Busy", "Alert"):
        connected += f" ({device['state']})"
    driver = " ".join(part for part in (device["driver"], device["driver_version"]) if part)
    return device["device"], connected, ", ".join(device["interfaces"]) or "-", driver or "-"
