"""BLOB messages: both forms, made from received elements and from a driver's buffers."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import re
import socket
import threading
from base64 import b64encode
from collections import deque
from functools import partial
from types import SimpleNamespace
from xml.etree.ElementTree import tostring

import pytest

from indifast._parser import Tokenizer
from indifast.protocol.complaints import BURST
from indifast.protocol.etree import to_tree
from indifast.protocol.message import INLINE, opened
from indifast.transport import blobs, shm
from indifast.transport import contents as contents_module
from indifast.transport.blobs import LARGE, BlobContent, BlobMessage, routable
from indifast.transport.descriptors import MAX_WAITING, DescriptorQueue
from indifast.transport.shm import DescriptorError
from tests.support.blackbox import LIMIT
from tests.support.descriptors import arrived, no_fd_leak
from tests.support.sockets import tcp_pair
from tests.support.waiting import eventually
from tests.transport.support import memory_file

GIB = 1 << 30
SMALL = os.urandom(1000)
BIG = os.urandom(5 * LARGE + 17)
VECTOR = {"device": "Cam", "name": "CCD1", "state": "Ok", "timestamp": "2026-01-01T00:00:00", "message": None}
ATTACHED = "name='a' size='5' format=''"


@pytest.fixture
def no_shared_memory(monkeypatch):
    """Make the system refuse files in memory."""

    def refuse(*args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)


def shared_file(data: bytes) -> int:
    """Return a descriptor of a file in memory whose size is a multiple of 1 MiB, as libindi makes them."""
    fd = memory_file(data)
    os.ftruncate(fd, -(-len(data) // (1 << 20)) << 20)
    return fd


def parse(text: bytes | str):
    (element,) = Tokenizer(relay=True).feed(text if isinstance(text, bytes) else text.encode())
    return element


def one_blob(data, suffix: str = ".fits", size: int | None = None) -> BlobMessage:
    """Return a message of a driver with one BLOB."""
    return BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", suffix, data, size)])


def attached_vector(*members: str) -> str:
    inner = "".join(f"  <oneBLOB\n    {member}\n    attached='true'>\n  </oneBLOB>\n" for member in members)
    return f"<setBLOBVector\n  device='Cam'\n  name='CCD1'\n  state='Ok'\n>\n{inner}</setBLOBVector>\n"


def received(text: bytes | str, *fds: int, on_fault=None) -> BlobMessage:
    """Return the message that arrives as this text with these descriptors."""
    descriptors = arrived(*fds)
    message = routable(parse(text), descriptors, on_fault)
    assert isinstance(message, BlobMessage)
    assert not len(descriptors)
    return message


async def form(message, attached: bool) -> bytes:
    """Return the bytes of a form, after waiting for it as an outbox does."""
    while not message.whole(attached):
        ready: list[bool] = []
        message.when_ready(attached, partial(ready.append, True))
        await eventually(ready.__len__)
        assert ready == [True]
    return b"".join(message.parts(attached))


async def prepare(message: BlobMessage, inline: bool, attached: bool) -> None:
    """Make forms and release the buffers, as a driver does."""
    for wanted, which in ((inline, False), (attached, True)):
        if wanted:
            await form(message, which)
    message.release()


def contents(inline: bytes) -> dict[str, bytes]:
    """Return the decoded BLOBs of an inline form by name."""
    return {member.name: member.data for member in parse(inline).members if member.data is not None}


def content_of(fd: int, length: int) -> bytes:
    return os.pread(fd, length, 0)


@pytest.mark.parametrize("data", [SMALL, BIG, BIG * 40])
def test_a_drivers_buffer_becomes_both_forms(data):
    async def scenario():
        async with no_fd_leak():
            message = one_blob(data)
            await prepare(message, True, True)
            assert (message.tag, message.device, message.name) == ("setBLOBVector", "Cam", "CCD1")
            assert message.formats == (".fits",)
            assert message.carried == {"CCD1"}
            inline = await form(message, False)
            assert inline == (
                b'<setBLOBVector device="Cam" name="CCD1" state="Ok" timestamp="2026-01-01T00:00:00">'
                b'<oneBLOB name="CCD1" format=".fits" size="%d">%s</oneBLOB></setBLOBVector>'
                % (len(data), b64encode(data))
            )
            assert abs(message.size - len(inline)) < 1000
            attached = await form(message, True)
            assert b'attached="true"' in attached
            assert f'len="{len(data)}"'.encode() in attached
            (fd,) = message.fds()
            assert content_of(fd, len(data)) == data
            assert os.fstat(fd).st_size % (1 << 20) == 0
            del message
            gc.collect()

    asyncio.run(scenario())


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("data", [SMALL, BIG * 9])
def test_a_buffer_is_free_once_prepared_and_the_other_form_can_still_be_made(first, data):
    async def scenario():
        async with no_fd_leak():
            buffer = bytearray(data)
            message = one_blob(buffer, ".z", size=10**7)
            await prepare(message, inline=not first, attached=first)
            buffer.clear()  # fails if anything still refers to the buffer
            inline, attached = await form(message, False), await form(message, True)
            assert contents(inline) == {"CCD1": data}
            assert b'size="10000000"' in inline
            assert b'size="10000000"' in attached
            (fd,) = message.fds()
            assert content_of(fd, len(data)) == data
            assert os.fstat(fd).st_size >= 10**7, "libindi's clients map `size` bytes"
            del message
            gc.collect()

    asyncio.run(scenario())


def test_memory_of_encoded_frames_is_reused_but_never_while_it_is_in_use():
    async def scenario():
        frames = [os.urandom(3 << 20) for _ in range(8)]
        held = []
        for frame in frames + frames:
            message = one_blob(frame)
            await prepare(message, True, False)
            held.append((list(message.parts(False)), frame))
            if len(held) > 5:
                del held[0]
            for parts, data in held:
                assert contents(b"".join(parts)) == {"CCD1": data}

    asyncio.run(scenario())


def test_members_without_content_and_odd_names():
    async def scenario():
        members = [BlobContent("empty", "", b""), BlobContent('a"&<b', ".bin", SMALL), BlobContent("c", ".bin", b"x")]
        message = BlobMessage.from_members("setBLOBVector", VECTOR, members)
        assert message.carried == {'a"&<b', "c"}
        await prepare(message, True, True)
        inline, attached = await form(message, False), await form(message, True)
        assert contents(inline) == {'a"&<b': SMALL, "c": b"x"}
        assert [member.name for member in parse(attached).members] == ["empty", 'a"&<b', "c"]
        assert parse(attached).attached == 2
        assert [content_of(fd, 1000)[:1] for fd in message.fds()] == [SMALL[:1], b"x"]
        assert [member.data for member in opened(message).members] == [None, SMALL, b"x"]

    asyncio.run(scenario())


def test_a_relayed_inline_message_keeps_its_text_and_has_an_attached_form():
    async def scenario():
        async with no_fd_leak():
            lines = re.sub(rb"(.{72})", rb"\1\n", b64encode(BIG))
            text = b"<setBLOBVector device='Cam' name='CCD1' state='Ok'><oneBLOB name='a' size='%d' format='.fits'>\n"
            text = text % len(BIG) + lines + b"\n</oneBLOB></setBLOBVector>"
            message = routable(parse(text))
            assert isinstance(message, BlobMessage)
            assert contents(await form(message, False)) == {"a": BIG}
            attached = await form(message, True)
            assert b64encode(BIG)[:70] not in attached
            assert parse(attached).attached == 1
            assert parse(attached).members[0].attrs["format"] == ".fits"
            (fd,) = message.fds()
            assert content_of(fd, len(BIG)) == BIG
            del message
            gc.collect()

    asyncio.run(scenario())


@pytest.mark.parametrize("rest", [0, 1, 2])
def test_a_relayed_message_has_the_same_content_in_all_forms(rest):
    """Base64 ends with padding, which is no content."""

    async def scenario():
        content = SMALL[: 300 + rest]
        text = b"<setBLOBVector device='Cam' name='CCD1' state='Ok'><oneBLOB name='a' size='%d' format='.fits'>%s"
        message = routable(parse(text % (len(content), b64encode(content)) + b"</oneBLOB></setBLOBVector>"))
        assert isinstance(message, BlobMessage)

        def everything() -> list[bytes]:
            raw = message.raw()
            assert raw is not None
            return [b"".join(raw.contents[0].blocks(3 << 10)), *(bytes(view()) for _, view in message.views())]

        assert everything() == [content]
        await form(message, True)
        assert everything() == [content, content]
        assert contents(await form(message, False)) == {"a": content}
        assert opened(message).members[0].data == content

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [None, 0, -1])
def test_a_blob_with_content_always_announces_its_descriptor(size):
    """A `size` of 0 would announce none, and the descriptor would be taken for that of the next BLOB."""

    async def scenario():
        async with no_fd_leak():
            ours = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("b", ".bin", SMALL, size)])
            written = "" if size is None else f" size='{size}'"
            text = f"<setBLOBVector device='Cam' name='CCD1'><oneBLOB name='b'{written} format='.bin'>".encode()
            relayed = routable(parse(text + b64encode(SMALL) + b"</oneBLOB></setBLOBVector>"))
            for message in (ours, relayed):
                for attached in (False, True):
                    element = parse(await form(message, attached))
                    assert element.members[0].attrs["size"] == str(len(SMALL)), attached
                    assert element.attached == attached == len(message.fds())
            del ours, relayed, message
            gc.collect()

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [SMALL, BIG * 9, BIG * 40])
def test_an_attached_message_is_encoded_once_for_all_inline_receivers(data, monkeypatch):
    async def scenario():
        async with no_fd_leak():
            message = received(attached_vector(f"name='a' size='{len(data)}' format='.fits'"), shared_file(data))
            encoded: list[int] = []

            def count(data: memoryview):
                encoded.append(len(data))
                return encode_block(data)

            encode_block = contents_module.encode_block
            monkeypatch.setattr(contents_module, "encode_block", count)
            ready: list[int] = []
            if message.parts(False) is None:
                for number in range(5):
                    message.when_ready(False, partial(ready.append, number))
                await eventually(lambda: len(ready) == 5)
                await form(message, False)
            inline = b"".join(message.parts(False))
            assert sum(encoded) == len(data)
            assert contents(inline) == {"a": data}
            assert b"attached" not in inline
            assert b"enclen" not in inline
            assert b64encode(data) in inline, "one unwrapped run"
            assert opened(message).members[0].data == data
            del message
            gc.collect()

    asyncio.run(scenario())


def test_only_the_stored_bytes_of_a_compressed_blob_are_encoded():
    """A libindi server sends the whole file (1 MiB for 700 kB), as `size` says, and its clients die of SIGBUS."""

    async def scenario():
        async with no_fd_leak():
            vector = attached_vector(f"name='a' size='9000000' format='.fits.fz' len='{len(BIG)}'")
            message = received(vector, shared_file(BIG))
            inline = await form(message, False)
            assert contents(inline) == {"a": BIG}
            assert f'len="{len(BIG)}"'.encode() in inline
            assert b'size="9000000"' in inline
            await form(message, True)
            (fd,) = message.fds()
            assert content_of(fd, len(BIG)) == BIG
            assert os.fstat(fd).st_size >= 9_000_000
            del message
            gc.collect()

    asyncio.run(scenario())


def test_a_peers_file_is_never_extended():
    async def scenario():
        ours = shared_file(SMALL)
        message = received(attached_vector("name='a' size='9000000' format='.z' len='1000'"), os.dup(ours))
        await form(message, True)
        assert os.fstat(ours).st_size == 1 << 20
        assert os.fstat(message.fds()[0]).st_ino != os.fstat(ours).st_ino
        os.close(ours)

    asyncio.run(scenario())


def test_a_file_is_passed_on_read_only_without_a_copy():
    async def scenario():
        async with no_fd_leak():
            ours = shared_file(BIG)
            message = received(attached_vector(f"name='a' size='{len(BIG)}' format='.fits'"), os.dup(ours))
            assert message.parts(True) is not None, "made at once, whatever its size"
            (fd,) = message.fds()
            assert os.fstat(fd).st_ino == os.fstat(ours).st_ino
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(fd, b"x")
            view = shm.view(fd, len(BIG))
            assert view == BIG
            assert view.readonly
            os.close(ours)
            del message, view
            gc.collect()

    asyncio.run(scenario())


def test_nobody_can_change_what_we_share():
    fd = shm.share(SMALL)
    with pytest.raises(OSError):
        os.truncate(f"/proc/self/fd/{fd}", 0)
    writable = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with pytest.raises(OSError):
        os.write(writable, b"x")
    assert os.pread(fd, 1000, 0) == SMALL
    os.close(writable)
    os.close(fd)


def test_pages_sent_without_copying_do_not_change():
    """A reader may see the pages that `sendfile` passed to its socket after nobody has the file open any longer."""
    data = os.urandom(1 << 20)
    ours, theirs = tcp_pair()
    with ours, theirs:
        fd = shm.share(data)
        ours.setblocking(False)
        length = os.sendfile(ours.fileno(), fd, 0, len(data))
        os.close(fd)
        for _ in range(3):
            os.close(shm.share(bytes(len(data))))
        theirs.settimeout(LIMIT)
        got = b""
        while len(got) < length:
            got += theirs.recv(length - len(got))
    assert length > 0
    assert got == data[:length]


class WatchedLock:
    """A lock. Sets `contended` when somebody has to wait for it."""

    def __init__(self, contended: threading.Event) -> None:
        self._lock = threading.Lock()
        self._contended = contended

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._contended.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_release_waits_for_a_form_that_is_no_longer_wanted(monkeypatch):
    """The thread that makes the form still reads the user's buffer."""

    async def scenario():
        buffer = bytearray(BIG * 9)
        before = bytes(buffer)
        message = one_blob(buffer, "")
        began, go_on = threading.Event(), threading.Event()
        message._locks = (WatchedLock(go_on), *message._locks[1:])
        encode_block = contents_module.encode_block

        def first_block_late(block: memoryview):
            if not began.is_set():
                began.set()
                assert go_on.wait(LIMIT)
            return encode_block(block)

        monkeypatch.setattr(contents_module, "encode_block", first_block_late)
        message.when_ready(False, lambda: None)
        await eventually(began.is_set)
        await form(message, True)
        assert not message.growing
        message.release()
        buffer[:] = b"\xff" * len(buffer)
        go_on.set()  # set long ago if `release` has waited
        assert contents(await form(message, False)) == {"CCD1": before}

    asyncio.run(scenario())


