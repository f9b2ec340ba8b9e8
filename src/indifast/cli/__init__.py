"""The command `indifast`: which sub-commands there are, and what they and the dispatcher (`main.py`) both know.

A sub-command is a module with `main(arguments) -> int`, imported only when it is called: `indifast serve` must not pay
for what `indifast demo` needs.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

TYPE_CHECKING = False  # as in `typing`, which is not to be imported before the server listens
if TYPE_CHECKING:
    from types import ModuleType

COMMANDS = {
    "bench": ("bench.command", "how fast this machine is: codec, relay, full stack, latency, in about a minute"),
    "completion": ("tools.completion", "completion of all this for bash or zsh"),
    "demo": (
        "demo.command",
        "a simulated camera and a thermostat, served here, watched by a client in another process",
    ),
    "devices": ("tools.devices", "the devices of a server: drivers, kinds, connected or not"),
    "eval": ("tools.eval", "whether an expression of values is true, or when it becomes true"),
    "expose": ("tools.expose", "take pictures with a camera and save them"),
    "get": ("tools.get", "values of properties"),
    "record": ("recordings.record", "what one client may see of a server, with times, in a file"),
    "replay": ("recordings.replay", "serve a recording again, or tell what is in it"),
    "serve": ("serve.command", "a server for drivers, also in the place of indiserver"),
    "set": ("tools.set", "command properties"),
    "snap": ("tools.snap", "all that a server tells of its devices"),
    "term": (
        "tools.term",
        "the devices of a server in the terminal, to watch and to command (needs indifast[term])",
    ),
    "watch": ("tools.watch", "changes of properties as they come"),
}
"""Sub-commands: the module below this package that runs each, and one line of help."""

UNWRITABLE = 2
"""Exit status when the output cannot be written."""

PIPE = 141
"""Exit status when the reader of the output has gone: what a shell tells of a program that SIGPIPE has ended."""

WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors that writing alone can meet: a full disk, a terminal that has gone."""


def module_of(command: str) -> ModuleType:
    """The module that runs a sub-command, imported now."""
    from importlib import import_module

    return import_module(f"{__name__}.{COMMANDS[command][0]}")


def unwritable(error: OSError) -> bool:
    """An error that only the writing of the output can have met."""
    if error.errno != errno.EBADF:
        return error.errno in WRITING
    import fcntl

    with suppress(OSError, ValueError):  # an output that somebody opened for reading
        return fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    return False
