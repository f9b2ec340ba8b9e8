"""Escaping of untrusted text for logs, terminals and JSON.

All use one table of characters that must not be shown as they are. Control characters command a terminal or end a
line. Others change the writing direction or take no space, so that one name passes for another. Surrogates can't be
encoded at all.
"""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x1f\x7f-\x9f"
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"
_LINE_ENDS = "\u2028\u2029"
_NO_ROOM = "\u00ad\u180e\u200b-\u200d\u2060-\u2065\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_SURROGATES = "\ud800-\udfff"

UNSAFE = re.compile(f"[{_CONTROLS}{_DIRECTION}{_LINE_ENDS}{_NO_ROOM}{_SURROGATES}]")
"""Matches one unsafe character. None of them is printable according to `str.isprintable`."""


def escaped(text: str, keep: str = "") -> str:
    r"""Return text with unsafe characters, except those in `keep`, written as `\x9b`, `\u202e` and the like."""
    if text.isprintable():
        return text
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str) -> str:
    """Return text that fits one line of a terminal or one cell of a table: every unsafe character is escaped."""
    return escaped(text)


def for_terminal(text: str) -> str:
    """Return text for standard output. Line breaks and tabs stay, because values may have several lines."""
    return escaped(text, keep="\n\t")


def for_log(text: str | None, length: int = 80) -> str:
    """Return untrusted text for a log line: cut to `length` characters, then escaped so that it can't end the line.

    XML keeps line breaks written as character references, and a name may be as long as an attribute. None gives "*".
    """
    if text is None:
        return "*"
    return escaped(text if len(text) <= length else f"{text[: length - 3]}...")


def printable(text: str) -> str:
    """Return text with U+FFFD for each character that `str.isprintable` rejects, including unusual spaces."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def json_escaped(text: str) -> str:
    """Return JSON text with its unsafe characters escaped, which leaves the data the same.

    Line breaks stay, because they only occur between values.
    """
    return UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else _json_escape(match[0]), text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
