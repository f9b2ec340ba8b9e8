"""Memory for large frames and wake-ups of a client, measured in a separate process."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import subprocess
import sys
import threading
import weakref

import pytest

from tests.client.support import BLOBS, NUMBERS, blob, session
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

FRAME = 8 << 20
COUNT = 12
PROGRAM = """
import asyncio, json, sys
from indifast.client import IPyClient

def memory(line):
    with open("/proc/self/status") as status:
        return int(next(text for text in status if text.startswith(line)).split()[1]) << 10

class Client(IPyClient):
    count = 0

    async def rxevent(self, event):
        if event.eventtype == "DefineBLOB":
            self.idle = memory("VmRSS")
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        elif event.eventtype == "SetBLOB":
            assert [len(content) for content in event.values()] == [int(sys.argv[3])]
            self.count += 1
            if self.count == int(sys.argv[4]):
                self.shutdown()

async def main():
    client = Client("127.0.0.1", int(sys.argv[1]))
    if sys.argv[2] == "kept":
        await client.asyncrun()
    else:
        async with client:
            async for frame in client.frames("D", keep=False):
                len(frame.data)
    print(json.dumps(memory("VmHWM") - client.idle))

asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "frames"), [("kept", 2.2), ("borrowed", 1.2)])
def test_peak_memory(how: str, frames: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT)

        def send() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                data = blob(bytes(range(256)) * (FRAME // 256)).encode()
                connection.sendall(BLOBS.encode())
                for _ in range(COUNT):
                    connection.sendall(data)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        command = [sys.executable, "-c", PROGRAM, str(server.getsockname()[1]), how, str(FRAME), str(COUNT)]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=LIMIT, check=True)
        assert json.loads(done.stdout) <= frames * FRAME
        thread.join(LIMIT)


def test_the_last_frames_of_a_connection_are_freed_when_it_ends() -> None:
    """The devices refer to one another, so the collector has to be asked."""

    async def scenario() -> None:
        async with session(BLOBS, blob(b"content")) as (server, client):
            vector = client["D"]["B"]
            member = weakref.ref(vector.member("img"))
            client.seen.clear()
            server.hang_up()
            await server.connected(2)
            assert vector["img"] == b"content"  # this program still has it
            del vector
            await server.send(BLOBS, blob(b"more"))
            await client.got("SetBLOB")
            client.seen.clear()
            server.hang_up()
            await eventually(lambda: member() is None)

    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()


IDLE = """
import asyncio, sys, threading, time
from indifast.client import IPyClient

class Client(IPyClient):
    defined = None

    async def rxevent(self, event):
        if event.eventtype == "Define" and not self.defined:
            self.defined = True
            threading.Thread(target=wait_for_silence).start()

def switches():
    with open("/proc/self/status") as status:  # of the main thread, where the event loop is
        return int(next(line for line in status if line.startswith("voluntary")).split()[1])

def wait_for_silence():  # until two seconds pass without a wake-up: some follow the start
    before, now = None, switches()
    while before != now:
        before = now
        time.sleep(2.0)
        now = switches()
    print("slept", flush=True)
    client.shutdown()

client = Client("127.0.0.1", int(sys.argv[1]))
client.timeout_enable = False
asyncio.run(client.asyncrun())
"""


def test_an_idle_client_sleeps() -> None:
    """Without timeouts, nothing wakes its event loop for two seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", IDLE, str(server.getsockname()[1])]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            server.settimeout(LIMIT)
            connection, _ = server.accept()
            with connection:
                connection.sendall(NUMBERS.encode())
                assert process.stdout is not None
                assert process.stdout.readline() == b"slept\n"
                process.wait(LIMIT)
