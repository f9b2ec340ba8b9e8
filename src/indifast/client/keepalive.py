"""Keep-alive of a client's connection: asks for definitions, and gives up a dead connection."""

from __future__ import annotations

import time

from indifast.client.alarm import Alarm
from indifast.client.hooks import Hooks
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.model import Model
from indifast.client.settings import Program, Settings

ASK_AGAIN = 5.0
"""Seconds between two getProperties while the server has no devices."""


class KeepAlive:
    """Watches an idle connection. Each alarm is set only while something can become due."""

    def __init__(
        self, settings: Settings, program: Program, lifecycle: Lifecycle, link: Link, hooks: Hooks, model: Model
    ) -> None:
        self._settings = settings
        self._program = program
        self._lifecycle = lifecycle
        self._link = link
        self._hooks = hooks
        self._model = model
        self._alarm = Alarm(self._check)
        self._definitions_alarm = Alarm(self._check_definitions)
        link.on_question = self._expect_answer

    def arm(self) -> None:
        """Set the alarm for whatever may become due."""
        settings, link = self._settings, self._link
        if not settings.timeout_enable or link.connection is None:
            return
        due = link.last_traffic + settings.idle_timeout
        if link.unanswered_since is not None:
            due = min(due, link.unanswered_since + settings.respond_timeout)
        self._alarm.set_for(due)

    def clear(self) -> None:
        """Cancel the alarms, because the connection is gone."""
        self._alarm.cancel()
        self._definitions_alarm.cancel()

    async def ask_definitions(self) -> None:
        """Ask for the server's devices, and keep asking while there are none."""
        self._hooks.ask()
        self._definitions_alarm.set_for(time.monotonic() + ASK_AGAIN)
        await self._program.report("Asked the server for its devices")

    def devices_known(self) -> None:
        """Stop asking for devices, because one is new or has come back."""
        self._definitions_alarm.cancel()
        self.arm()

    def devices_gone(self) -> None:
        """Start asking for devices again, because the last one was deleted."""
        self._definitions_alarm.set_for(time.monotonic() + ASK_AGAIN)

    def _expect_answer(self) -> None:
        if self._settings.timeout_enable and self._model.devices:
            self._alarm.set_for(time.monotonic() + self._settings.respond_timeout)

    def _check(self) -> None:
        settings, link = self._settings, self._link
        connection = link.connection
        if connection is None or not settings.timeout_enable or not self._model.any_enabled():
            return
        now = time.monotonic()
        if link.unanswered_since is not None and now >= link.unanswered_since + settings.respond_timeout:
            connection.fail(f"no answer for {settings.respond_timeout:g} s")
            return
        if now >= link.last_traffic + settings.idle_timeout:
            self._hooks.ask()
        self.arm()

    def _check_definitions(self) -> None:
        if self._link.connection is not None and not self._model.any_enabled():
            self._lifecycle.spawn(self.ask_definitions())
