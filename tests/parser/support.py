"""Helpers of the tokenizer's tests."""

from __future__ import annotations

from indifast._parser import Element

GOOD = b'<setTextVector device="D" name="good"><oneText name="t">fine</oneText></setTextVector>\n'


def written(*elements: Element) -> bytes:
    """Return what elements are on the wire, with all content inline."""
    forms = [element.parts(False) for element in elements]
    assert None not in forms
    return b"".join(bytes(part) for form in forms for part in form or ())