def test_several_blobs_inline_attached_and_empty_in_one_vector():
    async def scenario():
        async with no_fd_leak():
            text = (
                "<setBLOBVector device='Cam' name='CCD1' state='Ok'>"
                f"<oneBLOB name='a' size='{len(BIG)}' format='.1' attached='true'/>"
                f"<oneBLOB name='b' size='1000' format='.2'>{b64encode(SMALL).decode()}</oneBLOB>"
                "<oneBLOB name='c' size='0' format='.3' enclen='0'/>"
                "<oneBLOB name='d' size='1000' format='.4' len='999' attached='true'></oneBLOB>"
                "</setBLOBVector>"
            )
            message = received(text, shared_file(BIG), shared_file(SMALL))
            assert message.formats == (".1", ".2", ".4")
            assert message.carried == {"a", "b", "d"}
            assert contents(await form(message, False)) == {"a": BIG, "b": SMALL, "d": SMALL[:999]}
            attached = parse(await form(message, True))
            assert attached.attached == 3
            assert [content_of(fd, 5) for fd in message.fds()] == [BIG[:5], SMALL[:5], SMALL[:5]]
            del message
            gc.collect()

    asyncio.run(scenario())


def make_fifo(tmp_path) -> int:
    os.mkfifo(tmp_path / "fifo")
    return os.open(tmp_path / "fifo", os.O_RDWR)


