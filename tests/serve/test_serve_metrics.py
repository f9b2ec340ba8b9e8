"""Counters for Prometheus: what they say, and that nobody can do harm by asking for them."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from indifast.routing.peer import Kind, Peer
from indifast.server.metrics import LONGEST_LABEL, MOST_LABELS, Labels, Page, Traffic
from tests.serve.support import GET, Server, refusal, running
from tests.support.blackbox import LIMIT, descriptors, free_port, until
from tests.support.programs import python_program

FRESH = f"import indifast.cli.serve.scrape as scrape; scrape.TIMEOUT = {LIMIT}; scrape.FRESH = 0.0"
"""Each answer says what is so now, and whoever asks may be slow."""

IMPATIENT = "import indifast.cli.serve.scrape as scrape; scrape.TIMEOUT = 1.0"


def ask(port: int, request: str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", host: str = "127.0.0.1") -> str:
    """Return the whole answer to a request."""
    with socket.create_connection((host, port), LIMIT) as sock:
        sock.sendall(request.encode("latin-1"))
        with sock.makefile("rb") as file:
            return file.read().decode()


def answered(port: int) -> bool:
    """Return whether a question was answered, rather than too late for the server."""
    with contextlib.suppress(ConnectionError):
        return ask(port).startswith("HTTP/1.1 200 OK\r\n")
    return False


def samples(port: int) -> dict[str, float]:
    """Return the numbers on the page, by name and labels."""
    head, _, body = ask(port).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
    assert f"\r\nContent-Length: {len(body.encode())}\r\n" in head
    found = {}
    for line in body.removesuffix("\n").split("\n"):
        if not line.startswith("# "):
            match = re.fullmatch(r'(indifast_[a-z_]+(?:\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"\})?) (\d+(?:\.\d+)?)', line)
            assert match is not None, line
            assert match[1] not in found
            found[match[1]] = float(match[2])
    return found


@contextlib.contextmanager
def measured(folder: Path, *arguments: object, **keywords) -> Iterator[tuple[Server, int, int]]:
    """Run a server. Yield it, with its port and the one for the counters."""
    port, metrics = free_port(), free_port()
    words = ["-p", port, "--metrics", metrics, *arguments]
    with running(folder, *words, **{"before": FRESH, **keywords}) as server:
        server.wait_for(f"counters for Prometheus at /metrics on 127.0.0.1:{metrics}, this machine only")
        yield server, port, metrics


def test_the_counters_of_a_server(tmp_path, toy):
    with measured(tmp_path, toy, f"@127.0.0.1:{free_port()}") as (server, port, metrics):
        client = server.connect(port).say(GET)
        client.get("defTextVector", "Toy")
        client.say("<newTextVector device='Nobody' name='T'><oneText name='m'>x</oneText></newTextVector>")
        client.get("message")
        found = samples(metrics)
        assert found['indifast_info{version="0.1.0"}'] == 1
        assert found["indifast_clients"] == 1
        assert found["indifast_devices"] == 1
        assert found[f'indifast_drivers_running{{driver="{toy}"}}'] == 1
        assert found[f'indifast_driver_restarts_total{{driver="{toy}"}}'] == 0
        assert [value for name, value in found.items() if name.startswith("indifast_links_up{")] == [0]
        assert found['indifast_received_messages_total{kind="client"}'] == 2
        assert found['indifast_sent_bytes_total{kind="client"}'] > 100
        assert sum(value for name, value in found.items() if name.startswith("indifast_refused_total{")) == 1
        client.close()
        until(lambda: samples(metrics)["indifast_clients"] == 0, what="the end of the client")
        later = samples(metrics)
        for name, value in found.items():
            assert "_total" not in name or later[name] >= value, f"{name}: a counter never goes down"
        (child,) = server.children()
        child.kill()
        until(
            lambda: samples(metrics)[f'indifast_driver_restarts_total{{driver="{toy}"}}'] == 1, what="the count of it"
        )


@pytest.mark.parametrize("name", [None, "indiserver"])
def test_only_this_machine_may_ask_unless_a_host_is_given(tmp_path, toy, name):
    with measured(tmp_path, toy, name=name) as (server, _, metrics):
        listening = [
            each.laddr.ip for each in psutil.Process(server.process.pid).net_connections("inet")
            if each.status == psutil.CONN_LISTEN and each.laddr.port == metrics
        ]  # fmt: skip
        assert listening == ["127.0.0.1"]
        assert samples(metrics)


def test_a_host_may_be_given(tmp_path, toy):
    port = free_port()
    with running(tmp_path, "-p", 0, "--metrics", f"[::1]:{port}", toy) as server:
        server.wait_for(f"/metrics on [::1]:{port}, this machine only")
        assert "indifast_clients 0\n" in ask(port, host="::1")


def test_it_says_that_anyone_may_read_them(tmp_path, toy):
    port = free_port()
    with running(tmp_path, "-p", 0, "--metrics", f"0.0.0.0:{port}", toy) as server:
        server.wait_for(f"/metrics on port {port} of all interfaces: anyone who can connect can read them")


def test_a_port_in_use_ends_it(tmp_path, toy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        log = refusal(tmp_path, "-p", 0, "--metrics", port, toy)
    assert f"port {port} of 127.0.0.1 is in use by another program" in log


def test_without_the_option_there_is_no_such_port(tmp_path, toy):
    with running(tmp_path, "-v", "-p", 0, toy) as server:
        server.port()
        connections = psutil.Process(server.process.pid).net_connections("inet")
        assert len([each for each in connections if each.status == psutil.CONN_LISTEN]) == 2


def test_drivers_inherit_no_socket_of_it(tmp_path):
    code = "import os; print(sorted(os.listdir('/proc/self/fd')), file=__import__('sys').stderr); input()"
    driver = python_program(tmp_path / "lister", code)
    with measured(tmp_path, driver) as (server, _, metrics):
        samples(metrics)
        server.wait_for("['0', '1', '2', '3']")


# -- Requests


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200"),
        ("GET /metrics HTTP/1.1\n\n", "200"),
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("GET /metrics/../x HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "405"),
        ("\r\n\r\n", "400"),
        ("GET /metrics\r\n\r\n", "400"),
        ("<getProperties version='1.7'/>\n\n", "400"),
        ("\x16\x03\x01\x02\x00\x01\n\n", "400"),
    ],
)
def test_requests(tmp_path_factory, serving, request_, status):
    assert ask(serving, request_).startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        ([], True),  # HTTP/1.0; no browser leaves it out
        (["127.0.0.1:9624"], True),
        (["127.0.0.1"], True),
        (["[::1]:9624"], True),
        (["192.0.2.7:80"], True),  # that of a router that forwards the port
        (["LocalHost.:9624"], True),
        ([socket.gethostname()], True),
        ([f"{socket.gethostname()}.local:9624"], True),
        (["evil.example"], False),
        (["evil.example:9624"], False),
        (["localhost.evil.example"], False),
        (["127.0.0.1.evil.example:9624"], False),
        (["[::1].evil.example"], False),
        (["localhost", "evil.example"], False),
        (["evil.example", "localhost"], False),
        ([""], False),
    ],
)
def test_only_names_of_this_machine_may_be_asked(serving, hosts, allowed):
    """Otherwise a web page of a name that suddenly leads to this machine could have a browser read the counters."""
    lines = "".join(f"hOst:  {host} \r\n" for host in hosts)
    for target, status in (("/metrics", "200" if allowed else "403"), ("/", "404" if allowed else "403")):
        answer = ask(serving, f"GET {target} HTTP/1.1\r\nX: y\r\n{lines}\r\n")
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert ("indifast_clients" in answer) == (status == "200")
        assert ("--metrics NAME:PORT" in answer) == (status == "403")


def test_a_name_that_was_given_may_be_asked(tmp_path, toy):
    port = free_port()
    name = "127.1"  # a name of 127.0.0.1 on every system, and no address in a URL
    with running(tmp_path, "-p", 0, "--metrics", f"{name}:{port}", toy) as server:
        server.wait_for("counters for Prometheus")
        assert ask(port, f"GET /metrics HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n").startswith("HTTP/1.1 200 ")
        assert ask(port, f"GET /metrics HTTP/1.1\r\nHost: {name}.evil:{port}\r\n\r\n").startswith("HTTP/1.1 403 ")


def test_a_request_may_come_byte_by_byte(serving):
    with socket.create_connection(("127.0.0.1", serving), LIMIT) as sock:
        for letter in b"GET /metrics HTTP/1.1\r\n\r\n":
            sock.sendall(bytes([letter]))
        assert sock.recv(15) == b"HTTP/1.1 200 OK"


def test_a_request_that_does_not_end(serving):
    with socket.create_connection(("127.0.0.1", serving), LIMIT) as sock, contextlib.suppress(ConnectionError):
        for _ in range(1000):
            sock.sendall(b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"x" * 9000 + b"\r\n")
        assert b"431" in sock.recv(100)
    assert samples(serving)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server without drivers; the port for its counters."""
    folder = tmp_path_factory.mktemp("serving")
    with measured(folder, f"@127.0.0.1:{free_port()}") as (_, _, metrics):
        yield metrics


