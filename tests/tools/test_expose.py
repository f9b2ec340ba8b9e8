"""`indifast expose`: files that are pictures."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pexpect
import pytest
from astropy.io import fits

from indifast.cli.toolkit.failures import Status
from indifast.cli.tools.expose import _save
from tests.support.blackbox import Child, free_port, python_environment, until
from tests.tools.support import CAMERA, MOUNT, libindi, tool


def test_a_picture(server: int, tmp_path: Path) -> None:
    path = tmp_path / "m31.fits"
    done = tool("expose", server, CAMERA, 0.2, "-o", path)
    assert (done.returncode, done.stderr) == (0, "")
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
def test_what_is_no_file_is_written_to_and_not_replaced(server: int, tmp_path: Path, force: list[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_bytes)
        done = tool("expose", server, CAMERA, 0.1, "-o", pipe, *force)
        if done.returncode:
            pipe.open("w").close()  # lets the reader go
        assert (done.returncode, done.stderr) == (0, "")
        assert read.result(60).startswith(b"SIMPLE")
    assert pipe.is_fifo()


def test_to_standard_output(server: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "indifast", "expose", "-p", str(server), CAMERA, "0.1", "-o", "-"]
    done = subprocess.run(command, env=python_environment(), cwd=tmp_path, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    with fits.open(io.BytesIO(done.stdout)) as hdus:
        assert hdus[0].data.ndim == 2
    assert list(tmp_path.iterdir()) == []
    done = subprocess.run([*command, "-n", "2"], env=python_environment(), capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (Status.TROUBLE, b"")
    assert b"one frame" in done.stderr


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is made here: mounting one takes rights that a test has not."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "m31.fits"
    _save(path, memoryview(b"picture"), force=False)
    with pytest.raises(FileExistsError):
        _save(path, memoryview(b"another"), force=False)
    assert path.read_bytes() == b"picture"
    assert [each.name for each in tmp_path.iterdir()] == ["m31.fits"]


def test_a_camera_that_goes_while_it_exposes(program: Callable[[str], str], tmp_path: Path) -> None:
    def getprop(name: str) -> str:
        return libindi("getprop", port, "-1", f"{CAMERA}.{name}").stdout.strip()

    port = free_port()
    words = [program("indiserver"), "-p", str(port), "-u", f"{tmp_path}/socket", program("indi_simulator_ccd")]
    with Child(words, tmp_path, env={"HOME": str(tmp_path)}):
        until(lambda: getprop("CONNECTION.CONNECT"))
        assert tool("set", port, "--wait", "Ok", f"{CAMERA}.CONNECTION.CONNECT=On").returncode == 0
        until(lambda: getprop("CCD_EXPOSURE._STATE"))
        command = [sys.executable, "-m", "indifast", "expose", "-p", str(port), CAMERA, "600"]
        with Child(command, tmp_path, env=python_environment(), stdio=True) as child:
            until(lambda: getprop("CCD_EXPOSURE._STATE") == "Busy")
            libindi("setprop", port, f"{CAMERA}.CONNECTION.DISCONNECT=On")
            assert child.wait() == Status.TROUBLE
            assert child.stderr.startswith(f"indifast expose: {CAMERA}.CCD_EXPOSURE has gone: ")


def test_several_pictures(server: int, tmp_path: Path) -> None:
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
        ([MOUNT, "1"], Status.NOTHING, f"no property 'CCD_EXPOSURE' of {MOUNT}"),
        ([CAMERA, "99999"], Status.TROUBLE, "'99999' is not a number from 0 to 86400"),
        ([CAMERA, "5000"], Status.NOTHING, "outside 0.01 to 3600"),
        ([CAMERA, "soon"], Status.TROUBLE, "'soon' is not a number"),
        ([CAMERA], Status.TROUBLE, "SECONDS"),
        ([CAMERA, "1", "-o", "/no/such/place.fits"], Status.TROUBLE, "/no/such is not a writable folder"),
        ([CAMERA, "1", "-n", "0"], Status.TROUBLE, "'0' is not a number"),
        ([CAMERA, "1", "--exposure", "CCD1"], Status.NOTHING, "is not a NumberVector"),
    ],
)
def test_mistakes(server: int, tmp_path: Path, words: list[str], status: Status, said: str) -> None:
    done = tool("expose", server, "-t", "1", *words, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_camera_that_is_not_connected(program: Callable[[str], str], tmp_path: Path) -> None:
    port = free_port()
    words = [program("indiserver"), "-p", str(port), "-u", f"{tmp_path}/socket", program("indi_simulator_ccd")]
    with Child(words, tmp_path, env={"HOME": str(tmp_path)}):
        until(lambda: not libindi("getprop", port, f"{CAMERA}.CONNECTION.CONNECT").returncode)
        done = tool("expose", port, CAMERA, 0.2, cwd=tmp_path)
        assert done.returncode == Status.TROUBLE
        assert f'run: indifast set --wait Ok "{CAMERA}.CONNECTION.CONNECT=On"' in done.stderr
        assert tool("expose", port, CAMERA, 0.2, "--connect", "-o", "x.fits", cwd=tmp_path).returncode == 0
        assert (tmp_path / "x.fits").read_bytes().startswith(b"SIMPLE")


def test_a_folder_is_made_once_there_is_a_camera(server: int, tmp_path: Path) -> None:
    assert tool("expose", server, "-t", "1", "Camera", 0.1, "-o", "night/", cwd=tmp_path).returncode == Status.NOTHING
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("precious")
    for name, said in (("file/", "file is not a writable folder"), ("file/night/", "not a directory")):
        done = tool("expose", server, CAMERA, 0.1, "-o", name, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (Status.TROUBLE, 1)
        assert said in done.stderr
    assert tool("expose", server, CAMERA, 0.1, "-o", "night", cwd=tmp_path).returncode == 0
    assert (tmp_path / "night").is_file()


def test_frames_that_stay_with_the_driver_are_told(server: int, tmp_path: Path) -> None:
    def mode(name: str) -> None:
        libindi("setprop", server, f"{CAMERA}.UPLOAD_MODE.{name}=On")
        until(lambda: libindi("getprop", server, "-1", f"{CAMERA}.UPLOAD_MODE.{name}").stdout.strip() == "On")

    mode("UPLOAD_LOCAL")
    try:
        done = tool("expose", server, CAMERA, 0.1, "-o", "x.fits", "--timeout", 5, cwd=tmp_path)
        assert done.returncode
        assert f"{CAMERA} keeps its frames where its driver runs (UPLOAD_MODE is UPLOAD_LOCAL)" in done.stderr
    finally:
        mode("UPLOAD_CLIENT")
    assert tool("expose", server, CAMERA, 0.1, "-o", "x.fits", cwd=tmp_path).returncode == 0


def test_the_bar_is_for_terminals(server: int, tmp_path: Path) -> None:
    words = ["-m", "indifast", "expose", "-p", str(server), CAMERA, "1", "-o", str(tmp_path / "x.fits")]
    environment = {**os.environ, **python_environment()}
    terminal = pexpect.spawn(sys.executable, words, env=environment, encoding="utf-8", timeout=60, dimensions=(24, 200))
    terminal.expect(r"\[#*-*\] 0\.\d of 1 s")
    terminal.expect(r"x\.fits: \d+ bytes")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_ctrl_c_aborts_the_exposure(server: int, tmp_path: Path) -> None:
    def state() -> str:
        return libindi("getprop", server, "-1", f"{CAMERA}.CCD_EXPOSURE._STATE").stdout.strip()

    command = [sys.executable, "-m", "indifast", "expose", "-p", str(server), CAMERA, "600"]
    with Child(command, tmp_path, env=python_environment(), cwd=tmp_path / "") as child:
        until(lambda: state() == "Busy")
        os.kill(child.pid, signal.SIGINT)
        assert child.wait() == Status.INTERRUPTED
        until(lambda: state() != "Busy", what="the end of the exposure")
    assert not list(tmp_path.glob("*.fits"))
