"""Textual's driver of the terminal, made to survive a program that is stopped and continued in any way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App


class TerminalDriver(LinuxDriver):
    """Gives the terminal back when the program is stopped, and takes it again whenever it is continued.

    Textual gives the terminal back on SIGTSTP and takes it again on SIGCONT. Nothing announces SIGSTOP, so on the
    SIGCONT that follows, Textual would take a terminal that it already has: a second thread would read the keys, and
    at the end the program would wait for one of the two forever. The same would happen after a SIGCONT at the end.
    """

    def __init__(self, app: App[Any], **options: Any) -> None:
        self._retaking = False
        super().__init__(app, **options)

    def _sigtstp_application(self, *arguments: object) -> None:
        self._soon(self._stop)

    def _sigcont_application(self, *arguments: object) -> None:
        if self._must_signal_resume or not self._auto_restart:
            super()._sigcont_application(*arguments)
        elif not self._retaking:
            self._retaking = True
            self._soon(self._retake)

    def _soon(self, action: Callable[[], None]) -> None:
        """Do something outside the signal handler, which may have interrupted a write, with a lock that others need."""
        if self._loop.is_closed():
            action()
        else:
            self._loop.call_soon_threadsafe(action)

    def _stop(self) -> None:
        if self._app.is_running:
            super()._sigtstp_application()
        else:
            os.kill(os.getpid(), signal.SIGSTOP)

    def _retake(self) -> None:
        """Give the terminal back and take it again: a shell may have changed its modes and written to it."""
        self._retaking = False
        if self._app.is_running:
            self.suspend_application_mode()
            self.resume_application_mode()