def make_directory(tmp_path) -> int:
    return os.open(tmp_path, os.O_RDONLY)


def make_socket(tmp_path) -> int:
    return socket.socket().detach()


def make_device(tmp_path) -> int:
    return os.open("/dev/zero", os.O_RDONLY)


@pytest.mark.usefixtures("no_fd_left_open")
def test_files_are_shared_where_the_system_knows_fewer_seals(monkeypatch):
    """Linux before 5.1."""
    known = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    real = fcntl.fcntl

    def old(fd, command, argument=0):
        if command == fcntl.F_ADD_SEALS and argument & ~known:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(fd, command, argument)

    monkeypatch.setattr(shm, "fcntl", SimpleNamespace(**{**vars(fcntl), "fcntl": old}))
    fd = shm.share(SMALL)
    assert os.pread(fd, len(SMALL), 0) == SMALL
    with pytest.raises(OSError, match="Invalid argument"):
        os.truncate(fd, 0)  # opened for reading only
    os.close(fd)


@pytest.mark.usefixtures("no_fd_left_open")
def test_files_are_shared_without_proc(monkeypatch):
    def refuse(fd):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(shm, "reopen", refuse)
    fd = shm.share(SMALL)
    assert os.pread(fd, len(SMALL), 0) == SMALL
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


