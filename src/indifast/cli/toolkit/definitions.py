"""Waiting for the definitions of a server, for as long as it makes sense."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

from indifast.cli.arguments import number
from indifast.client import IPyClient
from indifast.client.events import defVector

PATIENCE = 2.0
"""Seconds to wait for definitions, unless -t says otherwise."""


def add_patience(parser: argparse.ArgumentParser) -> None:
    """Add the option -t to a parser."""
    parser.add_argument(
        "-t", dest="patience", type=number(float, 0, 86400), default=PATIENCE, metavar="S",
        help=f"longest time to wait for definitions (default: {PATIENCE:g});"
        " ends earlier if none arrives for a quarter of it",
    )  # fmt: skip


async def gather(client: IPyClient, complete: Callable[[], bool], patience: float) -> None:
    """Wait until `complete()`, or until no definition has arrived for a while: INDI does not mark their end.

    Args:
        client: A connected client.
        complete: Returns whether everything that is needed is defined.
        patience: The longest time to wait, in seconds; a quarter of it without a definition also ends the wait.

    Raises:
        TimeoutError: No device at all was defined.
        ConnectionError: The client stopped.
    """
    began = last = time.monotonic()
    definitions = client.events(types=defVector)
    while not complete():
        end = min(began + patience, last + patience / 4) if client.enabledlen() else began + patience
        try:
            async with asyncio.timeout(end - time.monotonic()):
                await anext(definitions)
        except TimeoutError:
            break
        except StopAsyncIteration:
            raise ConnectionError("the client has stopped") from None
        last = time.monotonic()
    if not client.enabledlen():
        if client.problems:
            raise TimeoutError(f"no definition could be used within {patience:g} s")
        raise TimeoutError(f"the server has no devices (waited {patience:g} s): start a driver")
