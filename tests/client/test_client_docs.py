"""The programs in the documentation, run as they are printed there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import indifast.client
from tests.support.servers import indiserver

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def program_with(text: str) -> str:
    (found,) = [program for program in PROGRAMS if text in program]
    return str(found)


def test_the_program_with_await(program: Callable[[str], str]) -> None:
    with indiserver(program, "indi_simulator_ccd") as (port, _):
        source = program_with("until=").replace('"localhost"', f'"127.0.0.1", {port}').replace("-10", "-1")
        names: dict[str, Any] = {}
        exec(source, names)
        asyncio.run(names["main"]())


def test_the_program_without_await(program: Callable[[str], str]) -> None:
    with indiserver(program, "indi_simulator_ccd") as (port, _):
        exec(program_with("with connect").replace('"localhost"', f'"127.0.0.1", {port}'), {})


def test_every_documented_attribute_exists() -> None:
    client = indifast.client.IPyClient()
    rows = PAGE.split("| attribute | default | |")[1].split("\n\n")[0]
    names = [name for row in rows.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert len(names) == 14
    assert all(hasattr(client, name) for name in names)
