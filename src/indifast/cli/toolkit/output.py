"""Properties as output for people: one line per member."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from indifast.protocol.escape import for_terminal, one_line
from indifast.protocol.numbers import formatted, read_number
from indifast.protocol.rules import range_of

_UNIT = re.compile(r"\(([^()]+)\)\s*\Z")


def value_of(vector: Any, member: str) -> str:
    """Return the value of a member, or of an attribute (`_STATE` …), as libindi's tools write it."""
    match member:
        case "_LABEL":
            return str(vector.label or vector.name)
        case "_GROUP":
            return str(vector.group or "")
        case "_STATE":
            return str(vector.state)
        case "_PERM":
            return str(vector.perm)
        case "_TO":
            return "" if vector.timeout is None else f"{vector.timeout:g}"
        case "_TS":
            return time_text(vector.timestamp)
    value = vector[member]
    return blob_text(value) if vector.vectortype == "BLOBVector" else str(value)


def time_text(timestamp: datetime | None) -> str:
    """Return a time as INDI writes it: UTC, without a time zone."""
    return "" if timestamp is None else timestamp.replace(tzinfo=None).isoformat()


def blob_text(content: Any) -> str:
    """Return the size of a BLOB as text."""
    return "" if content is None else f"{len(content)} bytes"


def line(vector: Any, member: str) -> str:
    """Return `device.property.member=value`, safe to print on a terminal."""
    return for_terminal(f"{vector.devicename}.{vector.name}.{member}={value_of(vector, member)}")


def labelled(vector: Any, member: str) -> tuple[str, str, str]:
    """Return the name of a member, its value with its unit, and what is known about it."""
    name = f"{vector.devicename}.{vector.name}.{member}"
    about = " / ".join(text for text in (vector.group, vector.label) if text)
    if member not in vector:
        return name, value_of(vector, member), about
    label = vector.memberlabel(member) or member
    notes = [vector.state, vector.perm]
    if vector.vectortype == "NumberVector":
        number = vector.member(member)
        if (limits := range_of(number.min, number.max)) is not None:
            notes.append(f"{limits[0]:g} to {limits[1]:g}")
    return name, value_with_unit(vector, member), f"{about} / {label} [{', '.join(map(str, notes))}]"


def value_with_unit(vector: Any, member: str) -> str:
    """Return the value in the driver's format, with the unit if the label ends with one in parentheses."""
    unit = _UNIT.search(vector.memberlabel(member) or "") if vector.vectortype == "NumberVector" else None
    return f"{shown(vector, member)}{f' {unit[1]}' if unit else ''}"


def shown(vector: Any, member: str, text: str | None = None) -> str:
    """Return the value of a member for people: numbers in the driver's format.

    Args:
        vector: The property.
        member: The name of the member.
        text: A former value of the member, as it was received; by default, the value is that of now.
    """
    if vector.vectortype != "NumberVector" or member not in vector:
        return value_of(vector, member) if text is None else text
    number = vector.member(member)
    if text is None or text == number.membervalue:
        return str(number.getshownvalue()).strip()
    value = read_number(text)
    formed = None if value is None else formatted(value, number.format)
    return (text if formed is None else formed).strip()


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns, safe to print on a terminal."""
    if not rows:
        return []
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
