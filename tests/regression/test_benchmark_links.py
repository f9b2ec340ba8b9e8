"""The links of the benchmarks: a rate, a delay, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import everything, links, network, peers
from benchmarks.links import Case
from benchmarks.network import Speed
from benchmarks.peers import Place
from benchmarks.program import Settings
from benchmarks.results import CPP, KERNEL, OURS, OURS_BASE64, OURS_PLAIN, PYTHON_PEER, Result, Row

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[2]

SENDER = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    with server.accept()[0] as sock:
        for _ in range(5):
            sock.sendall(sock.recv(1))
        sock.sendall(bytes(int(sys.argv[2])))
        sock.recv(1)
"""
RECEIVER = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60) as sock:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(5):
        start = time.monotonic()
        sock.sendall(b"x")
        sock.recv(1)
        times.append(time.monotonic() - start)
    start, left = time.monotonic(), int(sys.argv[3])
    while left:
        left -= len(sock.recv(left))
    print(min(times), time.monotonic() - start)
"""


def need(speed: Speed) -> None:
    if why := network.missing(speed):
        pytest.skip(f"no links here: {why}")


def sent(near: Place, far: Place, size: int) -> tuple[float, float]:
    """Send bytes from `near` to `far`; return the seconds of the fastest of five round trips, and of all bytes."""
    with peers.process([sys.executable, "-c", SENDER, near.host, str(size)], at=near) as sender:
        port = str(peers.first_number(sender))
        command = [*far.enter, sys.executable, "-c", RECEIVER, near.host, port, str(size)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
    trip, whole = map(float, out.split())
    return trip, whole


@pytest.fixture(params=["root", "user"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to have namespaces: as root, and in a namespace of users."""
    if request.param == "user":
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return str(request.param)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("delay", [0, 15])
def test_a_link_has_its_rate_and_its_delay(delay: int) -> None:
    speed, size = Speed(40, delay), 3_000_000
    need(speed)
    with network.link(speed) as (near, far):
        trip, seconds = sent(near, far, size)
    assert trip >= 2 * delay / 1e3
    assert size * 8 / seconds < 1.1 * speed.rate * 1e6


@pytest.mark.parametrize("delay", [0, 5])
def test_an_unlimited_link_carries_everything(delay: int) -> None:
    speed = Speed(0, delay)
    need(speed)
    with network.link(speed) as (near, far):
        trip, _ = sent(near, far, 100_000_000)
    assert trip >= 2 * delay / 1e3


def test_links_do_not_meet() -> None:
    need(Speed())
    with network.link(Speed()) as (near, far), network.link(Speed()) as others:
        assert sent(near, far, 1000) and sent(*others, 1000)


