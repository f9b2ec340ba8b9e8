"""`indifast web`: a server's devices in the browser, and for programs that speak HTTP."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from indifast import version
from indifast.cli import signals
from indifast.cli.arguments import Parser
from indifast.cli.toolkit.address import Address, AddressError, add_server_options, address_of
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.session import run, say
from indifast.protocol.complaints import BURST, PER_SECOND, RateLimits
from indifast.transport.sockets import addresses_of, parse_place, tcp_sockets

if TYPE_CHECKING:
    from indifast.web.access import Access
    from indifast.web.hub import Hub

PORT = 8625
"""The port of the page, unless another one is given."""

DESCRIPTION = """\
Show the devices of an INDI server in the browser: watch and command everything, with the newest picture of each camera.
Programs use the same by JSON over HTTP and WebSockets.

Only this machine can connect, unless --listen says otherwise. Other machines need a token from --token-file."""

EXAMPLES = """\
examples:
  indifast web
  indifast web observatory:7624 --read-only
  indifast web --listen 0.0.0.0:8625 --token-file tokens

Each line of a file with tokens is a role, viewer or operator, and a token of at least 16 characters. To make one:
`echo operator $(openssl rand -hex 16) > tokens; chmod 600 tokens`.

exit status: 0 ended by Ctrl-C or SIGTERM; 2 the page cannot be served, or wrong arguments"""

LOGGERS = ("indifast.web", "uvicorn.error", "asyncio")
"""Loggers of the web application, and of what it runs on."""

_NEEDED = ("starlette", "uvicorn", "websockets", "h11", "anyio", "PIL", "click")


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
    parser.add_argument("--read-only", action="store_true", help="send no commands, whoever asks")
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME",
        help="a name by which browsers ask for the page, besides those of this machine; may be repeated",
    )  # fmt: skip
    add_server_options(parser, word=True)
    return parser


async def _web(options: argparse.Namespace) -> int:
    server = address_of(options)
    server.context()
    host, port = _place(options.listen)
    try:
        from indifast.web.frames import Frames
        from indifast.web.hub import Hub
        from indifast.web.serving import Serving
        from indifast.web.site import application
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise ToolError("Starlette, which serves the page, is not installed: pip install 'indifast[web]'") from None
    access = _access(options, host)
    sockets = _sockets(host, port)
    hub = Hub(server)
    frames = Frames(hub.client)
    serving = Serving(application(hub, frames, access, version, options.name))
    loop = asyncio.get_running_loop()
    signals.handle_in(loop, signals.STOPPING, serving.stop)
    if not options.debug:
        _show_warnings()
    say(options.program, f"open {_address(sockets)} (Ctrl-C ends)")
    client = asyncio.create_task(hub.client.asyncrun())
    telling = asyncio.create_task(_tell_link(hub, server, options.program))
    try:
        await serving.run_on(sockets)
    finally:
        signals.hold_back(signals.STOPPING)
        telling.cancel()
        frames.close()
        hub.client.shutdown()
        await asyncio.wait((client,))
    return Status.DONE


def _place(text: str) -> tuple[str, int]:
    """Return the host and port that --listen gives."""
    try:
        return parse_place(text, PORT)
    except ValueError as error:
        raise AddressError(str(error)) from None


def _access(options: argparse.Namespace, host: str) -> Access:
    from indifast.web.access import Access, TokenFileError, read_tokens

    if options.token_file is None:
        if not _is_here(host):
            raise ToolError(
                f"others could use the devices by {host}: give --token-file FILE, with lines of a role (viewer, "
                "operator) and a token, or leave out the host"
            )
        return Access(read_only=options.read_only)
    try:
        return Access(read_tokens(Path(options.token_file).expanduser()), options.read_only)
    except TokenFileError as error:
        raise ToolError(str(error)) from None


def _is_here(host: str) -> bool:
    """Return whether only this machine can connect to a host."""
    try:
        return all(ipaddress.ip_address(address).is_loopback for _, address in addresses_of(host))
    except OSError as error:
        raise ToolError(str(error)) from None


def _sockets(host: str, port: int) -> list[socket.socket]:
    try:
        return tcp_sockets(addresses_of(host), port, host)
    except OSError as error:
        raise ToolError(error.strerror or str(error)) from None


def _address(sockets: Sequence[socket.socket]) -> str:
    """Return the address of the page, for browsers."""
    host, port = sockets[0].getsockname()[:2]
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


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
    limits = RateLimits(BURST, PER_SECOND)  # whoever connects can cause warnings
    handler.addFilter(lambda record: limits.permit(record.msg, time.monotonic()) is not None)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
