"""The command `indifast`: its sub-commands, and what they share with the dispatcher (`main.py`).

A sub-command is a module with `main(arguments) -> int`, imported only when it is called: `indifast serve` must not pay
for what `indifast demo` needs.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

TYPE_CHECKING = False  # as in `typing`, which must not be imported before the server listens
if TYPE_CHECKING:
    from types import ModuleType

COMMANDS = {
    "bench": ("bench.command", "measure this machine: codec, relay, full stack, latency, in about a minute"),
    "completion": ("tools.completion", "print the completion script for bash, zsh or fish"),
    "demo": (
        "demo.command",
        "serve a simulated camera and a thermostat, watched by a client in another process",
    ),
    "devices": ("tools.devices", "list the devices of a server: driver, kind, connected or not"),
    "eval": ("tools.eval", "test whether an expression of values is true, or wait until it is"),
    "expose": ("tools.expose", "take pictures with a camera and save them"),
    "get": ("tools.get", "print values of properties"),
    "help": ("help", "list the commands, or show the help of one of them"),
    "record": ("recordings.record", "record what a client may see of a server, with times, in a file"),
    "replay": ("recordings.replay", "serve a recording again, or show what is in it"),
    "serve": ("serve.command", "run a server for drivers, also in place of indiserver"),
    "set": ("tools.set", "set values of properties"),
    "snap": ("tools.snap", "print everything that a server says about its devices"),
    "term": (
        "tools.term",
        "watch and control the devices of a server in the terminal (needs indifast[term])",
    ),
    "watch": ("tools.watch", "print changes of properties as they arrive"),
    "web": ("tools.web", "watch and control the devices of a server in the browser (needs indifast[web])"),
}
"""Sub-commands: the module in this package that runs each, and a line of help."""

UNWRITABLE = 2
"""Exit status if the output cannot be written."""

PIPE = 141
"""Exit status if the reader of the output is gone: the one a shell reports for a program killed by SIGPIPE."""

WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors that only writing can cause: a full disk, a terminal that is gone."""


def module_of(command: str) -> ModuleType:
    """Import and return the module that runs a sub-command."""
    from importlib import import_module

    return import_module(f"{__name__}.{COMMANDS[command][0]}")


def unwritable(error: OSError) -> bool:
    """Return whether an error can only come from writing the output."""
    if error.errno != errno.EBADF:
        return error.errno in WRITING
    import fcntl

    with suppress(OSError, ValueError):  # EBADF may mean that it was opened for reading only
        return fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    return False
