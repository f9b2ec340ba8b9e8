"""`_descriptors`: what the kernel is asked about files, and who closes them."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from indifast._descriptors import NO_FILE, UNREADABLE, Descriptor, reopen_read_only, size_if_readable, size_of
from tests.transport.support import memory_file

pytestmark = pytest.mark.usefixtures("no_fd_left_open")


def owned(fd: int) -> Descriptor:
    """Return an owner of this descriptor."""
    owner = Descriptor()
    owner.fd = fd
    return owner


def test_the_size_of_a_file() -> None:
    file = owned(memory_file(b"x" * 5000))
    assert size_of(file.fd) == size_if_readable(file.fd) == 5000
    os.truncate(file.fd, 1 << 40)  # sparse
    assert size_of(file.fd) == size_if_readable(file.fd) == 1 << 40


@pytest.mark.parametrize(
    ("flags", "size"),
    [(os.O_RDONLY, 3), (os.O_RDWR, 3), (os.O_WRONLY, UNREADABLE), (os.O_PATH, UNREADABLE), (os.O_PATH | 2, UNREADABLE)],
)
def test_only_what_is_open_for_reading_has_a_size(flags: int, size: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    file = owned(os.open(tmp_path / "f", flags))
    assert size_if_readable(file.fd) == size


def test_anything_but_a_regular_file_has_no_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        file = owned(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        assert size_if_readable(file.fd) == NO_FILE
    with socket.socket(socket.AF_UNIX) as sock:
        assert size_if_readable(sock.fileno()) == NO_FILE


@pytest.mark.parametrize("ask", [size_of, size_if_readable])
def test_descriptors_that_are_not_open_are_errors(ask) -> None:
    for fd in (-1, 1 << 20):
        with pytest.raises(OSError, match="Bad file descriptor") as failed:
            ask(fd)
        assert failed.value.errno == errno.EBADF


def test_a_file_that_is_opened_again_has_a_place_and_rights_of_its_own() -> None:
    file = owned(memory_file(b"abcdef"))
    os.lseek(file.fd, 3, os.SEEK_SET)
    again = owned(reopen_read_only(file.fd))
    assert again.fd != file.fd
    assert os.read(again.fd, 6) == b"abcdef"
    assert os.lseek(file.fd, 0, os.SEEK_CUR) == 3
    assert not os.get_inheritable(again.fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(again.fd, b"x")
    assert os.fstat(again.fd).st_ino == os.fstat(file.fd).st_ino


def test_what_is_not_open_can_not_be_opened_again() -> None:
    with pytest.raises(FileNotFoundError) as failed:
        reopen_read_only(1 << 20)
    assert failed.value.errno == errno.ENOENT


def test_a_descriptor_is_closed_with_its_owner() -> None:
    class Named(Descriptor):
        __slots__ = ("name",)

        def __init__(self, name: str) -> None:
            self.name = name

    owner = Named("a")
    assert owner.fd == -1
    owner.fd = fd = memory_file(b"")
    assert stat.S_ISREG(os.fstat(fd).st_mode)
    del owner
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
