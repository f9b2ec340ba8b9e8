"""The dispatcher of the commands `indifast` and `indifast-server`, and how every command ends."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from indifast.cli import COMMANDS, PIPE, UNWRITABLE, module_of, unwritable


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
    from indifast.cli.serve.front import take

    front = take()
    return run(lambda: int(module_of("serve").main_server(front)))


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
    return int(module_of(words[0]).main(words[1:]))


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
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: indifast COMMAND [ARGUMENTS]   (indifast COMMAND --help says more)", "", *lines])