@pytest.mark.usefixtures("no_fd_left_open")
def test_an_empty_file_has_an_empty_view():
    fd = memory_file(b"")
    assert shm.view(fd, 0) == b""
    os.close(fd)


@pytest.mark.usefixtures("no_fd_left_open")
def test_descriptors_are_closed_if_there_is_no_memory_to_keep_them_or_to_take_them(monkeypatch):
    class Full(deque):
        def __iadd__(self, other):
            raise MemoryError

    descriptors = DescriptorQueue(Tokenizer(), GIB)
    descriptors._waiting = Full()
    with pytest.raises(MemoryError):
        descriptors.put([memory_file(SMALL)])
    descriptors = arrived(shared_file(SMALL), shared_file(SMALL))
    monkeypatch.setattr(shm, "check_received", Full().__iadd__)
    with pytest.raises(MemoryError):
        descriptors.take(parse(attached_vector(ATTACHED)))
    assert not len(descriptors)
    with pytest.raises(DescriptorError, match="damaged message"):  # not the descriptor of the other one
        descriptors.take(parse(attached_vector(ATTACHED)))


@pytest.mark.parametrize("make", [make_fifo, make_directory, make_socket, make_device])
@pytest.mark.usefixtures("no_fd_left_open")
def test_descriptors_of_anything_but_files_are_refused_without_a_leak(make, tmp_path):
    with pytest.raises(DescriptorError, match="not a regular file"):
        received(attached_vector(ATTACHED, "name='b' size='5' format=''"), make(tmp_path), shared_file(SMALL))


