"""Programs in pseudo-terminals."""

from __future__ import annotations

import signal
from typing import Any

import pexpect

from tests.support.blackbox import until


def end(child: pexpect.spawn[Any], number: int | None = signal.SIGKILL) -> None:
    """Send a signal to a program in a pseudo-terminal if it still runs, and wait for its end.

    pexpect gives a program a tenth of a second, and sends it a signal even if it is ending.
    """
    if number is not None and child.isalive():
        child.kill(number)
    until(lambda: not child.isalive(), what="the end of the program")
    child.close()
