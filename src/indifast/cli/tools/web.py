"""`indifast web`: a server's devices in the browser, and for programs that speak HTTP."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from indifast.cli import signals
from indifast.cli.arguments import Parser
from indifast.cli.toolkit import webpage
from indifast.cli.toolkit.address import Address, AddressError, add_server_options, address_of
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.session import run, say
from indifast.cli.toolkit.webpage import PORT
from indifast.protocol.limits import MOST_VIEWERS
from indifast.transport.sockets import addresses_of, parse_place, tcp_sockets

if TYPE_CHECKING:
    from indifast.web.hub import Hub

DESCRIPTION = """\
Show the devices of an INDI server in the browser: watch and command everything, with the newest picture of each camera.
Programs use the same by JSON over HTTP and WebSockets.

Only this machine can connect, unless --listen says otherwise. Other machines need a token (--token-file), or a name and
password (--users)."""

EXAMPLES = """\
examples:
  indifast web
  indifast web observatory:7624 --read-only
  indifast web --listen 0.0.0.0:8625 --token-file tokens

Each line of a file with tokens is a role, viewer or operator, and a token of at least 16 characters. To make one:
`echo operator $(openssl rand -hex 16) > tokens; chmod 600 tokens`.

The file with users is described in the documentation: In the browser, Who may do what.

exit status: 0 ended by Ctrl-C or SIGTERM; 2 the page cannot be served, or wrong arguments"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run("indifast web", parser().parse_args(arguments), _web)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast web", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        default=str(PORT),
        help=f"where the page is served; 0: any free port (default: 127.0.0.1:{PORT})",
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help="let in only those who show one of these tokens; needed for other machines"
    )
    parser.add_argument(
        "--users",
        metavar="FILE",
        help="let in only these users, who log in by name and password; for other machines, too",
    )
    parser.add_argument(
        "--hash-password",
        action="store_true",
        help="ask for a password, print what stands for it in that file, and end",
    )
    parser.add_argument("--read-only", action="store_true", help="send no commands, whoever asks")
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME",
        help="a name by which browsers ask for the page, besides those of this machine; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--web-public", metavar="HOSTNAME",
        help="a web server in front passes on requests to this name, from anywhere: all of them need a token or login",
    )  # fmt: skip
    parser.add_argument(
        "--viewers", type=_count, metavar="N", help="how many may look at live frames at once (default: 10000)"
    )
    parser.add_argument(
        "--connections", type=_count, metavar="N", help="how many other connections there may be (default: 1000)"
    )
    add_server_options(parser, word=True)
    return parser


async def _web(options: argparse.Namespace) -> int:
    if options.hash_password:
        return _hash_password()
    server = address_of(options)
    server.context()
    host, port = _place(options.listen)
    try:
        addresses = addresses_of(host)
        access = webpage.Rules(options.token_file, options.users, options.read_only, options.web_public).access(
            address for _, address in addresses
        )
        sockets = tcp_sockets(addresses, port, host)
    except webpage.WebpageError as error:
        raise ToolError(str(error)) from None
    except OSError as error:
        raise ToolError(error.strerror or str(error)) from None
    page = webpage.Webpage(server, access, options.name, viewers=options.viewers, connections=options.connections)
    if page.lack is not None:
        say(options.program, page.lack)
    signals.handle_in(asyncio.get_running_loop(), signals.STOPPING, page.stop)
    if not options.debug:
        _show_warnings()
    say(options.program, f"open {webpage.address_of(sockets)} (Ctrl-C ends)")
    telling = asyncio.create_task(_tell_link(page.hub, server, options.program))
    try:
        await page.run(sockets)
    finally:
        signals.hold_back(signals.STOPPING)
        telling.cancel()
    return Status.DONE


def _hash_password() -> int:
    """Read a password, from a terminal twice, and print what recognizes it."""
    try:
        webpage.require()
    except webpage.WebpageError as error:
        raise ToolError(str(error)) from None
    from indifast.web.users import Password

    if sys.stdin.isatty():
        password = getpass.getpass()
        if getpass.getpass("Again: ") != password:
            raise ToolError("these are two different passwords")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise ToolError("a password is needed")
    print(Password.of(password))
    return Status.DONE


def _count(text: str) -> int:
    """Return how many there may be of something."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 0 < int(text) <= MOST_VIEWERS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST_VIEWERS} is required, not {text!r}")
    return int(text)


def _place(text: str) -> tuple[str, int]:
    """Return the host and port that --listen gives."""
    try:
        return parse_place(text, PORT)
    except ValueError as error:
        raise AddressError(str(error)) from None


async def _tell_link(hub: Hub, server: Address, program: str) -> None:
    """Report when there is a connection to the server, and when it is lost, or cannot be made for a while."""
    from indifast.client import ConnectionLost

    while True:
        try:
            await hub.client.wait_connected(2)
        except TimeoutError:
            say(program, f"no INDI server at {server} yet; connecting as soon as it is there")
            await hub.client.wait_connected()
        say(program, f"connected to {server}")
        async for _ in hub.client.events(types=ConnectionLost):
            say(program, f"lost the connection to {server}; connecting again")
            break


def _show_warnings() -> None:
    """Show what the web application has to say, which the tools leave out."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("indifast web: %(message)s"))
    webpage.limit_warnings([handler])
    for name in webpage.LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