@pytest.mark.parametrize(
    "attributes",
    [
        "size='2000000' format=''",
        "size='10' format='' len='1048577'",
        "format=''",
        "size='big' format=''",
        "size='10' len='-1' format=''",
        "size='10' len='x' format=''",
        "size='10' len='²' format=''",
        "size='10' len='1_0' format=''",
        "size='99999999999999999999' format=''",
        "size='1000000000000000000' len='10' format=''",
    ],
)
@pytest.mark.usefixtures("no_fd_left_open")
def test_false_sizes_are_refused_without_a_leak(attributes):
    element = parse(attached_vector(f"name='a' {attributes}"))
    descriptors = arrived(shared_file(SMALL))
    with pytest.raises(DescriptorError):
        routable(element, descriptors)
    assert not len(descriptors)


def test_an_accepted_message_can_be_read_whatever_the_limits_of_a_tokenizer(monkeypatch):
    """A server with higher limits has passed it on, and a driver in the server's process reads it."""
    size = 3 << 20
    sparse = memory_file(b"")
    os.ftruncate(sparse, size)
    depth, note = "<x>" * 20 + "</x>" * 20, "y" * 100_000
    text = f"<setBLOBVector device='Cam' name='CCD1' message='{note}'>"
    text += f"<oneBLOB name='a' size='{size}' format='.x' attached='true'/>{depth}</setBLOBVector>"
    tokenizer = Tokenizer(relay=True, attribute=1 << 20, depth=64)
    (element,) = tokenizer.feed(text.encode())
    descriptors = DescriptorQueue(tokenizer, 2 * GIB)
    descriptors.put([sparse])
    read = opened(routable(element, descriptors))
    assert read.attrs["message"] == note
    assert read.members[0].data == bytes(size)
    ours = BlobMessage.from_members("setBLOBVector", VECTOR | {"message": note}, [BlobContent("a", ".x", BIG)])
    assert ours.element().attrs["message"] == note


