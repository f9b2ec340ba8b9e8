"""Local sockets of the command: files with a mode and a group, and no abstract one."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from indifast.cli.serve.options import UsageError, parse_arguments
from tests.serve.support import GET, Client, Server, refusal, running
from tests.support.blackbox import LIMIT
from tests.support.commands import run


def file_client(path: Path) -> Client:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return Client(sock)


@pytest.mark.parametrize("name", [None, "indiserver"])
def test_a_socket_that_is_a_file(tmp_path, toy, name):
    path = tmp_path / "socket"
    with running(tmp_path, "-v", "-p", "0", "--socket", path, toy, name=name) as server:
        assert server.serves()
        assert stat.filemode(path.stat().st_mode) == "srw-------"
        for client in (file_client(path), Client.local(tmp_path / "local")):
            assert client.say(GET).get("defTextVector", "Toy")
            client.close()
        assert f"listening on local domain at: {path}\n" in server.log
        assert f"listening on local domain at: @{tmp_path}/local\n" in server.log
        assert run("get", "-t", LIMIT, "--unix", path, "Toy.T.m").stdout == "Toy.T.m=hi\n"
    assert not path.exists()


@pytest.mark.parametrize("name", [None, "indiserver"])
def test_no_abstract_socket(tmp_path, toy, name):
    path = tmp_path / "socket"
    with running(tmp_path, "-p", "0", "-v", "--no-abstract", "--socket", f"{path},666", toy, name=name) as server:
        assert server.serves()
        assert stat.filemode(path.stat().st_mode) == "srw-rw-rw-"
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(f"\0{tmp_path}/local")
    with running(tmp_path, "-p", "0", "-v", "--no-abstract", toy, name=name) as server:
        assert server.serves()
        assert "local domain" not in server.log


def test_both_are_settings_of_the_configuration_file(tmp_path, toy):
    config = tmp_path / "observatory.toml"
    config.write_text(f"port = 0\nverbose = 1\nabstract = false\nsocket = '{tmp_path}/socket,660,{os.getgid()}'\n")
    with running(tmp_path, "--config", config, toy) as server:
        assert server.serves()
        assert stat.filemode((tmp_path / "socket").stat().st_mode) == "srw-rw----"
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(f"\0{tmp_path}/local")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_other_users_cannot_connect(tmp_path, toy):
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534)\n"
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to others, whatever their mode was
        path = Path(folder, "socket")
        Path(folder).chmod(0o711)
        for ending, group, allowed in (("", 65534, False), (",660,12345", 65534, False), (",660,12345", 12345, True)):
            with running(tmp_path, "-p", "0", "-v", "--no-abstract", f"--socket={path}{ending}", toy) as server:
                assert server.serves()
                done = subprocess.run([sys.executable, "-c", code, path, str(group)], capture_output=True, text=True)
                assert ("PermissionError" in done.stderr) != allowed, done.stderr
                assert (done.returncode == 0) == allowed


def test_a_server_that_was_killed_is_replaced_and_one_that_runs_is_not(tmp_path, toy):
    path = tmp_path / "socket"
    words = ("-p", "0", "-v", "--socket", path, toy)
    killed = Server(tmp_path, "-u", f"{tmp_path}/killed", *words)
    assert killed.serves()
    killed.kill()
    assert path.is_socket()
    with running(tmp_path, *words) as server:
        assert server.serves()
        log = refusal(tmp_path, *words)
        assert (
            f"local socket {path} is in use: stop the server that uses it, or choose another path with --socket" in log
        )
        client = file_client(path)
        assert client.say(GET).get("defTextVector", "Toy"), "the refused one leaves the socket alone"
        client.close()
        log = refusal(tmp_path, "-u", f"{tmp_path}/local", "-p", "0", toy)
        assert f"the local socket @{tmp_path}/local is in use: stop the server that uses it, or choose another" in log
        assert "-u NAME" in log
        assert "--no-abstract" in log


def test_a_server_that_cannot_start_leaves_no_file(tmp_path):
    path = tmp_path / "socket"
    assert "no_such_module" in refusal(tmp_path, "-p", "0", "--socket", path, "no_such_module:make")
    assert not path.exists()
    assert "no group 'nobody knows'" in refusal(tmp_path, "-p", "0", "--socket", f"{path},660,nobody knows", "cat")
    assert not path.exists()


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("none/socket", "No such file or directory"),
        ("x" * 108, "path too long"),
        ("file", "there is a file of that name, which is not a socket"),
    ],
)
def test_a_path_that_cannot_be_used(tmp_path, where, why):
    (tmp_path / "file").touch()
    log = refusal(tmp_path, "-p", "0", "--socket", tmp_path / where, "cat")
    assert f"cannot listen on the local socket {tmp_path / where}: " in log
    assert why in log


@pytest.mark.parametrize("group", ["4294967295", "9999999999"])
def test_a_number_that_no_group_can_have(group):
    with pytest.raises(UsageError, match=f"--socket: {group} is not the number of a group"):
        parse_arguments([f"--socket=/run/x,660,{group}", "cat"])


def test_the_option_is_explained(tmp_path):
    server = Server(tmp_path, "--socket", "/run/x,rw", "cat")
    assert server.process.wait(LIMIT) == 2
    assert "--socket: 'rw' is not a mode: three octal digits, as in 660" in server.log
