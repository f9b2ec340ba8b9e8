"""The parts of the larger benchmark programs: whole stacks, chains of servers, crowds of clients."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import chain, fanout, memory, peers, processes, relay, scaling, stack, stalled, start
from benchmarks.program import Failed
from benchmarks.results import CPP, OURS, PYTHON_PEER, RELAY, Result, Row
from tests.support.blackbox import alive, free_port, until

SIZE = 64 << 10


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("look", ["map", "read", "compare"])
def test_a_stack_delivers_every_frame(unix: bool, look: str) -> None:
    seconds = 5 if look == "compare" else 0.2
    assert stack.one(stack.installed()[OURS], SIZE, unix, look, 2, seconds)["rate"] > 0


def test_a_stack_sends_as_fast_as_frames_are_taken() -> None:
    assert stack.one(stack.installed()[OURS], SIZE, False, "compare", stack.AS_TAKEN, 20)["rate"] > 0


def test_the_python_peers_are_measured_by_the_same_programs() -> None:
    assert stack.one(stack.installed()[PYTHON_PEER], SIZE, False, "compare", 1, 3)["rate"] > 0


def test_the_rates_of_many_clients_of_a_stack_are_added() -> None:
    stacks = stack.installed()
    assert stack.many(stacks[OURS], SIZE, True, "map", 2, 0.2)["rate"] > 0


def test_a_client_that_receives_wrong_frames_fails_the_run() -> None:
    ours = stack.installed()[OURS]
    with ours.serving(SIZE, unix=False) as at:
        client = ours.receive(at, 2 * SIZE, "compare", 1, 3)
        with pytest.raises(Failed, match="damaged"):
            stack.told_by(client, 3)


def test_a_chain_passes_frames_and_measures_the_processor_time_of_each_server() -> None:
    figures = chain.frames(peers.serving, 2, SIZE, 0.2)
    assert figures["rate"] > 0 and figures["frames"] >= 2
    assert figures["cpu 1"] > 0 and figures["cpu 2"] > 0


@pytest.mark.parametrize("name", [OURS, CPP, PYTHON_PEER])
def test_updates_pass_a_chain_of_servers_of_any_kind(name: str) -> None:
    assert chain.latency(peers.servers()[name], 2, 0.1) > 0


@pytest.mark.parametrize("size", [300, SIZE, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_relay_in_c_passes_on_what_is_sent(size: int, threads: int) -> None:
    environment = chain.frames_environment(size)
    with peers.relaying(str(peers.compile_c("wire")), environment=environment, threads=threads) as (port, _):
        result = relay.receive(port, 0.2, environment)
    assert result["frames"] >= 2 and result["wrong"] == result["missed"] == 0


def test_the_relay_in_c_passes_on_the_same_to_all_clients() -> None:
    figures = fanout.measure_one(fanout.relay, 5, chain.frames_environment(SIZE), 0.2)
    assert figures["frames"] >= 10 and figures["missed"] == 0


class Source:
    """A server for `wire discard`: what its clients are to count comes from the test.

    Args:
        clients: The number of clients.
        seconds: How long they count.
    """

    SIZE = 300
    FRAME = chain.encoded_length(SIZE)

    def __init__(self, clients: int, seconds: float) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        command = [str(peers.compile_c("wire")), "discard", str(self.port), str(seconds), str(clients)]
        self.child = subprocess.Popen(
            command,
            env={**os.environ, **chain.frames_environment(self.SIZE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.clients = [self._welcome() for _ in range(clients)]
        self.ports = [client.getpeername()[1] for client in self.clients]
        self._read(self.clients[0], b"newSwitchVector")

    def _read(self, client: socket.socket, word: bytes) -> None:
        seen = b""
        while word not in seen:
            seen += client.recv(1 << 12) or pytest.fail(f"no {word!r}")

    def _welcome(self) -> socket.socket:
        client, _ = self.listener.accept()
        self._read(client, b"getProperties")
        client.sendall(b"</defBLOBVector>")
        self._read(client, b"pingRequest")
        client.sendall(b"<pingReply/>")
        return client

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.listener, *self.clients):
            sock.close()
        self.child.kill()
        self.child.communicate()

    def taken(self) -> bool:
        """Return whether the clients have received all that was sent."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        unread = {(line[1][-4:], line[2][-4:]): line[4] for line in lines}
        here = f"{self.port:04X}"
        pairs = [pair for port in self.ports for pair in ((here, f"{port:04X}"), (f"{port:04X}", here))]
        return all(unread.get(pair) == "00000000:00000000" for pair in pairs)

    def send(self, *sizes: int) -> None:
        """Send so many bytes to each client, and wait until they have them, or until all is over."""
        for client, size in zip(self.clients, sizes, strict=True):
            client.sendall(bytes(size))
        until(lambda: self.taken() or self.child.poll() is not None)


def test_clients_that_throw_away_count_every_byte_after_the_first_frame() -> None:
    seconds = 1.0
    while True:
        with Source(2, seconds) as source:
            source.send(source.FRAME, 0)
            source.send(0, source.FRAME)  # now the time runs
            with contextlib.suppress(ConnectionError):
                source.send(1_000_003, 70_001)
            more = 0
            while source.child.poll() is None:
                source.send(1, 0)
                more += 1
            assert source.child.stdout is not None
            told = json.loads(source.child.stdout.read())
        if more:
            break
        seconds *= 2  # on a busy machine, the time was over before all was sent
    more -= 1  # the last one came when the time was over
    assert told["wire_bytes"] == 1_000_003 + 70_001 + more
    assert (told["least"], told["most"]) == (70_001, 1_000_003 + more)
    assert told["seconds"] >= seconds


