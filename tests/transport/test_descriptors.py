"""Descriptors that arrive over a Unix socket belong to their own message, never to another one."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

import pytest

from indifast._parser import Element
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import opened
from indifast.transport import incoming, shm
from indifast.transport.descriptors import MAX_WAITING
from indifast.transport.shm import DescriptorError
from tests.transport.support import ReaderLog, memory_file

START = "<setBLOBVector device='Cam' name='{}' state='Ok'>"
ONE = "<oneBLOB name='{}' size='4' format='' attached='true'/>"
END = "</setBLOBVector>"
TEXT = "<setTextVector device='Cam' name='t' state='Ok'><oneText name='m'>x</oneText></setTextVector>"


pytestmark = pytest.mark.usefixtures("no_fd_left_open")


class Reader(ReaderLog):
    """A reader of messages as in the server, the client and drivers. Keeps the content that each vector got."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits)
        self.got: dict[str, list[str] | None] = {}
        """Name of a vector -> its contents; None if it was refused."""

    def read(self, text: str | bytes, fds: list[int]) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        for message in self.reader.read(data, 0, len(data), fds):
            if message.blob:
                contents = [member.data for member in opened(message).members]
                self.got[str(message.name)] = [data[:4].decode().rstrip() for data in contents if data is not None]

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        super().refused(element, error)
        self.got[str(element.name)] = None

    @property
    def waiting(self) -> int:
        """The number of descriptors that wait for their message."""
        return len(self.reader._descriptors or ())


def memory(content: str) -> int:
    """Return a descriptor of a file with `content`, padded to four bytes."""
    return memory_file(content.encode().ljust(4))


def whole(name: str, count: int = 1) -> str:
    """Return a vector that announces `count` descriptors."""
    return START.format(name) + ONE.format("m") * count + END


@pytest.mark.parametrize("brought", [False, True])
def test_blobs_of_size_0_may_have_descriptors_or_not(brought: bool) -> None:
    """In one read either all have them or none. An empty BLOB must not take the descriptor of the next element."""
    reader = Reader()
    empty = ONE.format("e").replace("size='4'", "size='0'")
    assert "size='0'" in empty
    first = START.format("first") + empty + ONE.format("m") + END
    fds = [memory("none")] if brought else []
    reader.read(first + whole("second"), [*fds, memory("one"), memory("two")])
    assert reader.got == {"first": ["one"], "second": ["two"]}
    assert not reader.waiting


DAMAGED = {
    "before its BLOB": "<setBLOBVector device='Cam' device='Cam' name='bad' state='Ok'>" + ONE + END,
    "at its end": START.format("bad") + ONE + "</setTextVector>",
    "for good": START.format("bad") + ONE,
    "in its name": "<setBLOBVectr device='Cam' name='bad' state='Ok'>" + ONE + END,
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_message_takes_its_descriptor_with_it(damaged: str) -> None:
    reader = Reader()
    reader.read(damaged, [memory("bad")])
    reader.read("<message message='between'/>", [])
    reader.read(whole("next"), [memory("next")])
    assert reader.got == {"next": ["next"]}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=list(DAMAGED))
def test_descriptors_that_arrive_together_with_those_of_a_damaged_message_are_lost_with_them(damaged: str) -> None:
    reader = Reader()
    reader.read(damaged + whole("next"), [memory("bad"), memory("next")])
    reader.read(whole("last", 2), [memory("one"), memory("two")])
    assert reader.got == {"next": None, "last": ["one", "two"]}


def test_text_between_messages_costs_none_of_them_its_descriptor() -> None:
    """Libraries that a driver uses sometimes write to its standard output."""
    reader = Reader()
    reader.read("Initialised.\n" + whole("a"), [memory("a")])
    reader.read("Exposing for 3 s\n", [])
    reader.read(START.format("b"), [memory("b")])
    reader.read(ONE + END + "Exposed\n", [])
    reader.read(whole("c") + "Exposed\n" + whole("d"), [memory("c"), memory("d")])
    assert reader.got == {name: [name] for name in "abcd"}


def test_damaged_messages_without_blobs_cost_no_other_message_its_descriptor() -> None:
    reader = Reader()
    reader.read("<setTextVector device='Cam' name='t'><oneText name='x'>1</oneNumber>" + whole("a"), [memory("a")])
    assert reader.got == {"a": ["a"]}


def test_an_abandoned_message_takes_its_descriptor_with_it() -> None:
    reader = Reader()
    reader.read(START.format("bad") + ONE, [memory("bad")])
    reader.reader.abandon()
    reader.read(END + whole("next"), [memory("next")])
    assert reader.got == {"next": ["next"]}


