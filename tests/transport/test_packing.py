"""Compressed frames: what they inflate to, what is left as it is, and that the work is done once."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.cli.demo.starfield import StarField
from indifast.compression import METHODS, Compressor, Decompressor
from indifast.protocol.message import RAW, Buffer
from indifast.routing.packed import Block
from indifast.transport import packing
from indifast.transport.blobs import BlobContent, BlobMessage
from indifast.transport.packing import BLOCK, UP_TO, ByRate, PackedContents, pack, wanted
from indifast.transport.stream import is_nearby
from tests.support.sockets import tcp_pair
from tests.support.waiting import eventually

STARS = bytes(StarField(1024, 1024).frame())
NOISE = os.urandom(1 << 20)
MB = 1e6


async def finished(packed: PackedContents | None) -> list[Block] | None:
    """Return all blocks once they are there; None if the contents are sent as they are."""
    if packed is None:
        return None
    await eventually(lambda: packed.worth is not None)
    if not packed.worth:
        return None
    await eventually(lambda: packed.block(packed.count - 1) is not None)
    blocks = [packed.block(at) for at in range(packed.count)]
    return [block for block in blocks if block is not None]


def inflated(blocks: Sequence[Block]) -> bytes:
    out = b""
    for data, method, width, size in blocks:
        assert len(data) and (not method or len(data) < size <= BLOCK)
        out += bytes(Decompressor(method, width).decompress(data, size) if method else data)
    return out


def compressed(contents: Sequence[Sequence[Buffer]], formats: Sequence[str], method: str) -> list[Block] | None:
    async def run() -> list[Block] | None:
        return await finished(pack(contents, formats, method))

    return asyncio.run(run())


every_method = pytest.mark.parametrize("method", METHODS)


@every_method
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_contents_are_what_they_were_whatever_their_pieces(method: str, data: st.DataObject) -> None:
    part = st.sampled_from([STARS[:300_000], STARS[5000:90_001], NOISE[:100_000], bytes(BLOCK), bytes(BLOCK + 1), b"x"])
    contents = data.draw(st.lists(st.lists(part, min_size=1, max_size=4), min_size=1, max_size=3))
    formats = data.draw(
        st.lists(st.sampled_from([".fits", ".fits.fz"]), min_size=len(contents), max_size=len(contents))
    )
    blocks = compressed(contents, formats, method)
    if blocks is not None:
        assert inflated(blocks) == b"".join(part for content in contents for part in content)


@every_method
def test_a_star_field_takes_half(method: str) -> None:
    blocks = compressed([[STARS]], [".fits"], method)
    assert blocks is not None and inflated(blocks) == STARS
    assert sum(len(block.data) for block in blocks) < len(STARS) / 1.75
    assert {block.width for block in blocks} == {2}


@every_method
@pytest.mark.parametrize(
    "content", [NOISE, STARS[:2880] + NOISE, bytes(10_000)], ids=["noise", "a header and noise", "small"]
)
def test_what_does_not_shrink_or_is_small_is_sent_as_it_is(method: str, content: bytes) -> None:
    assert compressed([[content]], [".fits"], method) is None


@every_method
def test_a_part_that_does_not_shrink_is_sent_as_it_is_without_a_copy(method: str) -> None:
    content = bytes(BLOCK) * 3 + NOISE[:BLOCK] + bytes(BLOCK)
    blocks = compressed([[content]], [""], method)
    assert blocks is not None and inflated(blocks) == content
    assert [block.method for block in blocks] == [method] * 3 + [""] + [method]
    assert isinstance(blocks[3].data, memoryview) and blocks[3].data.obj is content


@pytest.mark.parametrize("format", [".fits.z", ".fits.fz", ".JPG", ".stream_jpg", ".png", ".fits.gz", ".stream.z"])
def test_what_others_have_compressed_is_not_touched(format: str) -> None:
    assert compressed([[STARS]], [format], "lz4") is None
    blocks = compressed([[STARS], [STARS[:5]]], [".fits", format], "lz4")
    assert blocks is not None and blocks[-1] == Block(memoryview(STARS)[:5])


def test_a_message_is_compressed_once_for_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Counted(Compressor):
        def compress(self, piece: Buffer) -> Buffer:
            made.append(self.method)
            assert threading.current_thread() is not threading.main_thread()
            return super().compress(piece)

    monkeypatch.setattr(packing, "Compressor", Counted)

    async def run() -> None:
        vector = {"device": "Cam", "name": "B"}
        message = BlobMessage.from_members("setBLOBVector", vector, [BlobContent("m", ".fits", bytearray(STARS))])
        ready = asyncio.Event()
        assert message.parts(RAW) is None
        message.when_ready(RAW, ready.set)
        await ready.wait()
        for method in (*METHODS, *METHODS):
            packed = message.packed(method)
            assert packed is message.packed(method)
            blocks = await finished(packed)
            assert blocks is not None and inflated(blocks) == STARS
        message.release()

    asyncio.run(run())
    count = -(-len(STARS) // (768 << 10)) * 3  # the message has the content in pieces of 768 KiB
    assert 0 < made.count("lz4") == made.count("zstd") <= count


def test_who_waits_hears_of_each_block_once() -> None:
    async def run() -> None:
        packed = pack([[STARS]], [".fits"], "lz4")
        assert packed is not None
        heard: list[object] = []

        def more() -> None:
            assert asyncio.get_running_loop()
            heard.append((packed.worth, packed.block(packed.count - 1) is not None))
            if not heard[-1][1]:  # type: ignore[index]
                packed.when_more(more)

        packed.when_more(more)
        packed.when_more(more)
        await eventually(lambda: heard and heard[-1] == (True, True))
        assert len(heard) <= packed.count + 3

    asyncio.run(run())


def test_who_fails_keeps_no_others_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        packed = pack([[STARS]], [".fits"], "lz4")
        assert packed is not None
        heard: list[int] = []
        packed.when_more(lambda: heard[1])
        packed.when_more(lambda: heard.append(1))
        await eventually(lambda: heard)

    asyncio.run(run())
    (record,) = caplog.records
    assert record.exc_info is not None and isinstance(record.exc_info[1], IndexError)


@pytest.mark.parametrize("error", [MemoryError, ZeroDivisionError])
@pytest.mark.parametrize("what", ["compress", "best_width_of"])
def test_what_can_not_be_compressed_is_sent_as_it_is(
    what: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is begun has to be finished, whatever happens."""
    calls: list[object] = []

    def fail(*words: Any) -> Any:
        calls.append(words)
        if len(calls) > 1 or what == "best_width_of":
            raise error
        return b"x"

    judged = packing._judged
    if what == "compress":
        monkeypatch.setattr(packing, "_judged", lambda *words: judged(*words))
        monkeypatch.setattr(packing, "Compressor", lambda *words: Failing(fail))
    else:
        monkeypatch.setattr(packing, what, fail)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        blocks = await finished(pack([[STARS]], [".fits"], "lz4"))
        if what == "best_width_of":
            assert blocks is None
        else:
            assert blocks is not None and blocks[0].data == b"x"
            assert b"".join(block.data for block in blocks[1:]) == STARS[BLOCK:]

    asyncio.run(run())


