"""`indifast completion`: completion by TAB in bash and zsh."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from indifast.cli import COMMANDS, module_of
from indifast.cli.arguments import Parser
from indifast.cli.toolkit.address import AddressError, add_server_options, address_of
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.protocol.escape import UNSAFE

DESCRIPTION = """\
Print a script for the shell that completes commands, options, and names of devices and properties. The names come from
the server that the command line names."""

EXAMPLES = """\
examples:
  source <(indifast completion bash)                                    in ~/.bashrc
  indifast completion zsh > "${fpath[1]}/_indifast"                     for zsh"""

BASH = """\
_indifast() {
    local IFS=$'\\n' current="${COMP_WORDS[COMP_CWORD]}" line="${COMP_LINE:0:COMP_POINT}"
    COMPREPLY=($(indifast completion --line="$line" --shell-word="$current" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        compopt -o default
    else
        compopt -o filenames -o nospace
        [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[.=/] ]] && compopt +o nospace
    fi
}
complete -F _indifast indifast
"""

ZSH = """\
#compdef indifast
_indifast() {
    local -a before candidates
    before=("${(@Q)words[1,CURRENT-1]}")
    candidates=("${(@f)$(indifast completion --line="${(j: :)${(@qq)before}} ${(qq)${(Q)PREFIX}}" 2>/dev/null)}")
    if [[ -z "${candidates[*]}" ]]; then
        _files
    else
        compadd -S '' -- "${candidates[@]}"
    fi
}
if [[ "${funcstack[1]}" = _indifast ]]; then _indifast "$@"; else compdef _indifast indifast; fi
"""

_TALKING = ("devices", "eval", "expose", "get", "set", "snap", "watch")
_DEVICES_ONLY = ("expose", "snap")
_ONCE_DEVICES = 0.15
"""Seconds without a definition after which the names count as complete."""
_PATIENCE = 1.0
"""Seconds that a server may take; nobody waits longer for a TAB."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = parser().parse_args(arguments)
    if options.line is not None:
        logging.getLogger("indifast").setLevel(logging.CRITICAL)  # the user would see it on standard error
        for candidate in candidates(options.line, options.word):
            print(candidate)
        return Status.DONE
    if options.shell is None:
        parser().error("which shell? indifast completion bash, or zsh")
    print(BASH if options.shell == "bash" else ZSH, end="")
    return Status.DONE


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(
        prog="indifast completion",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", nargs="?", choices=("bash", "zsh"))
    parser.add_argument("--line", help=argparse.SUPPRESS)  # the command line up to the cursor: print candidates
    parser.add_argument("--shell-word", dest="word", help=argparse.SUPPRESS)  # what the shell takes for the last word
    return parser


def candidates(line: str, word: str | None = None) -> list[str]:
    """Return what the last word of a command line may become, sorted.

    Names with characters that are unsafe for the shell's terminal are left out.

    Args:
        line: The command line up to the cursor.
        word: What the shell takes for the last word. Shells like bash also break words at `:` and `=`; the part of
            the candidates before `word` is then left out.
    """
    words = split_line(line)
    last = words[-1] if words else ""
    if len(words) < 2:
        return []
    if len(words) == 2:
        found: Iterable[str] = [name for name in COMMANDS if name.startswith(last)]
    elif words[1] not in COMMANDS:
        found = []
    elif last.startswith("-"):
        found = [option for option in options_of(words[1]) if option.startswith(last)]
    elif words[1] == "completion":
        found = [name for name in ("bash", "zsh") if name.startswith(last)]
    elif words[1] in _TALKING:
        found = _names(words[1], words[2:-1], last)
    else:
        found = []
    shown = dict.fromkeys(each for each in found if not UNSAFE.search(each))
    return sorted(_replacement(each, last, word) for each in shown)


def _replacement(candidate: str, last: str, word: str | None) -> str:
    """Return the part of a candidate that replaces the shell's word."""
    if word is None:
        return candidate
    bare = split_line(word)[-1] if word else ""
    if word in (":", "="):
        bare = ""
    return candidate[len(last) - len(bare) :] if last.endswith(bare) else candidate


def split_line(line: str) -> list[str]:
    """Split a command line that may end within quotes into words; after a space, the last word is empty."""
    words, current, quote, started = [], "", "", True
    characters = iter(line)
    for character in characters:
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\" and quote == '"':
                current += next(characters, "")
            else:
                current += character
        elif character in "'\"":
            quote, started = character, True
        elif character == "\\":
            current += next(characters, "")
            started = True
        elif character.isspace():
            if started:
                words.append(current)
            current, started = "", False
        else:
            current += character
            started = True
    return [*words, current]


def options_of(command: str) -> list[str]:
    """Return the options of a command, as its --help lists them."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        module_of(command).main(["--help"])
    found = re.findall(r"(?:^|[\s,\[|])(--?[A-Za-z0-9][\w-]*)", shown.getvalue())
    return sorted({*found, "--help"})


def _names(command: str, given: list[str], last: str) -> list[str]:
    """Return names that begin with the word, from the server that the options name."""
    reader = Parser(add_help=False, exit_on_error=False, allow_abbrev=False)
    add_server_options(reader)
    reader.error = _refuse  # type: ignore[method-assign]
    if given and given[-1] in ("-h", "--host", "-p", "--port", "--unix", "-o", "-t", "-n", "--timeout", "--wait"):
        return []
    try:
        options, _ = reader.parse_known_args(given)
        address = address_of(options)
        return asyncio.run(_ask(address, _level(command, last)))
    except (AddressError, ToolError, argparse.ArgumentError, SystemExit, OSError):
        return []


def _refuse(message: str) -> Any:
    raise AddressError(message)


def _level(command: str, last: str) -> Callable[[Any], list[str]]:
    """Return a function that lists the candidates that a client knows: the next part of the name, up to its dot."""
    if command in _DEVICES_ONLY:
        return lambda client: [name for name in client if name.startswith(last)]

    def names(client: Any) -> list[str]:
        begin = last
        while True:
            found = [name for name in _next_parts(client, begin, command == "set") if name.startswith(begin)]
            if len(found) != 1 or not found[0].endswith(".") or found[0] == begin:
                return found
            begin = found[0]  # a shell would take the only candidate for the whole name, and close the quotes

    return names


def _next_parts(client: Any, begin: str, assigned: bool) -> Iterable[str]:
    for device in client.values():
        if not begin.startswith(f"{device.devicename}."):
            yield f"{device.devicename}."
            continue
        for vector in device.values():
            name = f"{device.devicename}.{vector.name}."
            if not begin.startswith(name):
                yield name
            else:
                yield from (f"{name}{member}{'=' if assigned else ''}" for member in vector)


async def _ask(address: Any, names: Callable[[Any], list[str]]) -> list[str]:
    from indifast.cli.toolkit.session import connected

    async with connected(address) as client:
        with contextlib.suppress(TimeoutError):
            await client.ready(_PATIENCE, quiet=_ONCE_DEVICES)
        return names(client)
