"""Both client libraries against the C++ server and its simulators: the same model, the same kinds of events."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client.driving import LIMIT, Play, play
from tests.support.blackbox import free_port

CAMERA = "CCD Simulator"


@pytest.fixture
def simulators(program: Callable[[str], str], tmp_path: Path) -> Iterator[list[int]]:
    """The ports of two indiservers, each with a camera and a telescope."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(indiserver(program, tmp_path / name)) for name in ("theirs", "ours")]


@contextlib.contextmanager
def indiserver(program: Callable[[str], str], home: Path) -> Iterator[int]:
    home.mkdir()
    port = free_port()
    process = subprocess.Popen(
        [program("indiserver"), "-p", str(port), "-u", str(home / "local"),
         program("indi_simulator_ccd"), program("indi_simulator_telescope")],
        env={**os.environ, "HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    limit = time.monotonic() + LIMIT
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < limit
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(LIMIT)


async def settled(stage: Play) -> Any:
    """The model, once it has not grown for several looks at it."""
    known: Any = None
    same = 0
    for _ in range(200):
        before, known = known, await stage.command("mapping")
        same = same + 1 if known == before and len(known) == 2 else 0
        if same == 10:
            return known
        await stage.pause(0.1)
    raise AssertionError(f"the model does not settle: {known}")


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
    """What is the same in two runs: no times, no messages, nothing that the simulators make up as they go."""
    if isinstance(item, dict):
        moving = ("message", "messages", "timestamp", "message_timestamp", "value", "floatvalue", "formattedvalue")
        return {key: still(value) for key, value in item.items() if key not in moving and key not in DRIFTING}
    return item


DRIFTING = ("EQUATORIAL_EOD_COORD", "TIME_UTC")
"""Vectors of the simulators that change by themselves."""


def kinds(stage: Play) -> set[tuple[Any, ...]]:
    """Every kind of event seen of every vector of the camera."""
    return {
        (line["event"], line["cls"], line["fields"].get("vectorname"), line["device"], line["vector"])
        for line in stage.events()
        if line["fields"]["devicename"] == CAMERA
    }
