"""`indifast expose`: exposures that are saved as files."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pexpect
import pytest
from astropy.io import fits

from indifast.cli.toolkit.failures import Status
from indifast.cli.tools.expose import _save
from tests.support import commands
from tests.support.blackbox import LIMIT, PYTHON, free_port, python_environment, until
from tests.support.commands import INDIFAST
from tests.support.libindi import Indiserver, libindi, value
from tests.support.terminals import end
from tests.tools.support import (
    CAMERA,
    MOUNT,
    PATIENT,
    SURE,
    answering,
    not_permitted,
    tool,
    unprivileged,
    without_messages,
)


def test_an_exposure_is_saved(server: int, tmp_path: Path) -> None:
    path = tmp_path / "m31.fits"
    done = tool("expose", server, CAMERA, 0.2, "-o", path)
    assert (done.returncode, without_messages(done.stderr)) == (0, "")
    assert done.stdout == f"{path}: {path.stat().st_size} bytes\n"
    with fits.open(path) as picture:
        assert picture[0].data.shape == (1024, 1280)
        assert picture[0].header["EXPTIME"] == pytest.approx(0.2)
    assert [each.name for each in tmp_path.iterdir()] == ["m31.fits"]


def test_an_existing_file_is_kept_unless_forced(server: int, tmp_path: Path) -> None:
    path = tmp_path / "m31.fits"
    path.write_text("precious")
    done = tool("expose", server, CAMERA, 0.2, "-o", path)
    assert done.returncode == Status.TROUBLE
    assert done.stderr == f"indifast expose: {path} exists; use --force to replace it, or another name\n"
    assert path.read_text() == "precious"
    assert tool("expose", server, CAMERA, 0.2, "-o", path, "--force", "--quiet").stdout == ""
    assert path.read_bytes().startswith(b"SIMPLE")


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_fifo_is_written_to_and_not_replaced(server: int, tmp_path: Path, force: list[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_bytes)
        done = tool("expose", server, CAMERA, 0.1, "-o", pipe, *force)
        if done.returncode:
            pipe.open("w").close()  # ends the reader
        assert (done.returncode, without_messages(done.stderr)) == (0, "")
        assert read.result(LIMIT).startswith(b"SIMPLE")
    assert pipe.is_fifo()


def test_to_standard_output(server: int, tmp_path: Path) -> None:
    command = [*INDIFAST, "expose", "-p", str(server), *SURE, CAMERA, "0.1", "-o", "-"]
    done = subprocess.run(command, env=python_environment(), cwd=tmp_path, capture_output=True, timeout=2 * LIMIT)
    assert (done.returncode, without_messages(done.stderr.decode())) == (0, "")
    with fits.open(io.BytesIO(done.stdout)) as hdus:
        assert hdus[0].data.ndim == 2
    assert list(tmp_path.iterdir()) == []
    done = subprocess.run([*command, "-n", "2"], env=python_environment(), capture_output=True, timeout=2 * LIMIT)
    assert (done.returncode, done.stdout) == (Status.TROUBLE, b"")
    assert b"one frame" in done.stderr


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is simulated: a test has no right to mount such a file system."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "m31.fits"
    _save(path, memoryview(b"picture"), force=False)
    with pytest.raises(FileExistsError):
        _save(path, memoryview(b"another"), force=False)
    assert path.read_bytes() == b"picture"
    assert [each.name for each in tmp_path.iterdir()] == ["m31.fits"]


def test_a_camera_that_is_disconnected_during_the_exposure(camera_server: Indiserver, tmp_path: Path) -> None:
    port = camera_server.port
    with commands.start(tmp_path, "expose", "-p", port, *SURE, CAMERA, "600", stdio=True) as child:
        until(lambda: value(port, f"{CAMERA}.CCD_EXPOSURE._STATE") == "Busy")
        libindi("setprop", port, f"{CAMERA}.CONNECTION.DISCONNECT=On")
        assert child.wait() == Status.TROUBLE
        assert without_messages(child.stderr).startswith(f"indifast expose: {CAMERA}.CCD_EXPOSURE has gone: ")


def test_several_exposures(server: int, tmp_path: Path) -> None:
    assert tool("expose", server, CAMERA, 0.1, "-n", 2, "-o", tmp_path / "a.fits").returncode == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a_001.fits", "a_002.fits"]
    folder = tmp_path / "2026" / "night"
    assert tool("expose", server, CAMERA, 0.1, "-n", 2, "-o", f"{folder}/").returncode == 0
    names = [each.name for each in folder.iterdir()]
    assert len(names) == 2
    assert all(name.startswith("CCD_Simulator_2") and name.endswith("_0.1s.fits") for name in names)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["Camera", "1"], Status.NOTHING, "no device 'Camera' on this server"),
        ([MOUNT, "1"], Status.NOTHING, f"{MOUNT} is not a camera but a telescope"),
        ([MOUNT, "1"], Status.NOTHING, f"cameras on this server: '{CAMERA}'"),
        ([CAMERA, "99999"], Status.TROUBLE, "'99999' is not a number from 0 to 86400"),
        ([CAMERA, "1", "-n", "2.5"], Status.TROUBLE, "'2.5' is not a whole number from 1 to 1000000"),
        ([CAMERA, "5000"], Status.NOTHING, "outside 0.01 to 3600"),
        ([CAMERA, "soon"], Status.TROUBLE, "'soon' is not a number"),
        ([CAMERA], Status.TROUBLE, "SECONDS"),
        ([CAMERA, "1", "-o", "/no/such/place.fits"], Status.TROUBLE, "/no/such is not a writable folder"),
        ([CAMERA, "1", "-n", "0"], Status.TROUBLE, "'0' is not a whole number"),
        ([CAMERA, "1", "--exposure", "CCD1"], Status.NOTHING, "is not a NumberVector"),
    ],
)
def test_mistakes(server: int, tmp_path: Path, words: list[str], status: Status, said: str) -> None:
    done = tool("expose", server, *PATIENT, *words, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", ["private/a.fits", "private/night/", "private/night/a.fits"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_folder_without_permission(output: str, force: list[str]) -> None:
    with not_permitted() as folder:
        done = unprivileged("expose", "-p", free_port(), "D", 1, "-o", f"{folder}/{output}", *force)
    assert done.returncode == Status.TROUBLE
    assert done.stderr in (
        f"indifast expose: {folder}/{output}: permission denied\n",
        f"indifast expose: {folder}/private is not a writable folder\n",
    )


def test_a_camera_that_is_not_connected(program: Callable[[str], str], tmp_path: Path) -> None:
    with Indiserver(tmp_path, program("indi_simulator_ccd")) as server:
        server.until_defined(f"{CAMERA}.CONNECTION.CONNECT")
        done = tool("expose", server.port, *PATIENT, CAMERA, 0.2, cwd=tmp_path)
        assert done.returncode == Status.TROUBLE
        assert f'run: indifast set --wait Ok "{CAMERA}.CONNECTION.CONNECT=On"' in done.stderr
        assert (
            tool("expose", server.port, *PATIENT, CAMERA, 0.2, "--connect", "-o", "x.fits", cwd=tmp_path).returncode
            == 0
        )
        assert (tmp_path / "x.fits").read_bytes().startswith(b"SIMPLE")


def test_a_device_that_does_not_say_what_it_is(tmp_path: Path) -> None:
    text = (
        "<defNumberVector device='D' name='T' state='Ok' perm='ro'><defNumber name='m'>1</defNumber></defNumberVector>"
    )
    with answering(text.encode()) as port:
        done = tool("expose", port, *PATIENT, "D", 1, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (Status.NOTHING, 1)
        assert "D does not work as a camera: no property 'CCD_EXPOSURE' of D: known: 'T'" in done.stderr


def test_a_folder_is_made_only_if_there_is_a_camera(server: int, tmp_path: Path) -> None:
    assert tool("expose", server, *PATIENT, "Camera", 0.1, "-o", "night/", cwd=tmp_path).returncode == Status.NOTHING
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("precious")
    for name, said in (("file/", "file is not a writable folder"), ("file/night/", "not a directory")):
        done = tool("expose", server, CAMERA, 0.1, "-o", name, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (Status.TROUBLE, 1)
        assert said in done.stderr
    assert tool("expose", server, CAMERA, 0.1, "-o", "night", cwd=tmp_path).returncode == 0
    assert (tmp_path / "night").is_file()


def test_the_reason_is_given_if_frames_stay_with_the_driver(server: int, tmp_path: Path) -> None:
    def mode(name: str) -> None:
        libindi("setprop", server, f"{CAMERA}.UPLOAD_MODE.{name}=On")
        until(lambda: value(server, f"{CAMERA}.UPLOAD_MODE.{name}") == "On")

    mode("UPLOAD_LOCAL")
    try:
        done = tool("expose", server, CAMERA, 0.1, "-o", "x.fits", "--timeout", 5, cwd=tmp_path)
        assert done.returncode
        assert f"{CAMERA} keeps its frames where its driver runs (UPLOAD_MODE is UPLOAD_LOCAL)" in done.stderr
    finally:
        mode("UPLOAD_CLIENT")
    assert tool("expose", server, CAMERA, 0.1, "-o", "x.fits", cwd=tmp_path).returncode == 0


def test_a_terminal_shows_a_progress_bar(server: int, tmp_path: Path) -> None:
    words = [*INDIFAST[1:], "expose", "-p", str(server), *SURE, CAMERA, "1", "-o", str(tmp_path / "x.fits")]
    environment = {**os.environ, **python_environment()}
    terminal = pexpect.spawn(PYTHON, words, env=environment, encoding="utf-8", timeout=LIMIT, dimensions=(24, 200))
    terminal.expect(r"\[#*-*\] \d\.\d of 1 s")
    terminal.expect(r"x\.fits: \d+ bytes")
    terminal.expect(pexpect.EOF)
    end(terminal, None)
    assert terminal.exitstatus == 0


def test_the_progress_bar_fits_a_narrow_terminal(server: int, tmp_path: Path) -> None:
    words = [*INDIFAST[1:], "expose", "-p", str(server), *SURE, CAMERA, "4", "-n", "2", "-o", str(tmp_path / "x.fits")]
    environment = {**os.environ, **python_environment()}
    terminal = pexpect.spawn(PYTHON, words, env=environment, encoding="utf-8", timeout=LIMIT, dimensions=(24, 40))
    terminal.expect(pexpect.EOF)
    end(terminal, None)
    lines = [text for text in re.split(r"\r\x1b\[K|\r\n", terminal.before) if "[" in text and " of 4 s" in text]
    assert len(lines) > 5
    assert all(re.fullmatch(r"[12]/2 \[#*-*\] \d\.\d of 4 s", line) and len(line) < 40 for line in lines)


def test_messages_of_the_driver_appear(server: int, tmp_path: Path) -> None:
    """The simulator has no catalogue of stars, and says so."""
    done = tool("expose", server, CAMERA, 0.1, "-o", tmp_path / "x.fits")
    assert re.search(rf"^indifast expose: {CAMERA}: \[ERROR\] Got no stars", done.stderr)
    assert tool("expose", server, CAMERA, 0.1, "-o", tmp_path / "y.fits", "--quiet").stderr == ""


def test_ctrl_c_aborts_the_exposure(server: int, tmp_path: Path) -> None:
    state = f"{CAMERA}.CCD_EXPOSURE._STATE"
    with commands.start(tmp_path, "expose", "-p", server, *SURE, CAMERA, "600") as child:
        until(lambda: value(server, state) == "Busy")
        os.kill(child.pid, signal.SIGINT)
        assert child.wait() == Status.INTERRUPTED
        assert without_messages(child.stderr) == f"indifast expose: aborted the exposure of {CAMERA}\n"
        assert value(server, state) not in ("Busy", "")
    assert not list(tmp_path.glob("*.fits"))
