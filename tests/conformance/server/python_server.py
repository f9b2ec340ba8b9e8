"""A Python server for the routing matrix: `python_server.py KIND PORT REMOTE_PORT LOG PROGRAM...`."""

from __future__ import annotations

import asyncio
import json
import sys
import xml.etree.ElementTree as ET

kind, port, remote_port, log_path, *programs = sys.argv[1:]

if kind == "indifast":
    import indifast as ipd
    from indifast import IPyServer
else:
    import indipydriver as ipd
    from indipyserver import IPyServer


def log(text):
    with open(log_path, "a", encoding="utf-8") as file:
        print(json.dumps(text), file=file, flush=True)


class Inside(ipd.IPyDriver):
    """The driver in the server's process. Logs what it receives, and sends what it is told to send."""

    async def rxevent(self, event):
        if isinstance(event, ipd.newTextVector) and event.vectorname == "say":
            await SAYINGS[event["m"]](self)
            log(f"said {event['m']}")
        else:
            log(ET.tostring(event.root).decode())

    async def snoopevent(self, event):
        log(ET.tostring(event.root).decode())


def text(name, member="m"):
    return ipd.TextVector(name, name, "G", "rw", "Ok", [ipd.TextMember(member, member, "x")])


P = ipd.Device(
    "P", [text("say"), text("t"), ipd.BLOBVector("b", "b", "G", "rw", "Ok", [ipd.BLOBMember("m", blobformat=".x")])]
)
driver = Inside(P, ipd.Device("Mark_P", [text("t")]))


async def say_blob(driver):
    driver["P"]["b"]["m"] = b"hello"
    await driver["P"]["b"].send_setVectorMembers(members=["m"])


SAYINGS = {
    # Not done in hardware(), because a driver that snoops before the programs run stops indipyserver.
    "snoop": lambda driver: driver.send_getProperties("A"),
    "set": lambda driver: driver["P"]["t"].send_setVector(),
    "def": lambda driver: driver["P"]["t"].send_defVector(),
    "blob": say_blob,
    "device message": lambda driver: driver["P"].send_device_message("hello"),
    "message": lambda driver: driver.send_message("hello"),
    "get": lambda driver: driver.send_getProperties("A", "b"),
}


async def main():
    server = IPyServer(driver, host="localhost", port=int(port), maxconnections=10)
    if hasattr(server, "keepalive"):
        server.keepalive = 0
    for program in programs:
        server.add_exdriver(program)
    server.add_remote(host="localhost", port=int(remote_port), blob_enable=True)
    await server.asyncrun()


asyncio.run(main())