def read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the system read only part of what is requested, as it does beyond 2 GiB."""
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, nbytes, at: pread(fd, min(nbytes, 100_000), at))


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.usefixtures("no_fd_left_open")
def test_blobs_read_from_files_are_like_those_that_arrive_inline(pieces, monkeypatch):
    """Their attributes are the same as well, for programs that look at the XML. Nothing is encoded to read them."""
    if pieces:
        read_in_pieces(monkeypatch)
    odd = b"<setBLOBVector device='Cam' name='CCD1' message='a &lt; b'><oneBLOB name='none' size='0' format=''/>"
    one = b"<oneBLOB name='%s' size='%d' format='.x' len='%d' attached='true'/>"
    inline = b"<oneBLOB name='inline' size='3' format='.y'>QUJD</oneBLOB>"
    text = odd + one % (b"a", len(BIG), len(BIG)) + inline + one % (b"z", 10**7, 9) + b"</setBLOBVector>"
    message = received(text, shared_file(BIG), shared_file(b"zipped up"))
    with monkeypatch.context() as patched:
        patched.setattr(contents_module, "encode_block", None)
        patched.setattr(blobs, "Tokenizer", None)
        read = opened(message)
    assert [member.data for member in read.members] == [None, BIG, b"ABC", b"zipped up"]
    (again,) = Tokenizer(relay=True).feed(b"".join(asyncio.run(form(message, False)).splitlines()))
    assert (read.tag, read.device, read.name, read.attrs) == (again.tag, again.device, again.name, again.attrs)
    assert read.values() == dict.fromkeys(again.values(), "")
    assert tostring(to_tree(read)) == tostring(to_tree(again))
    assert opened(again) is again


def test_content_is_read_from_the_drivers_buffer_until_release_and_then_from_a_form():
    """Even while a form is being made. Once it is complete, the buffer belongs to the driver again."""

    async def scenario():
        for attached in (False, True):
            buffer = bytearray(BIG)
            message = one_blob(buffer, ".x")
            assert opened(message).members[0].data == BIG
            await prepare(message, inline=not attached, attached=attached)
            buffer[:] = bytes(len(buffer))
            assert opened(message).members[0].data == BIG
            assert message.element().attached == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("brought", [True, False])
def test_a_blob_of_size_0_takes_its_descriptor_if_it_has_one(brought):
    """libindi's servers send one for content with `size` 0. It is not an error to send none."""

    async def scenario():
        async with no_fd_leak():
            empty = "name='a' size='0' format=''"
            both = [shared_file(b"aaaaa"), shared_file(b"bbbbb")]
            if not brought:
                os.close(both.pop(0))
            message = received(attached_vector(empty, "name='b' size='5' format=''"), *both)
            assert message.carried == {"b"} and contents(await form(message, False)) == {"b": b"bbbbb"}
            assert parse(await form(message, True)).descriptors == 1
            descriptors = arrived(shared_file(b"aaaaa")) if brought else arrived()
            state = routable(parse(attached_vector(empty)), descriptors)
            assert not state.blob and not len(descriptors)
            assert b"attached" not in b"".join(state.parts(True))
            del message
            gc.collect()

    asyncio.run(scenario())


