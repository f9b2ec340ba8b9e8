"""BLOB messages: both forms, made from what was received and from a driver's buffers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import socket
import threading
from base64 import b64encode
from functools import partial
from xml.etree.ElementTree import tostring

import pytest

from indifast._parser import Tokenizer
from indifast.protocol.complaints import BURST, Complaints
from indifast.protocol.etree import to_tree
from indifast.protocol.message import opened
from indifast.transport import blobs, shm
from indifast.transport.blobs import LARGE, BlobContent, BlobMessage, routable
from indifast.transport.shm import DescriptorError, DescriptorQueue
from tests.transport.support import no_fd_leak, open_fds, until

GIB = 1 << 30
SMALL = os.urandom(1000)
BIG = os.urandom(5 * LARGE + 17)
VECTOR = {"device": "Cam", "name": "CCD1", "state": "Ok", "timestamp": "2026-01-01T00:00:00", "message": None}


def memfd(data: bytes) -> int:
    fd = os.memfd_create("shm_anon", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.ftruncate(fd, -(-len(data) // (1 << 20)) << 20)
    return fd


def parse(text: bytes | str):
    (element,) = Tokenizer(relay=True).feed(text if isinstance(text, bytes) else text.encode())
    return element


def attached_vector(*members: str) -> str:
    inner = "".join(f"  <oneBLOB\n    {member}\n    attached='true'>\n  </oneBLOB>\n" for member in members)
    return f"<setBLOBVector\n  device='Cam'\n  name='CCD1'\n  state='Ok'\n>\n{inner}</setBLOBVector>\n"


def received(text: bytes | str, *fds: int) -> BlobMessage:
    descriptors = DescriptorQueue(Tokenizer(), GIB)
    descriptors.put(fds)
    message = routable(parse(text), descriptors)
    assert isinstance(message, BlobMessage)
    assert not len(descriptors)
    return message


async def form(message, attached: bool) -> bytes:
    """The bytes of a form, waiting for it as an outbox does."""
    while not message.whole(attached):
        ready: list[bool] = []
        message.when_ready(attached, partial(ready.append, True))
        await until(ready.__len__)
        assert ready == [True]
    return b"".join(message.parts(attached))


async def prepare(message: BlobMessage, inline: bool, attached: bool) -> None:
    """Make forms and let go of the buffers, as a driver does."""
    for wanted, which in ((inline, False), (attached, True)):
        if wanted:
            await form(message, which)
    message.release()


def contents(inline: bytes) -> dict[str, bytes]:
    return {member.name: member.data for member in parse(inline).members if member.data is not None}


def content_of(fd: int, length: int) -> bytes:
    return os.pread(fd, length, 0)


@pytest.mark.parametrize("data", [SMALL, BIG, BIG * 40])
def test_a_drivers_buffer_in_both_forms(data):
    async def scenario():
        async with no_fd_leak():
            message = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", ".fits", data)])
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
def test_the_buffer_is_free_after_prepare_and_the_other_form_can_still_be_made(first, data):
    async def scenario():
        async with no_fd_leak():
            buffer = bytearray(data)
            message = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", ".z", buffer, size=10**7)])
            await prepare(message, inline=not first, attached=first)
            buffer.clear()  # nobody holds it any more, or this would fail
            inline, attached = await form(message, False), await form(message, True)
            assert contents(inline) == {"CCD1": data}
            assert b'size="10000000"' in inline
            assert b'size="10000000"' in attached
            (fd,) = message.fds()
            assert content_of(fd, len(data)) == data
            assert os.fstat(fd).st_size >= 10**7, "libindi's clients map as much as `size` says"
            del message
            gc.collect()

    asyncio.run(scenario())


def test_memory_of_encoded_frames_is_used_again_but_never_while_it_is_seen():
    async def scenario():
        frames = [os.urandom(3 << 20) for _ in range(8)]
        held = []
        for frame in frames + frames:
            message = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", ".fits", frame)])
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


def test_a_relayed_inline_message_keeps_its_text_and_can_be_attached():
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


@pytest.mark.parametrize("size", [None, 0, -1])
def test_what_has_content_announces_a_descriptor(size):
    """`size` 0 announces none: the descriptor would be taken for that of the next BLOB."""

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
def test_an_attached_message_is_encoded_once_for_all_who_want_it_inline(data, monkeypatch):
    async def scenario():
        async with no_fd_leak():
            message = received(attached_vector(f"name='a' size='{len(data)}' format='.fits'"), memfd(data))
            encoded: list[int] = []

            def count(data: memoryview):
                encoded.append(len(data))
                return encode_block(data)

            encode_block = blobs._encode_block
            monkeypatch.setattr(blobs, "_encode_block", count)
            told: list[int] = []
            if message.parts(False) is None:
                for number in range(5):
                    message.when_ready(False, lambda number=number: told.append(number))
                await until(lambda: len(told) == 5)
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
    """A libindi server sends the whole file, as `size` says (1 MiB for 700 kB), and its clients die of SIGBUS."""

    async def scenario():
        async with no_fd_leak():
            vector = attached_vector(f"name='a' size='9000000' format='.fits.fz' len='{len(BIG)}'")
            message = received(vector, memfd(BIG))
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


def test_the_file_of_a_peer_is_never_extended():
    async def scenario():
        ours = memfd(SMALL)
        message = received(attached_vector("name='a' size='9000000' format='.z' len='1000'"), os.dup(ours))
        await form(message, True)
        assert os.fstat(ours).st_size == 1 << 20
        assert os.fstat(message.fds()[0]).st_ino != os.fstat(ours).st_ino
        os.close(ours)

    asyncio.run(scenario())


def test_what_is_passed_on_is_the_same_memory_and_read_only():
    async def scenario():
        async with no_fd_leak():
            ours = memfd(BIG)
            message = received(attached_vector(f"name='a' size='{len(BIG)}' format='.fits'"), os.dup(ours))
            assert message.parts(True) is not None, "at once, whatever its size"
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


def test_what_we_share_can_not_be_changed_by_anybody():
    fd = shm.share(SMALL)
    with pytest.raises(OSError):
        os.truncate(f"/proc/self/fd/{fd}", 0)
    writable = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with pytest.raises(OSError):
        os.write(writable, b"x")
    assert os.pread(fd, 1000, 0) == SMALL
    os.close(writable)
    os.close(fd)


def test_what_is_handed_on_without_copying_stays_as_it_was():
    """A reader sees the pages that `sendfile` gave to its socket when nobody has the file open any more."""
    data = os.urandom(1 << 20)
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as ours:
        theirs, _ = listening.accept()
        with theirs:
            fd = shm.share(data)
            ours.setblocking(False)
            length = os.sendfile(ours.fileno(), fd, 0, len(data))
            os.close(fd)
            for _ in range(3):
                os.close(shm.share(bytes(len(data))))
            theirs.settimeout(60)
            got = b""
            while len(got) < length:
                got += theirs.recv(length - len(got))
    assert length > 0
    assert got == data[:length]


def test_release_waits_for_a_form_that_nobody_wants_any_more(monkeypatch):
    """Its thread reads the user's buffer all the same."""

    async def scenario():
        buffer = bytearray(BIG * 9)
        before = bytes(buffer)
        message = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", "", buffer)])
        began, released = threading.Event(), threading.Event()
        encode_block = blobs._encode_block

        def first_block_late(block: memoryview):
            if not began.is_set():
                began.set()
                released.wait(0.3)  # longer than `release` takes if it does not wait
            return encode_block(block)

        monkeypatch.setattr(blobs, "_encode_block", first_block_late)
        message.when_ready(False, lambda: None)
        await until(began.is_set)
        await form(message, True)
        assert not message.growing
        message.release()
        buffer[:] = b"\xff" * len(buffer)
        released.set()
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
            message = received(text, memfd(BIG), memfd(SMALL))
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


