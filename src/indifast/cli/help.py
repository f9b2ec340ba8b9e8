"""`indifast help`: the commands, or the help of one of them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

from indifast.cli import COMMANDS, module_of
from indifast.cli.arguments import Parser

DESCRIPTION = """\
List the commands, or show the help of one of them, as `indifast COMMAND --help` does."""

EXAMPLES = """\
examples:
  indifast help
  indifast help expose"""

_MISTAKE = 2


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = parser().parse_args(arguments)
    if options.command is None:
        print(commands())
        return 0
    if options.command not in COMMANDS:
        return unknown(options.command)
    return int(module_of(options.command).main(["--help"]))


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast help", DESCRIPTION, EXAMPLES)
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="(default: list all of them)")
    return parser


def commands() -> str:
    """Return the list of commands, as people see it."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: indifast COMMAND [ARGUMENTS]   (for details: indifast help COMMAND)", "", *lines])


def unknown(command: str) -> int:
    """Report a command that does not exist, and return the exit status."""
    near = difflib.get_close_matches(command.casefold(), COMMANDS)
    hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(COMMANDS)}"
    print(f"indifast: there is no command {command!r}: {hint}", file=sys.stderr)
    return _MISTAKE
