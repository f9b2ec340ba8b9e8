"""From end to end, with the programs people really use: C++ drivers, C++ server and tools, and our own parts."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import indifast as ipd
from tests.support.blackbox import LIMIT, PYTHON, Channel, Child, free_port, python_environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CAMERA = "CCD Simulator"


class Watcher(ipd.IPyClient):
    """A client that keeps what it is told and can be waited on."""

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
        async def wait() -> None:
            while not condition():
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(wait(), LIMIT)
        except TimeoutError:
            raise TimeoutError(f"not seen: {what}; devices: {list(self)}") from None

    def state(self, device: str, vector: str) -> str | None:
        return self.get_vector_state(device, vector)


def check_fits(content: bytes) -> tuple[int, ...]:
    with fits.open(io.BytesIO(content)) as file:
        data = file[0].data
        assert data is not None
        assert np.min(data) != np.max(data)
        return tuple(data.shape)


async def expose(client: Watcher) -> bytes:
    """Connect the simulated camera, take a picture of 0.2 s, and give the FITS file."""
    await client.until(lambda: CAMERA in client and "CONNECTION" in client[CAMERA], "the camera")
    await client.send_newVector(CAMERA, "CONNECTION", members={"CONNECT": "On", "DISCONNECT": "Off"})
    await client.until(lambda: CAMERA in client and "CCD_EXPOSURE" in client[CAMERA], "the exposure property")
    await client.until(lambda: "CCD1" in client[CAMERA], "the BLOB property")
    await client.send_enableBLOB("Also", CAMERA, "CCD1")
    await client.send_newVector(CAMERA, "CCD_EXPOSURE", members={"CCD_EXPOSURE_VALUE": 0.2})
    await client.until(lambda: client.frames, "a frame")
    form, content = client.frames[0]
    assert form == ".fits"
    return content


async def watch(port: int, scenario: Callable[[Watcher], Any]) -> Any:
    """Run a scenario with a client of a server in another process, once that listens."""
    channel = await asyncio.to_thread(Channel.connect, port)
    channel.close()
    client = Watcher(port)
    watching = asyncio.create_task(client.asyncrun())
    try:
        return await scenario(client)
    finally:
        client.shutdown()
        await watching


async def with_server(server: ipd.IPyServer, scenario: Callable[[Watcher], Any]) -> Any:
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    client = Watcher(server.port)
    watching = asyncio.create_task(client.asyncrun())
    try:
        return await scenario(client)
    finally:
        client.shutdown()
        server.shutdown()
        await asyncio.gather(watching, running)


@pytest.mark.parametrize("pipes", [False, True], ids=["shared memory", "plain pipe"])
def test_frame_of_a_cpp_camera_through_our_server(program: Callable[[str], str], pipes: bool) -> None:
    async def main() -> None:
        server = ipd.IPyServer(host="localhost", port=0)
        server.add_exdriver(program("indi_simulator_ccd"), **({"pipes": True} if pipes else {}))
        shape = check_fits(await with_server(server, expose))
        assert len(shape) == 2 and min(shape) > 100

    asyncio.run(main())


def test_frame_of_a_cpp_camera_through_the_cpp_server(program: Callable[[str], str], tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        words = [program("indiserver"), "-p", str(port), "-u", f"/tmp/indi-{os.getpid()}-{port}", "indi_simulator_ccd"]
        with Child(words, tmp_path):
            check_fits(await watch(port, expose))

    asyncio.run(main())


# The C++ tools


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)


def example(tmp_path: Path, name: str, *arguments: str) -> tuple[Child, int]:
    """Start an example server on a free port and wait until it listens."""
    port = free_port()
    options = [str(port)] if name == "thermostat_old_style.py" else ["--port", str(port)]
    child = Child([PYTHON, str(EXAMPLES / name), *options, *arguments], tmp_path, env=python_environment())
    try:
        Channel.connect(port).close()
    except BaseException:
        print(child.stderr)
        child.kill()
        raise
    return child, port


def test_cpp_tools_read_and_write_at_our_server(program: Callable[[str], str], tmp_path: Path) -> None:
    getprop, setprop = program("indi_getprop"), program("indi_setprop")
    child, port = example(tmp_path, "thermostat_target.py", "--period", "0.1")
    with child:
        got = tool(getprop, "-p", str(port), "-t", "3", "Thermostat.target.VALUE")
        assert got.stdout.strip() == "Thermostat.target.VALUE=15.0", got
        done = tool(setprop, "-p", str(port), "-t", "3", "-n", "Thermostat.target.VALUE=20.5")
        assert done.returncode == 0, done
        deadline = time.monotonic() + 20  # indi_setprop does not wait for the answer
        while tool(getprop, "-p", str(port), "-t", "3", "Thermostat.target.VALUE").stdout.split("=")[1] != "20.5\n":
            assert time.monotonic() < deadline


def test_cpp_tools_reach_a_cpp_driver_through_our_server(program: Callable[[str], str], tmp_path: Path) -> None:
    getprop, setprop = program("indi_getprop"), program("indi_setprop")
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
        got = tool(getprop, "-p", str(port), "-t", "5", "Telescope Simulator.CONNECTION.CONNECT")
        assert got.stdout.strip().endswith("CONNECT=Off"), got
        done = tool(setprop, "-p", str(port), "-t", "5", "Telescope Simulator.CONNECTION.CONNECT=On")
        assert done.returncode == 0, done
        channel.until(lambda m: m.startswith(b"<setSwitchVector") and b'name="CONNECTION"' in m and b'state="Ok"' in m)
        channel.close()


def test_old_style_thermostat_serves_a_cpp_tool(program: Callable[[str], str], tmp_path: Path) -> None:
    child, port = example(tmp_path, "thermostat_old_style.py", "0.1")
    with child:
        got = tool(program("indi_getprop"), "-p", str(port), "-t", "3", "Boiler.*.*")
        assert sorted(line.split("=")[0] for line in got.stdout.split()) == [
            "Boiler.target.celsius",
            "Boiler.temperature.celsius",
        ]
        done = tool(program("indi_setprop"), "-p", str(port), "-t", "3", "-n", "Boiler.target.celsius=60")
        assert done.returncode == 0, done
        channel = Channel.connect(port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until(lambda m: b'name="target"' in m and b">60<" in m)
        channel.close()


# Our camera


OURS = "Simulated Camera"
CAMERA_PROGRAM = EXAMPLES / "simulated_camera.py"


async def picture(client: Watcher) -> bytes:
    """Take a picture with the camera of the examples."""
    await client.until(
        lambda: OURS in client and "CCD1" in client[OURS] and "CCD_EXPOSURE" in client[OURS], "the camera"
    )
    await client.send_enableBLOB("Also", OURS, "CCD1")
    await client.send_newVector(OURS, "CCD_EXPOSURE", members={"CCD_EXPOSURE_VALUE": 0.2})
    await client.until(lambda: client.frames, "a frame")
    await client.until(lambda: client.state(OURS, "CCD_EXPOSURE") == "Ok", "the end of the exposure")
    form, content = client.frames[0]
    assert form == ".fits"
    return content


def camera_launcher(tmp_path: Path) -> str:
    """A program that starts the camera with this interpreter and this source tree, as servers start drivers by name."""
    path = tmp_path / "simulated_camera"
    python_path = python_environment()["PYTHONPATH"]
    path.write_text(f"#!/bin/sh\nPYTHONPATH={python_path} exec {PYTHON} {CAMERA_PROGRAM}\n")
    path.chmod(0o755)
    return str(path)


def test_frame_of_our_camera_in_the_server_process(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        words = [PYTHON, str(CAMERA_PROGRAM), "--serve", "--port", str(port)]
        with Child(words, tmp_path, env=python_environment()):
            assert check_fits(await watch(port, picture)) == (1024, 1280)

    asyncio.run(main())


@pytest.mark.parametrize("pipes", [False, True], ids=["shared memory", "plain pipe"])
def test_frame_of_our_camera_as_a_program_of_our_server(tmp_path: Path, pipes: bool) -> None:
    async def main() -> None:
        server = ipd.IPyServer(host="localhost", port=0)
        server.add_exdriver(camera_launcher(tmp_path), pipes=pipes)
        assert check_fits(await with_server(server, picture)) == (1024, 1280)

    asyncio.run(main())


def test_frame_of_our_camera_under_the_cpp_server(program: Callable[[str], str], tmp_path: Path) -> None:
    """The driver on stdin/stdout, which are one socket there; its frames go as shared memory."""

    async def main() -> None:
        port = free_port()
        local = f"/tmp/indi-{os.getpid()}-{port}"
        words = [program("indiserver"), "-p", str(port), "-u", local, camera_launcher(tmp_path)]
        with Child(words, tmp_path):
            assert check_fits(await watch(port, picture)) == (1024, 1280)

    asyncio.run(main())


def test_cpp_tools_command_our_camera_under_the_cpp_server(program: Callable[[str], str], tmp_path: Path) -> None:
    port = free_port()
    words = [program("indiserver"), "-p", str(port), "-u", f"/tmp/indi-{os.getpid()}-{port}", camera_launcher(tmp_path)]
    with Child(words, tmp_path):
        channel = Channel.connect(port)
        channel.send(b'<getProperties version="1.7"/>')
        channel.until_text('name="CCD_EXPOSURE"')
        done = tool(program("indi_setprop"), "-p", str(port), "-n", f"{OURS}.CCD_EXPOSURE.CCD_EXPOSURE_VALUE=0.1")
        assert done.returncode == 0, done
        channel.until(lambda m: m.startswith(b"<setNumberVector") and b'state="Ok"' in m)
        channel.close()


RECEIVER = "Receiver Simulator"


class Definitions(ipd.IPyClient):
    """Counts the definitions of a server, and keeps what it was told of deletions."""

    def __init__(self, port: int) -> None:
        super().__init__(indihost="localhost", indiport=port)
        self.reconnect = False
        self.definitions: list[tuple[str | None, str | None]] = []
        self.deletions: list[str | None] = []
        self.on_message = self.look

    def look(self, message: Any) -> None:
        if message.tag.startswith("def"):
            self.definitions.append((message.device, message.name))
        elif message.tag == "delProperty":
            self.deletions.append(message.name)

    async def connect_receiver(self, on: bool) -> None:
        await self.wait_for(RECEIVER, "CONNECTION", timeout=LIMIT)
        switches = {"CONNECT": "On" if on else "Off", "DISCONNECT": "Off" if on else "On"}
        await self.send_newVector(RECEIVER, "CONNECTION", members=switches, wait=True, timeout=LIMIT)


async def definitions_of(port: int, least: int) -> list[tuple[str | None, str | None]]:
    """All that a client which comes now is told to be there: up to the quiet behind at least so many definitions."""
    async with Definitions(port) as client:
        await client.wait_for(RECEIVER, timeout=LIMIT)
        while len(client.definitions) < least:
            await client.ready(LIMIT, quiet=0.2)
        await client.ready(LIMIT)
        return client.definitions


async def check_receiver(server: ipd.IPyServer) -> None:
    """Connected, the simulator speaks of a device without a name; disconnected, it deletes a property without one."""
    async with Definitions(server.port) as client:
        await client.connect_receiver(True)
        await client.wait_for(RECEIVER, "SENSOR_INTEGRATION", timeout=LIMIT)
        await client.ready(LIMIT)
        told = await definitions_of(server.port, len(client[RECEIVER]))
        assert all(device == RECEIVER and name for device, name in told)
        assert told.count((RECEIVER, "CONNECTION")) == 1, "the driver was asked once"
        assert list(server.stats()["devices"]) == [RECEIVER]
        assert server.stats()["refused"]["no device or name"] >= 2
        await client.connect_receiver(False)
        while "" not in client.deletions:
            await client.ready(LIMIT, quiet=0.1)
        await client.ping(LIMIT)
        assert client[RECEIVER].enable and client[RECEIVER]["CONNECTION"].enable
        assert list(server.stats()["devices"]) == [RECEIVER]
        await client.connect_receiver(True)


@pytest.mark.parametrize("linked", [False, True], ids=["driver", "behind a C++ server"])
def test_a_driver_that_uses_empty_names(program: Callable[[str], str], tmp_path: Path, linked: bool) -> None:
    async def main() -> None:
        receiver = program("indi_simulator_receiver")
        async with contextlib.AsyncExitStack() as stack:
            server = ipd.IPyServer(host="localhost", port=0, maxconnections=None)
            if linked:
                port = free_port()
                words = [program("indiserver"), "-p", str(port), "-u", f"/tmp/indi-{os.getpid()}-{port}", receiver]
                stack.enter_context(Child(words, tmp_path))
                (await asyncio.to_thread(Channel.connect, port)).close()
                server.add_remote("localhost", port)
            else:
                server.add_exdriver(receiver)
            await stack.enter_async_context(server)
            await check_receiver(server)

    asyncio.run(main())
