"""Conversion of received elements to `xml.etree.ElementTree`, for programs that look at the XML itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element as TreeElement
from xml.etree.ElementTree import SubElement

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Opened


def to_tree(element: Element | Opened, *, content: bool = True) -> TreeElement:
    """Return an element as a tree. BLOB content is one unwrapped run of base64, or left out if `content` is false."""
    root = TreeElement(element.tag, element.attrs)
    if element.text:
        root.text = element.text
    for member in element.members:
        child = SubElement(root, member.tag, member.attrs)
        if member.tag == "oneBLOB":
            if not content or member.data is None:
                continue
            from indifast._base64 import encode

            child.text = encode(member.data).decode("ascii")
        elif member.text:
            child.text = member.text
    return root
