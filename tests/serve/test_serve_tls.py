"""What is wrong with TLS, as the log of a server says it, that of a server that links to it, and tools."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.support import refusal, running
from tests.support.blackbox import LIMIT
from tests.support.certificates import make_certificates
from tests.support.commands import run
from tests.support.terminals import end


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


SERVER = ["--tls-cert", "server.pem", "--tls-key", "server.key"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tls-ca", "ca.pem"], "TLS needs a certificate: --tls-cert FILE"),
        (["--tls-cert", "none.pem"], "--tls-cert FILE: none.pem: no such file or directory"),
        (
            ["--tls-cert", "server.pem"],
            "server.pem holds a certificate without its key: name the key with --tls-key FILE",
        ),
        (
            ["--tls-cert", "server.pem", "--tls-key", "desk.key"],
            "the key in desk.key is not that of the certificate in server.pem: name the one that was made with it",
        ),
        (["--tls-cert", "server.pem", "--tls-key", "encrypted.key"], "the key in encrypted.key is encrypted, and"),
    ],
)
def test_a_file_that_cannot_be_used_ends_it(tmp_path, toy, arguments, sentence):
    log = refusal(tmp_path, "-p", "0", *arguments, toy)
    assert re.search(rf"^[\d-]+T[\d:]+: {re.escape(sentence)}", log, re.MULTILINE), log
    assert "_ssl.c" not in log


def test_a_key_is_not_asked_for_on_the_terminal(tmp_path, toy):
    pexpect = pytest.importorskip("pexpect")
    words = ["-m", "indifast", "serve", "-u", f"{tmp_path}/l", "-p", "0", "--tls-cert", "server.pem"]
    child = pexpect.spawn(sys.executable, [*words, "--tls-key", "encrypted.key", str(toy)], timeout=LIMIT)
    child.expect(pexpect.EOF)
    assert b"pass phrase:" not in child.before.lower().replace(b"its pass phrase: store", b"")
    end(child, None)
    assert child.exitstatus == 1


@pytest.mark.parametrize(("name", "what"), [("expired-server", "has expired"), ("future-server", "is not valid yet")])
def test_a_certificate_that_clients_refuse_is_served_with_a_warning(tmp_path, toy, name, what):
    """The clock may be wrong: a Raspberry Pi has none of its own."""
    with running(tmp_path, "-v", "-p", "0", "--tls-cert", f"{name}.pem", "--tls-key", f"{name}.key", toy) as server:
        server.port()
        assert f": TLS: the certificate in {name}.pem {what}" in server.log


def tool(*arguments: str) -> str:
    """Run `indifast devices` on a server that it can't reach, and return its one sentence."""
    command = [sys.executable, "-m", "indifast", "devices", "-t", "16", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert done.stderr.startswith("indifast devices: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("indifast devices: ").rstrip()


def test_tools_and_the_log_of_the_server_say_the_same(tmp_path, toy):
    with running(tmp_path, "-v", "-p", "0", *SERVER, "--tls-ca", "ca.pem", toy) as server:
        host = f"localhost:{server.port()}"
        ours = ("--tls-cert", "desk.pem", "--tls-key", "desk.key")
        assert run("devices", "-t", 16, "-h", host, "--tls-ca", "ca.pem", *ours).returncode == 0
        assert tool("-h", host) == f"{host} speaks TLS: connect with --tls"
        server.wait_for("it does not speak TLS, which this port requires: connect it with TLS (--tls)")
        text = f"no TLS with {host}: it requires a certificate: name ours with --tls-cert FILE"
        assert tool("-h", host, "--tls-ca", "ca.pem") == text
        server.wait_for("it has shown no certificate: it needs one of the authority that this server trusts")
        expired = ("--tls-cert", "expired-client.pem", "--tls-key", "expired-client.key")
        text = "our certificate has expired: renew it (--tls-cert FILE), or correct the clock of the server"
        assert tool("-h", host, "--tls-ca", "ca.pem", *expired) == f"no TLS with {host}: {text}"
        server.wait_for("its certificate has expired: renew it there, or correct the clock of this machine")
        assert not re.search(r"failed: ?$", server.log, re.MULTILINE)


def test_a_client_with_tls_at_a_port_without(tmp_path, toy):
    """It is told at once, and what to do."""
    with running(tmp_path, "-v", "-p", "0", toy) as server:
        host = f"localhost:{server.port()}"
        assert tool("-h", host, "--tls") == f"no TLS with {host}: it does not speak TLS: connect without TLS"
        server.wait_for("speaks TLS, which this port does not: disconnected")
        assert server.serves()


LINKS = [
    ("", "speaks TLS: connect with TLS (tls = true): disconnected"),
    ("tls = true", "no connection: its certificate is of an authority that is not trusted here: name its authority"),
    ("tls_ca = 'ca.pem'", "connection lost (it requires a certificate: name ours with tls_cert (load_cert_chain in"),
    (
        "tls_ca = 'ca.pem'\ntls_cert = 'stranger.pem'\ntls_key = 'stranger.key'",
        "connection lost (it does not trust the authority of our certificate: use one of an authority that it trusts",
    ),
]


@pytest.mark.parametrize(("settings", "sentence"), LINKS)
def test_links(tmp_path, toy, settings, sentence):
    with running(tmp_path, "-v", "-p", "0", *SERVER, "--tls-ca", "ca.pem", toy) as server:
        config = tmp_path / "link.toml"
        config.write_text(f"port = 0\n[[remotes]]\nhost = 'localhost'\nport = {server.port()}\n{settings}\n")
        with running(tmp_path, "--config", config, "-u", f"{tmp_path}/linked") as linked:
            linked.wait_for(sentence)


def test_the_files_of_a_link(tmp_path):
    config = tmp_path / "link.toml"
    config.write_text("port = 0\n[[remotes]]\nhost = 'dome'\ntls_cert = 'server.pem'\n")
    text = "TLS with dome: server.pem holds a certificate without its key: name the key with tls_key\n"
    assert text in refusal(tmp_path, "--config", config)
