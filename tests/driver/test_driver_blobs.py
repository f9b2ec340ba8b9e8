"""BLOBs: what they can be made of, when they are encoded, and who owns their memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import mmap
import os
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indifast import BLOBMember, BLOBVector, Device, IPyDriver, NumberMember, NumberVector
from indifast._parser import Element
from tests.driver.support import WireClient, connected, fence_device, listening
from tests.support.blackbox import LIMIT, PYTHON, Child, python_environment
from tests.support.waiting import eventually, turns

ALSO = '<enableBLOB device="Cam">Also</enableBLOB>'


def camera(**options: Any) -> tuple[IPyDriver, BLOBVector]:
    vector = BLOBVector("ccd", "", "", "ro", "Ok", [BLOBMember("a", **options), BLOBMember("b")])
    numbers = NumberVector("exposure", "", "", "rw", "Ok", [NumberMember("time"), NumberMember("gain")])
    return IPyDriver(Device("Cam", [vector, numbers]), fence_device()), vector


@contextlib.asynccontextmanager
async def filming(**options: Any) -> AsyncIterator[tuple[IPyDriver, BLOBVector, WireClient]]:
    """A camera, and a client that wants its frames."""
    driver, vector = camera(**options)
    async with listening(driver) as client:
        await client.answers(ALSO)
        yield driver, vector, client


async def frame(client: WireClient) -> Element:
    return await client.next("setBLOBVector")


def contents(element: Element) -> dict[str, bytes | None]:
    return {member.name: member.data for member in element.members}


def values(folder: Path) -> dict[str, tuple[Any, bytes, str]]:
    path = folder / "picture.tar.gz"
    path.write_bytes(b"from a file")
    mapped = mmap.mmap(-1, 10)
    mapped[:] = b"0123456789"
    big_endian = np.arange(12, dtype=">i2").reshape(3, 4)
    shorts = np.arange(12, dtype="u2").reshape(3, 4)
    return {
        "bytes": (b"abc", b"abc", ""),
        "bytearray": (bytearray(b"abc"), b"abc", ""),
        "memoryview": (memoryview(b"abcdef")[1:4], b"bcd", ""),
        "strided memoryview": (memoryview(b"abcdef")[::2], b"ace", ""),
        "mmap": (mapped, b"0123456789", ""),
        "array": (shorts, shorts.tobytes(), ""),
        "big-endian array": (big_endian, big_endian.tobytes(), ""),
        "strided array": (shorts[:, ::2], shorts[:, ::2].tobytes(), ""),
        "Fortran order": (np.asfortranarray(shorts), shorts.tobytes(), ""),
        "scalar array": (np.array(5, "u1"), b"\5", ""),
        "Path": (path, b"from a file", ".tar.gz"),
        "str": (str(path), b"from a file", ".tar.gz"),
        "BytesIO": (io.BytesIO(b"in memory"), b"in memory", ""),
        "large": (bytes(1 << 20), bytes(1 << 20), ""),
    }


def test_everything_with_bytes_can_be_sent(tmp_path: Path) -> None:
    async def run() -> None:
        async with filming() as (_, vector, client):
            for what, (value, expected, form) in values(tmp_path).items():
                vector["a"] = value
                await vector.send_setVectorMembers(members=["a"])
                element = await frame(client)
                assert contents(element) == {"a": expected}, what
                assert element.members[0].attrs == {"name": "a", "format": form, "size": str(len(expected))}, what

    asyncio.run(run())


def test_files_of_the_user_stay_open(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "frame.fits"
        path.write_bytes(b"content")
        with path.open("rb") as file:
            descriptor = os.open(path, os.O_RDONLY)
            async with filming() as (_, vector, client):
                vector["a"] = file
                for _ in range(3):
                    await vector.send_setVectorMembers(members=["a"])
                    assert contents(await frame(client)) == {"a": b"content"}
                assert not file.closed
                vector["a"] = descriptor
                await vector.send_setVectorMembers(members=["a"])
                assert contents(await frame(client)) == {"a": b"content"}
            os.close(descriptor)

    asyncio.run(run())


def test_the_size_is_that_of_the_content_unless_set() -> None:
    async def run() -> None:
        async with filming() as (_, vector, client):

            async def size(value: bytes) -> int | None:
                vector["a"] = value
                await vector.send_setVectorMembers(members=["a"])
                return (await frame(client)).members[0].blob_size

            assert await size(b"12345") == 5
            assert await size(b"123") == 3
            vector.set_blobsize("a", 99)
            assert await size(b"1234") == 99
            vector.set_blobsize("a", "wrong")
            vector.set_blobsize("unknown", 1)
            assert await size(b"12") == 99
            vector.set_blobsize("a", 0)
            assert await size(b"12") == 2

    asyncio.run(run())


def test_values_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        empty = tmp_path / "empty"
        empty.touch()
        async with filming() as (_, vector, client):
            vector["b"] = b"good"
            for value in (tmp_path / "missing", str(tmp_path), empty, io.BytesIO(), io.StringIO("text"), 1e9, object()):
                caplog.clear()
                vector["a"] = value
                await vector.send_setVectorMembers(members=["a", "b", "c"])
                assert contents(await frame(client)) == {"b": b"good"}, value
                assert len(caplog.records) == 1, value
            await vector.send_setVectorMembers(members=["a"], state="Alert")
            element = await frame(client)
            assert element.members == []
            assert element.attrs["state"] == "Alert"

    asyncio.run(run())


def test_a_message_without_members_reports_the_state() -> None:
    async def run() -> None:
        driver, vector = camera()
        async with listening(driver) as client:
            await vector.send_setVectorMembers(state="Busy")
            assert (await frame(client)).attrs["state"] == "Busy"
            await vector.send_setVectorMembers(state="Ok", members=["a", "b"])
            element = await frame(client)
            assert element.attrs["state"] == "Ok"
            assert element.members == []

    asyncio.run(run())


def test_unwanted_blobs_are_not_read() -> None:
    class Untouched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("read although no client wants it")

    async def run() -> None:
        driver, vector = camera()
        vector["a"] = Untouched(b"x")
        async with listening(driver) as client:
            await vector.send_setVectorMembers(members=["a"])
            await client.answers(ALSO + '<enableBLOB device="Cam">Never</enableBLOB>')
            await vector.send_setVectorMembers(members=["a"])
            vector.send_threadsafe({"a": b"y"})
            assert not any(element.blob for element in client.elements)
            assert driver.stats()["blobs_not_wanted"] == 3

    asyncio.run(run())


def test_a_loop_that_only_sends_unwanted_blobs_does_not_block_clients() -> None:
    async def run() -> None:
        driver, vector = camera()
        vector["a"] = b"x"

        async def stream() -> None:
            while True:
                await vector.send_setVectorMembers(members=["a"])

        async with listening(driver) as client:
            streaming = asyncio.create_task(stream())
            await eventually(lambda: driver.stats().get("blobs_not_wanted"))
            await client.answers(ALSO)
            assert contents(await frame(client)) == {"a": b"x"}
            streaming.cancel()
            await asyncio.wait((streaming,))

    asyncio.run(run())


@pytest.mark.parametrize("size", [1000, 100_000, 5 << 20])
def test_the_buffer_may_be_overwritten_when_send_returns(size: int) -> None:
    async def run() -> None:
        async with filming() as (_, vector, client):
            buffer = bytearray(size)
            vector["a"] = buffer
            for number in range(5):
                buffer[:] = bytes([number]) * size
                await vector.send_setVectorMembers(members=["a"])
                buffer[:] = b"\xff" * size
                buffer.append(0)  # BufferError if the buffer is still in use
                buffer.pop()
            for number in range(5):
                assert contents(await frame(client)) == {"a": bytes([number]) * size}

    asyncio.run(run())


@pytest.mark.parametrize(
    "work", ["indifast.transport.contents.encode_block", "indifast.driver.blobsender.zlib.compress"]
)
def test_the_buffer_may_be_overwritten_after_a_cancelled_send(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = threading.Event()
    released = threading.Event()
    ended = []

    def slow(data: Any, *_: Any) -> bytes:
        at_work.set()
        released.wait(LIMIT)
        ended.append(bytes(data[:1]))
        return b"AAAA"

    async def run() -> None:
        async with filming() as (_, vector, client):
            buffer = bytearray(1 << 20)
            vector["a"] = buffer
            with monkeypatch.context() as patch:
                patch.setattr(work, slow)
                sending = asyncio.create_task(vector.send_setVectorMembers(members=["a"], compress="zlib" in work))
                await eventually(at_work.is_set)
                sending.cancel()
                await turns()
                assert not sending.done(), "the buffer is still in use"
                released.set()
                await asyncio.wait((sending,))
                assert sending.cancelled()
            buffer[:] = b"\xff" * len(buffer)
            count = len(ended)
            vector["a"] = b"next"
            await vector.send_setVectorMembers(members=["a"])
            if "encode" in work:  # the message was already queued, with what the buffer held then
                assert contents(await frame(client)) == {"a": bytes(6)}
            assert contents(await frame(client)) == {"a": b"next"}
            assert count
            assert ended == [b"\0"] * count

    asyncio.run(run())


def test_frames_keep_their_order() -> None:
    async def run() -> None:
        async with filming() as (_, vector, client):

            async def send(number: int, size: int) -> None:
                vector["a"] = bytes([number]) * size
                await vector.send_setVectorMembers(members=["a"])

            sizes = [3 << 20, 10, 300_000, 20, 1 << 20]
            await asyncio.gather(*(send(number, size) for number, size in enumerate(sizes)))
            for number, size in enumerate(sizes):
                assert contents(await frame(client)) == {"a": bytes([number]) * size}

    asyncio.run(run())


@pytest.mark.parametrize("per_send", [None, False, True])
def test_compression(per_send: bool | None) -> None:
    async def run() -> None:
        async with filming(compress=per_send is not True, blobformat=".fits") as (_, vector, client):
            data = b"compressible " * 10_000
            vector["a"] = data
            vector["b"] = b"x"
            await vector.send_setVectorMembers(members=["a", "b"], compress=per_send)
            first, second = (await frame(client)).members
            assert first.blob_size == len(data)
            if per_send is False:
                assert (first.format, first.data) == (".fits", data)
            else:
                assert first.format == ".fits.z"
                assert first.data is not None
                assert zlib.decompress(first.data) == data
            assert second.format == (".z" if per_send else "")

    asyncio.run(run())


def test_blob_policies() -> None:
    async def run() -> None:
        driver, vector = camera()
        vector["a"] = b"abc"
        numbers = driver["Cam"]["exposure"]
        async with listening(driver) as client:

            async def received(enable: str) -> set[str]:
                first = len(client.elements)
                await client.answers(enable)
                await vector.send_setVectorMembers(members=["a"])
                await vector.send_setVectorMembers(state="Busy")
                await numbers.send_setVector()
                await driver.send_message("end")
                await client.until(lambda: client.elements[-1].attrs.get("message") == "end")
                sets = [element for element in client.elements[first:] if element.tag.startswith("set")]
                return {element.tag + ("+" if element.blob else "") for element in sets}

            state, other, content = "setBLOBVector", "setNumberVector", "setBLOBVector+"
            assert await received("") == {state, other}
            assert await received(ALSO) == {state, other, content}
            assert await received('<enableBLOB device="Cam">Only</enableBLOB>') == {state, content}
            assert await received('<enableBLOB device="Cam" name="ccd">Never</enableBLOB>') == {state}
            assert await received(ALSO) == {state, other, content}
            assert await received('<enableBLOB device="Cam">Never</enableBLOB>') == {state, other}
            assert await received('<enableBLOB device="Cam" name="ccd">Only</enableBLOB>') == {state, other, content}

    asyncio.run(run())


# From other threads


def in_thread(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_frames_from_a_thread() -> None:
    async def run() -> None:
        async with filming() as (_, vector, client):
            buffer = np.zeros(100_000, "u2")

            def shoot() -> None:
                for number in range(10):
                    buffer[:] = number
                    assert vector.send_threadsafe({"a": buffer}, state="Busy", block=True)
                    buffer[:] = 99

            thread = in_thread(shoot)
            for number in range(10):
                element = await frame(client)
                assert element.attrs["state"] == "Busy"
                data = contents(element)["a"]
                assert data is not None
                assert set(np.frombuffer(data, "u2")) == {number}
            await eventually(lambda: not thread.is_alive())
            assert vector["a"] is None, "the memory belongs to the camera"

    asyncio.run(run())


def test_a_full_queue_replaces_the_oldest_unsent_frame() -> None:
    async def run() -> None:
        async with filming() as (driver, vector, client):
            buffer = bytearray(1)
            results = []

            def shoot() -> None:
                for number in range(10):
                    buffer[0] = number
                    results.append(vector.send_threadsafe({"a": buffer}, queue=3))

            in_thread(shoot).join()  # the event loop cannot send in the meantime
            assert results == [True] * 3 + [False] * 7
            got = [contents(await frame(client))["a"] for _ in range(3)]
            assert got == [b"\7", b"\x08", b"\x09"]
            assert driver.stats()["frames_replaced"] == 7

    asyncio.run(run())


def test_numbers_from_a_thread() -> None:
    async def run() -> None:
        driver, _ = camera()
        vector = driver["Cam"]["exposure"]
        async with listening(driver) as client:
            thread = in_thread(lambda: vector.send_threadsafe({"time": np.float64(1.5)}, message="m", timeout=3))
            element = await client.next("setNumberVector")
            thread.join()
            assert element.values() == {"time": "1.5"}
            assert element.attrs["message"] == "m"
            assert vector["time"] == "1.5"
            with pytest.raises(RuntimeError):
                vector.send_threadsafe({"time": 2}, block=True)
        assert vector.send_threadsafe({"time": 2}) is False

    asyncio.run(run())


def test_a_waiting_thread_is_released_when_the_driver_stops() -> None:
    async def run() -> threading.Thread:
        async with filming() as (_, vector, client):

            def shoot() -> None:
                while vector.send_threadsafe({"a": b"x"}, block=True):
                    pass

            thread = in_thread(shoot)
            await frame(client)
        return thread

    thread = asyncio.run(run())  # the thread may still be sending when the loop is closed
    thread.join(LIMIT)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # of objects that other tests left behind
@pytest.mark.parametrize("steps", range(8))
def test_a_thread_can_send_again_in_the_next_run(steps: int) -> None:
    """Whenever during the stop the last frame was sent, it neither appears in the next run nor blocks its frames."""

    async def run() -> None:
        driver, vector = camera()
        driver.listen("127.0.0.1", 0)
        running = asyncio.create_task(driver.asyncrun(grace=0))
        await driver._indifast_runtime.up.wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(driver._indifast_runtime, "wanted", lambda *_: True)
            driver.shutdown()
            await turns(steps)
            vector.send_threadsafe({"a": b"stale"})
            await running
        async with driver, connected(driver.listening_port) as client:
            await client.answers(ALSO)
            assert await asyncio.to_thread(vector.send_threadsafe, {"a": b"fresh"})
            assert contents(await frame(client)) == {"a": b"fresh"}
        gc.collect()

    asyncio.run(run())


def test_an_exception_of_sending_is_raised_in_the_waiting_thread() -> None:
    async def run() -> None:
        driver, _ = camera()
        async with listening(driver):
            driver["Cam"]["exposure"]._state = None
            with pytest.raises(TypeError):
                await asyncio.to_thread(driver["Cam"]["exposure"].send_threadsafe, {"time": 1}, block=True)

    asyncio.run(run())


PEAK = """
import asyncio, sys
from indifast import BLOBMember, BLOBVector, Device, IPyDriver

def peak():
    return int([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]) * 1024

class Driver(IPyDriver):
    async def hardware(self):
        vector = self["Cam"]["ccd"]
        vector["a"] = bytes(1 << 20)
        await vector.send_setVectorMembers(members=["a"])
        vector["a"] = b"\\1" * (64 << 20)
        before = peak()
        await vector.send_setVectorMembers(members=["a"])
        await asyncio.sleep(0)
        while self._indifast_runtime.link._outbox.pending:
            await asyncio.sleep(0.01)
        print(peak() - before, file=sys.stderr)
        self.shutdown()

asyncio.run(Driver(Device("Cam", [BLOBVector("ccd", "", "", "ro", "Ok", [BLOBMember("a")])])).asyncrun())
"""


def test_peak_memory_of_a_large_blob_on_a_pipe(tmp_path: Path) -> None:
    with Child([PYTHON, "-c", PEAK], tmp_path, env=python_environment(), stdio=True) as child:
        assert child.process.stdout is not None
        total = 0
        while data := child.process.stdout.read(1 << 20):
            total += len(data)
        assert child.wait() == 0
        encoded = (64 << 20) * 4 // 3
        assert total > encoded
        assert int(child.stderr) < encoded * 1.05 + (8 << 20)
