"""The Python packages with indifast: their drivers, clients and servers with ours."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

import indifast as ipd
from tests.support.blackbox import PYTHON, Channel, Child, free_port, python_environment, tree
from tests.support.servers import await_listener, example

DRIVER = """
import asyncio
import indipydriver as ipd
class Driver(ipd.IPyDriver):
    async def rxevent(self, event):
        blob = self["Big"]["blob"]
        for number in range(3):
            blob["b"] = bytes([65 + number]) * 3_000_000
            await blob.send_setVectorMembers(members=["b"])
        event.vector["t"] = "done"
        await event.vector.send_setVector()
driver = Driver(ipd.Device("Big", [
    ipd.BLOBVector("blob", "B", "G", "ro", "Ok", [ipd.BLOBMember("b", blobformat=".bin")]),
    ipd.TextVector("go", "G", "G", "rw", "Ok", [ipd.TextMember("t")])]))
asyncio.run(driver.asyncrun())
"""


def check_frames(port: int) -> None:
    """Have the driver send its frames, and check their content."""
    client = Channel.connect(port)
    client.send(b'<getProperties version="1.7"/><enableBLOB device="Big">Also</enableBLOB>')
    client.until_text('<defTextVector device="Big"')
    client.send(b'<newTextVector device="Big" name="go"><oneText name="t">go</oneText></newTextVector>')
    frames = [m for m in client.until_text(">done<") if m.startswith(b"<setBLOBVector")]
    contents = [base64.b64decode(tree(m)[0].text or "") for m in frames]
    assert contents == [bytes([65 + number]) * 3_000_000 for number in range(3)]
    client.close()


@pytest.mark.parametrize("release", ["d31", "d22"])
def test_driver_of_the_package_as_a_program_of_our_server(peers: dict[str, Path], tmp_path: Path, release: str) -> None:
    """On pipes, as under the packages' own server.

    On one socket for both directions, 3.1.2 loses bytes of large frames: it sets O_NONBLOCK on its stdin, which is also
    its stdout, and then writes as if writing blocked. This happens under indiserver too.
    """
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)

    async def main() -> None:
        server = ipd.IPyServer(host="localhost", port=0)
        server.add_exdriver(str(peers[release]), str(script), pipes=True)
        async with server:
            await asyncio.to_thread(check_frames, server.port)

    asyncio.run(main())


CLIENT = """
import asyncio, sys
import indipyclient as ipc
class Client(ipc.IPyClient):
    async def rxevent(self, event):
        if isinstance(event, ipc.setSwitchVector) and event.get("ON") == "On":
            print("lamp is on", event.state, flush=True)
            self.shutdown()
        elif isinstance(event, ipc.defSwitchVector):
            print("defined", event.devicename, event.vectorname, dict(event), event.perm, event.rule, flush=True)
            await self.send_newVector("Desk lamp", "power", members={"ON": "On"})
client = Client(indihost="localhost", indiport=int(sys.argv[1]))
asyncio.run(client.asyncrun())
"""


def test_client_of_the_package_with_our_server(peers: dict[str, Path], tmp_path: Path) -> None:
    with (
        example("led.py", tmp_path) as port,
        Child([str(peers["d31"]), "-c", CLIENT, str(port)], tmp_path, env={"PYTHONPATH": ""}) as child,
    ):
        assert child.wait() == 0
        lines = [line for line in child.stderr.splitlines() if line.startswith(("defined", "lamp"))]
    assert lines == ["defined Desk lamp power {'ON': 'Off'} rw AtMostOne", "lamp is on Ok"]


SERVER = """
import asyncio, sys
from indipyserver import IPyServer
server = IPyServer(port=int(sys.argv[1]))
server.add_exdriver(sys.argv[2], sys.argv[3])
asyncio.run(server.asyncrun())
"""

OURS = DRIVER.replace("indipydriver", "indifast")


def test_our_driver_as_a_program_of_the_packages_server(peers: dict[str, Path], tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(OURS)
    port = free_port()
    words = [str(peers["d31"]), "-c", SERVER, str(port), PYTHON, str(script)]
    with Child(words, tmp_path, env=python_environment()) as server:
        await_listener(server, port)
        check_frames(port)
