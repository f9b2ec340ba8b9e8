"""What a program overrides of the methods by which a client sends; everything is then sent through them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.settings import Program
from indifast.handover import awaited, overridden
from indifast.protocol import wire
from indifast.protocol.message import Routable

logger = logging.getLogger("indifast.client.ipyclient")

_Method = Callable[..., Awaitable[None]]


class Hooks:
    """Sends on the link or, if a program overrides them, by `send`, `send_getProperties` and `resend_enableBLOB`."""

    def __init__(self, program: Program, lifecycle: Lifecycle, link: Link) -> None:
        self._program = program
        self._lifecycle = lifecycle
        self._link = link

    def send(self) -> _Method | None:
        """Return the `send` of the program, if it has one of its own."""
        send: _Method | None = overridden(self._program, "send")
        return send

    async def transmit(self, message: Routable) -> None:
        """Queue a message, and wait while the server is far behind. See `Link.transmit`."""
        send = self.send()
        if send is None or not self._link.connected:
            await self._link.transmit(message)
        else:
            await send(wire.parsed(message))

    def send_now(self, message: Routable) -> None:
        """Queue a message. See `Link.send_now`."""
        if self.send() is None:
            self._link.send_now(message)
        else:
            self._spawn(self.transmit(message))

    def ask(self) -> None:
        """Ask for all definitions."""
        ask = overridden(self._program, "send_getProperties")
        if ask is None:
            self.send_now(wire.get_properties())
        else:
            self._spawn(awaited(ask()))

    def resend(self, policies: list[tuple[str, str | None, str]]) -> None:
        """Send BLOB policies: names of device and vector, and the policy."""
        resend = overridden(self._program, "resend_enableBLOB")
        if resend is not None:
            self._spawn(_resend(resend, policies))
            return
        for policy in policies:
            self.send_now(wire.enable_blob(*policy))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._lifecycle.spawn(_guarded(work))


async def _resend(resend: _Method, policies: list[tuple[str, str | None, str]]) -> None:
    for device, vector, _ in policies:
        await (resend(device) if vector is None else resend(device, vector))


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        logger.exception("a method of the program that sends has failed")
