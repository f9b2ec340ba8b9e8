"""Listening sockets: addresses, stale and live Unix sockets, a system that is out of descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import grp
import os
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from indifast.transport import sockets
from indifast.transport.connect import listen_on, listen_tcp, listen_unix, open_tcp, open_unix
from indifast.transport.listener import Listener
from indifast.transport.sockets import SocketFile, tcp_sockets, unix_socket
from tests.support.blackbox import LIMIT, free_port
from tests.support.descriptors import no_fd_leak
from tests.support.waiting import eventually
from tests.transport.support import Pieces, Recorder


def test_localhost_is_both_families_on_one_port(run):
    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener = await listen_tcp("localhost", 0, accepted.append)
            assert {sock.family for sock in listener.sockets} == {socket.AF_INET, socket.AF_INET6}
            assert {sock.getsockname()[1] for sock in listener.sockets} == {listener.port}
            assert f"127.0.0.1:{listener.port}" in listener.addresses
            assert f"[::1]:{listener.port}" in listener.addresses
            streams = [await open_tcp(host, listener.port) for host in ("127.0.0.1", "::1", "localhost")]
            await eventually(lambda: len(accepted) == 3)
            for stream in streams + accepted:
                stream.abort()
            listener.close()

    run(scenario())


@pytest.mark.parametrize("host", [None, ""])
def test_all_interfaces(run, host):
    async def scenario():
        listener = await listen_tcp(host, 0, lambda stream: stream.abort())
        assert sorted(sock.getsockname()[0] for sock in listener.sockets) == ["0.0.0.0", "::"]
        listener.close()

    run(scenario())


def test_several_hosts_one_of_them_twice(run):
    async def scenario():
        listener = await listen_tcp(["127.0.0.1", "127.0.0.2", "127.0.0.1"], 0, lambda stream: stream.abort())
        assert sorted(sock.getsockname()[0] for sock in listener.sockets) == ["127.0.0.1", "127.0.0.2"]
        listener.close()

    run(scenario())


def test_a_port_in_use_is_an_error_with_a_remedy(run):
    async def scenario():
        async with no_fd_leak():
            listener = await listen_tcp("localhost", 0, lambda stream: stream.abort())
            with pytest.raises(OSError, match=rf"port {listener.port} .* in use .* choose another port"):
                await listen_tcp("localhost", listener.port, lambda stream: stream.abort())
            listener.close()

    run(scenario())


HERE = (socket.AF_INET, "127.0.0.1")
NOWHERE = (socket.AF_INET, "240.0.0.1"), (socket.AF_INET, "240.0.0.2")  # reserved: no machine has these


def test_an_address_that_the_machine_lacks_is_left_out_if_another_remains():
    (sock,) = tcp_sockets([NOWHERE[0], HERE], 0, "somewhere")
    assert sock.getsockname()[0] == "127.0.0.1"
    sock.close()
    with pytest.raises(OSError, match="cannot listen on port 0 of somewhere: Cannot assign requested address"):
        tcp_sockets(NOWHERE, 0, "somewhere")


@pytest.mark.usefixtures("no_fd_left_open")
def test_a_free_port_is_free_on_all_addresses(monkeypatch):
    """Another program may have taken it on one of them."""
    listen = sockets._listen
    taken: list[socket.socket] = []

    def race(family, address, port):
        if port and not taken:
            taken.append(socket.create_server((address, port)))
        return listen(family, address, port)

    monkeypatch.setattr(sockets, "_listen", race)
    found = tcp_sockets([HERE, (socket.AF_INET, "127.0.0.2")], 0, "localhost")
    assert taken
    assert len({sock.getsockname()[1] for sock in found}) == 1
    for sock in (*found, *taken):
        sock.close()


def test_an_unknown_host_is_an_error(run):
    async def scenario():
        with pytest.raises(OSError, match=r"no-such-host\.invalid"):
            await listen_tcp("no-such-host.invalid", 0, lambda stream: stream.abort())

    run(scenario())


def test_children_inherit_no_listening_socket(run):
    async def scenario():
        listener = await listen_tcp("localhost", 0, lambda stream: stream.abort())
        assert not any(os.get_inheritable(sock.fileno()) for sock in listener.sockets)
        listener.close()

    run(scenario())


def test_closing_the_listener_does_not_close_its_streams(run):
    async def scenario():
        accepted: list = []
        port = free_port()  # nobody else listens there after the end of this listener
        listener = await listen_tcp("127.0.0.1", port, accepted.append)
        stream = await open_tcp("127.0.0.1", port)
        await eventually(lambda: accepted)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await open_tcp("127.0.0.1", port)
        got = Recorder()
        accepted[0].start(got, Pieces())
        out = Pieces()
        out.feed(stream, Recorder())
        out.put(b"still here")
        await eventually(lambda: got.data == b"still here")
        stream.abort()
        await eventually(lambda: got.lost)

    run(scenario())


@pytest.mark.parametrize("abstract", [True, False])
def test_unix_sockets(run, tmp_path, abstract):
    async def scenario():
        async with no_fd_leak():
            path = f"\0indifast-test-{os.getpid()}" if abstract else str(tmp_path / "socket")
            accepted: list = []
            listener = await listen_unix(path, accepted.append)
            assert listener.port is None
            assert listener.addresses == [path.replace("\0", "@")]
            stream = await open_unix(path)
            await eventually(lambda: accepted)
            assert stream.local
            assert accepted[0].local
            assert accepted[0].peername == f"local pid {os.getpid()} (user: {os.getuid()}:{os.getgid()})"
            with pytest.raises(OSError, match="in use"):
                await listen_unix(path, accepted.append)
            stream.abort()
            accepted[0].abort()
            listener.close()

    run(scenario())


def test_the_socket_file_of_a_dead_server_is_replaced(run, tmp_path):
    path = str(tmp_path / "socket")
    subprocess.run(
        [sys.executable, "-c", "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])", path], check=True
    )
    assert os.path.exists(path)

    async def scenario():
        accepted: list = []
        listener = await listen_unix(path, accepted.append)
        stream = await open_unix(path)
        await eventually(lambda: accepted)
        stream.abort()
        accepted[0].abort()
        listener.close()

    run(scenario())
    assert not os.path.exists(path), "a server removes its own when it ends"


def test_a_plain_file_in_the_way_is_left_alone(run, tmp_path):
    path = tmp_path / "notes"
    path.write_text("important")

    async def scenario():
        with pytest.raises(OSError, match="a file of that name, which is not a socket"):
            await listen_unix(str(path), lambda stream: stream.abort())

    run(scenario())
    assert path.read_text() == "important"


def test_a_link_to_a_dead_socket_is_left_alone(run, tmp_path):
    dead, link = tmp_path / "dead", tmp_path / "link"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    link.symlink_to(dead)

    async def scenario():
        with pytest.raises(OSError, match="not a socket"):
            await listen_unix(str(link), lambda stream: stream.abort())

    run(scenario())
    assert link.is_symlink()
    assert dead.is_socket()


@pytest.mark.usefixtures("no_fd_left_open")
def test_the_socket_of_a_server_that_ends_at_this_moment_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "socket"
    other = unix_socket(str(path))
    bind = SocketFile.bind

    def race(self, *arguments):
        try:
            bind(self, *arguments)
        finally:
            other.close()

    monkeypatch.setattr(SocketFile, "bind", race, raising=False)
    with unix_socket(str(path)):
        assert path.is_socket()


def test_a_server_that_is_too_busy_to_answer_is_not_replaced(tmp_path):
    path = str(tmp_path / "socket")
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(path)
        busy.listen(0)
        with pytest.raises(BlockingIOError):  # the kernel keeps a few that wait for the server
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(path)
        with pytest.raises(OSError, match="in use"):
            unix_socket(path)
        assert os.path.exists(path)


@pytest.mark.usefixtures("no_fd_left_open")
def test_a_name_with_a_zero_byte_is_an_error():
    with pytest.raises(ValueError, match="null"):
        unix_socket("no\0where/socket")


def test_a_missing_folder_is_an_error(run, tmp_path):
    path = str(tmp_path / "missing" / "socket")

    async def scenario():
        async with no_fd_leak():
            with pytest.raises(FileNotFoundError, match=f"cannot listen on the local socket {path}"):
                await listen_unix(path, lambda stream: stream.abort())
            with pytest.raises(FileNotFoundError):
                await open_unix(path)

    run(scenario())


def test_the_folder_of_a_socket_need_not_be_readable():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # others may enter it, as they may not pytest's
        os.chown(folder, user or 65534, -1)
        os.chmod(folder, 0o300)
        os.seteuid(user or 65534)  # root may read everything
        try:
            with pytest.raises(PermissionError):
                os.listdir(folder)
            with unix_socket(f"{folder}/socket"), socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{folder}/socket")
            os.chmod(folder, 0o700)
            assert not os.listdir(folder)
        finally:
            os.seteuid(user)


def test_a_lock_that_is_never_released_does_not_keep_a_server_from_starting(tmp_path, monkeypatch):
    """Whoever can read the folder can lock it."""
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with unix_socket(str(tmp_path / "socket")):
        assert 0.5 < sum(naps) < 5
    os.close(lock)


@pytest.mark.parametrize("umask", [0, 0o77])
def test_nobody_else_can_connect_to_a_socket_before_it_has_its_mode(tmp_path, monkeypatch, umask):
    path = tmp_path / "socket"
    seen = []

    def note(call):
        def noted(self, *arguments):
            if path.exists():
                seen.append((call.__name__, stat.filemode(path.stat().st_mode)))
            result = call(self, *arguments)
            seen.append((call.__name__, stat.filemode(path.stat().st_mode)))
            return result

        return noted

    for call in (SocketFile.bind, SocketFile.listen):
        monkeypatch.setattr(SocketFile, call.__name__, note(call), raising=False)
    before = os.umask(umask)
    try:
        with unix_socket(str(path), 0o666):
            assert seen == [("bind", "srw-------"), ("listen", "srw-rw-rw-"), ("listen", "srw-rw-rw-")]
        assert not path.exists()
        with unix_socket(str(path)):
            assert stat.filemode(path.stat().st_mode) == "srw-------"
    finally:
        os.umask(before)


@pytest.mark.parametrize("group", [None, os.getgid()])
def test_a_link_put_in_the_place_of_a_new_socket_is_not_followed(tmp_path, monkeypatch, group):
    """Whoever may write to its folder can do so just after it was made."""
    path, other = tmp_path / "socket", tmp_path / "other"
    other.touch(0o640)
    before = other.stat()
    bind = SocketFile.bind

    def replaced(self, *arguments):
        bind(self, *arguments)
        path.unlink()
        path.symlink_to(other)

    monkeypatch.setattr(SocketFile, "bind", replaced, raising=False)
    with pytest.raises(OSError, match="another program has put something in its place; choose a folder of your own"):
        unix_socket(str(path), 0o666, group)
    after = other.stat()
    assert (after.st_mode, after.st_gid, after.st_ctime_ns) == (before.st_mode, before.st_gid, before.st_ctime_ns)


def test_the_group_of_a_socket(tmp_path):
    path = tmp_path / "socket"
    group = grp.getgrgid(os.getgid())
    for name in (group.gr_name, group.gr_gid):
        with unix_socket(str(path), 0o660, name):
            assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (group.gr_gid, 0o660)
    with pytest.raises(OSError, match="there is no group 'no such group'"):
        unix_socket(str(path), 0o660, "no such group")
    assert not path.exists()


def test_a_socket_that_another_program_has_put_in_its_place_is_not_removed(tmp_path):
    path = tmp_path / "socket"
    with unix_socket(str(path)):
        path.unlink()
        path.touch()
    assert path.exists()


def test_servers_that_start_at_once_do_not_replace_each_other(tmp_path):
    """A socket that does not listen yet looks like that of a dead server."""
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "socket"))

        def start(_: int) -> socket.socket | None:
            with contextlib.suppress(OSError):
                return unix_socket(str(tmp_path / "socket"))
            return None

        with ThreadPoolExecutor(8) as pool:
            (alive,) = filter(None, pool.map(start, range(8)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "socket"))
        alive.close()


def test_a_listener_survives_a_system_that_is_out_of_descriptors(run, caplog, monkeypatch):
    failures: list[float] = []
    back_off = Listener._back_off

    def note(self, exc):
        failures.append(time.monotonic())
        back_off(self, exc)

    monkeypatch.setattr(Listener, "_back_off", note)

    async def scenario():
        accepted: list = []
        listener = await listen_tcp("127.0.0.1", 0, accepted.append)
        clients: list = []
        fillers: list[int] = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            for _ in range(6):
                sock = socket.socket()
                sock.setblocking(False)
                clients.append(sock)
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
            with pytest.raises(OSError, match="Too many open files"):  # also fills the gaps below
                while True:
                    fillers.append(os.open("/dev/null", os.O_RDONLY))
            for sock in clients:
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", listener.port))
            await eventually(lambda: len(failures) == 4)
            assert failures[-1] - failures[0] > 0.1, "waits between its attempts"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
        await eventually(lambda: len(accepted) == 6)
        for stream in accepted:
            stream.abort()
        for sock in clients:
            sock.close()
        listener.close()

    run(scenario())
    assert caplog.text.count("cannot accept") == 1


class Failing(socket.socket):
    """A listening socket. Its first calls of `accept` raise `faults`, as a system without memory does."""

    def __init__(self, *faults: BaseException) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.faults = [*faults]

    def accept(self):
        if self.faults:
            raise self.faults.pop(0)
        return super().accept()


@pytest.mark.parametrize(
    ("fault", "report"),
    [
        (ConnectionAbortedError(errno.ECONNABORTED, "gone"), ""),
        (InterruptedError(errno.EINTR, "interrupted"), ""),
        (MemoryError(), "cannot accept connections for now: out of memory"),
        (OSError(errno.ENOBUFS, "no room"), "cannot accept connections for now: [Errno 105] no room"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_connection_that_can_not_be_accepted_at_first_is_accepted_later(run, caplog, fault, report):
    async def scenario():
        async with no_fd_leak():
            sock = Failing(fault, fault)
            accepted: list = []
            listener = listen_on([sock], accepted.append)
            with socket.create_connection(sock.getsockname()):
                await eventually(lambda: accepted)
            assert not sock.faults
            accepted[0].abort()
            listener.close()

    run(scenario())
    assert [record.getMessage() for record in caplog.records] == [report] * bool(report)


def test_a_listener_may_be_closed_while_it_waits_for_memory_and_twice(run):
    async def scenario():
        async with no_fd_leak():
            sock = Failing(*[MemoryError()] * 1000)
            listener = listen_on([sock], lambda stream: stream.abort())
            with socket.create_connection(sock.getsockname()) as client:
                await eventually(lambda: len(sock.faults) < 1000)
                listener.close()
                listener.close()
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(asyncio.to_thread(client.recv, 1), LIMIT)

    run(scenario())


def test_who_takes_a_connection_may_close_the_listener(run):
    async def scenario():
        async with no_fd_leak():
            accepted: list = []

            def take(stream):
                accepted.append(stream)
                listener.close()

            with socket.create_server(("127.0.0.1", 0)) as listening:
                address = listening.getsockname()
                with socket.create_connection(address), socket.create_connection(address):
                    listener = listen_on([listening], take)
                    await eventually(lambda: listener.sockets[0].fileno() < 0)
                    assert len(accepted) == 1
            accepted[0].abort()

    run(scenario())


def test_an_error_where_a_connection_is_taken_ends_only_that_connection(run, caplog):
    async def scenario():
        async with no_fd_leak():
            accepted: list = []

            def take(stream):
                accepted.append(stream)
                if len(accepted) == 1:
                    raise RuntimeError("bug")

            listener = await listen_tcp("127.0.0.1", 0, take)
            with socket.create_connection(("127.0.0.1", listener.port), LIMIT) as client:
                assert await asyncio.to_thread(client.recv, 1) == b""
                name = "{}:{}".format(*client.getsockname())
            with socket.create_connection(("127.0.0.1", listener.port)):
                await eventually(lambda: len(accepted) == 2)
            accepted[1].abort()
            listener.close()
        (record,) = caplog.records
        assert record.getMessage() == f"connection from {name} refused after an internal error"
        assert record.exc_info

    run(scenario())


def test_sockets_that_can_not_be_used_are_all_closed(run):
    async def scenario():
        async with no_fd_leak():
            closed, sock = socket.socket(), socket.create_server(("127.0.0.1", 0))
            closed.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                listen_on([sock, closed], lambda stream: stream.abort())
            assert sock.fileno() < 0

    run(scenario())
