"""The command `indifast` and its sub-commands.

A sub-command is a module with `main(arguments) -> int`, imported only when it is called: `indifast serve` must not pay
for what `indifast demo` needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "demo": "a simulated camera and a thermostat, served here, watched by a client in another process",
    "serve": "a server for drivers, also in the place of indiserver",
}
"""Sub-commands, each with one line of help; the module of the same name below this package runs it."""


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
    try:
        return int(import_module(f"indifast.cli.{words[0]}").main(words[1:]))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, as in `indifast demo | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: indifast COMMAND [ARGUMENTS]   (indifast COMMAND --help says more)", "", *lines])
