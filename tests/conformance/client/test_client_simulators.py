"""Both client libraries get the same model and the same kinds of events from the C++ server and its simulators."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client.driving import Play, play
from tests.support.servers import indiserver

CAMERA = "CCD Simulator"
TELESCOPE = "Telescope Simulator"


@pytest.fixture
def simulators(program: Callable[[str], str]) -> Iterator[list[int]]:
    """The ports of two indiservers, each with a camera and a telescope."""
    with contextlib.ExitStack() as stack:
        servers = [indiserver(program, "indi_simulator_ccd", "indi_simulator_telescope") for _ in range(2)]
        yield [stack.enter_context(server)[0] for server in servers]


async def settled(stage: Play) -> None:
    """Wait until both drivers have sent all that they have to say now: they answer requests after that.

    The first answers may be definitions that were already on their way, so there are three requests.
    """
    for device in (CAMERA, TELESCOPE):

        def definitions(device: str = device) -> int:
            fields = [line["fields"] for line in stage.events() if line["event"] == "Define"]
            return sum((f["devicename"], f["vectorname"]) == (device, "CONNECTION") for f in fields)

        await stage.until(definitions, f"definition of {device}")
        for _ in range(3):
            before = definitions()
            await stage.command("send_getProperties", device, "CONNECTION")
            await stage.until(lambda: definitions() > before, f"answer of {device}")  # noqa: B023


def test_model_and_events(simulators: list[int], peers: dict[str, Path]) -> None:
    async def scenario(stage: Play) -> None:
        await stage.command("run")
        await settled(stage)
        await stage.command("dump")
        await stage.command("send_newVector", CAMERA, "CONNECTION", members={"CONNECT": "On"})
        await stage.until(lambda: any(line["fields"].get("vectorname") == "CCD1" for line in stage.events()), "CCD1")
        await settled(stage)
        await stage.command("send_enableBLOB", "Also", CAMERA, "CCD1")
        await stage.command("send_newVector", CAMERA, "CCD_EXPOSURE", members={"CCD_EXPOSURE_VALUE": "0.1"})
        await stage.event("SetBLOB")
        await stage.command("send_newVector", CAMERA, "CONNECTION", members={"DISCONNECT": "On"})
        await stage.event("Delete")
        await settled(stage)
        await stage.command("enabledlen")

    theirs, ours = play(scenario, peers["d31"], simulators)
    dumps = [next(line["result"] for line in stage.lines if line.get("done") == "dump") for stage in (theirs, ours)]
    assert still(dumps[1]) == still(dumps[0])
    assert kinds(ours) == kinds(theirs)
    frames = [next(line for line in stage.events() if line["event"] == "SetBLOB") for stage in (theirs, ours)]
    for part in ("cls", "fields", "known", "connected"):
        assert frames[1][part] == frames[0][part]
    assert [len(value) > 1 << 20 for _, value in frames[1]["items"]] == [True]


def still(item: Any) -> Any:
    """Return what is the same in two runs: no times, no messages, and no values that the simulators change."""
    if isinstance(item, dict):
        moving = ("message", "messages", "timestamp", "message_timestamp", "value", "floatvalue", "formattedvalue")
        return {key: still(value) for key, value in item.items() if key not in moving and key not in DRIFTING}
    return item


DRIFTING = ("EQUATORIAL_EOD_COORD", "TIME_UTC")
"""Vectors of the simulators that change by themselves."""


def kinds(stage: Play) -> set[tuple[Any, ...]]:
    """Return every kind of event of every vector of the camera."""
    return {
        (line["event"], line["cls"], line["fields"].get("vectorname"), line["device"], line["vector"])
        for line in stage.events()
        if line["fields"]["devicename"] == CAMERA
    }