@pytest.mark.parametrize("make", [make_fifo, make_directory, make_socket, make_device])
def test_descriptors_that_are_no_files_are_refused_without_a_leak(make, tmp_path):
    before = open_fds()
    with pytest.raises(DescriptorError, match="not a regular file"):
        received(
            attached_vector("name='a' size='5' format=''", "name='b' size='5' format=''"),
            make(tmp_path),
            memfd(SMALL),
        )
    gc.collect()
    assert open_fds() == before


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
def test_sizes_that_lie_are_refused_without_a_leak(attributes):
    before = open_fds()
    element = parse(attached_vector(f"name='a' {attributes}"))
    descriptors = DescriptorQueue(Tokenizer(), GIB)
    descriptors.put([memfd(SMALL)])
    with pytest.raises(DescriptorError):
        routable(element, descriptors)
    assert not len(descriptors)
    gc.collect()
    assert open_fds() == before


def test_a_message_that_was_taken_is_read_whatever_the_limits_of_a_tokenizer_are(monkeypatch):
    """A server with higher limits than these has passed it on; a driver in its process reads it."""
    size = 3 << 20
    sparse = os.memfd_create("sparse", os.MFD_CLOEXEC)
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


def read_by_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system reads more than 2 GiB."""
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, nbytes, at: pread(fd, min(nbytes, 100_000), at))


@pytest.mark.parametrize("pieces", [False, True])
def test_what_is_read_from_files_is_what_would_have_come_inline(pieces, monkeypatch):
    """With the same attributes, for programs that look at the XML; and nothing is encoded for it."""
    if pieces:
        read_by_pieces(monkeypatch)
    before = open_fds()
    odd = b"<setBLOBVector device='Cam' name='CCD1' message='a &lt; b'><oneBLOB name='none' size='0' format=''/>"
    one = b"<oneBLOB name='%s' size='%d' format='.x' len='%d' attached='true'/>"
    inline = b"<oneBLOB name='inline' size='3' format='.y'>QUJD</oneBLOB>"
    text = odd + one % (b"a", len(BIG), len(BIG)) + inline + one % (b"z", 10**7, 9) + b"</setBLOBVector>"
    message = received(text, memfd(BIG), memfd(b"zipped up"))
    with monkeypatch.context() as patched:
        patched.setattr(blobs, "_encode_block", None)
        patched.setattr(blobs, "Tokenizer", None)
        read = opened(message)
    assert [member.data for member in read.members] == [None, BIG, b"ABC", b"zipped up"]
    (again,) = Tokenizer(relay=True).feed(b"".join(asyncio.run(form(message, False)).splitlines()))
    assert (read.tag, read.device, read.name, read.attrs) == (again.tag, again.device, again.name, again.attrs)
    assert read.values() == dict.fromkeys(again.values(), "")
    assert tostring(to_tree(read)) == tostring(to_tree(again))
    assert opened(again) is again
    del message, read
    gc.collect()
    assert open_fds() == before


def test_a_drivers_buffer_is_read_until_it_is_released_and_what_was_made_of_it_afterwards():
    """Also while a form is being made: the buffer is the driver's again when that is there."""

    async def scenario():
        for attached in (False, True):
            buffer = bytearray(BIG)
            message = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", ".x", buffer)])
            assert opened(message).members[0].data == BIG
            await prepare(message, inline=not attached, attached=attached)
            buffer[:] = bytes(len(buffer))
            assert opened(message).members[0].data == BIG
            assert message.element().attached == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("brought", [True, False])
