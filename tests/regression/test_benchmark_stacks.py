"""The parts of the larger benchmark programs: whole stacks, chains of servers, crowds of clients."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import chain, memory, peers, processes, scaling, stack, start
from benchmarks.program import Failed
from benchmarks.results import CPP, OURS, PYTHON_PEER, Result, Row
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
