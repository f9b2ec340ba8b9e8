"""Screens stored as text files: what is where, and which cells look alike.

A stored screen consists of its lines, followed by the same lines with one letter per cell for the cell's style: `a` for
the first style that occurs, `b` for the next, and so on. So a test notices that a highlight has moved or disappeared,
but not that a theme has another blue. Port numbers are replaced here; clocks are frozen by the tests, because a window
that covers a clock may leave any part of it visible.

`INDIFAST_SCREENS=write` writes the files again; check the changes with git.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from string import ascii_letters, digits

from textual.app import App

HOME = Path(__file__).with_name("screens")
LETTERS = ascii_letters + digits
PORT = re.compile(r"127\.0\.0\.1:\d{5}")


def portrait(app: App[int]) -> str:
    """Return the screen as text and styles."""
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
        lines.append(_without_port(text))
        looks.append(look)
    return "\n".join(line.rstrip() for line in [*lines, "", *looks]) + "\n"


def _without_port(text: str) -> str:
    return PORT.sub(lambda found: "127.0.0.1:PORT".ljust(len(found[0])), text)


def same(app: App[int], name: str) -> bool:
    """Return whether the screen is the one stored as `name`, after storing it if that was requested."""
    stored, seen = HOME / f"{name}.txt", portrait(app)
    if os.environ.get("INDIFAST_SCREENS") == "write":
        HOME.mkdir(exist_ok=True)
        stored.write_text(seen)
    return stored.is_file() and stored.read_text() == seen


def differences(app: App[int], name: str) -> str:
    """Return the differences between the stored screen and the present one."""
    stored = HOME / f"{name}.txt"
    before = stored.read_text().splitlines() if stored.is_file() else []
    found = "\n".join(difflib.unified_diff(before, portrait(app).splitlines(), str(stored), "now", lineterm="", n=1))
    return f"{found}\n\nIf the new screen is right, run this test with INDIFAST_SCREENS=write"