def test_messages_after_too_many_descriptors_get_their_own() -> None:
    reader = Reader()
    reader.read("", [memory("x") for _ in range(MAX_WAITING + 1)])
    assert ["more than 256 descriptors" in str(error) for error in reader.floods] == [True]
    reader.read(whole("next"), [memory("next")])
    reader.read(whole("last"), [memory("last")])
    assert reader.got == {"next": ["next"], "last": ["last"]}


@pytest.mark.parametrize("flags", [os.O_PATH, os.O_WRONLY, os.O_ACCMODE, os.O_PATH | os.O_DIRECTORY])
def test_a_descriptor_that_its_sender_can_not_read_from_is_refused(tmp_path: Path, flags: int) -> None:
    """The fourth access mode of Linux, O_ACCMODE, allows neither reading nor writing."""
    path = tmp_path if flags & os.O_DIRECTORY else tmp_path / "file"
    if path != tmp_path:
        path.write_bytes(b"text")
    reader = Reader()
    reader.read(whole("a", 2) + whole("b"), [memory("a"), os.open(path, flags), memory("b")])
    assert reader.got == {"a": None, "b": ["b"]}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_a_file_that_its_sender_can_read_is_accepted(tmp_path: Path, flags: int) -> None:
    (tmp_path / "file").write_bytes(b"text")
    reader = Reader()
    reader.read(whole("a"), [os.open(tmp_path / "file", flags)])
    assert reader.got == {"a": ["text"]}


def sparse(size: int) -> int:
    """Return a descriptor of a file of this size that takes no memory."""
    fd = memory_file(b"")
    os.ftruncate(fd, size)
    return fd


@pytest.mark.parametrize("size", [1001, 89_000_000, (1 << 40) - 1])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_blob_that_is_too_large_costs_only_its_message(size: int, place: int) -> None:
    reader = Reader(Limits(blob=1000))
    ones = [ONE.format("m")] * 3
    ones[place] = ones[place].replace("size='4'", f"size='{size}'")
    fds = [memory("text") for _ in ones]
    os.ftruncate(fds[place], size)
    reader.read(START.format("large") + "".join(ones) + END + whole("next"), [*fds, memory("next")])
    assert reader.got == {"large": None, "next": ["next"]}


def test_the_limit_applies_to_the_file_not_to_the_inflated_content() -> None:
    """`size` is the size of the inflated content, which exists nowhere on the way."""
    reader = Reader(Limits(blob=1000))
    inflated = whole("a").replace("size='4'", "size='1000000' len='4'")
    reader.read(inflated, [memory("text")])
    assert reader.got == {"a": ["text"]}


def test_all_blobs_of_a_message_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inline message takes memory while it arrives, but files cost their sender nothing."""
    monkeypatch.setattr(incoming, "most_unfinished", lambda limits: 1999)
    reader = Reader()
    large = whole("a", 2).replace("size='4'", "size='1000'")
    reader.read(large + whole("b"), [sparse(1000), sparse(1000), memory("next")])
    assert reader.got == {"a": None, "b": ["next"]}


@pytest.mark.parametrize("damage", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_no_message_gets_the_content_of_another(seed: int, damage: bool) -> None:
    """Whole and damaged messages, each with its descriptors at its first byte, are read in pieces of any size."""
    chance = random.Random(seed)
    reader = Reader()
    sent: list[str] = []
    sender, receiver = socket.socketpair()
    receiver.setblocking(False)

    def read() -> bool:
        with contextlib.suppress(BlockingIOError):
            text, fds, _, _ = socket.recv_fds(receiver, chance.choice([7, 50, 1000]), 16)
            reader.read(text, fds)
            return bool(text)
        return False

    with sender, receiver:
        for number in range(60):
            name = f"v{number:03}"
            text = TEXT
            if damage and not chance.randrange(4):
                text = chance.choice([*DAMAGED.values(), "something printed\n"]).replace("bad", name)
            elif chance.randrange(4):
                text = whole(name, chance.randint(1, 3))
                sent.append(name)
            data = text.encode()
            fds = [memory(name) for _ in range(text.count("attached"))]
            cut = chance.choice([len(data), chance.randint(1, len(data))])
            socket.send_fds(sender, [data[:cut]], fds)
            if cut < len(data):
                sender.send(data[cut:])
            shm.close_all(fds)
            for _ in range(chance.choice([0, 0, 1, 3, 100])):
                read()
        while read():
            pass
    for name, contents in reader.got.items():
        assert contents is None or contents == [name] * len(contents), "the content of another message"
    if not damage:
        assert [name for name, contents in reader.got.items() if contents] == sent
    else:
        assert any(reader.got.values())
    reader.reader.close()
