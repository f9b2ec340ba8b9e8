"""A small world: limits and sizes are divided by about a thousand, so that a short run meets all of them.

Where it matters, two seconds of a simulated site then hold what takes hours on a real one: queues that overflow, BLOBs
that are encoded piece by piece, crowds of requests.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from indifast._parser import BlockPool

KIB = 1 << 10

SIZES: dict[str, dict[str, Any]] = {
    "indifast.routing.backlog": {"LARGEST_PIECE": 600, "_LOW": KIB},
    "indifast.routing.bytequeue": {"JOIN": 256, "LARGEST_PIECE": 600, "TURN": 300},
    "indifast.routing.offer": {"JOIN": 256, "_MAX_COPIED": 4 * KIB},
    "indifast.routing.clientqueue": {"_COMPACT": 2 * KIB},
    "indifast.routing.driverqueue": {"_COMPACT": KIB},
    "indifast.routing.routes": {"_SMALL_BACKLOG": 8 * KIB},
    "indifast.routing.requests": {"_MAX_HELD": 8},
    "indifast.routing.link": {"PATIENT_RATE": 30_000},
    "indifast.routing.dropnotes": {"_MAX_NOTES": 3},
    "indifast.transport.stream": {"_JOB": 4 * KIB, "_WRITE_BUDGET": 2 * KIB},
    "indifast.transport.blobs": {"LARGE": 2 * KIB, "BLOCK": 3 << 8},
    "indifast.transport.contents": {"BLOCK": 3 << 8, "_pool": BlockPool(KIB, 48)},
    "indifast.transport.drain": {"SMALLEST_PIECE": 64, "FIRST_PIECE": 300, "LARGEST_PIECE": 600, "_WORTH_A_THREAD": 0},
    "indifast.transport.rawframes": {"LARGEST_PIECE": 600, "_LONG": 256, "_GATHERED": KIB},
    "indifast.transport.packing": {"BLOCK": 600, "SMALLEST": 256, "_SAMPLE": 64},
    "indifast.server.locallink": {"_TURN": 8},
    "indifast.server.connections": {"_MANY": 20, "_FEW": 4, "_SHORT_READ": 2 * KIB},
    "indifast.driver.streamlink": {"_INBOX": 16, "_INBOX_BYTES": 8 * KIB},
}
"""By module. A name that is not there any more fails the run."""


@contextlib.contextmanager
def patched(module: str, **values: Any) -> Iterator[None]:
    """Give globals of a module other values for a while."""
    found = importlib.import_module(module)
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(mock.patch.object(found, name, value))
        yield


@contextlib.contextmanager
def scaled() -> Iterator[None]:
    """Make the world small."""
    with contextlib.ExitStack() as stack:
        for module, values in SIZES.items():
            stack.enter_context(patched(module, **values))
        yield


def namespace(module: str, **values: Any) -> SimpleNamespace:
    """Return a stand-in for a module: itself, but for some names."""
    return SimpleNamespace(**{**vars(importlib.import_module(module)), **values})
