"""Names in docstrings and annotations become links.

Text in single backticks is a link if it is the name of a documented object, and code otherwise. The client and the
driver have classes of the same name (`Device`, `setNumberVector`); a name refers to the one in the package that the
docstring belongs to.

Docstrings of attributes and properties can have sections like any other, and do not begin with a type.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.ext.napoleon.docstring import GoogleDocstring

HOMES = {
    "indifast.client": (
        "client",
        "client.settings",
        "client.frames",
        "client.streams",
        "client.snapshot",
        "client.events",
        "client.propertyvectors",
        "client.propertymembers",
        "client.device",
    ),
    "indifast": (
        "driver.ipydriver",
        "driver.device",
        "driver.events",
        "driver.propertyvectors",
        "driver.propertymembers",
    ),
}
"""Modules in which a short name is looked up, by the package that the docstring belongs to."""

_NAME = re.compile(r"[A-Za-z_][\w.]*(\(\))?")
_reference = PyXRefRole()


def code_or_reference(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: dict[str, Any] | None = None,
    content: list[str] | None = None,
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Return the nodes for text in backticks."""
    code = rawtext[1:-1] if rawtext.startswith("`") else text  # as written: backslashes are not escapes in code
    if _NAME.fullmatch(code):
        return _reference("py:obj", rawtext, code.removesuffix("()"), lineno, inliner, options or {}, content or [])
    return [nodes.literal(rawtext, code, classes=["docutils", "literal", "notranslate"])], []


def complete(app: Sphinx, document: nodes.document) -> None:
    """Replace the target of references by short names with the full name."""
    for node in document.findall(addnodes.pending_xref):
        short = node.get("reftarget", "")
        if node.get("refdomain") != "py" or "." in short:
            continue
        module = node.get("py:module") or ""
        home = next((home for home in HOMES if module.startswith(home)), "indifast")
        for place in (f"indifast.{each}" for each in HOMES[home]):
            found = getattr(importlib.import_module(place), short, None)
            if isinstance(found, type) and found.__module__.startswith("indifast"):
                node["reftarget"] = f"{found.__module__}.{short}"
                break


def _attribute_docstring(self: GoogleDocstring) -> list[str]:
    """Parse the docstring of an attribute like any other. (Napoleon takes everything before a colon as its type.)"""
    self._what = "method"
    self._parse()
    lines, self._parsed_lines = self._parsed_lines, []
    return lines


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the role, and the completion of names."""
    app.add_role("code_or_reference", code_or_reference)
    app.connect("doctree-read", complete)
    GoogleDocstring._parse_attribute_docstring = _attribute_docstring  # type: ignore[method-assign]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
