"""How text from the network is shown to people."""

from __future__ import annotations


def shown(text: str | None, length: int = 80) -> str:
    """Text of a stranger for a line of the log: at most `length` characters, and none that could end the line.

    XML keeps the line breaks of character references, and a name may be as long as an attribute. None is shown as "*".
    """
    if text is None:
        return "*"
    clipped = text if len(text) <= length else f"{text[: length - 3]}..."
    if clipped.isprintable():
        return clipped
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in clipped)
