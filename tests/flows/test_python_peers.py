"""The Python packages on one side, indifast on the other: drivers of theirs here, clients of theirs here."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

import indifast as ipd
from tests.support.blackbox import PYTHON, Channel, Child, free_port, python_environment, tree

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

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


@pytest.mark.parametrize("release", ["d31", "d22"])
def test_driver_of_the_package_as_a_program_of_our_server(peers: dict[str, Path], tmp_path: Path, release: str) -> None:
    """On pipes, as under the packages' own server.

    On one socket for both directions 3.1.2 loses bytes of large frames: it sets O_NONBLOCK on its stdin, which is its
    stdout there, and then writes as if that blocked. This happens under indiserver too.
    """
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)

    def scenario(port: int) -> None:
        client = Channel.connect(port)
        client.send(b'<getProperties version="1.7"/><enableBLOB device="Big">Also</enableBLOB>')
        client.until_text('<defTextVector device="Big"')
        client.send(b'<newTextVector device="Big" name="go"><oneText name="t">go</oneText></newTextVector>')
        frames = [m for m in client.until_text(">done<") if m.startswith(b"<setBLOBVector")]
        contents = [base64.b64decode(tree(m)[0].text or "") for m in frames]
        assert contents == [bytes([65 + number]) * 3_000_000 for number in range(3)]
        client.close()

    async def main() -> None:
        server = ipd.IPyServer(host="localhost", port=0)
        server.add_exdriver(str(peers[release]), str(script), pipes=True)
        running = asyncio.create_task(server.asyncrun())
        await server.ready()
        try:
            await asyncio.to_thread(scenario, server.port)
        finally:
            server.shutdown()
            await running

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


def test_client_of_the_package_at_our_server(peers: dict[str, Path], tmp_path: Path) -> None:
    port = free_port()
    with Child([PYTHON, str(EXAMPLES / "led.py"), "--port", str(port)], tmp_path, env=python_environment()):
        Channel.connect(port).close()
        with Child([str(peers["d31"]), "-c", CLIENT, str(port)], tmp_path, env={"PYTHONPATH": ""}) as child:
            assert child.wait() == 0
            said = [line for line in child.stderr.splitlines() if line.startswith(("defined", "lamp"))]
    assert said == ["defined Desk lamp power {'ON': 'Off'} rw AtMostOne", "lamp is on Ok"]


SERVER = """
import asyncio, sys
from indipyserver import IPyServer
server = IPyServer(port=int(sys.argv[1]))
server.add_exdriver(sys.argv[2], sys.argv[3])
asyncio.run(server.asyncrun())
"""

OURS = DRIVER.replace("indipydriver", "indifast")


def test_driver_of_ours_as_a_program_of_the_packages_server(peers: dict[str, Path], tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(OURS)
    port = free_port()
    words = [str(peers["d31"]), "-c", SERVER, str(port), PYTHON, str(script)]
    with Child(words, tmp_path, env=python_environment()):
        client = Channel.connect(port)
        client.send(b'<getProperties version="1.7"/><enableBLOB device="Big">Also</enableBLOB>')
        client.until_text('<defTextVector device="Big"')
        client.send(b'<newTextVector device="Big" name="go"><oneText name="t">go</oneText></newTextVector>')
        frames = [m for m in client.until_text(">done<") if m.startswith(b"<setBLOBVector")]
        assert [len(base64.b64decode(tree(m)[0].text or "")) for m in frames] == [3_000_000] * 3
        client.close()
