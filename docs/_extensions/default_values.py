"""The directives `fields`, `constants` and `docstring`, which show names, values and docstrings from the source.

`fields` takes a class whose attributes have defaults. `constants` takes one dotted name per line, optionally followed
by the text to show instead of it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective


def shown(name: str, value: object) -> str:
    """Return a value as people write it: sizes in KiB, MiB and GiB."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 9999:
        for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if value % size == 0:
                return f"{value // size} {unit}"
        return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}")
    return f"{value:g}" if isinstance(value, float) else str(value)


class DefaultsDirective(SphinxDirective):
    """Base class of the directives."""

    def analyzed(self, module: str) -> ModuleAnalyzer:
        """Return the comments and docstrings of a module, and remember that the page depends on it."""
        found = ModuleAnalyzer.for_module(module)
        found.analyze()
        self.env.note_dependency(str(importlib.import_module(module).__file__))
        self.env.note_dependency(__file__)
        return found

    def table(self, head: Iterable[str], rows: Iterable[tuple[str, str, str]]) -> nodes.table:
        """Return a table of names, values, and what they mean."""
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (25, 15, 60)), cols=3)
        header = nodes.row("", *(nodes.entry("", nodes.paragraph("", title)) for title in head))
        group += nodes.thead("", header)
        body = nodes.tbody()
        for name, value, text in rows:
            body += nodes.row(
                "",
                nodes.entry(
                    "", nodes.paragraph("", "", nodes.literal("", name) if name.isidentifier() else nodes.Text(name))
                ),
                nodes.entry("", nodes.paragraph("", value)),
                nodes.entry("", *self.paragraphs(text)),
            )
        group += body
        return nodes.table("", group, classes=["defaults"])

    def paragraphs(self, text: str) -> list[nodes.Node]:
        """Return a docstring as paragraphs in which `backticks` are code."""
        return [nodes.paragraph("", "", *self.inline(part)) for part in text.strip().split("\n\n") if part]

    def inline(self, text: str) -> Iterable[nodes.Node]:
        """Yield the nodes of a text in which `backticks` are code."""
        for odd, part in enumerate(re.split(r"`([^`]+)`", " ".join(text.split()))):
            if part:
                yield nodes.literal("", part) if odd % 2 else nodes.Text(part)


class Fields(DefaultsDirective):
    """The attributes of a class with their defaults."""

    required_arguments = 1
    option_spec = {"only": directives.unchanged}  # noqa: RUF012 - as Sphinx has it

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        attributes = {
            attribute: "\n".join(lines)
            for (owner, attribute), lines in self.analyzed(module).attr_docs.items()
            if owner == name
        }
        kind = getattr(importlib.import_module(module), name)
        instance = kind() if hasattr(kind, "__dataclass_fields__") else kind
        only = self.options.get("only", "").split()
        rows = [
            (attribute, shown(attribute, getattr(instance, attribute)), text)
            for attribute, text in attributes.items()
            if not only or attribute in only
        ]
        if not rows:
            raise self.error(f"{self.arguments[0]} has no documented attributes")
        return [self.table(("name", "default", "meaning"), rows)]


class Constants(DefaultsDirective):
    """Constants of several modules."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        rows = []
        for line in filter(None, self.content):
            dotted, _, title = line.partition(" ")
            module, _, name = dotted.rpartition(".")
            text = "\n".join(self.analyzed(module).attr_docs.get(("", name), []))
            if not text:
                raise self.error(f"{dotted} has no docstring")
            rows.append((title or name, shown(name, getattr(importlib.import_module(module), name)), text))
        return [self.table(("name", "value", "meaning"), rows)]


class Docstring(DefaultsDirective):
    """The docstring of a module, in Markdown, from a given text onwards."""

    required_arguments = 1
    option_spec = {"start": directives.unchanged}  # noqa: RUF012 - as Sphinx has it

    def run(self) -> list[nodes.Node]:
        self.analyzed(self.arguments[0])
        text = importlib.import_module(self.arguments[0]).__doc__ or ""
        start = self.options.get("start", "").strip('"')
        if start not in text:
            raise self.error(f"the docstring of {self.arguments[0]} does not contain {start!r}")
        container = nodes.Element()
        self.state.nested_parse(StringList(text[text.index(start) :].splitlines()), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("fields", Fields)
    app.add_directive("constants", Constants)
    app.add_directive("docstring", Docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
