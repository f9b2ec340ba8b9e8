"""Entry points of the commands `indifast` and `indifast-server`, and how every command ends."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from indifast.cli import COMMANDS, PIPE, UNWRITABLE, module_of, unwritable

_MISTAKE = 2
"""Exit status after wrong arguments."""


def run(command: Callable[[], int] | None = None) -> int:
    """Run a command (`main` by default) as a whole program, and return the exit status.

    Ctrl-C ends the program silently at any point, and so does the loss of the output's reader. If the output cannot be
    written, one sentence says so.
    """
    try:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by the program that started us
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - stays open until the end
        if isinstance(sys.stdout, io.TextIOWrapper):  # a character that the terminal cannot show is no reason to fail
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return (command or main)()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output is done, as in `indifast demo | head -1`
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
    """Run the command `indifast-server`, and return the exit status."""
    from indifast.cli.serve.front import take

    front = take()
    return run(lambda: int(module_of("serve").main_server(front)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sub-command that the first argument names, and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] == "--help":
        from indifast.cli.help import commands

        print(commands())
        return 0 if words else _MISTAKE
    if words[0] in ("-V", "--version"):
        from indifast import version

        print(f"indifast {version}")
        return 0
    if words[0] not in COMMANDS:
        return _mistaken(words[0])
    return int(module_of(words[0]).main(words[1:]))


def _drop_output() -> None:
    """Discard what is still buffered: otherwise the interpreter would complain about it as it shuts down."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on: only the shutdown of the interpreter is left to interrupt."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _mistaken(word: str) -> int:
    """Report a first word that is no command, and return the exit status."""
    if not word.startswith("-"):
        from indifast.cli.help import unknown

        return unknown(word)
    if word.startswith(("-h", "--host")):
        hint = "-h names the server, after a command that talks to one, as in `indifast devices -h HOST`"
    else:
        hint = f"there is no option {word}"
    print(f"indifast: {hint}; --help lists the commands", file=sys.stderr)
    return _MISTAKE
