"""`indifast bench` as a user runs it: figures for everything, faults if a byte is wrong, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import indifast
from indifast import codec
from tests.support import commands
from tests.support.blackbox import LIMIT, PYTHON, until

BENCH = [*commands.INDIFAST, "bench"]
QUICK = ["--seconds", "0.03", "--runs", "1"]
DAMAGING = Path(__file__).parent / "programs" / "damaging_server.py"


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return commands.run("bench", *arguments, **environment)


def figures(report: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for section, content in report["sections"].items():
        for row, cells in content["rows"].items():
            for name, cell in cells["figures"].items():
                yield section, row, name, cell


def test_everything_is_measured(program: Callable[[str], str], tmp_path: Path) -> None:
    program("indiserver")
    done = bench("--seconds", "0.03", "--runs", "2", "--json", str(tmp_path / "bench.json"))
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "bench.json").read_text())
    assert list(report["sections"]) == ["codec", "relay", "stack", "latency"]
    measured = {(section, name) for section, _, name, _ in figures(report)}
    both = {(section, name) for section in ("relay", "latency") for name in ("indifast", "indiserver", "no server")}
    ours = {("codec", "indifast"), ("codec", "pybase64"), ("codec", "memcpy"), ("stack", "indifast")}
    assert measured == both | ours
    for section, row, name, cell in figures(report):
        assert cell["fault"] is None
        if section != "codec" or name == "indifast" or ("same buffer" in row) == (name == "memcpy"):
            assert len(cell["runs"]) == 2
            assert cell["median"] == statistics.median(cell["runs"]) > 0
        else:  # pybase64 allocates new bytes each time, memcpy does not
            assert (cell["runs"], cell["median"]) == ([], None)
    speed, delay = report["sections"]["relay"]["rows"], report["sections"]["latency"]["rows"]
    for rows, larger, smaller in ((speed, "indifast", "indiserver"), (delay, "indiserver", "indifast")):
        for cells in rows.values():
            expected = cells["figures"][larger]["median"] / cells["figures"][smaller]["median"]
            assert cells["ratio"] == pytest.approx(expected)
    assert report["machine"]["codec"] == codec.paths()[0]
    assert report["machine"]["indifast"] == indifast.version
    assert report["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert report["settings"] == {"seconds": 0.03, "runs": 2, "only": ["codec", "relay", "stack", "latency"]}
    for cell in (each for _, _, _, each in figures(report) if each["median"]):
        assert re.search(rf"\b{cell['median']:.1f}\b|\b{cell['median']:.0f}\b", done.stdout)
    for said in (report["machine"]["cpu"], f"indifast {indifast.version}", "no server", "times"):
        assert said in done.stdout


def test_the_table_is_aligned() -> None:
    done = bench(*QUICK, "--only", "latency,codec")
    assert done.returncode == 0
    tables = [block.splitlines()[1:] for block in done.stdout.split("\n\n") if block.startswith(("codec:", "latency:"))]
    assert [len(lines) for lines in tables] == [6, 3]
    for lines in tables:
        ends = {match.end() for match in re.finditer(r"\S+(?: \S+)*", lines[0])}
        for line in lines[1:]:
            assert {match.end() for match in re.finditer(r"(?<=  )[\d.]+(?=  |$)", line)} <= ends


def test_json_replaces_the_table_on_standard_output() -> None:
    done = bench(*QUICK, "--only", "codec", "--json", "-")
    assert done.returncode == 0
    assert list(json.loads(done.stdout)["sections"]) == ["codec"]


def test_figures_without_peers(tmp_path: Path) -> None:
    (tmp_path / "pybase64.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = bench(*QUICK, "--only", "codec,latency", "--json", "-", PATH=str(tmp_path), PYTHONPATH=path)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert {name for _, _, name, _ in figures(report)} == {"indifast", "memcpy", "no server"}
    assert {cells["ratio"] for section in report["sections"].values() for cells in section["rows"].values()} == {None}
    assert report["machine"]["indiserver"] == "not found"


def test_indifast_installed_as_indiserver_is_not_a_peer(tmp_path: Path) -> None:
    (tmp_path / "indiserver").write_text(
        f"#!{PYTHON}\nimport sys\nfrom indifast.cli.main import run_server\nsys.exit(run_server())\n"
    )
    (tmp_path / "indiserver").chmod(0o755)
    done = bench(*QUICK, "--only", "latency", PATH=str(tmp_path))
    assert done.returncode == 0
    assert f"indiserver: {tmp_path}/indiserver is indifast itself" in done.stdout
    assert "times" not in done.stdout


@pytest.fixture
def damaging(tmp_path: Path) -> str:
    """A search path that starts with an `indiserver` that damages what it relays."""
    (tmp_path / "indiserver").write_text(f'#!/bin/sh\nexec "{PYTHON}" "{DAMAGING}" "$@"\n')
    (tmp_path / "indiserver").chmod(0o755)
    return os.pathsep.join([str(tmp_path), os.environ["PATH"]])


@pytest.mark.parametrize("how", ["", "rewrap"])
def test_other_line_breaks_are_no_damage(damaging: str, how: str) -> None:
    done = bench(*QUICK, "--only", "relay", PATH=damaging, DAMAGE=how)
    assert (done.returncode, done.stderr) == (0, "")
    assert "indiserver: 9.8.7" in done.stdout


@pytest.mark.parametrize(
    ("how", "shown", "why"),
    [
        ("byte", "wrong", r"wrong bytes in (\d+) of \1 frames"),
        ("short", "wrong", r"wrong bytes in (\d+) of \1 frames"),
        ("number", "wrong", r"wrong bytes in (\d+) of \1 frames"),
        ("lose", "lost", r"\d+ frames lost"),
        ("close", "failed", "the server closed the connection"),
        ("die", "failed", "indiserver ended unexpectedly: no room at the observatory"),
    ],
)
def test_damage_by_a_peer_is_reported(damaging: str, how: str, shown: str, why: str) -> None:
    done = bench(*QUICK, "--only", "relay", PATH=damaging, DAMAGE=how)
    assert done.returncode == 1
    rows = re.findall(r"^  (?:with|without).*$", done.stdout, re.MULTILINE)
    assert len(rows) == 2
    for row in rows:
        name, ours, theirs, floor = re.split(r"  +", row.strip())
        assert theirs == shown
        assert float(ours) > 0
        assert float(floor) > 0
        assert re.search(rf"^relay, {re.escape(name)}, indiserver: {why}$", done.stdout, re.MULTILINE)


DAMAGED_FRAME = """
from indifast.client.frames import Frame
real = Frame.data.fget
Frame.data = property(lambda self: memoryview(bytes(real(self))[:-1] + b"?"))
"""
DAMAGED_CODEC = """
from indifast import codec
real = codec.decode
codec.decode = lambda data: real(data)[:-1] + b"?"
"""


@pytest.mark.parametrize(
    ("section", "patch", "said"),
    [
        ("stack", DAMAGED_FRAME, "stack, Unix socket, indifast: wrong bytes in 8 of "),
        ("codec", DAMAGED_CODEC, "decode: wrong bytes; decode, lines of 72: wrong bytes\n"),
    ],
)
def test_damage_by_indifast_is_reported(section: str, patch: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(patch)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = bench(*QUICK, "--only", section, PYTHONPATH=path)
    assert done.returncode == 1
    assert said in done.stdout
    assert re.search(r"  wrong$", done.stdout, re.MULTILINE)


def test_a_driver_ends_although_its_server_does_not() -> None:
    command = [PYTHON, "-m", "indifast.cli.bench.wire"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "INDIFAST_BENCH_LIMIT": "1"}) as driver:
        assert driver.wait(LIMIT) == -signal.SIGALRM


@pytest.mark.parametrize("section", ["codec", "relay", "stack", "latency"])
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_it_cleanly(section: str, which: signal.Signals, tmp_path: Path) -> None:
    """At a random moment of a measurement, as soon as all of its processes have started."""
    with subprocess.Popen(
        [*BENCH, "--seconds", "60", "--only", section],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        children = started_by(process, 1 if section == "codec" else 3)
        os.killpg(process.pid, which)  # as the terminal does
        output, _ = process.communicate(timeout=LIMIT)
        assert (process.returncode, output) == (128 + which, "")
    _, alive = psutil.wait_procs(children, timeout=LIMIT)
    assert not alive
    assert not list(tmp_path.iterdir())


def started_by(process: subprocess.Popen[Any], count: int) -> list[psutil.Process]:
    """Wait until a process has at least `count` descendants, and return them."""
    found: list[psutil.Process] = []

    def enough() -> bool:
        found[:] = psutil.Process(process.pid).children(recursive=True)
        return len(found) >= count

    until(enough, what=f"{count} processes")
    return found


def test_nothing_is_left_after_the_command_was_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*BENCH, "--seconds", "2", "--only", "stack"], env=environment) as process:
        children = started_by(process, 3)
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=LIMIT)
    assert not alive


def test_a_terminal_shows_the_progress_in_one_line() -> None:
    terminal, other = os.openpty()
    with subprocess.Popen([*BENCH, *QUICK, "--only", "codec,stack"], stdout=subprocess.PIPE, stderr=other) as process:
        os.close(other)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other end of the terminal is closed
            while select.select([terminal], [], [], LIMIT)[0] and (data := os.read(terminal, 4096)):
                seen += data
        assert process.stdout is not None
        table = process.stdout.read()
        assert process.wait(LIMIT) == 0
    os.close(terminal)
    lines = seen.decode().split("\r\x1b[K")
    assert [line for line in lines if re.fullmatch(r"1/3  codec, \d+ s left", line)]
    assert [line for line in lines if re.fullmatch(r"3/3  full stack, Unix socket, \d+ s left", line)]
    assert lines[0] == lines[-1] == ""
    assert b"\x1b" not in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "codec,realy"], "there is no benchmark 'realy'; use any of codec, relay, stack, latency"),
        (["--only", ""], "there is no benchmark ''"),
        (["--seconds", "0"], "'0' is not a number from 0.01 to 600"),
        (["--runs", "0"], "'0' is not a whole number from 1"),
        (["--json", "/no/such/folder/file"], "there is no directory /no/such/folder"),
        (["--json", "/"], "is a directory"),
        (["more"], "more"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
