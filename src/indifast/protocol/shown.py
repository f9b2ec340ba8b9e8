"""How text from the network is shown to people."""

from __future__ import annotations

from indifast.protocol.escape import escaped


def shown(text: str | None, length: int = 80) -> str:
    """Text of a stranger for a line of the log: at most `length` characters, and none that could end the line.

    XML keeps the line breaks of character references, and a name may be as long as an attribute. None is shown as "*".
    """
    if text is None:
        return "*"
    return escaped(text if len(text) <= length else f"{text[: length - 3]}...")
