"""A command's time with a server: connect or say why not, and turn every failure into one sentence and a status.

def main(arguments):
    parser = Parser(prog="indifast thing", add_help=False)
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
from indifast.cli.toolkit.address import PORT, Address, AddressError, add_server_options, address_of, parse_address
from indifast.cli.toolkit.failures import Status, ToolError, failure, file_failure, unknown, unknown_property
from indifast.protocol.escape import for_terminal

if TYPE_CHECKING:
    from indifast.client import IPyClient

__all__ = [
    "PORT", "Address", "AddressError", "Status", "ToolError", "add_server_options", "address_of", "connected",
    "device_of", "file_failure", "parse_address", "run", "unknown", "vector_of",
]  # fmt: skip

_END = 2.0
"""Seconds that the end of a connection may take."""


def run(program: str, options: argparse.Namespace, command: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """Run `command(options)` in an event loop; gives its exit status.

    `program` begins the sentence on standard error when it fails. What is a ToolError, or comes from `connected`, is
    a sentence alone; anything else is told as a fault of the program. With `options.debug` all failures are followed
    by their traceback, and the traffic is logged. An output that cannot be written is raised, for `main.run`.
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
        told = error if isinstance(error, ToolError) else _as_told(error)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        print(for_terminal(f"{program}: {told}"), file=sys.stderr)
        if debug:
            traceback.print_exc()
        return told.status


def _unwritable(error: Exception) -> bool:
    """An output that cannot be written, or has no reader any more: no fault of a server, nor of this program."""
    return isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and unwritable(error))


def _as_told(error: Exception) -> ToolError:
    if isinstance(error, AddressError):
        return ToolError(str(error))
    kind = type(error).__name__
    return ToolError(f"a fault of this program: {kind}: {error}; --debug shows where, please report it")


def _log(debug: bool) -> None:
    """What the library logs is told in our own words, or all of it under --debug."""
    logger = logging.getLogger("indifast")
    if debug:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logger.setLevel(logging.DEBUG)
    else:
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


@asynccontextmanager
async def connected(
    server: argparse.Namespace | Address, kind: type[IPyClient] | None = None, **clientdata: Any
) -> AsyncIterator[IPyClient]:
    """A connected client of the server (options of `add_server_options`, or an Address), of class `kind` if given.

    In a command that `run` runs, what can't be taken of a property is told on standard error.

    Raises ToolError when there is no connection, when it is lost (there is no reconnecting), and for INDIAlert,
    INDICheckError, TimeoutError and OSError out of the block.
    """
    address = server if isinstance(server, Address) else address_of(server)
    client: IPyClient | None = None
    try:
        client = address.client(kind, **clientdata)
        client.reconnect = False
        client.timeout_enable = False  # a server with nothing to say is none that is gone
        if program := getattr(server, "program", None):
            client.on_problem = _problems_to_stderr(program)
        running = asyncio.create_task(client.asyncrun())
        try:
            await client.wait_connected()
            yield client
        except BrokenPipeError:  # of standard output
            raise
        except ConnectionError:
            # The client has stopped: why, it knows better than whoever waited for something else.
            await asyncio.wait((running,), timeout=_END)
            if running.done():
                running.result()
            raise
        finally:
            client.shutdown()
            await asyncio.wait((running,))
            if not running.cancelled():
                running.exception()  # has been raised, or does not matter any more
    except (BrokenPipeError, ToolError):
        raise
    except Exception as error:
        if _unwritable(error):
            raise
        told = failure(error, address, client)
        if told is None:
            raise
        raise told from error


def _problems_to_stderr(program: str) -> Callable[[str, str, str], None]:
    """Tell people what can't be taken of a property: the log, which says so too, is not for them."""

    def tell(device: str, name: str, problem: str) -> None:
        print(for_terminal(f"{program}: {'.'.join(filter(None, (device, name)))}: {problem}"), file=sys.stderr)

    return tell


def device_of(client: IPyClient, name: str) -> Any:
    """A device of the client; ToolError with near matches if it is not known."""
    known = [each for each, device in client.items() if device.enable]
    if name not in known:
        raise unknown("device", name, known, "on this server")
    return client[name]


def vector_of(client: IPyClient, device: str, name: str) -> Any:
    """A property of a device; ToolError with near matches if one of the two is not known."""
    vector = client[device].get(name) if device in client else None
    if vector is None or not vector.enable:
        raise unknown_property(client, device, name)
    return vector