class Failing:
    method, width = "lz4", 1

    def __init__(self, compress: Any) -> None:
        self.compress = compress


class Jobs:
    """What threads are to do, when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._jobs: list[Callable[[], object]] = []
        monkeypatch.setattr(packing, "threads", lambda: self)

    def submit(self, *job: Any) -> Future[object]:
        self._jobs.append(partial(*job))
        return Future()

    def do(self) -> None:
        self._jobs.pop(0)()


def test_without_threads_frames_are_sent_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        def refuse(*words: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("indifast.transport.packing._shared", None)  # other tests may have left threads
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            packed = pack([[STARS]], [".fits"], "lz4")
        assert packed is not None and packed.worth is False
        assert await finished(pack([[STARS]], [".fits"], "zstd"))  # done by a thread that finds the other frame, too
        assert packed.worth is False

    asyncio.run(run())


def message(content: Buffer = STARS) -> BlobMessage:
    return BlobMessage.from_members("setBLOBVector", {"device": "C", "name": "B"}, [BlobContent("m", ".x", content)])


def test_compressed_frames_are_kept_for_those_who_come_later_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come on top of what queues are allowed to hold."""
    monkeypatch.setattr("indifast.transport.blobs.LARGE", 1 << 30)

    async def made(message: BlobMessage, method: str = "lz4") -> PackedContents:
        assert message.parts(RAW) is not None
        packed = message.packed(method)
        assert packed is not None and await finished(packed)
        return packed

    kept = packing._Kept()
    monkeypatch.setattr(packing, "_kept", kept)

    async def three_is_too_many() -> None:
        waiting = [message() for _ in range(4)]
        packed = await made(waiting[0])
        await eventually(lambda: kept.total)
        size = kept.total
        assert size == sum(len(block.data) for block in await finished(packed) or [])
        monkeypatch.setattr(packing, "KEPT", 2 * size + 5)
        first, second, third = packed, await made(waiting[1]), await made(waiting[2])
        await eventually(lambda: kept.total == 2 * size)
        assert waiting[1].packed("lz4") is second and waiting[2].packed("lz4") is third
        assert first.block(first.count - 1) is not None, "a receiver in the middle of it can finish it"
        again = await made(waiting[0])
        assert again is not first
        await eventually(lambda: kept.total == 2 * size and waiting[1].packed("lz4") is not second)
        assert waiting[2].packed("lz4") is third

    async def run() -> None:
        await three_is_too_many()
        gc.collect()
        await eventually(lambda: kept.total == 0)
        monkeypatch.setattr(packing, "KEPT", 5)
        alone = message()
        packed = await made(alone)
        assert alone.packed("lz4") is packed, "the newest one stays"
        two = [await made(alone, method) for method in METHODS]
        await eventually(lambda: len(kept._sizes) == 1)
        assert two[1] is alone.packed("zstd") and two[0] is packed

    asyncio.run(run())