def test_one_of_size_0_takes_its_descriptor_if_it_has_brought_one(brought):
    """libindi's servers send one where content came with `size` 0; who sends none gets no error."""

    async def scenario():
        async with no_fd_leak():
            empty = "name='a' size='0' format=''"
            both = [memfd(b"aaaaa"), memfd(b"bbbbb")]
            if not brought:
                os.close(both.pop(0))
            message = received(attached_vector(empty, "name='b' size='5' format=''"), *both)
            assert message.carried == {"b"} and contents(await form(message, False)) == {"b": b"bbbbb"}
            assert parse(await form(message, True)).descriptors == 1
            descriptors = DescriptorQueue(Tokenizer(), GIB)
            if brought:
                descriptors.put([memfd(b"aaaaa")])
            state = routable(parse(attached_vector(empty)), descriptors)
            assert not state.blob and not len(descriptors)
            assert b"attached" not in b"".join(state.parts(True))
            del message
            gc.collect()

    asyncio.run(scenario())


def test_a_file_truncated_after_sending_costs_its_message_only(caplog):
    async def scenario():
        async with no_fd_leak():
            ours = memfd(BIG * 9)
            message = received(attached_vector(f"name='a' size='{9 * len(BIG)}' format=''"), os.dup(ours))
            faults: list[str] = []
            message.on_fault = faults.append
            os.ftruncate(ours, LARGE)
            assert await form(message, False) == b"\n", "white space between messages: nothing half said"
            assert "holds 65536 bytes instead of" in caplog.text
            assert faults == ["BLOB lost"]
            with pytest.raises(DescriptorError, match="ends after 65536 of"):
                opened(message)
            os.close(ours)
            del message
            gc.collect()

    asyncio.run(scenario())


def test_a_large_form_can_be_sent_while_it_grows(monkeypatch):
    """Its beginning is there before its end is made."""

    async def scenario():
        async with no_fd_leak():
            data = os.urandom(5 << 20)
            message = received(attached_vector(f"name='a' size='{len(data)}' format=''"), memfd(data))
            go_on = threading.Event()
            encode_block = blobs._encode_block
            blocks: list[int] = []

            def hold_back(data: memoryview):
                blocks.append(len(data))
                if len(blocks) > 2:
                    assert go_on.wait(30)
                return encode_block(data)

            monkeypatch.setattr(blobs, "_encode_block", hold_back)
            told: list[bool] = []
            assert message.parts(False) is None
            message.when_ready(False, lambda: told.append(True))
            await until(lambda: told)
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


