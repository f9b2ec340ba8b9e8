"""Drivers that may be started and stopped from a browser: what the application needs of whoever runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from indifast.protocol import similar
from indifast.protocol.jsonform import Plain


class State(Enum):
    """What a driver does."""

    STOPPED = "stopped"
    RUNNING = "running"
    WAITING = "waiting"
    """It has ended by itself, and will be started again."""
    STOPPING = "stopping"
    FAILED = "failed"
    """It could not be started, or has ended by itself too often."""


@dataclass(frozen=True)
class Driver:
    """A driver of the list."""

    name: str
    program: str
    state: State
    devices: Sequence[str] = ()
    restarts: int = 0
    reason: str | None = None
    """Why it has failed."""
    lines: Sequence[str] = ()
    """The last lines of its standard error."""

    def plain(self, *, lines: bool) -> Plain:
        """Return the same as JSON has it, with what it has written only if asked for."""
        return {
            "driver": self.name,
            "state": self.state.value,
            "devices": sorted(self.devices),
            "restarts": self.restarts,
            "reason": self.reason,
            "lines": list(self.lines) if lines else [],
        }


class UnknownDriver(LookupError):
    """There is no driver of that name in the list; the message is one sentence."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(similar.unknown("driver", name, known, "in the list"))
        self.known = list(known)
        self.similar = similar.similar(name, known)


class DriverFailed(Exception):
    """A driver could not be started; the message is one sentence."""


class Drivers(Protocol):
    """Starts and stops the drivers of a list, which are known by their names alone."""

    async def listed(self) -> Sequence[Driver]:
        """Return all drivers of the list."""

    async def start(self, name: str) -> Driver:
        """Start a driver, unless it runs.

        Raises:
            UnknownDriver: It is not in the list.
            DriverFailed: It cannot be started.
        """

    async def stop(self, name: str) -> Driver:
        """Stop a driver, unless that is done, and wait for its end.

        Raises:
            UnknownDriver: It is not in the list.
        """
