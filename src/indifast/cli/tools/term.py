"""`indifast term`: show a server's devices in a terminal."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from indifast.cli.arguments import Parser
from indifast.cli.toolkit.address import Address, AddressError, add_server_options, address_of, parse_address
from indifast.cli.toolkit.failures import Status

DESCRIPTION = """\
Watch and control the devices of an INDI server in a terminal."""

EXAMPLES = """\
examples:
  indifast term
  indifast term observatory:7624
  indifast term --blobs ~/frames --log term.log

exit status: 0 quit; 2 no terminal, or wrong arguments"""

LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


def main(arguments: Sequence[str]) -> int:
    """Run the terminal client and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        server = address_of(options)
        server.context()
    except AddressError as error:
        return _failed(str(error))
    folder = None if options.blobs is None else Path(options.blobs).expanduser().resolve()
    if folder is not None and not folder.is_dir():
        return _failed(f"{options.blobs} is not an existing folder: --blobs needs one")
    try:
        from indifast.terminal import graphics
        from indifast.terminal.app import TermApp
        from indifast.terminal.log import open_log
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich", "textual_image", "PIL"):
            raise
        return _failed("Textual, which draws the screen, is not installed: pip install 'indifast[term]'")
    if options.debug and options.log is None:
        return _failed("--debug needs a log to write to: name it with --log FILE")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _failed("this needs a terminal; `indifast watch` writes to files and pipes")
    if options.log is not None:
        level = LEVELS["debug" if options.debug else options.log_level]
        try:
            open_log(Path(options.log), level)
        except OSError as error:
            return _failed(f"the log {options.log} cannot be written: {error.strerror}")
    graphics.detect()
    app = TermApp(server, _parse_with(server), folder=folder, ansi=_few_colours(options.colours), light=options.light)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # without its terminal it must end, even if SIGHUP was ignored
    app.run()
    return app.return_code or Status.DONE


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast term", DESCRIPTION, EXAMPLES)
    add_server_options(parser, word=True)
    parser.add_argument("--blobs", metavar="FOLDER", help="save BLOBs there, which requests those of all devices")
    parser.add_argument("--log", metavar="FILE", help="append a log to this file")
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        default="info",
        help="what to log; debug: all messages on the wire, without the content of BLOBs (default: info)",
    )
    parser.add_argument("--light", action="store_true", help="dark on light; t switches")
    parser.add_argument(
        "--colours",
        "--colors",
        choices=("auto", "16", "all"),
        default="auto",
        help="16: the terminal's own colours (default: as the terminal announces)",
    )
    return parser


def _parse_with(server: Address) -> Callable[[str], Address]:
    """Return a function that parses the servers that users type, and adds the TLS options of the command."""

    def parse(text: str) -> Address:
        address = parse_address(text)
        if address.unix is not None or not server.tls:
            return address
        return dataclasses.replace(
            address, tls=True, tls_ca=server.tls_ca, tls_cert=server.tls_cert, tls_key=server.tls_key
        )

    return parse


def _few_colours(choice: str) -> bool:
    """Return whether the terminal has at most 16 colors."""
    if choice != "auto":
        return choice == "16"
    from rich.console import Console

    return Console().color_system not in ("256", "truecolor") and "NO_COLOR" not in os.environ


def _failed(sentence: str) -> int:
    print(f"indifast term: {sentence}", file=sys.stderr)
    return Status.TROUBLE