def test_a_file_truncated_while_it_is_sent_is_filled_up_and_told(monkeypatch, caplog):
    """What is on its way can't be called back: the message is completed, and nobody's connection suffers."""

    async def scenario():
        async with no_fd_leak():
            data = os.urandom((7 << 20) + 5)
            descriptors = DescriptorQueue(Tokenizer(), GIB)
            ours = memfd(data)
            descriptors.put([os.dup(ours)])
            faults: list[str] = []
            text = attached_vector(f"name='a' size='{len(data)}' format=''")
            message = routable(parse(text), descriptors, faults.append)
            encode_block = blobs._encode_block
            kept = (3 << 20) + 1

            def truncate(block: memoryview):
                os.ftruncate(ours, kept)
                return encode_block(block)

            monkeypatch.setattr(blobs, "_encode_block", truncate)
            whole = await form(message, False)
            got = contents(whole)["a"]
            assert len(got) == len(data)
            whole_blocks = kept // blobs._BLOCK * blobs._BLOCK
            assert got[:whole_blocks] == data[:whole_blocks]
            assert not any(got[whole_blocks:])
            assert faults == ["BLOB filled up"]
            assert "Cam.CCD1 is padded with zero bytes" in caplog.text
            os.close(ours)
            del message
            gc.collect()

    asyncio.run(scenario())


def test_missing_descriptors_are_an_error_and_those_that_came_are_closed():
    before = open_fds()
    with pytest.raises(DescriptorError, match="2 attached BLOBs came with 1 descriptors"):
        received(attached_vector("name='a' size='5' format=''", "name='b' size='5' format=''"), memfd(SMALL))
    with pytest.raises(DescriptorError, match="carries no descriptors"):
        routable(parse(attached_vector("name='a' size='5' format=''")), None)
    assert open_fds() == before


def test_descriptors_without_elements_are_bounded():
    before = open_fds()
    descriptors = DescriptorQueue(Tokenizer(), GIB)
    with pytest.raises(DescriptorError, match="more than"):
        for _ in range(shm.MAX_WAITING + 1):
            descriptors.put([os.dup(0)])
    assert open_fds() == before


def test_the_nth_announced_blob_takes_the_nth_descriptor():
    files = [memfd(bytes([number]) * 10) for number in range(3)]
    descriptors = DescriptorQueue(Tokenizer(), GIB)
    descriptors.put(files[:2])
    descriptors.put(files[2:])
    first = routable(parse(attached_vector("name='a' size='10' format=''")), descriptors)
    both = routable(parse(attached_vector("name='a' size='10' format=''", "name='b' size='10' format=''")), descriptors)
    assert contents(b"".join(first.parts(False))) == {"a": b"\0" * 10}
    assert contents(b"".join(both.parts(False))) == {"a": b"\1" * 10, "b": b"\2" * 10}


@pytest.fixture(autouse=True)
def complaints(monkeypatch):
    """What other tests have complained of counts for none here."""
    monkeypatch.setattr(blobs, "_complaints", Complaints(logging.getLogger(blobs.__name__)))


def test_frames_that_go_inline_are_told_at_a_limited_rate(monkeypatch, caplog):
    def refuse(*args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    for _ in range(1000):
        message = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", ".fits", SMALL)])
        assert contents(b"".join(message.parts(True))) == {"CCD1": SMALL}
    assert BURST <= caplog.text.count("sent inline") < BURST + 30


def test_frames_that_are_lost_are_told_at_a_limited_rate(caplog):
    faults = []
    for _ in range(1000):
        ours = memfd(SMALL)
        descriptors = DescriptorQueue(Tokenizer(), GIB)
        descriptors.put([os.dup(ours)])
        message = routable(
            parse(attached_vector(f"name='a' size='{len(SMALL)}' format=''")), descriptors, faults.append
        )
        os.ftruncate(ours, 1)
        assert b"oneBLOB" not in b"".join(message.parts(False))
        os.close(ours)
    assert faults == ["BLOB lost"] * 1000
    assert BURST <= caplog.text.count("is lost") < BURST + 30


def test_without_shared_memory_the_content_goes_inline(monkeypatch, caplog):
    def refuse(*args):
        raise OSError(24, "Too many open files")

    async def scenario():
        message = BlobMessage.from_members("setBLOBVector", VECTOR, [BlobContent("CCD1", ".fits", SMALL)])
        monkeypatch.setattr(os, "memfd_create", refuse)
        await prepare(message, False, True)
        assert contents(await form(message, True)) == {"CCD1": SMALL}
        assert message.fds() == []

    asyncio.run(scenario())
    assert "sent inline" in caplog.text


def test_other_elements_travel_as_they_are():
    for text in (
        "<setBLOBVector device='Cam' name='CCD1' state='Ok'><oneBLOB name='a' size='0' format=''/></setBLOBVector>",
        "<getProperties version='1.7'/>",
        "<setBLOBVector device='Cam' name='CCD1' state='Busy'/>",
    ):
        element = parse(text)
        assert routable(element, DescriptorQueue(Tokenizer(), GIB)) is element
