"""What goes wrong with TLS: one sentence on each side, which says what to do."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
import time
from pathlib import Path

import pytest

from indifast.transport import tls
from indifast.transport.connect import listen_tcp, open_tcp
from indifast.transport.tlsfaults import (
    OPTIONS,
    TLSError,
    TLSFileError,
    client_context,
    server_context,
    why_clients_refuse,
)
from tests.support.blackbox import LIMIT
from tests.support.certificates import make_certificates
from tests.support.descriptors import no_fd_leak
from tests.support.waiting import eventually
from tests.transport.support import Pieces, Recorder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def serving(name: str = "server", ca: str | None = None) -> ssl.SSLContext:
    return server_context(f"{name}.pem", f"{name}.key", ca)


def connecting(name: str | None = None, ca: str | None = "ca.pem") -> ssl.SSLContext:
    return client_context(ca, name and f"{name}.pem", name and f"{name}.key")


def finish(run, coroutine):
    """Run a coroutine and return its result, which the fixture `run` does not."""
    results = []

    async def keep() -> None:
        results.append(await coroutine)

    run(keep())
    return results[0]


async def meet(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> TLSError:
    """Let the two fail to connect, and return what the client is told."""
    async with no_fd_leak():
        listener = await listen_tcp("127.0.0.1", 0, lambda stream: stream.start(Recorder(), Pieces()), ssl=server)
        try:
            stream = await open_tcp(host, listener.port or 0, ssl=client)
            got = Recorder()
            stream.start(got, Pieces())
            await eventually(lambda: got.lost)
            (error,) = got.lost
        except OSError as exc:
            error = exc
            assert str(exc).startswith(f"TLS with {host}:{listener.port} failed: ")
        finally:
            listener.close()
    assert isinstance(error, TLSError), error
    return error


SERVERS = [  # certificate of the server, authority of the client, what the client is told, what the server is told
    (
        "server",
        "other-ca.pem",
        "its certificate is of an authority that is not trusted here: name its authority with --tls-ca FILE",
        "it does not trust our certificate: it has to name our authority (its --tls-ca FILE)",
    ),
    (
        "server",
        None,
        "its certificate is of an authority that is not trusted here: name its authority with --tls-ca FILE",
        "it does not trust our certificate: it has to name our authority (its --tls-ca FILE)",
    ),
    (
        "expired-server",
        "ca.pem",
        "its certificate has expired: renew it there, or correct the clock of this machine",
        "our certificate has expired: renew it, or correct the clock of the client",
    ),
    (
        "future-server",
        "ca.pem",
        "its certificate is not valid yet: compare the clocks of both machines",
        "it rejects our certificate: does it hold the name by which the client connects, and is it valid already?",
    ),
    (
        "alone-server",
        "ca.pem",
        "its certificate is self-signed: if it is the right one, name a copy of it as authority with --tls-ca FILE",
        "it does not trust our certificate: it has to name our authority (its --tls-ca FILE)",
    ),
    (
        "desk",
        "ca.pem",
        "its certificate is not meant for servers: it needs one with extendedKeyUsage = serverAuth",
        "our certificate is not meant for servers: use one with extendedKeyUsage = serverAuth",
    ),
]


@pytest.mark.parametrize(("certificate", "ca", "to_client", "to_server"), SERVERS)
def test_the_certificate_of_a_server(run, caplog, certificate, ca, to_client, to_server):
    error = finish(run, meet(serving(certificate), connecting(ca=ca)))
    assert error.why(OPTIONS) == to_client
    assert caplog.messages[0].partition(" failed: ")[2] == to_server


def test_a_server_under_another_name(run, caplog):
    error = finish(run, meet(serving(), connecting(), host="127.0.0.1"))
    text = (
        "its certificate is not for '127.0.0.1': connect by a name in the certificate, "
        "or make one with this name in subjectAltName"
    )
    assert error.why(OPTIONS) == text
    assert "does it hold the name by which the client connects" in caplog.text


CLIENTS = [  # certificate of the client, what it is told, what the server is told
    (
        None,
        "it requires a certificate: name ours with --tls-cert FILE|it refuses us: does it require a certificate",
        "it has shown no certificate: it needs one of the authority that this server trusts (its --tls-cert FILE)",
    ),
    (
        "stranger",
        "it does not trust the authority of our certificate: use one of an authority that it trusts (--tls-cert FILE)",
        "its certificate is not of the authority that this server trusts: it needs one of that authority",
    ),
    (
        "alone-client",
        "it does not trust the authority of our certificate: use one of an authority that it trusts (--tls-cert FILE)",
        "its certificate is self-signed: it needs one of the authority that this server trusts",
    ),
    (
        "expired-client",
        "our certificate has expired: renew it (--tls-cert FILE), or correct the clock of the server",
        "its certificate has expired: renew it there, or correct the clock of this machine",
    ),
    (
        "future-client",
        "it rejects our certificate: is it valid already, by the clock of the server? (--tls-cert FILE)",
        "its certificate is not valid yet: compare the clocks of both machines",
    ),
    (
        "server",
        "our certificate is not meant for clients: use one with extendedKeyUsage = clientAuth (--tls-cert FILE)",
        "its certificate is not meant for clients: it needs one with extendedKeyUsage = clientAuth",
    ),
]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("certificate", "to_client", "to_server"), CLIENTS)
def test_the_certificate_of_a_client(run, caplog, version, certificate, to_client, to_server):
    """With TLS 1.3 the client learns only after its handshake that it is refused."""
    server = serving(ca="ca.pem")
    server.maximum_version = version
    error = finish(run, meet(server, connecting(certificate)))
    assert any(error.why(OPTIONS).startswith(each) for each in to_client.split("|"))
    assert caplog.messages[0].partition(" failed: ")[2] == to_server


def test_no_common_version(run, caplog):
    server, client = serving(), connecting()
    server.maximum_version, client.minimum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    error = finish(run, meet(server, client))
    assert error.why(OPTIONS) == "there is no version of TLS that both sides allow: update the older side"
    assert "no version of TLS that both sides allow" in caplog.text


@pytest.mark.parametrize("answer", [b"<message message='hi'/>\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
def test_a_server_without_tls(run, monkeypatch, answer):
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.3 if answer is None else LIMIT)

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if answer is not None:
            writer.write(answer)
            writer.close()

    async def scenario() -> str:
        async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
            with pytest.raises(TLSError) as caught:
                await open_tcp("127.0.0.1", server.sockets[0].getsockname()[1], ssl=connecting())
        return caught.value.why(OPTIONS)

    expected = {
        b"": "it closed the connection during the handshake: does it speak TLS, and require a certificate "
        "(--tls-cert FILE)?",
        None: "it does not answer: does it speak TLS?",
    }
    assert finish(run, scenario()) == expected.get(answer, "it does not speak TLS: connect without TLS")


@pytest.mark.parametrize("question", [b"<getProperties version='1.7'/>\n", b"GET / HTTP/1.0\r\n\r\n"])
def test_a_client_without_tls_is_sent_an_alert(run, caplog, question):
    async def scenario() -> bytes:
        async with no_fd_leak():
            listener = await listen_tcp("127.0.0.1", 0, lambda stream: None, ssl=serving())
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(question)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            await eventually(lambda: caplog.messages)
            listener.close()
            return answer

    assert finish(run, scenario()) == b"\x15\x03\x01\x00\x02\x02\x46"
    text = "it does not speak TLS, which this port requires: connect it with TLS (--tls)"
    assert caplog.messages[0].partition(" failed: ")[2] == text


@pytest.mark.parametrize("what", ["close", "reset", "silence"])
def test_a_client_that_says_nothing(run, caplog, monkeypatch, what):
    """There used to be nothing behind the colon."""
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.2 if what == "silence" else LIMIT)

    async def scenario() -> None:
        async with no_fd_leak():
            listener = await listen_tcp("127.0.0.1", 0, lambda stream: None, ssl=serving())
            with socket.create_connection(("127.0.0.1", listener.port), LIMIT) as sock:
                if what == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if what != "silence":
                    sock.close()
                await eventually(lambda: caplog.messages)
            listener.close()

    run(scenario())
    expected = {"silence": "it has sent no handshake in time"}
    text = "it closed the connection during the handshake: does it trust our authority (its --tls-ca FILE)?"
    assert caplog.messages[0].partition(" failed: ")[2] == expected.get(what, text)


def test_a_refused_client_that_has_sent_much_and_reads_late_is_told_why(run, monkeypatch):
    """A connection that is closed before all of that has been read is reset, and the reason may be lost."""
    monkeypatch.setattr(tls, "ALERT_TIMEOUT", LIMIT)

    def refused(port: int) -> str:
        sock = socket.create_connection(("127.0.0.1", port), LIMIT)
        with sock, connecting().wrap_socket(sock, server_hostname="localhost") as secure:
            assert secure.version() == "TLSv1.3"
            for _ in range(10):
                secure.sendall(b"<getProperties version='1.7'/>" * 1000)
                time.sleep(0.02)
            with pytest.raises(ssl.SSLError) as caught:
                secure.recv(1)
            return caught.value.reason

    async def scenario() -> str:
        async with no_fd_leak():
            listener = await listen_tcp("127.0.0.1", 0, lambda stream: None, ssl=serving(ca="ca.pem"))
            reason = await asyncio.to_thread(refused, listener.port)
            listener.close()
            return reason

    assert finish(run, scenario()) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_a_refused_client_that_sends_without_end_is_not_read_for_long(run, monkeypatch):
    monkeypatch.setattr(tls, "ALERT_TIMEOUT", LIMIT)

    async def scenario() -> None:
        async with no_fd_leak():
            listener = await listen_tcp("127.0.0.1", 0, lambda stream: None, ssl=serving())
            with socket.create_connection(("127.0.0.1", listener.port), LIMIT) as sock:
                sock.setblocking(False)
                with pytest.raises(ConnectionError):
                    for _ in range(10_000):
                        await asyncio.get_running_loop().sock_sendall(sock, b"<getProperties version='1.7'/>" * 1000)
            await eventually(lambda: not listener._acceptor._tasks)
            listener.close()

    run(scenario())


def test_a_refused_client_that_does_not_close_is_not_waited_for(run, monkeypatch):
    monkeypatch.setattr(tls, "ALERT_TIMEOUT", 0.1)

    async def scenario() -> None:
        async with no_fd_leak():
            listener = await listen_tcp("127.0.0.1", 0, lambda stream: None, ssl=serving())
            with socket.create_connection(("127.0.0.1", listener.port), LIMIT) as sock:
                sock.sendall(b"<getProperties version='1.7'/>\n")
                sock.setblocking(False)
                acceptor = listener._acceptor
                await eventually(lambda: not acceptor._tasks)
                assert await asyncio.get_running_loop().sock_recv(sock, 100)
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b""
            listener.close()

    run(scenario())


# -- Files

FILES = [  # certificate, key, authority, what is said
    ("server.pem", None, None, "server.pem holds a certificate without its key: name the key with --tls-key FILE"),
    (
        "server.pem",
        "desk.key",
        None,
        "the key in desk.key is not that of the certificate in server.pem: name the one that was made with it",
    ),
    (
        "server.pem",
        "encrypted.key",
        None,
        "the key in encrypted.key is encrypted, and nobody is asked for its pass phrase: store it without one, "
        "readable for its user only (openssl pkey -in encrypted.key -out NEW)",
    ),
    ("server.pem", "none.key", None, "--tls-key FILE: none.key: no such file or directory"),
    ("none.pem", "server.key", None, "--tls-cert FILE: none.pem: no such file or directory"),
    ("server.pem", "server.key", "none.pem", "--tls-ca FILE: none.pem: no such file or directory"),
    ("server.pem", ".", None, "--tls-key FILE: .: is a directory"),
    ("server.pem", "ca.pem", None, "--tls-key FILE: ca.pem holds no key"),
    ("server.key", "server.pem", None, "--tls-cert FILE: server.key holds a key and no certificate: keys are named"),
    ("server.der", "server.key", None, "--tls-cert FILE: server.der is not in PEM form: convert it (openssl x509 -in"),
    ("server.pem", "server.key", "server.key", "--tls-ca FILE: server.key holds a key and no certificate"),
    ("certificates.cnf", "server.key", None, "--tls-cert FILE: certificates.cnf holds no certificate in PEM form"),
    ("broken.pem", "server.key", None, "the certificate in broken.pem and the key in server.key can't be used: "),
]


@pytest.mark.parametrize(("cert", "key", "ca", "text"), FILES)
def test_files(folder, cert, key, ca, text):
    (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    for make in (lambda: server_context(cert, key, ca), lambda: client_context(ca, cert, key)):
        with pytest.raises(TLSFileError) as caught:
            make()
        assert str(caught.value).startswith(text)
        assert "_ssl.c" not in str(caught.value)


def test_a_key_that_may_not_be_read():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # others may enter it, as they may not pytest's
        Path(folder).chmod(0o711)
        certificate, key = Path(folder, "server.pem"), Path(folder, "server.key")
        certificate.write_bytes(Path("server.pem").read_bytes())
        key.touch(0)
        os.seteuid(user or 65534)  # root may read everything
        try:
            with pytest.raises(TLSFileError, match=rf"{key}.*permission denied"):
                server_context(str(certificate), str(key), None)
        finally:
            os.seteuid(user)


def test_files_that_are_in_order():
    assert server_context("both.pem", None, None).verify_mode is ssl.CERT_NONE
    assert server_context("both.pem", None, "ca.pem").verify_mode is ssl.CERT_REQUIRED
    assert client_context(None, None, None).check_hostname


def test_a_server_knows_when_clients_will_refuse_its_certificate():
    assert why_clients_refuse(serving(), "server.pem") is None
    assert why_clients_refuse(serving(ca="ca.pem"), "server.pem") is None
    assert why_clients_refuse(serving("alone-server"), "alone-server.pem") is None
    for name, what in (("expired-server", "has expired"), ("future-server", "is not valid yet"), ("desk", "not meant")):
        for ca in (None, "ca.pem"):
            fault = why_clients_refuse(serving(name, ca), f"{name}.pem")
            assert fault is not None
            assert f"the certificate in {name}.pem" in fault
            assert what in fault
