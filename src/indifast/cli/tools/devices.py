"""`indifast devices`: list the devices of a server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from indifast.cli.arguments import Parser
from indifast.cli.toolkit.definitions import add_patience, gather
from indifast.cli.toolkit.failures import Status
from indifast.cli.toolkit.kinds import kinds_of
from indifast.cli.toolkit.output import as_json, columns
from indifast.cli.toolkit.patterns import devices_of
from indifast.cli.toolkit.session import add_server_options, connected, run

DESCRIPTION = """\
List the devices of a server by name: whether connected to the hardware, kind, and driver."""

EXAMPLES = """\
examples:
  indifast devices
  indifast devices dome.local:7624                    or -h dome.local -p 7624, as with every command
  indifast devices --json | jq -r '.[] | select(.connected) | .device'

exit status: 0 there are devices; 2 no server; 3 the server has no devices, or none in time"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run("indifast devices", parser().parse_args(arguments), _devices)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast devices", DESCRIPTION, EXAMPLES)
    parser.add_argument("--json", action="store_true", help="a JSON array of objects")
    add_patience(parser)
    add_server_options(parser, word=True)
    return parser


async def _devices(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        await gather(client, lambda: False, options.patience)
        devices = [about(device) for device in devices_of(client)]
    if options.json:
        print(as_json(devices))
    else:
        print(*columns([("DEVICE", "CONNECTED", "KIND", "DRIVER"), *map(_row, devices)]), sep="\n")
    return Status.DONE


def about(device: Any) -> dict[str, Any]:
    """Return what a device says about itself, as plain data."""
    info = _members(device, "DRIVER_INFO")
    connection = _members(device, "CONNECTION")
    return {
        "device": device.devicename,
        "connected": None if "CONNECT" not in connection else connection["CONNECT"] == "On",
        "state": device["CONNECTION"].state if connection else None,
        "interfaces": kinds_of(device),
        "driver": info.get("DRIVER_EXEC"),
        "name": info.get("DRIVER_NAME"),
        "version": info.get("DRIVER_VERSION"),
        "properties": sum(vector.enable for vector in device.values()),
    }


def _members(device: Any, name: str) -> dict[str, Any]:
    return dict(device[name]) if name in device and device[name].enable else {}


def _row(device: dict[str, Any]) -> tuple[str, ...]:
    connected = {True: "yes", False: "no", None: "-"}[device["connected"]]
    if device["state"] in ("Busy", "Alert"):
        connected += f" ({device['state']})"
    driver = " ".join(part for part in (device["driver"], device["version"]) if part)
    return device["device"], connected, ", ".join(device["interfaces"]) or "-", driver or "-"
