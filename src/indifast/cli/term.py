"""`indifast term`: a server's devices in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from indifast.cli.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Run the terminal client; gives the exit status."""
    parser = Parser(prog="indifast term", description="Watch and command the devices of an INDI server in a terminal.")
    parser.add_argument("server", nargs="?", default="localhost", metavar="HOST[:PORT]")
    options = parser.parse_args(arguments)
    try:
        from indifast.terminal.app import TermApp
        from indifast.terminal.session import Server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        print("indifast term: Textual is not installed; pip install 'indifast[term]'", file=sys.stderr)
        return 1
    host, _, port = options.server.partition(":")
    return TermApp(Server(host, int(port or 7624))).run() or 0