def test_clients_that_throw_away_miss_a_connection_that_is_lost() -> None:
    with Source(2, seconds=60) as source:
        source.send(source.FRAME, source.FRAME)
        source.clients[1].close()
        assert source.child.wait(60) == 1


@pytest.mark.parametrize("server", [peers.serving, peers.serving_alone, peers.relaying], ids=lambda each: each.__name__)
def test_the_cost_by_cores_is_measured_on_these_cores(server: peers.Server) -> None:
    before = os.sched_getaffinity(0)
    assert scaling.one_core_count(10, server, 1, 0.2)[scaling.CORE_TIME[10]] > 0
    assert os.sched_getaffinity(0) == before
    with scaling.only_cores(1):
        child = subprocess.run(["nproc"], stdout=subprocess.PIPE, text=True, check=True)
    assert child.stdout == "1\n"


def test_a_server_without_threads_that_send_has_one_thread() -> None:
    environment = chain.frames_environment(1 << 20)
    with peers.serving_alone(str(peers.compile_c("wire")), environment=environment) as (port, pid):
        assert relay.receive(port, 0.2, environment)["frames"] >= 2
        assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1


def test_goals_of_curves_are_about_points_that_are_measured() -> None:
    places = {*scaling.SIZES, *scaling.CLIENTS, *scaling.HOPS, *scaling.CORES, *scaling.PROPERTIES}
    for goal in scaling.PROGRAM.goals:
        title, _, place = goal.row.rpartition(": ")
        assert title in scaling.CURVES and int(place) in places


def test_memory_for_a_stalled_client_is_what_is_used_more() -> None:
    beside = Row("beside", "MB", {OURS: [150.0, 170.0], CPP: [90.0]}, failures={CPP: ["lost"]})
    more = stalled.difference(beside, Row("alone", "MB", {OURS: [40.0, 60.0, 50.0]}))
    assert more.figures == {OURS: [100.0, 120.0]} and more.title == stalled.MORE and more.failures == {CPP: ["lost"]}


def test_goals_for_many_cores_are_judged_where_there_are_many() -> None:
    assert {goal.bounds[0].of for goal in fanout.goals(many_cores=True)} >= {CPP, RELAY}
    assert RELAY in fanout.contenders(many_cores=True) and RELAY not in fanout.contenders(many_cores=False)


def test_a_crowd_counts_the_bytes_of_each_client() -> None:
    wire, environment = str(peers.compile_c("wire")), chain.frames_environment(SIZE)
    with peers.serving(wire, environment=environment) as (port, _), memory.crowd(port, 3, 0.2) as clients:
        received, seconds = memory.go(clients, 0.2)
    assert len(received) == 3 and min(received) > 0 and seconds > 0


def test_a_crowd_that_cannot_connect_is_a_failure() -> None:
    with pytest.raises(Failed, match="connect"), memory.crowd(free_port(), 2, 0):
        raise AssertionError("nothing listens on the port")


def test_the_definition_and_update_of_a_property_are_timed() -> None:
    figures = scaling.one_device(peers.serving, 20, 0.1)
    assert figures[scaling.DEFINE] > 0 and figures[scaling.UPDATE] > 0


def test_every_kind_of_start_is_timed() -> None:
    found = start.round_of(start.kinds(), 1)
    assert {name for title, name in found if title == start.LISTENING} == {OURS, CPP, PYTHON_PEER}
    assert all(milliseconds > 0 for milliseconds in found.values())
    with pytest.raises(Failed, match="did not start"):
        start.listening(lambda port: [sys.executable, "-c", "pass"])


def test_processor_time_and_peak_memory_of_a_process_are_measured() -> None:
    program = "import sys; sys.stdin.readline(); b = bytearray(64 << 20); [i for i in range(10**6)]; print(1); input()"
    with subprocess.Popen(
        [sys.executable, "-uc", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        processes.wait_until_quiet([child.pid])
        before, peaks = processes.cpu_seconds(child.pid), processes.Peaks([child.pid])
        child.stdin.write("go\n")
        child.stdin.flush()
        child.stdout.readline()
        assert processes.cpu_seconds(child.pid) > before
        assert peaks.bytes()[0] > 60 << 20
        child.stdin.write("end\n")
        child.stdin.flush()
    assert not Path(f"/proc/{child.pid}").exists()


def test_no_driver_outlives_its_server() -> None:
    program = "import signal, subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True); signal.pause()"
    with peers.process([sys.executable, "-c", program]) as child:
        pid = peers.first_number(child)
        assert processes.descendants(child.pid) == [pid]
    until(lambda: not alive(pid))


def test_a_listener_is_found_without_connecting() -> None:
    port = free_port()
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        assert not peers.listened_on(port)
        with socket.create_server((address, port), family=family) as server:
            assert peers.listened_on(port)
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
    assert not peers.listened_on(port)


def test_curves_are_drawn_as_small_pictures(tmp_path: Path) -> None:
    rows = [
        Row(f"{title}: {x}", unit, {OURS: [1.0 / x], CPP: [2.0]}, x=x)
        for title, (_, unit, _) in scaling.CURVES.items()
        for x in (1, 10, 100)
    ]
    result = Result("scaling", "Scaling", "", "", 1.0, {}, {}, rows)
    plots = scaling.draw(result, tmp_path)
    assert len(plots) == len(scaling.CURVES)
    for plot in plots:
        picture = (tmp_path / plot.file).read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) < 100 << 10
