"""`machines.py near|far HOST OTHER`: what runs on two machines, for tests in which one of them vanishes.

Each runs a server. The one on `near` has a link for each device of the one on `far`, and two clients that are connected
to `far` directly. Commands go to the device Busy all the time, on a link and from a client; nothing is said about the
device Idle. `far` has three clients of the server on `near`: from port 5001, one that hears of Still, which never
changes; from port 5002, one that hears of Local, which changes all the time; from port 5003, one that reads nothing of a
large frame.

Each line of the log begins with the time (monotonic).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time

import indifast as ipd
from indifast.client import ConnectionLost, ConnectionMade, IPyClient

PORT = 7624
INTERVAL = 0.3
TEXT = '<newTextVector device="{}" name="text"><oneText name="t">x</oneText></newTextVector>'


class Timed(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{time.monotonic():.3f} {super().format(record)}"


class Driver(ipd.IPyDriver):
    def __init__(self, *names: str) -> None:
        super().__init__(
            *(
                ipd.Device(
                    name,
                    [
                        ipd.TextVector("text", "Text", "G", "rw", "Ok", [ipd.TextMember("t", "T", "x")]),
                        ipd.BLOBVector("blob", "Blob", "G", "rw", "Ok", [ipd.BLOBMember("b", blobformat=".bin")]),
                    ],
                )
                for name in names
            )
        )

    async def rxevent(self, event):
        if event.devicename == "Still":  # it is asked for a frame
            blob = self["Still"]["blob"]
            blob["b"] = bytes(16 << 20)
            await blob.send_setVectorMembers(members=["b"])

    async def hardware(self):
        while "Local" in self and not self.stop:
            await self["Local"]["text"].send_setVector(allvalues=True)
            await asyncio.sleep(INTERVAL)


class Client(IPyClient):
    def __init__(self, name: str, host: str) -> None:
        super().__init__(host, PORT)
        self.name = name

    async def rxevent(self, event):
        if isinstance(event, ConnectionMade | ConnectionLost):
            logging.info("%s %s", self.name, "made" if isinstance(event, ConnectionMade) else "lost")

    async def hardware(self):
        while "Busy" in self.name and not self.stop:
            with contextlib.suppress(KeyError):
                await self.send_newVector("Busy", "text", members={"t": "y"})
            await asyncio.sleep(INTERVAL)


async def near(host: str, other: str) -> None:
    server = ipd.IPyServer(Driver("Local", "Still"), host=[host, "127.0.0.1"], port=PORT)
    for device in ("Idle", "Busy"):
        server.add_remote(other, PORT, device=device)
    clients = [Client("Idle client", other), Client("Busy client", other), Client("Busy local client", "127.0.0.1")]
    async with server, asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.asyncrun())
        tasks.create_task(watch_stalled(server))


async def watch_stalled(server: ipd.IPyServer) -> None:
    """Log it when a client has a frame begun and goes on no further."""
    before = None
    while True:
        behind = {
            peer["name"]: peer["queued_bytes"] for peer in server.stats()["peers"] if peer["queued_bytes"] > 1 << 20
        }
        if behind and behind == before:
            logging.info("stalled")
            return
        before = behind
        await asyncio.sleep(INTERVAL)


async def far(host: str, other: str) -> None:
    loop = asyncio.get_running_loop()
    asks = '<getProperties version="1.7" device="{}"/>'
    wants_frame = '<enableBLOB device="Still">Also</enableBLOB>' + TEXT.format("Still")
    async with ipd.IPyServer(Driver("Idle", "Busy"), host=host, port=PORT):
        logging.info("ready")
        readers = [await connected((host, 5001), other, asks.format("Still"))]
        readers.append(await connected((host, 5002), other, asks.format("Local")))
        with await connected((host, 5003), other, wants_frame):
            for reader in readers:
                with contextlib.suppress(OSError):
                    while await loop.sock_recv(reader, 1 << 16):
                        pass
            await asyncio.Event().wait()


async def connected(own: tuple[str, int], other: str, words: str) -> socket.socket:
    """Return a connection to the server on the other machine, which may have to start first."""
    while True:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(own)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (other, PORT))
        except OSError:
            sock.close()
            await asyncio.sleep(0.1)
        else:
            sock.send(words.encode())
            return sock


handler = logging.StreamHandler()
handler.setFormatter(Timed())
logging.basicConfig(level=logging.INFO, handlers=[handler])
asyncio.run({"near": near, "far": far}[sys.argv[1]](*sys.argv[2:]))
