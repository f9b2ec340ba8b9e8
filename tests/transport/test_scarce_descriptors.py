"""Running out of memory leaves no descriptor open that arrived with a message."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from indifast.client.connection import Connection
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.transport.stream import SocketStream
from tests.support import scarce
from tests.support.descriptors import no_fd_leak

PROGRAM = """
import asyncio, os
from types import SimpleNamespace
from indifast.client.connection import Connection
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.transport.incoming import MessageReader

TEXT = (
    b"<setBLOBVector device='D' name='b' state='Ok'><oneBLOB name='a' size='4' format='' attached='true'/>"
    b"<oneBLOB name='b' size='4' format='' attached='true'/></setBLOBVector>"
)
BEGIN, REST = TEXT[:60], TEXT[60:]
TIMER = SimpleNamespace(cancel=lambda: None)
FILE = os.memfd_create("content")
os.write(FILE, b"text")

class Reading:
    '''Reads as a connection of the server or of a driver does.'''

    def __init__(self, relay):
        self.reader = MessageReader(self, DEFAULT_LIMITS, lambda *when: TIMER, relay=relay)
        self.messages = ()
        self.reader.read(BEGIN, 0, len(BEGIN), [os.dup(FILE), os.dup(FILE)])

    def act(self):
        self.messages = self.reader.read(REST, 0, len(REST), [])
        for message in self.messages:
            message.parts(True)

    def close(self):
        self.messages = ()
        self.reader.close()

    def skipped(self, reason, nbytes, excerpt): pass
    def refused(self, element, error): pass
    def flooded(self, error): pass
    def outgrown(self, held, most): pass
    def stalled(self, held): pass
    def missing(self, what): pass

class Server(Reading):
    def __init__(self):
        super().__init__(True)

class Driver(Reading):
    def __init__(self):
        super().__init__(False)

class Client:
    def __init__(self):
        stream = SimpleNamespace(local=True, pause_reading=lambda: None, close=lambda grace: None)
        self.connection = Connection(stream, DEFAULT_LIMITS, lambda: None, lambda *skip: None, lambda text: None)
        self.connection.data_received(BEGIN, 0, len(BEGIN), [os.dup(FILE), os.dup(FILE)])

    def act(self):
        self.connection.data_received(REST, 0, len(REST), [])

    def close(self):
        self.connection.connection_lost(None)
        self.connection.close(0.0)

def act(subject):
    try:
        subject.act()
    except RuntimeError:  # raised by `threading.Lock` if there is not enough memory
        pass

def count():
    return len(os.listdir("/proc/self/fd"))

def check(subject, refused):
    subject.close()
    subject.__dict__.clear()
    gc.collect()
    assert count() == opened, "a descriptor is left open"

async def main():  # the watch over unfinished messages needs a loop
    global opened
    opened = count()
    for _ in range(2):  # for everything that is allocated only once
        subject = OWNER()
        act(subject)
        check(subject, 0)
    each_allocation(OWNER, act, check, counts=(1,))

asyncio.run(main())
"""


@pytest.mark.parametrize("owner", ["Server", "Driver", "Client"])
def test_no_descriptor_is_left_open_when_memory_runs_out(owner: str, tmp_path: Path) -> None:
    scarce.run(PROGRAM.replace("OWNER", owner), tmp_path)


def test_a_client_owns_descriptors_before_anything_can_go_wrong(run) -> None:
    async def scenario() -> None:
        async with no_fd_leak():
            ours, theirs = socket.socketpair()
            stream = SocketStream(ours)
            connection = Connection(stream, DEFAULT_LIMITS, lambda: None, lambda *skip: None, lambda text: None)
            with pytest.raises(TypeError):  # as with MemoryError, the tokenizer takes nothing
                connection.data_received(None, 0, 0, [os.memfd_create("test")])  # type: ignore[arg-type]
            connection.close(0.0)
            await stream.wait_closed()
            theirs.close()

    run(scenario())