def test_frames_that_do_not_shrink_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = packing._Kept()
    monkeypatch.setattr(packing, "_kept", kept)
    assert compressed([[NOISE]], [".fits"], "lz4") is None and kept.total == 0
    content = bytes(BLOCK) + NOISE[:BLOCK]
    blocks = compressed([[content]], [""], "lz4")
    assert blocks is not None and kept.total in (0, len(blocks[0].data)), "what is not compressed takes no memory"


def test_threads_are_few_and_do_what_others_do_not_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program has the default executor of its event loop for itself, and so does the resolver."""
    monkeypatch.setattr(packing, "MOST_THREADS", 2)
    monkeypatch.setattr(packing, "_shared", None)  # other tests may have left more threads
    going_on = threading.Event()
    at_once: list[int] = []
    working: set[int] = set()

    def wait(*words: object) -> None:
        working.add(threading.get_ident())
        at_once.append(len(working))
        going_on.wait()

    monkeypatch.setattr(PackedContents, "go_on", wait)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        frames = [pack([[STARS]], [".fits"], "lz4") for _ in range(4)]
        await eventually(lambda: working)
        assert await asyncio.to_thread(lambda: 5) == 5, "others need not wait for frames"
        going_on.set()
        for frame in frames:
            assert frame is not None
            await eventually(lambda frame=frame: frame.block(0) is not None)
        release = threading.Event()
        others = [loop.run_in_executor(None, release.wait) for _ in range(2)]
        assert await finished(pack([[STARS]], [".fits"], "lz4")) is None, "frames need not wait for others"
        release.set()
        await asyncio.gather(*others)

    asyncio.run(run())
    assert max(at_once) <= min(2, len(os.sched_getaffinity(0)))


def test_threads_end_with_the_last_connection_that_may_compress() -> None:
    def running() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("indifast compression")}

    async def run() -> None:
        gc.collect()
        await eventually(lambda: not running())
        connection = ByRate("auto", METHODS)
        assert not running(), "there is nothing to do"
        assert await finished(pack([[STARS]], [".fits"], "lz4"))
        (first,) = running()
        assert await finished(pack([[STARS]], [".fits"], "lz4"))
        assert first in running(), "it stays from one frame to the next"
        del connection
        await eventually(lambda: not running())

    asyncio.run(run())


def test_a_thread_ends_with_its_loop_and_waits_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_PAUSE", 0.001)

    async def run() -> tuple[PackedContents, Jobs]:
        loop = asyncio.get_running_loop()
        jobs = Jobs(monkeypatch)
        packed, later = (pack([[STARS]], [".fits"], "lz4") for _ in range(2))
        assert packed is not None and later is not None
        told = loop.call_soon_threadsafe
        failures = [MemoryError] * 3

        def scarce(*words: Any) -> Any:
            if failures:
                raise failures.pop()
            return told(*words)

        monkeypatch.setattr(loop, "call_soon_threadsafe", scarce)
        jobs.do()
        assert not failures and packed.worth
        return later, jobs

    compressed = packing._compressed
    made: list[object] = []
    later, jobs = asyncio.run(run())
    monkeypatch.setattr(packing, "_compressed", lambda *words: made.append(words) or compressed(*words))
    jobs.do()  # its loop is closed
    assert not made and later.block(later.count - 1) is not None


def test_a_thread_does_nothing_for_a_message_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames may be replaced faster than threads have time for them: their content must not wait for that."""
    heard: list[str] = []
    made: list[object] = []
    compressed = packing._compressed
    monkeypatch.setattr(packing, "_compressed", lambda *words: made.append(words) or compressed(*words))

    def message() -> BlobMessage:
        return BlobMessage.from_members(
            "setBLOBVector", {"device": "Cam", "name": "B"}, [BlobContent("m", ".x", STARS)]
        )

    async def run() -> None:
        jobs = Jobs(monkeypatch)
        monkeypatch.setattr("indifast.transport.blobs.LARGE", 1 << 30)
        replaced, kept = message(), message()
        for one, name in ((replaced, "replaced"), (kept, "kept")):
            assert one.parts(RAW) is not None
            packed = one.packed("lz4")
            assert packed is not None
            packed.when_more(partial(heard.append, name))
        gone = ref(packed := replaced.packed("lz4"))
        del replaced, one, packed
        gc.collect()
        assert gone() is None, "a thread that has no time yet keeps nothing"
        jobs.do()
        assert not made
        await eventually(lambda: heard == ["replaced"])  # its queue goes on with the next frame
        jobs.do()
        assert len(made) == -(-len(STARS) // BLOCK)
        await eventually(lambda: heard == ["replaced", "kept"])

    asyncio.run(run())


# -- Which method


def test_the_method_follows_the_rate() -> None:
    choose = ByRate("auto", METHODS)
    slow, fast = UP_TO["zstd"], UP_TO["lz4"]
    rates = [0.0, 2 * fast, 0.9 * fast, 1.2 * fast, 1.3 * fast, 1.2 * fast, 0.5 * slow, 1.2 * slow, 1.3 * slow, slow]
    methods = ["", "", "lz4", "lz4", "", "", "zstd", "zstd", "lz4", "zstd"]
    assert [choose(rate) for rate in rates] == methods


@pytest.mark.parametrize(
    ("choice", "agreed", "methods"),
    [
        ("auto", (), ["", "", ""]),
        ("auto", ("lz4",), ["", "lz4", "lz4"]),
        ("auto", ("zstd",), ["", "zstd", ""]),
        ("lz4", ("lz4",), ["lz4"] * 3),
        ("zstd", ("zstd",), ["zstd"] * 3),
        ("zstd", (), [""] * 3),
        ("off", (), [""] * 3),
    ],
)
def test_only_methods_that_were_agreed_on_are_used(choice: str, agreed: Sequence[str], methods: Sequence[str]) -> None:
    assert [ByRate(choice, agreed)(rate) for rate in (0.0, 1 * MB, 100 * MB)] == methods


class Peer:
    def __init__(self, nearby: bool) -> None:
        self.nearby = nearby


@pytest.mark.parametrize("nearby", [False, True])
def test_what_is_on_this_machine_is_compressed_only_on_request(nearby: bool) -> None:
    def allowed(choice: str) -> tuple[str, ...]:
        return wanted(choice, Peer(nearby))()  # type: ignore[arg-type]

    assert allowed("auto") == (() if nearby else METHODS)
    assert allowed("off") == ()
    assert allowed("lz4") == ("lz4",) and allowed("zstd") == ("zstd",)


def test_a_peer_with_an_address_of_this_machine_is_nearby() -> None:
    ours, theirs = tcp_pair()
    assert is_nearby(ours) and is_nearby(theirs)
    ours.close(), theirs.close()
    assert not is_nearby(ours), "nobody knows"

    class Far(socket.socket):
        def getsockname(self) -> Any:
            return ("10.0.0.1", 7624)

        def getpeername(self) -> Any:
            return ("10.0.0.2", 7624)

    with Far() as far:
        assert not is_nearby(far)