def test_a_file_truncated_after_sending_costs_only_its_message(caplog):
    async def scenario():
        async with no_fd_leak():
            ours = shared_file(BIG * 9)
            faults: list[str] = []
            vector = attached_vector(f"name='a' size='{9 * len(BIG)}' format=''")
            message = received(vector, os.dup(ours), on_fault=faults.append)
            os.ftruncate(ours, LARGE)
            assert await form(message, False) == b"\n", "only white space between messages, not half a message"
            assert "holds 65536 bytes instead of" in caplog.text
            assert faults == ["BLOB lost"]
            with pytest.raises(DescriptorError, match="ends after 65536 of"):
                opened(message)
            os.close(ours)
            del message
            gc.collect()

    asyncio.run(scenario())


def test_a_large_form_can_be_sent_while_it_grows(monkeypatch):
    """The beginning can be sent before the end has been made."""

    async def scenario():
        async with no_fd_leak():
            data = os.urandom(5 << 20)
            message = received(attached_vector(f"name='a' size='{len(data)}' format=''"), shared_file(data))
            go_on = threading.Event()
            encode_block = contents_module.encode_block
            blocks: list[int] = []

            def hold_back(data: memoryview):
                blocks.append(len(data))
                if len(blocks) > 2:
                    assert go_on.wait(LIMIT)
                return encode_block(data)

            monkeypatch.setattr(contents_module, "encode_block", hold_back)
            ready: list[bool] = []
            assert message.parts(False) is None
            message.when_ready(False, partial(ready.append, True))
            await eventually(lambda: ready)
            assert message.growing
            assert not message.whole(False)
            begin = b"".join(message.parts(False))
            assert 0 < len(begin) < 3 << 20
            assert begin.endswith((b64encode(data[: blocks[0]]), b64encode(data[: sum(blocks[:2])])))
            go_on.set()
            whole = await form(message, False)
            assert whole.startswith(begin)
            assert contents(whole) == {"a": data}
            del message
            gc.collect()

    asyncio.run(scenario())


def test_who_fails_once_a_form_is_ready_keeps_no_others_waiting(caplog):
    async def run() -> None:
        message = one_blob(bytes(LARGE))
        heard: list[int] = []
        message.when_ready(INLINE, lambda: heard[1])
        message.when_ready(INLINE, lambda: heard.append(1))
        await eventually(lambda: heard)

    asyncio.run(run())
    assert [record.exc_info[0] for record in caplog.records] == [IndexError]