# -- Hostile scrapers


def test_silent_and_unread_connections_end_and_delay_nobody(tmp_path, toy):
    """There are more of them than the server takes at once. Others wait until their time is over."""
    with measured(tmp_path, toy, before=IMPATIENT) as (server, port, metrics):
        client = server.connect(port).say(GET)
        client.get("defTextVector", "Toy")
        before = descriptors(server.process.pid)
        hostile = []
        for number in range(12):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.connect(("127.0.0.1", metrics))
            if number % 2:
                sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")  # the answer is never read
            hostile.append(sock)
        client.say(GET).get("defTextVector", "Toy")
        assert descriptors(server.process.pid) <= before + 4
        until(lambda: answered(metrics), what="an answer to one who asks in time")
        client.say(GET).get("defTextVector", "Toy")
        for sock in hostile:
            sock.close()
        until(lambda: descriptors(server.process.pid) == before, what="the end of all connections")
        client.close()


def test_questions_without_end_leave_the_server_its_time(tmp_path, toy):
    with measured(tmp_path, toy, before="") as (server, port, metrics):
        client = server.connect(port).say(GET)
        client.get("defTextVector", "Toy")
        begin, answers = time.monotonic(), 0
        while time.monotonic() < begin + 2:
            ask(metrics)
            answers += 1
        assert answers <= 110, "fifty in a second, and a few"
        client.close()


