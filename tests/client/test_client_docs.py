"""What the page about the client says is so. Its programs are run by tests/documentation."""

from __future__ import annotations

import re
from pathlib import Path

import indifast.client

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "client.md").read_text()


def test_every_documented_attribute_exists() -> None:
    client = indifast.client.IPyClient()
    rows = PAGE.split("| attribute | default | |")[1].split("\n\n")[0]
    names = [name for row in rows.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert len(names) == 16
    assert all(hasattr(client, name) for name in names)
