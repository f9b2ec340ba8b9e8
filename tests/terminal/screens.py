"""Screens as text files: what stands where, and which cells look alike.

A screen is kept as its lines, followed by the same lines with a letter for the style of each cell: the first style
that comes is `a`, the next one `b`. So a test sees that a highlight has moved or gone, but not that a theme has another
blue. Ports are made alike here; a test freezes the clocks, as what covers them may cut one anywhere.

`INDIFAST_SCREENS=write` writes the files anew; look at what git says has changed in them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import ascii_letters, digits

from textual.app import App

HOME = Path(__file__).with_name("screens")
LETTERS = ascii_letters + digits
PORT = re.compile(r"127\.0\.0\.1:\d{5}")


def portrait(app: App[int]) -> str:
    """The screen as text and styles."""
    lines, looks, letters = [], [], {}
    for strip in app.screen._compositor.render_strips():
        text = look = ""
        for segment in strip:
            if segment.control:
                continue
            style = segment.style
            key = (style.color, style.bgcolor, style.bold, style.dim, style.reverse, style.underline) if style else None
            letter = letters.setdefault(key, LETTERS[min(len(letters), len(LETTERS) - 1)])
            text += segment.text
            look += letter * len(segment.text)
        lines.append(_alike(text))
        looks.append(look)
    return "\n".join(line.rstrip() for line in [*lines, "", *looks]) + "\n"


def _alike(text: str) -> str:
    return PORT.sub(lambda found: "127.0.0.1:PORT".ljust(len(found[0])), text)


def same(app: App[int], name: str) -> bool:
    """Whether the screen is the one that is kept under a name; a file beside it shows one that is not."""
    kept, seen = HOME / f"{name}.txt", portrait(app)
    if os.environ.get("INDIFAST_SCREENS") == "write":
        HOME.mkdir(exist_ok=True)
        kept.write_text(seen)
    return kept.is_file() and kept.read_text() == seen


def differences(app: App[int], name: str) -> str:
    """What is different from the screen that is kept."""
    import difflib

    kept = HOME / f"{name}.txt"
    before = kept.read_text().splitlines() if kept.is_file() else []
    found = "\n".join(difflib.unified_diff(before, portrait(app).splitlines(), str(kept), "now", lineterm="", n=1))
    return f"{found}\n\nIf this is as it should be: INDIFAST_SCREENS=write"