def test_it_ends_although_a_scraper_is_connected(tmp_path, toy):
    with measured(tmp_path, toy, before="") as (server, _, metrics), socket.create_connection(("127.0.0.1", metrics)):
        begin = time.monotonic()
        server.end(signal.SIGTERM)
        assert time.monotonic() < begin + LIMIT / 2
        server.process.send_signal = lambda number: None  # `running` ends it once more
        server.children = list


# -- Labels


def test_names_are_escaped(tmp_path, toy, monkeypatch):
    monkeypatch.setenv("INDIDEV", 'a"b\\c} 1')
    with measured(tmp_path, toy) as (server, port, metrics):
        client = server.connect(port).say(GET)
        client.get("defTextVector")
        client.say("<newTextVector device='a&quot;b\\c} 1' name='T'><oneText name='m'>x</oneText></newTextVector>")
        assert samples(metrics)["indifast_devices"] == 1
        client.close()
    page = Page()
    page.counter("x", "Text.", {'a"b\\c\nd} 1': 1, "": 2}, "device")
    assert str(page).splitlines()[2:] == ['indifast_x_total{device="a\\"b\\\\c\\nd} 1"} 1', "indifast_x_total 2"]


def test_names_are_limited_in_number_and_length():
    labels = Labels()
    counts = [(f"Device {number}", 1) for number in range(10_000)]
    sums = labels.sums(counts)
    assert len(sums) == MOST_LABELS + 1
    assert sums["Device 0"] == 1
    assert sums[""] == 10_000 - MOST_LABELS
    assert labels.sums(reversed(counts)) == sums, "the same names, whatever comes later"
    labels = Labels()
    for name in ("x" * (LONGEST_LABEL + 1), "nul\0", "half \ud800", None, ""):
        assert labels.of(name) == ""
    assert labels.of("x" * LONGEST_LABEL) == "x" * LONGEST_LABEL


def test_what_peers_have_dropped_is_added_up_by_device():
    traffic = Traffic(Labels())
    for _ in range(2):
        peer = Peer(Kind.CLIENT, "Client")
        peer.received = 5
        peer.outbox.dropped[("Cam", "A")] = 2
        peer.outbox.dropped[("Cam", "B")] = 3
        peer.outbox.replaced[(None, None)] = 1
        peer.outbox.frames_sent[("Cam", "A")] = 7
        traffic.add(peer)
    later = Traffic(Labels(), traffic)
    later.add(Peer(Kind.DRIVER, "Driver"))
    assert dict(later.received) == {"client": 10, "driver": 0, "remote": 0}
    assert (dict(later.dropped), dict(later.replaced), dict(later.blobs)) == ({"Cam": 10}, {"": 2}, {"Cam": 14})
