"""`served.py OPTIONS`: a server whose driver has a property of each kind. OPTIONS is a JSON object:

server        keyword arguments of IPyServer
programs      command lines of executable drivers
remotes       [host, port, blob_enable] of each remote server
devices       names of the devices of the driver in this process (default: ["Dev"])
descriptors   how many descriptors the process may have open
memory        bytes that the process may allocate in addition to what it has when it listens

It prints `port N` when it listens, and `ended` when asyncrun has returned.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys

import indifast as ipd


def device(name: str) -> ipd.Device:
    return ipd.Device(
        name,
        [
            ipd.TextVector("do", "Do", "G", "rw", "Ok", [ipd.TextMember("what")]),
            ipd.TextVector("text", "Text", "G", "rw", "Ok", [ipd.TextMember("t", "T", "x")]),
            ipd.TextVector("fixed", "Text", "G", "ro", "Ok", [ipd.TextMember("t", "T", "x")]),
            ipd.SwitchVector(
                "switch", "Switch", "G", "rw", "OneOfMany", "Ok", [ipd.SwitchMember("a"), ipd.SwitchMember("b")]
            ),
            ipd.NumberVector("number", "Number", "G", "rw", "Ok", [ipd.NumberMember("n", "N", "%g", 0, 9, 1, 1)]),
            ipd.LightVector("light", "Light", "G", "Ok", [ipd.LightMember("l")]),
            ipd.BLOBVector("blob", "Blob", "G", "rw", "Ok", [ipd.BLOBMember("b", blobformat=".bin")]),
        ],
    )


class Driver(ipd.IPyDriver):
    busy = 0
    overlaps = 0

    async def rxevent(self, event):
        device, vector = self[event.devicename], event.vector
        if isinstance(event, ipd.newBLOBVector):
            value = event["b"]
            device["text"]["t"] = f"{len(value)} bytes"
            await device["text"].send_setVector()
        elif event.vectorname == "do":
            await self.do(device, event["what"])
        elif isinstance(event, (ipd.newTextVector, ipd.newNumberVector, ipd.newSwitchVector)):
            self.busy += 1
            self.overlaps += self.busy > 1
            await asyncio.sleep(0.01)  # long enough for another event to overlap, if events could
            self.busy -= 1
            for name, value in event.items():
                vector[name] = value
            await vector.send_setVector(state="Ok", message=f"overlaps {self.overlaps}")

    async def do(self, device, what):
        word, _, rest = what.partition(" ")
        if word == "raise":
            raise RuntimeError("as requested")
        if word == "blobs":
            count, size, form = rest.split()
            device["blob"].data["b"].blobformat = form
            for number in range(int(count)):
                device["blob"]["b"] = bytes([number & 255]) * int(size)
                await device["blob"].send_setVectorMembers(members=["b"], message=f"frame {number}")
        elif word == "snoop":
            await self.send_getProperties(*rest.split())
        elif word == "refused":
            await self.refused(device)
        device["do"]["what"] = "done " + what
        await device["do"].send_setVector()

    async def refused(self, device):
        """Send what the server has counted as refused."""
        device["text"]["t"] = "refused " + json.dumps(server.stats()["refused"])
        await device["text"].send_setVector()

    async def snoopevent(self, event):
        print("snooped", type(event).__name__, event.devicename, event.vectorname, flush=True)


def limit_memory(more: int) -> None:
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))


async def main() -> None:
    global server
    options = json.loads(sys.argv[1])
    if limit := options.get("descriptors"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    devices = [device(name) for name in options.get("devices", ["Dev"])]
    drivers = [Driver(*devices)] if devices else []
    server = ipd.IPyServer(*drivers, **{"host": "localhost", "port": 0, **options.get("server", {})})
    for words in options.get("programs", []):
        server.add_exdriver(*words)
    for host, port, blobs in options.get("remotes", []):
        server.add_remote(host=host, port=port, blob_enable=blobs)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.shutdown)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    if "memory" in options:
        limit_memory(options["memory"])
    print(f"port {server.port}", flush=True)
    await running
    print("ended", flush=True)


asyncio.run(main())
