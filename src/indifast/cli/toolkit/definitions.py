"""Waiting for the devices of a server as long as it makes sense."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

from indifast.cli.arguments import number
from indifast.client import IPyClient
from indifast.client.events import defVector

PATIENCE = 2.0
"""Seconds that definitions may take, unless -t says otherwise."""


def add_patience(parser: argparse.ArgumentParser) -> None:
    """Add -t."""
    parser.add_argument(
        "-t", dest="patience", type=number(float, 0, 86400), default=PATIENCE, metavar="S",
        help=f"longest time to wait for definitions (default: {PATIENCE:g});"
        " done earlier when none came for a quarter of it",
    )  # fmt: skip


async def gather(client: IPyClient, complete: Callable[[], bool], patience: float) -> None:
    """Wait until `complete()`, or until no definition has come for a quarter of `patience`, or for `patience` seconds.

    INDI has no end of definitions. TimeoutError when not even one device was defined.
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
        what = "no definition could be taken" if client.problems else "no device was defined"
        raise TimeoutError(f"{what} within {patience:g} s")