def test_a_file_truncated_while_it_is_sent_is_padded_and_reported(monkeypatch, caplog):
    """What has been sent can't be taken back, so the message is completed, and no connection suffers."""

    async def scenario():
        async with no_fd_leak():
            data = os.urandom((7 << 20) + 5)
            ours = shared_file(data)
            faults: list[str] = []
            text = attached_vector(f"name='a' size='{len(data)}' format=''")
            message = received(text, os.dup(ours), on_fault=faults.append)
            encode_block = contents_module.encode_block
            kept = (3 << 20) + 1

            def truncate(block: memoryview):
                os.ftruncate(ours, kept)
                return encode_block(block)

            monkeypatch.setattr(contents_module, "encode_block", truncate)
            whole = await form(message, False)
            got = contents(whole)["a"]
            assert len(got) == len(data)
            whole_blocks = kept // contents_module.BLOCK * contents_module.BLOCK
            assert got[:whole_blocks] == data[:whole_blocks]
            assert not any(got[whole_blocks:])
            assert faults == ["BLOB filled up"]
            assert "Cam.CCD1 is padded with zero bytes" in caplog.text
            os.close(ours)
            del message
            gc.collect()

    asyncio.run(scenario())


@pytest.mark.usefixtures("no_fd_left_open")
def test_missing_descriptors_are_an_error_and_those_that_arrived_are_closed():
    with pytest.raises(DescriptorError, match="2 attached BLOBs came with 1 descriptors"):
        received(attached_vector(ATTACHED, "name='b' size='5' format=''"), shared_file(SMALL))
    with pytest.raises(DescriptorError, match="carries no descriptors"):
        routable(parse(attached_vector(ATTACHED)), None)


@pytest.mark.usefixtures("no_fd_left_open")
def test_descriptors_without_elements_are_bounded():
    descriptors = arrived()
    with pytest.raises(DescriptorError, match="more than"):
        for _ in range(MAX_WAITING + 1):
            descriptors.put([os.dup(0)])


def test_the_nth_announced_blob_takes_the_nth_descriptor():
    files = [shared_file(bytes([number]) * 10) for number in range(3)]
    descriptors = arrived(*files[:2])
    descriptors.put(files[2:])
    first = routable(parse(attached_vector("name='a' size='10' format=''")), descriptors)
    both = routable(parse(attached_vector("name='a' size='10' format=''", "name='b' size='10' format=''")), descriptors)
    assert contents(b"".join(first.parts(False))) == {"a": b"\0" * 10}
    assert contents(b"".join(both.parts(False))) == {"a": b"\1" * 10, "b": b"\2" * 10}


@pytest.mark.usefixtures("no_shared_memory", "bursts_only")
def test_frames_sent_inline_for_want_of_memory_are_logged_at_a_limited_rate(caplog):
    for _ in range(1000):
        message = one_blob(SMALL)
        assert contents(b"".join(message.parts(True))) == {"CCD1": SMALL}
    assert caplog.text.count("sent inline") == BURST


@pytest.mark.usefixtures("bursts_only")
def test_lost_frames_are_logged_at_a_limited_rate(caplog):
    faults = []
    vector = attached_vector(f"name='a' size='{len(SMALL)}' format=''")
    for _ in range(1000):
        ours = shared_file(SMALL)
        message = received(vector, os.dup(ours), on_fault=faults.append)
        os.ftruncate(ours, 1)
        assert b"oneBLOB" not in b"".join(message.parts(False))
        os.close(ours)
    assert faults == ["BLOB lost"] * 1000
    assert caplog.text.count("is lost") == BURST


@pytest.mark.usefixtures("no_shared_memory")
def test_without_shared_memory_the_content_goes_inline(caplog):
    async def scenario():
        message = one_blob(SMALL)
        await prepare(message, False, True)
        assert contents(await form(message, True)) == {"CCD1": SMALL}
        assert message.fds() == []

    asyncio.run(scenario())
    assert "sent inline" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "<setBLOBVector device='Cam' name='CCD1' state='Ok'><oneBLOB name='a' size='0' format=''/></setBLOBVector>",
        "<getProperties version='1.7'/>",
        "<setBLOBVector device='Cam' name='CCD1' state='Busy'/>",
    ],
)
def test_elements_without_content_travel_unchanged(text):
    element = parse(text)
    assert routable(element, arrived()) is element
