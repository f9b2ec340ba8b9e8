"""`indifast completion`: completion by TAB in bash, zsh and fish.

The parser of a command says what its words are: those whose name in the help is in `_NAMED` are completed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from indifast.cli import COMMANDS, module_of
from indifast.cli.arguments import Parser
from indifast.cli.toolkit.address import AddressError, address_of
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.protocol.escape import UNSAFE

DESCRIPTION = """\
Print a script for the shell that completes commands, options, and names of devices and properties. The names come from
the server that the command line names."""

EXAMPLES = """\
examples:
  source <(indifast completion bash)                                    in ~/.bashrc
  indifast completion zsh > "${fpath[1]}/_indifast"                     for zsh
  indifast completion fish > ~/.config/fish/completions/indifast.fish   for fish"""

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

FISH = """\
function __indifast_complete
    set -l candidates (indifast completion --line=(commandline --cut-at-cursor --current-process | string collect) \\
        2>/dev/null)
    if test (count $candidates) -gt 0
        printf '%s\\n' $candidates
    else
        __fish_complete_path (commandline --cut-at-cursor --current-token)
    end
end
complete --command indifast --no-files --arguments '(__indifast_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
"""The scripts, by shell."""

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
        parser().error(f"which shell? {', or '.join(SCRIPTS)}")
    print(SCRIPTS[options.shell], end="")
    return Status.DONE


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast completion", DESCRIPTION, EXAMPLES)
    parser.add_argument("shell", nargs="?", choices=SCRIPTS)
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
    if len(words) < 2:
        return []
    last = words[-1]
    if len(words) == 2:
        found: Iterable[str] = _commands(last)
    elif words[1] not in COMMANDS:
        found = []
    elif last.startswith("-"):
        found = [option for option in options_of(words[1]) if option.startswith(last)]
    else:
        found = _words(words[1], words[2:-1], last)
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
    parser = _parser(command)
    if parser is None:
        shown = str(module_of(command).USAGE)
    else:
        parser.epilog = None  # examples show options of other commands, too
        shown = parser.format_help()
    return sorted({*re.findall(r"(?:^|[\s,\[|])(--?[A-Za-z0-9][\w-]*)", shown), "--help"})


def _parser(command: str) -> argparse.ArgumentParser | None:
    """Return the parser of a command; None for `serve`, which has its own."""
    module = module_of(command)
    return module.parser() if hasattr(module, "parser") else None


def _words(command: str, given: list[str], last: str) -> Iterable[str]:
    """Return what a word that is no option may become, after the words that were given."""
    parser = _parser(command)
    action = _expected(parser, given) if parser is not None else None
    if parser is None or action is None:
        return []
    if action.choices is not None:
        return [str(each) for each in action.choices if str(each).startswith(last)]
    if action.metavar == "COMMAND":
        return _commands(last)
    if action.option_strings:
        given = given[:-1]  # an option whose value is being written
    named = _NAMED.get(str(action.metavar))
    return _names(parser, given, lambda client: named(client, last)) if named is not None else []


def _expected(parser: argparse.ArgumentParser, given: Iterable[str]) -> argparse.Action | None:
    """Return the argument that the word after the given ones belongs to."""
    count, value = 0, None
    for word in given:
        option = parser._option_string_actions.get(word)
        if value is not None:
            value = None
        elif option is not None and option.nargs != 0:
            value = option
        elif not word.startswith("-"):
            count += 1
    words = parser._get_positional_actions()
    if value is not None or not words:
        return value
    return words[count] if count < len(words) else words[-1] if words[-1].nargs in ("*", "+") else None


def _commands(last: str) -> list[str]:
    return [name for name in COMMANDS if name.startswith(last)]


def _names(parser: argparse.ArgumentParser, given: list[str], names: Callable[[Any], list[str]]) -> list[str]:
    """Return names from the server that the options name."""
    for action in parser._actions:
        action.required = False  # the line is not complete
    parser.exit_on_error = False
    parser.error = _refuse  # type: ignore[method-assign]
    try:
        options, _ = parser.parse_known_args([word for word in given if word != "--help"])
        return asyncio.run(_ask(address_of(options), names))
    except (AddressError, ToolError, argparse.ArgumentError, SystemExit, OSError):
        return []


def _refuse(message: str) -> Any:
    raise AddressError(message)


def _devices(client: Any, last: str) -> list[str]:
    """Return the devices whose name begins with a word."""
    return [name for name in client if name.startswith(last)]


def _members(client: Any, last: str, after: str = "") -> list[str]:
    """Return the next part, up to its dot, of the names that begin with a word."""
    begin = last
    while True:
        found = [name for name in _next_parts(client, begin, after) if name.startswith(begin)]
        if len(found) != 1 or not found[0].endswith(".") or found[0] == begin:
            return found
        begin = found[0]  # a shell would take the only candidate for the whole name, and close the quotes


def _settings(client: Any, last: str) -> list[str]:
    """Return the same as `_members`, with `=` after the name of a member."""
    return _members(client, last, "=")


_NAMED: dict[str, Callable[[Any, str], list[str]]] = {
    "DEVICE": _devices, "EXPRESSION": _members, "QUERY": _members, "SPEC": _settings,
}  # fmt: skip
"""What a server completes, by the name that the argument has in the help."""


def _next_parts(client: Any, begin: str, after: str) -> Iterable[str]:
    for device in client.values():
        if not begin.startswith(f"{device.devicename}."):
            yield f"{device.devicename}."
            continue
        for vector in device.values():
            name = f"{device.devicename}.{vector.name}."
            if not begin.startswith(name):
                yield name
            else:
                yield from (f"{name}{member}{after}" for member in vector)


async def _ask(address: Any, names: Callable[[Any], list[str]]) -> list[str]:
    from indifast.cli.toolkit.session import connected

    async with connected(address) as client:
        with contextlib.suppress(TimeoutError):
            await client.ready(_PATIENCE, quiet=_ONCE_DEVICES)
        return names(client)
