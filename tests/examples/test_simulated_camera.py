"""The simulated camera under IPyServer, and as a program under the C++ server."""

from __future__ import annotations

import asyncio
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from astropy.io import fits

from indifast import IPyServer
from indifast.client import IPyClient, defNumberVector, setBLOBVector, setNumberVector
from tests.support.blackbox import LIMIT
from tests.support.servers import EXAMPLES, indiserver, launcher

EXAMPLE = EXAMPLES / "simulated_camera.py"
CAMERA = "Simulated Camera"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulated_camera", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Observer(IPyClient):
    """Keeps pictures, and the states of the exposure."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.enableBLOBdefault = "Also"
        self.known = asyncio.Event()
        self.pictures: asyncio.Queue[bytes] = asyncio.Queue()
        self.states: asyncio.Queue[str] = asyncio.Queue()

    async def rxevent(self, event: Any) -> None:
        match event:
            case defNumberVector(vectorname="CCD_INFO"):  # the last vector that is defined
                self.known.set()
            case setBLOBVector(vectorname="CCD1"):
                self.pictures.put_nowait(bytes(event["CCD1"]))
            case setNumberVector(vectorname="CCD_EXPOSURE"):
                self.states.put_nowait(event.state)

    async def expose(self, seconds: float) -> None:
        await self.send_newVector(CAMERA, "CCD_EXPOSURE", members={"CCD_EXPOSURE_VALUE": seconds})


async def observe(port: int) -> None:
    """Take two pictures, abort a third exposure, have a fourth refused."""
    observer = Observer(port)
    async with observer, asyncio.timeout(LIMIT):
        await observer.known.wait()
        pictures = []
        for _ in range(2):
            await observer.expose(0.05)
            pictures.append(await observer.pictures.get())
            assert [await observer.states.get() for _ in range(2)] == ["Busy", "Ok"]
        assert pictures[0] != pictures[1]
        for picture in pictures:
            with fits.open(io.BytesIO(picture)) as file:
                assert file[0].data.shape == (1024, 1280)
                assert file[0].data.min() < file[0].data.max()

        await observer.expose(3000)
        assert await observer.states.get() == "Busy"
        await observer.send_newVector(CAMERA, "CCD_ABORT_EXPOSURE", members={"ABORT": "On"})
        assert await observer.states.get() == "Alert"
        await observer.expose(-1)
        assert await observer.states.get() == "Alert"
        assert observer.pictures.empty()


def test_under_ipyserver(example: ModuleType) -> None:
    async def run() -> None:
        async with IPyServer(example.CameraDriver(), host="127.0.0.1", port=0) as server:
            await observe(server.port)

    asyncio.run(run())


def test_on_stdin_and_stdout_under_indiserver(program: Callable[[str], str], tmp_path: Path) -> None:
    with indiserver(program, launcher(tmp_path / "camera", EXAMPLE)) as (port, _):
        asyncio.run(observe(port))
