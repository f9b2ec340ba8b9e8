"""From driver to client, with the programs that people use: C++ drivers, server and tools, and our own ones."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import indifast as ipd
from tests.support.blackbox import LIMIT, PYTHON, Channel, Child, free_port, python_environment, until
from tests.support.servers import EXAMPLES, await_listener, example, getprop, indiserver, launcher, old_style_thermostat
from tests.support.waiting import eventually

CAMERA = "CCD Simulator"


class Watcher(ipd.IPyClient):
    """A client that keeps frames, and can wait for conditions."""

    def __init__(self, port: int) -> None:
        super().__init__(indihost="localhost", indiport=port)
        self.changed = asyncio.Event()
        self.frames: list[tuple[str, bytes]] = []

    async def rxevent(self, event: Any) -> None:
        if event.eventtype == "SetBLOB":
            for name, value in event.items():
                self.frames.append((event.sizeformat[name][1], bytes(value)))
        self.changed.set()

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until a condition holds that depends on events."""
        try:
            async with asyncio.timeout(LIMIT):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not seen: {what}; devices: {list(self)}") from None

    def state(self, device: str, vector: str) -> str | None:
        return self.get_vector_state(device, vector)


def check_fits(content: bytes) -> tuple[int, ...]:
    """Check that a FITS file has a picture that is not blank, and return its shape."""
    with fits.open(io.BytesIO(content)) as file:
        data = file[0].data
        assert data is not None
        assert np.min(data) != np.max(data)
        return tuple(data.shape)


async def expose(client: Watcher, camera: str = CAMERA) -> bytes:
    """Connect a simulated camera, expose for 0.2 s, and return the FITS file."""
    await client.until(lambda: camera in client and "CONNECTION" in client[camera], "the camera")
    await client.send_newVector(camera, "CONNECTION", members={"CONNECT": "On", "DISCONNECT": "Off"})
    await client.until(lambda: camera in client and "CCD_EXPOSURE" in client[camera], "the exposure property")
    await client.until(lambda: "CCD1" in client[camera], "the BLOB property")
    await client.send_enableBLOB("Also", camera, "CCD1")
    await client.send_newVector(camera, "CCD_EXPOSURE", members={"CCD_EXPOSURE_VALUE": 0.2})
    await client.until(lambda: client.frames, "a frame")
    form, content = client.frames[0]
    assert form == ".fits"
    return content


Scenario = Callable[[Watcher], Awaitable[bytes]]


async def watch(port: int, scenario: Scenario) -> bytes:
    """Run a scenario with a client of a server."""
    client = Watcher(port)
    async with client:
        return await scenario(client)


@contextlib.asynccontextmanager
async def server_of(program: str, *, pipes: bool = False) -> AsyncIterator[int]:
    """Run our server with a driver program, and yield its port."""
    server = ipd.IPyServer(host="localhost", port=0)
    server.add_exdriver(program, pipes=pipes)
    async with server:
        yield server.port


over_pipes_too = pytest.mark.parametrize("pipes", [False, True], ids=["shared memory", "plain pipe"])


@over_pipes_too
def test_frame_of_a_cpp_camera_through_our_server(program: Callable[[str], str], pipes: bool) -> None:
    async def main() -> None:
        async with server_of(program("indi_simulator_ccd"), pipes=pipes) as port:
            shape = check_fits(await watch(port, expose))
            assert len(shape) == 2 and min(shape) > 100

    asyncio.run(main())


def test_frame_of_a_cpp_camera_through_the_cpp_server(program: Callable[[str], str]) -> None:
    with indiserver(program, "indi_simulator_ccd") as (port, _):
        check_fits(asyncio.run(watch(port, expose)))


# The C++ tools


