"""The FIFO of the server: its grammar, and a real FIFO with changing writers."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import termios

import pytest

from indifast.server.fifo import LONGEST_LINE, Command, CommandError, Fifo, parse
from tests.support.waiting import eventually


async def shell(command: str) -> None:
    await asyncio.to_thread(subprocess.run, ["sh", "-c", command], check=True)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("start indi_simulator_ccd", Command("start", "indi_simulator_ccd")),
        ("  stop\tindi_simulator_ccd \r", Command("stop", "indi_simulator_ccd")),
        (
            'start indi_simulator_ccd -n "CCD 2" -s "/tmp/a b.xml"',
            Command("start", "indi_simulator_ccd", {"INDIDEV": "CCD 2", "INDISKEL": "/tmp/a b.xml"}),
        ),
        (
            'start ./my-driver -p "/opt/indi"  -c "-x @ y"',
            Command("start", "./my-driver", {"INDIPREFIX": "/opt/indi", "INDICONFIG": "-x @ y"}),
        ),
        ('start toy -n "a@b"', Command("start", "toy", {"INDIDEV": "a@b"})),
        ("start @observatory", Command("start", "@observatory")),
        ("start My CCD@observatory:7625", Command("start", "My CCD@observatory:7625")),
        ('stop "My CCD"@observatory:7625', Command("stop", "My CCD@observatory:7625")),
        ('start "ASI 120 -Guide"@localhost:7707', Command("start", "ASI 120 -Guide@localhost:7707")),
        ("start ASI 120 -Guide@localhost:7707", Command("start", "ASI 120 -Guide@localhost:7707")),
        ('start "CCD -n "x""@localhost', Command("start", "CCD -n x@localhost")),
        ('start "CCD Imager Simulator @ sky"@localhost', Command("start", "CCD Imager Simulator @ sky@localhost")),
        ("stop CCD Imager Simulator @ sky@[::1]:7625", Command("stop", "CCD Imager Simulator @ sky@[::1]:7625")),
        ('start "CCD 1@observatory:7625"', Command("start", "CCD 1@observatory:7625")),
        ('start "A/B"@observatory', Command("start", "A/B@observatory")),
    ],
)
def test_programs_and_remote_servers(line, command):
    assert parse(line) == command
    assert command.remote == ("@" in command.target)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("start /home/user@corp/drv", Command("start", "/home/user@corp/drv")),
        ('start ./my@drv -n "A @ b"', Command("start", "./my@drv", {"INDIDEV": "A @ b"})),
        ("stop lib@2/drv", Command("stop", "lib@2/drv")),
        ("start ./drv.py --pipes", Command("start", "./drv.py", pipes=True)),
        ('start drv -n "A" --pipes -c "b"', Command("start", "drv", {"INDIDEV": "A", "INDICONFIG": "b"}, pipes=True)),
        ('start drv -n "--pipes"', Command("start", "drv", {"INDIDEV": "--pipes"})),
    ],
)
def test_paths_with_an_at_sign_and_pipes(line, command):
    assert parse(line) == command
    assert not command.remote


@pytest.mark.parametrize(
    "line",
    [
        "",
        "start",
        "stop ",
        "bogus indi_simulator_ccd",
        "indi_simulator_ccd",
        "start a b",
        'start "a b"',
        "start toy -n NoQuotes",
        'start toy -n ""',
        'start toy -n "unclosed',
        'start toy -n "a" trailing',
        'start toy -x "a"',
        'start toy -n "a" -n "b"',
        f'start toy -n "{"x" * 512}"',
        'start @host -n "a"',
        "start -n",
        "start toy -",
        "start toy --pipe",
        'start toy --pipes "yes"',
        "start @host --pipes",
        "start CCD @ sky",
        'start "/dev/ccd"@host',
        'start "CCD @ sky"',
        "start CCD@host:port",
        'start "/home/user@corp/drv"',
        'start toy -n "a\0b"',
        "start to\0y",
    ],
)
def test_malformed_lines_are_errors(line):
    with pytest.raises(CommandError):
        parse(line)


def test_writers_may_change(fifo):
    path = str(fifo)

    async def scenario():
        lines: list[str] = []
        errors: list[str] = []
        fifo = Fifo(path, lines.append, errors.append)
        for number in range(20):  # each one opens the FIFO, writes, and closes it, as the shell does
            await shell(f"echo start driver{number} > {path}")
            await eventually(lambda number=number: len(lines) == number + 1)
        assert lines == [f"start driver{number}" for number in range(20)]
        lines.clear()
        await shell(f"printf 'one\\n\\r\\n\\ntwo without end' > {path}")
        await eventually(lambda: len(lines) == 2)
        assert lines == ["one", "two without end"]
        lines.clear()
        writer = os.open(path, os.O_WRONLY)
        for piece in (b"sta", b"rt a\nsto", b"p b\n", b"x" * LONGEST_LINE, b"y" * 5, b"\nnext\n", b"\xff\xfe\n"):
            os.write(writer, piece)
            await eventually(lambda: unread(writer) == 0)
        await eventually(lambda: len(lines) == 4)
        os.close(writer)
        assert lines == ["start a", "stop b", "next", "\\xff\\xfe"]
        assert errors == [f"a line of more than {LONGEST_LINE} bytes"]
        fifo.close()
        fifo.close()

    asyncio.run(scenario())


def unread(fd: int) -> int:
    """Return the number of unread bytes in a FIFO."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_an_idle_fifo_is_not_read(fifo, monkeypatch):
    """After its last writer has closed it, it would always be readable if it was not opened again."""
    path = str(fifo)
    reads: list[Fifo] = []
    read = Fifo._read

    def counted(fifo: Fifo) -> None:
        reads.append(fifo)
        read(fifo)

    monkeypatch.setattr(Fifo, "_read", counted)

    async def scenario():
        lines: list[str] = []
        fifo = Fifo(path, lines.append, lines.append)
        await shell(f"echo one > {path}")
        await eventually(lambda: lines)
        for _ in range(20):
            await asyncio.sleep(0)
        before = len(reads)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(reads) == before
        await shell(f"echo two > {path}")
        await eventually(lambda: lines == ["one", "two"])
        fifo.close()

    asyncio.run(scenario())


def test_a_path_that_is_not_a_fifo_is_an_error(tmp_path):
    async def scenario():
        with pytest.raises(FileNotFoundError, match=r"there is no FIFO .*/missing: make one with mkfifo"):
            Fifo(str(tmp_path / "missing"), print, print)
        (tmp_path / "file").write_text("start a\n")
        with pytest.raises(OSError, match="is not a FIFO: make one with mkfifo"):
            Fifo(str(tmp_path / "file"), print, print)

    asyncio.run(scenario())


def test_the_removal_of_a_fifo_is_reported_after_its_last_line(fifo):
    path = str(fifo)

    async def scenario():
        lines: list[str] = []
        errors: list[str] = []
        fifo = Fifo(path, lines.append, errors.append)
        code = "import os, sys; f = open(sys.argv[1], 'w'); os.unlink(sys.argv[1]); f.write('last\\n')"
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, path], check=True)
        await eventually(lambda: errors)
        assert lines == ["last"]
        fifo.close()

    asyncio.run(scenario())
