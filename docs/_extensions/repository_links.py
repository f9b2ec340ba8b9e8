"""Links to files in the repository that are not pages of the site.

A link such as `[the examples](../../examples)` works for people who read the source. On the site, it becomes a link to
the repository, whose address is `Repository` in `[project.urls]` of `pyproject.toml`.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
ADDRESS: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
BRANCH = "main"

_LINK = re.compile(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
logger = logging.getLogger(__name__)


def link_to_repository(app: Sphinx, page: str, content: list[str]) -> None:
    """Replace the links of a page that lead out of the documentation's folder."""
    source = Path(app.env.doc2path(page))

    def replaced(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / match[1]))
        if target.is_relative_to(app.srcdir):
            return match[0]
        if not target.exists():
            logger.warning("no such file: %s", match[1], location=page)
        kind = "tree" if target.is_dir() else "blob"
        return f"]({ADDRESS}/{kind}/{BRANCH}/{target.relative_to(ROOT)}{match[2] or ''})"

    content[0] = _LINK.sub(replaced, content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the replacement."""
    app.connect("source-read", link_to_repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