def setprop(program: Callable[[str], str], port: int, *words: str) -> None:
    """Run indi_setprop, which does not wait for an answer."""
    command = [program("indi_setprop"), "-p", str(port), "-t", f"{LIMIT:.0f}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT, check=False)
    assert done.returncode == 0, done


def test_cpp_tools_read_and_write_at_our_server(program: Callable[[str], str], tmp_path: Path) -> None:
    target = "Thermostat.target.VALUE"
    with example("thermostat_target.py", tmp_path, "--period", "0.1") as port:
        assert getprop(program, port, target) == [f"{target}=15.0"]
        setprop(program, port, "-n", f"{target}=20.5")
        until(lambda: getprop(program, port, target) == [f"{target}=20.5"], what="the new target")


def test_cpp_tools_reach_a_cpp_driver_through_our_server(program: Callable[[str], str], tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, indifast as ipd\n"
        "server = ipd.IPyServer(port=int(sys.argv[1]))\n"
        "server.add_exdriver('indi_simulator_telescope')\n"
        "asyncio.run(server.asyncrun())\n"
    )
    port = free_port()
    with Child([PYTHON, "-c", code, str(port)], tmp_path, env=python_environment()):
        channel = Channel.connect(port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until_text('name="CONNECTION"')
        switch = "Telescope Simulator.CONNECTION.CONNECT"
        assert getprop(program, port, switch) == [f"{switch}=Off"]
        setprop(program, port, f"{switch}=On")
        channel.until(lambda m: m.startswith(b"<setSwitchVector") and b'name="CONNECTION"' in m and b'state="Ok"' in m)
        channel.close()


def test_old_style_thermostat_serves_a_cpp_tool(program: Callable[[str], str], tmp_path: Path) -> None:
    with old_style_thermostat(tmp_path, 0.1) as port:
        names = sorted(line.split("=")[0] for line in getprop(program, port, "Boiler.*.*"))
        assert names == ["Boiler.target.celsius", "Boiler.temperature.celsius"]
        setprop(program, port, "-n", "Boiler.target.celsius=60")
        channel = Channel.connect(port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until(lambda m: b'name="target"' in m and b">60<" in m)
        channel.close()


# Our camera


OURS = "Simulated Camera"
CAMERA_PROGRAM = EXAMPLES / "simulated_camera.py"


async def picture(client: Watcher) -> bytes:
    """Take a picture with the camera of the examples, wait for the end of the exposure, and return the FITS file."""
    content = await expose(client, OURS)
    await client.until(lambda: client.state(OURS, "CCD_EXPOSURE") == "Ok", "the end of the exposure")
    return content


@pytest.fixture
def our_camera(tmp_path: Path) -> str:
    """A program that runs the camera of the examples as a driver."""
    return launcher(tmp_path / "simulated_camera", CAMERA_PROGRAM)


def test_frame_of_our_camera_in_the_server_process(tmp_path: Path) -> None:
    port = free_port()
    words = [PYTHON, str(CAMERA_PROGRAM), "--serve", "--port", str(port)]
    with Child(words, tmp_path, env=python_environment()) as server:
        await_listener(server, port)
        assert check_fits(asyncio.run(watch(port, picture))) == (1024, 1280)


@over_pipes_too
def test_frame_of_our_camera_as_a_program_of_our_server(our_camera: str, pipes: bool) -> None:
    async def main() -> None:
        async with server_of(our_camera, pipes=pipes) as port:
            assert check_fits(await watch(port, picture)) == (1024, 1280)

    asyncio.run(main())


def test_frame_of_our_camera_under_the_cpp_server(program: Callable[[str], str], our_camera: str) -> None:
    """There, stdin and stdout of the driver are one socket, and its frames travel as shared memory."""
    with indiserver(program, our_camera) as (port, _):
        assert check_fits(asyncio.run(watch(port, picture))) == (1024, 1280)


def test_cpp_tools_command_our_camera_under_the_cpp_server(program: Callable[[str], str], our_camera: str) -> None:
    with indiserver(program, our_camera) as (port, _):
        channel = Channel.connect(port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until_text('name="CONNECTION"')
        setprop(program, port, "-s", f"{OURS}.CONNECTION.CONNECT=On")
        channel.until_text('name="CCD1"')
        setprop(program, port, "-n", f"{OURS}.CCD_EXPOSURE.CCD_EXPOSURE_VALUE=0.1")
        channel.until(lambda m: m.startswith(b"<setNumberVector") and b'state="Ok"' in m)
        channel.close()


RECEIVER = "Receiver Simulator"


class Definitions(ipd.IPyClient):
    """Keeps the names in definitions and deletions."""

    def __init__(self, port: int) -> None:
        super().__init__(indihost="localhost", indiport=port)
        self.reconnect = False
        self.definitions: list[tuple[str | None, str | None]] = []
        self.deletions: list[str | None] = []
        self.on_raw_message = self.note

    def note(self, message: Any) -> None:
        if message.tag.startswith("def"):
            self.definitions.append((message.device, message.name))
        elif message.tag == "delProperty":
            self.deletions.append(message.name)

    async def connect_receiver(self, on: bool) -> None:
        await self.wait_for(RECEIVER, "CONNECTION", timeout=LIMIT)
        switches = {"CONNECT": "On" if on else "Off", "DISCONNECT": "Off" if on else "On"}
        await self.send_newVector(RECEIVER, "CONNECTION", members=switches, wait=True, timeout=LIMIT)


async def definitions_of(port: int, least: int) -> list[tuple[str | None, str | None]]:
    """Return the definitions that a new client gets, of which there are at least so many.

    The answer of the driver to a command comes after all of them.
    """
    async with Definitions(port) as client:
        await eventually(lambda: len(client.definitions) >= least, f"{least} definitions")
        await client.connect_receiver(True)
        return client.definitions


async def check_receiver(server: ipd.IPyServer) -> None:
    """Connected, the simulator uses a device without a name; disconnected, it deletes a property without one."""
    async with Definitions(server.port) as client:
        await client.connect_receiver(True)
        await client.wait_for(RECEIVER, "SENSOR_INTEGRATION", timeout=LIMIT)
        await client.ready(LIMIT)
        found = await definitions_of(server.port, len(client[RECEIVER]))
        assert all(device == RECEIVER and name for device, name in found)
        assert found.count((RECEIVER, "CONNECTION")) == 1, "the driver was asked once"
        assert list(server.stats()["devices"]) == [RECEIVER]
        assert server.stats()["refused"]["no device or name"] >= 2
        await client.connect_receiver(False)
        await eventually(lambda: "" in client.deletions, "the deletion without a name")
        await client.ping(LIMIT)
        assert client[RECEIVER].enable and client[RECEIVER]["CONNECTION"].enable
        assert list(server.stats()["devices"]) == [RECEIVER]
        await client.connect_receiver(True)


@pytest.mark.parametrize("linked", [False, True], ids=["driver", "behind a C++ server"])
def test_a_driver_that_uses_empty_names(program: Callable[[str], str], linked: bool) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = ipd.IPyServer(host="localhost", port=0, maxconnections=None)
            if linked:
                port, _ = stack.enter_context(indiserver(program, "indi_simulator_receiver"))
                server.add_remote("localhost", port)
            else:
                server.add_exdriver(program("indi_simulator_receiver"))
            await stack.enter_async_context(server)
            await check_receiver(server)

    asyncio.run(main())
