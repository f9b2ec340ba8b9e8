"""Running a command with a server: connect, and turn every failure into one sentence and an exit status.

A command looks like this:

    def main(arguments):
        parser = Parser("indifast thing", DESCRIPTION, EXAMPLES)
        add_server_options(parser)
        return run("indifast thing", parser.parse_args(arguments), thing)

    async def thing(options):
        async with connected(options) as client:
            await client.ready(2)
            ...
        return Status.DONE
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from indifast.cli import unwritable
from indifast.cli.toolkit.address import Address, AddressError, add_server_options, address_of, parse_address
from indifast.cli.toolkit.console import say
from indifast.cli.toolkit.failures import Status, ToolError, failure, file_failure, unknown, unknown_property
from indifast.client.events import ConnectionLost, ConnectionMade
from indifast.protocol.drivernames import PORT
from indifast.protocol.escape import for_terminal

if TYPE_CHECKING:
    from indifast.client import IPyClient

__all__ = [
    "PORT", "Address", "AddressError", "Status", "ToolError", "add_reconnect", "add_server_options", "address_of",
    "connected", "device_of", "file_failure", "parse_address", "run", "say", "unknown", "vector_of",
]  # fmt: skip

_END = 2.0
"""Seconds that ending a connection may take."""


def run(program: str, options: argparse.Namespace, command: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """Run `command(options)` in an event loop and return its exit status.

    A failure is reported on standard error in one sentence, which begins with `program`. Anything but a ToolError or
    an AddressError is reported as a fault of the program. With `options.debug`, all failures are followed by their
    tracebacks, and the traffic is logged.

    Raises:
        OSError: The output cannot be written; `main.run` handles that.
    """
    debug = bool(getattr(options, "debug", False))
    options.program = program
    _log(debug)
    try:
        with asyncio.Runner() as runner:
            status = int(runner.run(command(options)))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except Exception as error:
        if _unwritable(error):
            raise
        failed = error if isinstance(error, ToolError) else _as_tool_error(error)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        print(for_terminal(f"{program}: {failed}"), file=sys.stderr)
        if debug:
            traceback.print_exc()
        return failed.status


def _unwritable(error: Exception) -> bool:
    """Return whether the output cannot be written or has lost its reader: not a fault of the server or this program."""
    return isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and unwritable(error))


def _as_tool_error(error: Exception) -> ToolError:
    if isinstance(error, AddressError):
        return ToolError(str(error))
    kind = type(error).__name__
    return ToolError(f"a fault of this program: {kind}: {error}; --debug shows where, please report it")


def _log(debug: bool) -> None:
    """Keep the library's log quiet, as commands report failures in their own words; show all of it with --debug."""
    logger = logging.getLogger("indifast")
    if debug:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logger.setLevel(logging.DEBUG)
    else:
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def add_reconnect(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --reconnect and --no-reconnect to a parser; `options.reconnect` is None if neither is given.

    Args:
        parser: The parser.
        default: What is done then, for the help.
    """
    parser.add_argument(
        "--reconnect", action=argparse.BooleanOptionalAction,
        help=f"when the connection is lost, connect again and go on, or end with status 2 (default: {default})",
    )  # fmt: skip


@asynccontextmanager
async def connected(
    server: argparse.Namespace | Address,
    kind: type[IPyClient] | None = None,
    *,
    reconnect: bool = False,
    program: str | None = None,
    **clientdata: Any,
) -> AsyncIterator[IPyClient]:
    """Connect to a server and yield the client.

    In a command that `run` runs, problems with properties are reported on standard error.

    Args:
        server: The options of `add_server_options`, or an Address.
        kind: The class of the client, IPyClient by default.
        reconnect: Whether the client connects again when the connection is lost. Standard error says so, once for
            each loss. The first attempt must succeed in any case: a mistyped name is a mistake.
        program: The name of the command, if `server` does not have it.
        **clientdata: Passed to the client.

    Raises:
        ToolError: There is no connection, it is lost, or the block raises INDIAlert, INDICheckError,
            TimeoutError or OSError.
    """
    address = server if isinstance(server, Address) else address_of(server)
    program = program or getattr(server, "program", None)
    client: IPyClient | None = None
    try:
        client = address.client(kind, **clientdata)
        client.reconnect = False
        client.timeout_enable = False  # a server that is silent is not gone
        if program:
            client.on_problem = _problems_to_stderr(program)
        running = asyncio.create_task(client.asyncrun())
        links = asyncio.create_task(_tell_links(client.events(types=(ConnectionLost, ConnectionMade)), client, address,
                                                program or "indifast"))  # fmt: skip
        try:
            await client.wait_connected()
            client.reconnect = reconnect
            yield client
        except BrokenPipeError:  # from standard output
            raise
        except ConnectionError:
            # The client has stopped; its own error says why, better than that of the wait that was interrupted.
            await asyncio.wait((running,), timeout=_END)
            if running.done():
                running.result()
            raise
        finally:
            client.shutdown()
            await asyncio.wait((running,))
            links.cancel()
            if not running.cancelled():
                running.exception()  # retrieve the exception: it was raised above, or no longer matters
    except (BrokenPipeError, ToolError):
        raise
    except Exception as error:
        if _unwritable(error):
            raise
        failed = failure(error, address, client)
        if failed is None:
            raise
        raise failed from error


async def _tell_links(links: AsyncIterator[Any], client: IPyClient, address: Address, program: str) -> None:
    """Report on standard error when the connection is lost and when it is there again, once each."""
    lost = False
    async for event in links:
        if client.stop or not client.reconnect:
            continue
        if isinstance(event, ConnectionLost):
            lost = True
            say(program, f"lost the connection to {address}; connecting again until it is back (Ctrl-C ends)")
        elif lost:
            lost = False
            say(program, f"connected to {address} again")


def _problems_to_stderr(program: str) -> Callable[[str, str, str], None]:
    """Return a callback that prints problems with properties; the log, which also has them, is not for users."""

    def tell(device: str, name: str, problem: str) -> None:
        say(program, f"{'.'.join(filter(None, (device, name)))}: {problem}")

    return tell


def device_of(client: IPyClient, name: str) -> Any:
    """Return a device of the client.

    Raises:
        ToolError: The device is not known; the message has similar names.
    """
    known = [each for each, device in client.items() if device.enable]
    if name not in known:
        raise unknown("device", name, known, "on this server")
    return client[name]


def vector_of(client: IPyClient, device: str, name: str) -> Any:
    """Return a property of a device.

    Raises:
        ToolError: One of the two is not known; the message has similar names.
    """
    vector = client[device].get(name) if device in client else None
    if vector is None or not vector.enable:
        raise unknown_property(client, device, name)
    return vector
