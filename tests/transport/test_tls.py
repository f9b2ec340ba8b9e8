"""TLS: both sides with one keyword, client certificates, and what can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading

import pytest
import trustme

from indifast.protocol import complaints
from indifast.routing.bytequeue import ByteQueue
from indifast.transport import alive, tls
from indifast.transport.connect import listen_tcp, open_tcp
from indifast.transport.listener import Listener
from indifast.transport.stream import Stream
from indifast.transport.tlsfaults import OPTIONS
from tests.routing.fakes import frame
from tests.support.blackbox import LIMIT
from tests.support.descriptors import no_fd_leak
from tests.support.sockets import reset
from tests.support.waiting import eventually, turns
from tests.transport.support import Pieces, Recorder
from tests.transport.test_alive import SLOW


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A folder with an authority, its certificates for a server and a client, and one of an untrusted authority."""
    folder = tmp_path_factory.mktemp("tls")

    ours = trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    for name, signer in (("server", ours), ("client", ours), ("rogue", trustme.CA())):
        certificate = signer.issue_cert("localhost", "127.0.0.1", common_name=name)
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    return folder


def server_context(folder, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(folder, certificate: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if certificate is not None:
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
    return context


async def connected(folder, accepted: list) -> tuple[Listener, Stream, Stream]:
    """Return a listener, which adds its streams to `accepted`, and both ends of a connection to it."""
    listener = await listen_tcp("127.0.0.1", 0, accepted.append, ssl=server_context(folder))
    return listener, *await another(folder, listener, accepted)


async def another(folder, listener: Listener, accepted: list) -> tuple[Stream, Stream]:
    """Return both ends of a further connection."""
    before = len(accepted)
    stream = await open_tcp("127.0.0.1", listener.port, ssl=client_context(folder))
    await eventually(lambda: len(accepted) > before)
    return stream, accepted[-1]


@pytest.mark.parametrize("mutual", [False, True])
def test_bytes_travel_both_ways(run, authority, mutual):
    payload = os.urandom(1 << 20) * 7

    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener = await listen_tcp("localhost", 0, accepted.append, ssl=server_context(authority, mutual))
            stream = await open_tcp("localhost", listener.port, ssl=client_context(authority, "client"))
            await eventually(lambda: accepted)
            (other,) = accepted
            assert not stream.local
            ours, theirs, out, back = Recorder(), Recorder(), Pieces(), Pieces()
            out.feed(stream, ours)
            back.feed(other, theirs)
            out.put(b"question")
            await eventually(lambda: theirs.data == b"question")
            back.put(payload)
            await eventually(lambda: len(ours.data) == len(payload))
            assert ours.data == payload
            if mutual:
                assert (("commonName", "client"),) in other.peer_certificate()["subject"]
            out.put(payload)
            stream.close()
            await eventually(lambda: theirs.lost and ours.lost)
            assert theirs.data == b"question" + payload, "flushed before closing"
            assert ours.lost == theirs.lost == [None]
            listener.close()

    run(scenario())


def read_late(sock: socket.socket, context: ssl.SSLContext, start: threading.Event, words: int = 0) -> int:
    """Shake hands on a connection, read to its end once `start` is set, and return how many bytes there were.

    Say something so many times before that.
    """
    total = 0
    with context.wrap_socket(sock, server_hostname="localhost") as tunnel:
        while not start.wait(0.05):
            if words:
                tunnel.sendall(b"something else")
                words -= 1
        while data := tunnel.recv(1 << 20):
            total += len(data)
    return total


def test_what_is_under_way_when_a_stream_is_closed_arrives_at_a_slow_reader(run, monkeypatch, authority):
    monkeypatch.setattr(alive, "RESEND_INTERVAL", 1)
    size = 300_000

    async def scenario():
        accepted: list = []
        listener = await listen_tcp("127.0.0.1", 0, accepted.append, ssl=server_context(authority))
        sock, start = socket.create_connection(("127.0.0.1", listener.port)), threading.Event()
        reading = asyncio.create_task(asyncio.to_thread(read_late, sock, client_context(authority), start))
        try:
            await eventually(lambda: accepted)
            (stream,) = accepted
            got, out = Recorder(), Pieces()
            out.feed(stream, got)
            out.put(bytes(size))
            await eventually(lambda: not out.waiting and not stream._transport.get_write_buffer_size())
            monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.1)  # seconds after which the socket itself is closed
            stream.close()
            await eventually(lambda: got.lost)
            await asyncio.sleep(SLOW)
        finally:
            start.set()
        assert await reading == size
        listener.close()

    run(scenario())


@pytest.mark.parametrize("words", [0, 6])
def test_a_stream_is_closed_only_when_everything_is_written(run, authority, words):
    """The program may end as soon as it is."""
    start, counts = threading.Event(), []
    readers: list[threading.Thread] = []

    async def scenario():
        accepted: list = []
        listener = await listen_tcp("127.0.0.1", 0, accepted.append, ssl=server_context(authority))
        sock, context = socket.create_connection(("127.0.0.1", listener.port)), client_context(authority)
        readers.append(threading.Thread(target=lambda: counts.append(read_late(sock, context, start, words))))
        readers[0].start()
        await eventually(lambda: accepted)
        (stream,) = accepted
        got, out = Recorder(), Pieces()
        out.feed(stream, got)
        out.put(bytes(8 << 20))
        stream.close(grace=LIMIT)
        asyncio.get_running_loop().call_later(0.3, start.set)
        await stream.wait_closed()
        listener.close()

    try:
        run(scenario())
    finally:
        start.set()
        readers[0].join(LIMIT)
    assert counts == [8 << 20]


def says_early(address: tuple[str, int], context: ssl.SSLContext) -> socket.socket:
    """Return a connection that has sent the end of its handshake and a first message in one piece."""
    sock = socket.create_connection(address, LIMIT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tunnel = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            tunnel.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(1 << 16))
    tunnel.write(b"early")
    sock.sendall(outgoing.read())
    return sock


@pytest.mark.parametrize("paused", [False, True])
def test_what_arrives_before_the_stream_is_started_is_kept(run, authority, paused):
    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener = await listen_tcp("127.0.0.1", 0, accepted.append, ssl=server_context(authority))
            address = ("127.0.0.1", listener.port)
            sock = await asyncio.to_thread(says_early, address, client_context(authority))
            await eventually(lambda: accepted)
            (stream,) = accepted
            await eventually(lambda: stream._protocol.early)
            await turns()
            got = Recorder()
            stream.start(got, Pieces())
            if paused:
                stream.pause_reading()
                await turns()
                assert not got.data
                stream.resume_reading()
            await eventually(lambda: got.data == b"early")
            sock.close()
            await eventually(lambda: got.lost)
            listener.close()

    run(scenario())


def test_an_outbox_without_memory_loses_its_stream(run, authority, caplog):
    class NoParts(Pieces):
        def take(self, max_bytes, max_parts):
            raise MemoryError

    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener, stream, other = await connected(authority, accepted)
            got, out, others = Recorder(), NoParts(), Recorder()
            other.start(others, Pieces())
            out.feed(stream, got)
            out.put(b"x")
            await eventually(lambda: got.lost and others.lost)
            assert isinstance(got.lost[0], MemoryError)
            listener.close()

    run(scenario())


def test_a_message_that_is_not_ready_is_waited_for(run, authority):
    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener, stream, other = await connected(authority, accepted)
            got, queue, message = Recorder(), ByteQueue(), frame(size=13, ready=False)
            other.start(got, Pieces())
            queue.append(message, 0.0)
            stream.start(Recorder(), queue)
            queue.listener.on_pending = stream.wake_soon
            stream.wake()
            message.make_ready()
            await eventually(lambda: got.data == b"f" * 13)
            stream.close()
            await eventually(lambda: got.lost)
            listener.close()

    run(scenario())


def test_a_slow_reader_holds_up_the_writer_and_pausing_works(run, authority):
    async def scenario():
        accepted: list = []
        listener, *pair = await connected(authority, accepted)
        pairs = [pair, await another(authority, listener, accepted)]
        (slow, fast), (out, other) = (Recorder(), Recorder()), (Pieces(), Pieces())
        for (stream, peer), received, outbox in zip(pairs, (slow, fast), (out, other), strict=True):
            outbox.feed(stream, Recorder())
            peer.start(received, Pieces())
        pairs[0][1].pause_reading()
        for _ in range(64):
            out.put(b"x" * (1 << 20))
        for _ in range(64):  # as much over the other connection, which takes its time
            other.put(b"x" * (1 << 20))
        await eventually(lambda: len(fast.data) == 64 << 20)
        assert out.queued > 32 << 20, "what the peer does not read stays in the outbox"
        assert not slow.data
        assert len(pairs[0][1]._protocol.early) < 1 << 20, "a paused stream keeps little in memory"
        pairs[0][1].resume_reading()
        await eventually(lambda: len(slow.data) == 64 << 20)
        for stream, _ in pairs:
            stream.abort()
        await eventually(lambda: slow.lost and fast.lost)
        listener.close()

    run(scenario())


def test_an_untrusted_client_gets_no_stream(run, authority, caplog):
    async def scenario():
        accepted: list = []
        listener = await listen_tcp("localhost", 0, accepted.append, ssl=server_context(authority, mutual=True))
        stream = None
        try:  # with TLS 1.3 the client learns that it is refused when it first reads
            stream = await open_tcp("localhost", listener.port, ssl=client_context(authority))
        except OSError:
            pass
        else:
            got = Recorder()
            stream.start(got, Pieces())
            await eventually(lambda: got.lost)
        await eventually(lambda: "TLS with" in caplog.text)
        assert not accepted
        with pytest.raises(OSError, match=f"TLS with localhost:{listener.port} failed"):
            await open_tcp("localhost", listener.port, ssl=ssl.create_default_context())
        listener.close()

    run(scenario())


@pytest.mark.parametrize("late", [0, 1, 2, 3, 20])
def test_a_refused_client_learns_why_even_if_it_reads_late(run, authority, caplog, late):
    """The end of the stream arrives together with the reason."""

    async def scenario():
        async with no_fd_leak():
            listener = await listen_tcp("localhost", 0, print, ssl=server_context(authority, mutual=True))
            stream = await open_tcp("localhost", listener.port, ssl=client_context(authority))
            await eventually(lambda: "TLS with" in caplog.text)
            await turns(late)
            got = Recorder()
            stream.start(got, Pieces())
            await eventually(lambda: got.lost)
            (error,) = got.lost
            listener.close()
            assert isinstance(error, tls.TLSError)
            assert "requires a certificate" in error.why(OPTIONS)

    run(scenario())


def test_a_reset_together_with_the_last_bytes_is_noticed(run, authority):
    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener = await listen_tcp("127.0.0.1", 0, accepted.append, ssl=server_context(authority))

            def speak_and_reset() -> None:
                with socket.create_connection(("127.0.0.1", listener.port)) as sock:
                    peer = client_context(authority).wrap_socket(sock, server_hostname="127.0.0.1")
                    peer.sendall(b"last words")
                    reset(peer)

            await asyncio.to_thread(speak_and_reset)
            await eventually(lambda: accepted)
            got = Recorder()
            accepted[0].start(got, Pieces())
            await eventually(lambda: got.lost)
            listener.close()

    run(scenario())


def test_a_tls_port_survives_plain_text_and_silent_clients(run, authority, caplog):
    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener = await listen_tcp("127.0.0.1", 0, accepted.append, ssl=server_context(authority))
            silent = socket.create_connection(("127.0.0.1", listener.port))
            plain = socket.create_connection(("127.0.0.1", listener.port))
            plain.sendall(b"<getProperties version='1.7'/>\n")
            await eventually(lambda: "TLS with" in caplog.text)
            stream = await open_tcp("127.0.0.1", listener.port, ssl=client_context(authority))
            await eventually(lambda: accepted)
            stream.abort()
            accepted[0].abort()
            listener.close()
            await asyncio.sleep(0)
            silent.close()
            plain.close()

    run(scenario())


@pytest.mark.usefixtures("bursts_only")
def test_errors_after_a_handshake_do_not_fill_the_log(run, authority, monkeypatch, caplog):
    monkeypatch.setattr(complaints, "BURST", 2)

    failed = 0

    def fail(stream: object) -> None:
        nonlocal failed
        failed += 1
        raise RuntimeError("bug")

    async def scenario():
        async with no_fd_leak():
            listener = await listen_tcp("127.0.0.1", 0, fail, ssl=server_context(authority))
            for _ in range(8):
                stream = await open_tcp("127.0.0.1", listener.port, ssl=client_context(authority))
                got = Recorder()
                stream.start(got, Pieces())
                await eventually(lambda got=got: got.lost)
            listener.close()

    run(scenario())
    lines = [record for record in caplog.records if "internal error" in record.getMessage()]
    assert failed == 8
    assert len(lines) == 2
    assert all(record.exc_info for record in lines)


@pytest.mark.usefixtures("bursts_only")
def test_silent_clients_do_not_keep_others_out(run, authority, monkeypatch, caplog):
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 3)
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 10 * LIMIT)

    async def scenario():
        async with no_fd_leak():
            accepted: list = []
            listener = await listen_tcp("127.0.0.1", 0, accepted.append, ssl=server_context(authority))
            silent = [socket.create_connection(("127.0.0.1", listener.port), LIMIT) for _ in range(100)]
            stream = await open_tcp("127.0.0.1", listener.port, ssl=client_context(authority))
            await eventually(lambda: accepted)
            for sock in silent[:98]:  # the oldest have made room
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.to_thread(sock.recv, 1) == b""
            for sock in silent[98:]:
                sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    sock.recv(1)
            stream.abort()
            accepted[0].abort()
            listener.close()
            for sock in silent:
                sock.close()

    run(scenario())
    assert caplog.text.count("3 others have connected since") == complaints.BURST, "at a limited rate"
