"""What somebody may see and command."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What somebody may do."""

    VIEWER = "viewer"
    """Look."""
    OPERATOR = "operator"
    """Look, and send commands."""


@dataclass(frozen=True)
class Rights:
    """The devices that somebody may see, and those that they may also command; None stands for all of them."""

    seen: frozenset[str] | None
    operated: frozenset[str] | None

    @classmethod
    def of(cls, role: Role) -> Rights:
        """Return the rights of a role with all devices."""
        return cls(None, None if role is Role.OPERATOR else frozenset())

    @property
    def limited(self) -> bool:
        """Whether there may be devices that must not be seen.

        Then nothing is told that does not name a device, either.
        """
        return self.seen is not None

    @property
    def role(self) -> Role:
        """The role, with the devices that may be seen at all."""
        return Role.VIEWER if self.operated is not None and not self.operated else Role.OPERATOR

    @property
    def operates_everything(self) -> bool:
        """Whether what concerns all devices may be commanded."""
        return self.operated is None

    def sees(self, device: str) -> bool:
        """Return whether a device may be seen."""
        return self.seen is None or device in self.seen

    def operates(self, device: str) -> bool:
        """Return whether a device may be commanded."""
        return self.operated is None or device in self.operated

    def looking(self) -> Rights:
        """Return the same without commands."""
        return Rights(self.seen, frozenset())


EVERYTHING = Rights(None, None)
NOTHING = Rights(frozenset(), frozenset())

RIGHTS: ContextVar[Rights] = ContextVar("RIGHTS", default=EVERYTHING)
"""The rights of whoever has asked for what is being done.

What shows devices looks here, so that the answer to a new kind of request shows nothing that must not be seen because
somebody forgot to pass the rights on. What the program does by itself, as when the server says something, has all
rights.
"""