def gone(pids: list[int]) -> bool:
    """Return whether all have ended; their parent may not have asked for their status yet."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return False
    return True


def children() -> list[int]:
    return list(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


@pytest.mark.usefixtures("kind")
def test_nothing_is_left_behind() -> None:
    speed = Speed(100, 5)
    need(speed)
    before = {name for _, name in socket.if_nameindex()}
    others = children()  # of fixtures that other tests share
    pids = []
    with pytest.raises(KeyboardInterrupt), network.link(speed) as (near, far):
        for place in (near, far):
            told = subprocess.run([*place.enter, "ip", "-brief", "link"], stdout=subprocess.PIPE, text=True, check=True)
            assert network.DEVICE in told.stdout
        pids = [pid for pid in children() if pid not in others]
        assert len(pids) == 3  # two holders, and the delay
        raise KeyboardInterrupt
    assert gone(pids)
    assert {name for _, name in socket.if_nameindex()} == before


def test_a_link_ends_with_a_program_that_is_killed() -> None:
    speed = Speed(100, 5)
    need(speed)
    program = f"""
    import os, time
    from benchmarks import network
    with network.link(network.Speed({speed.rate}, {speed.delay})):
        print(open(f"/proc/self/task/{{os.getpid()}}/children").read(), flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        pids = list(map(int, child.stdout.readline().split()))
        child.send_signal(signal.SIGKILL)
    assert len(pids) == 3
    while not gone(pids):  # the limit of this test is the limit of the wait
        time.sleep(0.05)


@pytest.fixture
def nothing_to_link_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for program in ("wire", "small"):
        peers.compile_c(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    links.namespaces.cache_clear()
    yield
    links.namespaces.cache_clear()


@pytest.mark.usefixtures("nothing_to_link_with")
def test_a_machine_without_namespaces_says_so() -> None:
    assert "unshare" in network.missing(Speed())
    (row,) = links.measure(Settings(runs=1, seconds=0.1, quick=True))
    assert "not measured" in row.title and "unshare" in row.title and not row.figures


@pytest.mark.usefixtures("nothing_to_link_with")
def test_loopback_remains_without_namespaces() -> None:
    options = {"rates": "unlimited", "content": "video", "only": "indifast"}
    rows = list(links.measure(Settings(runs=1, seconds=0.1, quick=True, options=options)))
    assert [row.title.partition(": ")[0] for row in rows] == ["video, unlimited, loopback"] * len(links.FIGURES)
    assert all(row.figures[OURS] and not row.failures for row in rows)


@pytest.mark.parametrize(("topology", "tls"), [("direct", "0"), ("chain", "0"), ("direct", "1"), ("chain", "1")])
def test_frames_and_commands_pass_a_link(topology: str, tls: str) -> None:
    need(Speed(200, 3))
    if tls == "1" and links.openssl():
        pytest.skip(links.openssl())
    options = {"rates": "200", "delays": "3", "content": "video", "topology": topology, "tls": tls}
    rows = {
        row.title.rpartition(": ")[2]: row
        for row in links.measure(Settings(runs=1, seconds=0.5, quick=True, options=options))
    }
    assert list(rows) == list(links.FIGURES)
    wanted = {OURS} if tls == "1" else {OURS, CPP}
    if topology == "direct":
        wanted |= {KERNEL}
    if topology == "chain" and tls == "0":
        wanted |= {OURS_BASE64, OURS_PLAIN}
    assert not rows[links.FRAMES].failures
    assert rows[links.FRAMES].figures.keys() >= wanted - {CPP}
    assert rows[links.AGE].figures[OURS][0] >= 3
    for command in (links.SAME, links.OTHER, links.OTHER_SLOW):
        assert rows[command].figures[OURS][0] >= 6


def test_the_options_choose_the_cases() -> None:
    assert links.cases({}, quick=False) == links.CHOICE
    assert links.cases({}, quick=True) == links.QUICK
    found = links.cases({"rates": "20, unlimited", "delays": "0,20", "tls": "1"}, quick=False)
    speeds = (Speed(20), Speed(), Speed(20, 20), Speed(0, 20))
    assert found == [Case(speed, tls=True) for speed in speeds]
    assert str(found[-1]) == "star field, unlimited, 20 ms each way, TLS"
    for wrong in ({"rates": "fast"}, {"content": "clouds"}, {"topology": "ring"}, {"tls": "yes"}, {"delays": "-"}):
        with pytest.raises(SystemExit, match="not understood"):
            links.cases(wrong, quick=False)
    with pytest.raises(SystemExit, match="no contender"):
        links.contenders(Case(Speed()), "nobody", quick=False)


def test_goals_are_about_rows_of_the_choice() -> None:
    rows = {f"{case}: {figure}" for case in links.CHOICE for figure in links.FIGURES}
    assert {goal.row for goal in links.PROGRAM.goals} <= rows


def test_the_choice_has_every_contender_somewhere() -> None:
    everywhere: set[str] = {OURS, CPP, OURS_BASE64, OURS_PLAIN, KERNEL, PYTHON_PEER}
    found = {
        name
        for case in links.CHOICE
        for name in links.contenders(case, "", quick=False)
        if name not in links.left_out_of_choice(case)
    }
    assert found == everywhere
    assert links.left_out_of_choice(Case(Speed(100))) == set()
    assert links.left_out_of_choice(Case(Speed(100, 20), chain=True)) == {PYTHON_PEER}


def test_links_run_only_if_they_are_named() -> None:
    assert "links" not in everything.wanted(None) and "relay" in everything.wanted(None)
    assert everything.wanted(["relay", "links"]) == ["relay", "links"]


def test_curves_are_drawn(tmp_path: Path) -> None:
    case = Case(Speed(100))
    assert case.x == 100 and Case(Speed(100, 20)).x is None and Case(Speed()).x is None
    rows = [Row(f"{case}: {figure}", "", {OURS: [1.0]}, x=case.x) for figure in links.FIGURES]
    stored = Result("links", "Links", "", "2026-01-01", 1.0, {}, {"runs": 1, "seconds": 1.0}, rows)
    assert [(tmp_path / plot.file).stat().st_size > 0 for plot in links.draw(stored, tmp_path)] == [True] * 3
