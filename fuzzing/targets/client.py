"""The client: whatever a server says costs at most the message that is wrong, and what is answered is clean."""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import Any

from fuzzing.checks import check_output
from fuzzing.inputs import Input, chunks
from fuzzing.world import MemoryStream, VirtualLoop, file_of, no_descriptor_left, running
from indifast.client import IPyClient
from indifast.client.snapshot import Snap

CAMERA = "D"
"""The device whose frames are taken."""


class Program(IPyClient):
    """Looks at everything in each event, and answers definitions with commands.

    With `watching` it also takes the frames of a camera, and sees each message as it came.
    """

    def __init__(self, *, answering: bool, inflating: bool, watching: bool) -> None:
        super().__init__()
        self.watching = watching
        self._answering = answering
        self.inflate_blobs = inflating
        self.device_limit = 20

    async def rxevent(self, event: Any) -> None:
        """Use an event as programs do."""
        assert isinstance(str(event), str)
        if event.root is not None:
            assert event.root.tag
        if event.vector is None or not hasattr(event, "items"):
            return
        vector = event.vector
        assert vector.name == event.vectorname and vector.devicename == event.devicename
        timeout = getattr(event, "timeout", None)
        assert timeout is None or math.isfinite(timeout)
        values = dict(event)
        if event.eventtype == "Set":
            assert {name: vector[name] for name in values if name in vector.data} == {
                name: value for name, value in values.items() if name in vector.data
            }
        if self._answering and event.eventtype == "Define":
            await self.send_newVector(event.devicename, event.vectorname, members=values)
        if vector.vectortype == "NumberVector":
            for member in vector.data.values():
                assert isinstance(member.getfloatvalue(), float) and isinstance(member.getshownvalue(), str)
                with contextlib.suppress(TypeError):  # as documented, of a format that can't show a number
                    member.getformattedvalue()


def run(data: bytes) -> None:
    """Serve a client: a byte of options, one for the cuts, then what the server says."""
    given = Input(data)
    options, way = given.byte(), given.byte()
    said = given.rest()
    with no_descriptor_left(), running() as loop:
        client = Program(answering=bool(options & 1), inflating=bool(options & 2), watching=bool(options & 4))
        _converse(loop, client, chunks(said, way), local=bool(options & 8))


def _converse(loop: VirtualLoop, client: Program, said: list[bytes], *, local: bool) -> None:
    """Say something in pieces, each of which brings a descriptor if the server is `local`."""
    stream = MemoryStream(loop, "server", local=local)
    shown = bytearray()
    if client.watching:
        frames = client.frames(CAMERA, newest=True)
        client.on_raw_message = lambda message: shown.extend(b"".join(map(bytes, message.parts(False) or ())))
    serving = loop.create_task(client._indifast.session._serve(stream, "memory"))  # type: ignore[arg-type]
    loop.settle()
    for chunk in said:
        stream.deliver(chunk, [file_of(b"abc")] if local else [])
        loop.settle()
        assert stream.deliver(b"") or stream.closed, "the client has stopped reading"
    check_output(bytes(stream.written))
    check_output(bytes(shown))
    if client.watching:
        while frames._waiting:
            with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"):  # of what is no picture
                frames._waiting.popleft().array()
        frames.close()
    _check_snapshot(client, client.snapshot())
    loop.advance(client.vector_timeout_max + 1)
    assert client._indifast.counts["failed"] == 0, "a message has failed for another reason than its own"
    _check_snapshot(client, client.snapshot())
    stream.abort()
    loop.settle()
    assert serving.done()
    serving.result()
    assert not client.data


def _check_snapshot(client: Program, snapshot: Snap) -> None:
    """Check that a frozen copy has what the model has."""
    assert list(snapshot) == list(client.data)
    for devicename, device in client.data.items():
        frozen = snapshot[devicename]
        assert list(frozen) == list(device)
        assert frozen.enable == device.enable
        for vectorname, vector in device.items():
            copied = frozen[vectorname]
            assert copied.state == vector.state and copied.enable == vector.enable
            assert dict(copied) == dict(vector)
