"""Directives that document the commands and their options from the program's own parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from indifast.cli import COMMANDS, module_of


def usage_of(parser: argparse.ArgumentParser) -> str:
    """Return the usage of a command, without "usage:"."""
    first, *others = parser.format_usage().removeprefix("usage: ").strip().splitlines()
    return "\n".join([first, *(line.removeprefix(" " * len("usage: ")) for line in others)])


def option_lists(parser: argparse.ArgumentParser) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """Yield the groups of a parser's arguments: a title, and pairs of an argument and its help."""
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        rows = []
        for action in group._group_actions:
            if action.help is argparse.SUPPRESS:
                continue
            name = formatter._format_action_invocation(action)
            rows.append((name, formatter._expand_help(action) if action.help else ""))
        if rows:
            yield group.title or "", rows


class CommandDirective(SphinxDirective):
    """Everything that `--help` says about one command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return list(self.describe(self.arguments[0]))

    def describe(self, name: str) -> Iterable[nodes.Node]:
        """Yield the nodes for a command."""
        module = module_of(name)
        self.env.note_dependency(str(module.__file__))
        self.env.note_dependency(__file__)
        if not hasattr(module, "parser"):
            from indifast.cli.serve.options import EXAMPLES, USAGE

            shown = (USAGE + EXAMPLES).format(program=f"indifast {name}", host="localhost")
            yield nodes.literal_block(text=shown, language="text")
            return
        parser: argparse.ArgumentParser = module.parser()
        parser.color = False  # Python 3.14 colors the help if it is printed on a terminal
        yield nodes.literal_block(text=usage_of(parser), language="text")
        for paragraph in (parser.description or "").split("\n\n"):
            yield nodes.paragraph("", "", *self.text(paragraph))
        for title, rows in option_lists(parser):
            yield nodes.rubric("", title.capitalize())
            yield self.table(rows)
        for block in filter(None, (parser.epilog or "").split("\n\n")):
            if block.startswith("examples:"):
                lines = block.splitlines()[1:]
                yield nodes.rubric("", "Examples")
                yield nodes.literal_block(text="\n".join(line.removeprefix("  ") for line in lines), language="text")
            else:
                yield nodes.paragraph("", "", *self.text(block))

    def text(self, words: str) -> list[nodes.Node]:
        """Return text in which `backticks` are code. Its quotes stay as they are, so that readers can copy them."""
        parts = re.split(r"`([^`]+)`", " ".join(words.split()))
        found = [nodes.literal("", part) if odd % 2 else nodes.Text(part) for odd, part in enumerate(parts) if part]
        for node in found:
            node.support_smartquotes = False
        return found

    def table(self, rows: list[tuple[str, str]]) -> nodes.table:
        """Return a table of two columns: code, and text."""
        body = nodes.tbody()
        for code, words in rows:
            body += nodes.row(
                "",
                nodes.entry("", nodes.paragraph("", "", nodes.literal("", code))),
                nodes.entry("", nodes.paragraph("", "", *self.text(words))),
            )
        group = nodes.tgroup("", nodes.colspec(colwidth=35), nodes.colspec(colwidth=65), body, cols=2)
        return nodes.table("", group, classes=["options"])


class CommandsDirective(CommandDirective):
    """A section for each command."""

    required_arguments = 0

    def run(self) -> list[nodes.Node]:
        sections = []
        for name, (_, line) in COMMANDS.items():
            section = nodes.section(ids=[f"indifast-{name}"], names=[f"indifast {name}"])
            section += nodes.title("", f"indifast {name}")
            if name == "serve":
                section += nodes.paragraph("", "", *self.text(f"{line[0].upper()}{line[1:]}."))
            section += list(self.describe(name))
            self.state.document.note_explicit_target(section)
            sections.append(section)
        return sections


class CommandTable(CommandDirective):
    """A table of all commands, with links to the sections that `commands` makes on the same page."""

    required_arguments = 0

    def run(self) -> list[nodes.Node]:
        body = nodes.tbody()
        for name, (_, line) in COMMANDS.items():
            link = nodes.reference(
                "", "", nodes.literal("", f"indifast {name}"), refid=f"indifast-{name}", internal=True
            )
            body += nodes.row(
                "",
                nodes.entry("", nodes.paragraph("", "", link)),
                nodes.entry("", nodes.paragraph("", "", *self.text(line))),
            )
        group = nodes.tgroup("", nodes.colspec(colwidth=25), nodes.colspec(colwidth=75), body, cols=2)
        return [nodes.table("", group)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("command", CommandDirective)
    app.add_directive("commands", CommandsDirective)
    app.add_directive("command-table", CommandTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
