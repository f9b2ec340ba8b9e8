"""Memory that runs out leaves no descriptor open that came with a message."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import scarce
from transport_support import open_fds

from indifast.client.connection import Connection
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.transport.stream import SocketStream

PROGRAM = """
import asyncio, os
from types import SimpleNamespace
from indifast._parser import Tokenizer
from indifast.client.connection import Connection
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.transport import blobs, shm

TEXT = (
    b"<setBLOBVector device='D' name='b' state='Ok'><oneBLOB name='a' size='4' format='' attached='true'/>"
    b"<oneBLOB name='b' size='4' format='' attached='true'/></setBLOBVector>"
)
BEGIN, REST = TEXT[:60], TEXT[60:]
FILE = os.memfd_create("content")
os.write(FILE, b"text")

class Server:
    '''What a connection of the server does.'''

    def __init__(self):
        self.tokenizer = Tokenizer(relay=True)
        self.queue = shm.DescriptorQueue(self.tokenizer, 1000)
        self.message = None
        self.queue.put([os.dup(FILE), os.dup(FILE)])

    def act(self):
        elements = self.tokenizer.feed(TEXT)
        self.queue.settle(elements)
        for element in elements:
            self.message = blobs.routable(element, self.queue)
            self.message.parts(True)

    def close(self):
        self.queue.close()
        self.message = None

class Client:
    def __init__(self):
        stream = SimpleNamespace(local=True, pause_reading=lambda: None, close=lambda: None)
        self.connection = Connection(stream, DEFAULT_LIMITS, lambda: None, lambda *skip: None, lambda text: None)
        self.connection.data_received(BEGIN, 0, len(BEGIN), [os.dup(FILE), os.dup(FILE)])

    def act(self):
        self.connection.data_received(REST, 0, len(REST), [])

    def close(self):
        self.connection.connection_lost(None)
        self.connection.close()

def act(subject):
    try:
        subject.act()
    except RuntimeError:  # what `threading.Lock` raises for want of memory
        pass

def count():
    return len(os.listdir("/proc/self/fd"))

def check(subject, refused):
    subject.close()
    subject.__dict__.clear()
    gc.collect()
    assert count() == opened, "a descriptor is left open"

async def main():  # who watches unfinished messages needs a loop
    global opened
    opened = count()
    for _ in range(2):  # what is made once only
        subject = WHO()
        act(subject)
        check(subject, 0)
    each_allocation(WHO, act, check, counts=(1,))

asyncio.run(main())
"""


@pytest.mark.parametrize("who", ["Server", "Client"])
def test_no_descriptor_is_left_open_when_memory_runs_out(who: str, tmp_path: Path) -> None:
    scarce.run(PROGRAM.replace("WHO", who), tmp_path)


def test_descriptors_belong_to_a_client_before_anything_can_go_wrong(run) -> None:
    async def scenario() -> None:
        before = open_fds()
        ours, theirs = socket.socketpair()
        connection = Connection(SocketStream(ours), DEFAULT_LIMITS, lambda: None, lambda *skip: None, lambda text: None)
        with pytest.raises(TypeError):  # as with MemoryError, the tokenizer takes nothing
            connection.data_received(None, 0, 0, [os.memfd_create("test")])  # type: ignore[arg-type]
        connection.close()
        await connection.stream.wait_closed()
        theirs.close()
        assert open_fds() == before

    run(scenario())
