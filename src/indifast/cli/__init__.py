"""The command `indifast` and its sub-commands.

A sub-command is a module with `main(arguments) -> int`, imported only when it is called: `indifast serve` must not pay
for what `indifast demo` needs.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

COMMANDS = {
    "bench": "how fast this machine is: codec, relay, full stack, latency, in about a minute",
    "completion": "completion of all this for bash or zsh",
    "demo": "a simulated camera and a thermostat, served here, watched by a client in another process",
    "devices": "the devices of a server: drivers, kinds, connected or not",
    "eval": "whether an expression of values is true, or when it becomes true",
    "expose": "take pictures with a camera and save them",
    "get": "values of properties",
    "record": "what one client may see of a server, with times, in a file",
    "replay": "serve a recording again, or tell what is in it",
    "serve": "a server for drivers, also in the place of indiserver",
    "set": "command properties",
    "snap": "all that a server tells of its devices",
    "term": "the devices of a server in the terminal, to watch and to command (needs indifast[term])",
    "watch": "changes of properties as they come",
}
"""Sub-commands, each with one line of help; the module of the same name below this package runs it."""

UNWRITABLE = 2
"""Exit status when the output cannot be written."""

PIPE = 141
"""Exit status when the reader of the output has gone: what a shell tells of a program that SIGPIPE has ended."""

WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors that writing alone can meet: a full disk, a terminal that has gone."""


def unwritable(error: OSError) -> bool:
    """An error that only the writing of the output can have met."""
    if error.errno != errno.EBADF:
        return error.errno in WRITING
    import fcntl

    with suppress(OSError, ValueError):  # an output that somebody opened for reading
        return fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    return False


def run(command: Callable[[], int] | None = None) -> int:
    """Run a command (`main`) as the whole of a program; gives the exit status.

    Ctrl-C is silent wherever it comes, and so is a reader of the output that has gone; an output that cannot be
    written is told in one sentence.
    """
    try:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by whoever started us
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open to the end
        if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show is no reason to end
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return (command or main)()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, as in `indifast demo | head -1`
        _drop_output()
        return PIPE
    except OSError as error:
        if not unwritable(error):
            raise
        _drop_output()
        with suppress(OSError):
            print(f"indifast: the output cannot be written: {error.strerror}", file=sys.stderr)
        return UNWRITABLE
    finally:
        _ignore_interrupts()


def run_server() -> int:
    """The command `indifast-server`."""
    from indifast.cli.front import take

    front = take()
    return run(lambda: int(import_module("indifast.cli.serve").main_server(front)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sub-command that the first argument names; gives the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from indifast import version

        print(f"indifast {version}")
        return 0
    if words[0] not in COMMANDS:
        print(f"indifast: there is no command {words[0]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return int(import_module(f"indifast.cli.{words[0]}").main(words[1:]))


def _drop_output() -> None:
    """What is still buffered has nowhere to go; the interpreter would complain of it at its end."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _ignore_interrupts() -> None:
    """Nothing is left to interrupt but the end of the interpreter."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: indifast COMMAND [ARGUMENTS]   (indifast COMMAND --help says more)", "", *lines])
