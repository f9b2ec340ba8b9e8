"""What the larger benchmark programs measure with: whole stacks, chains of servers, crowds of clients."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import chain, memory, peers, processes, scaling, stack, start
from benchmarks.program import Failed
from benchmarks.results import CPP, OURS, PYTHON_PEER, Result, Row

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


def test_many_clients_of_a_stack_count_together() -> None:
    stacks = stack.installed()
    assert stack.many(stacks[OURS], SIZE, True, "map", 2, 0.2)["rate"] > 0


def test_a_client_that_gets_other_frames_than_were_sent_fails_the_run() -> None:
    ours = stack.installed()[OURS]
    with ours.serving(SIZE, unix=False) as at:
        client = ours.receive(at, 2 * SIZE, "compare", 1, 3)
        with pytest.raises(Failed, match="damaged"):
            stack.told_by(client, 3)


def test_a_chain_passes_frames_and_tells_what_each_server_spent() -> None:
    told = chain.frames(peers.serving, 2, SIZE, 0.2)
    assert told["rate"] > 0 and told["frames"] >= 2
    assert told["cpu 1"] > 0 and told["cpu 2"] > 0


@pytest.mark.parametrize("name", [OURS, CPP, PYTHON_PEER])
def test_an_update_comes_through_a_chain_of_anybody_s_servers(name: str) -> None:
    assert chain.latency(peers.servers()[name], 2, 0.1) > 0


def test_a_crowd_counts_what_comes_to_each() -> None:
    wire, environment = str(peers.compile_c("wire")), chain.frames_environment(SIZE)
    with peers.serving(wire, environment=environment) as (port, _), memory.crowd(port, 3, 0.2) as clients:
        received, seconds = memory.go(clients, 0.2)
    assert len(received) == 3 and min(received) > 0 and seconds > 0


def test_a_crowd_that_cannot_connect_is_a_failure() -> None:
    with pytest.raises(Failed, match="connect"), memory.crowd(peers.free_port(), 2, 0):
        raise AssertionError("nobody listens there")


def test_defining_and_updating_properties_is_timed_for_each() -> None:
    told = scaling.one_device(peers.serving, 20, 0.1)
    assert told[scaling.DEFINE] > 0 and told[scaling.UPDATE] > 0


def test_every_kind_of_start_is_timed() -> None:
    found = start.round_of(start.kinds(), 1)
    assert {name for title, name in found if title == start.LISTENING} == {OURS, CPP, PYTHON_PEER}
    assert all(milliseconds > 0 for milliseconds in found.values())
    with pytest.raises(Failed, match="did not start"):
        start.listening(lambda port: [sys.executable, "-c", "pass"])


def test_processor_time_and_peaks_are_those_of_the_process() -> None:
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
    end = time.monotonic() + peers.PATIENCE
    while _runs(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_port_that_is_listened_on_is_known_without_connecting() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((address, 0), family=family) as server:
            port = server.getsockname()[1]
            assert peers.listened_on(port)
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
    assert not peers.listened_on(port)


def test_curves_become_small_pictures(tmp_path: Path) -> None:
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
