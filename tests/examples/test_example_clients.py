"""The example clients, run as a newcomer would run them, with the simulated camera."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from astropy.io import fits

from tests.support.blackbox import PYTHON, Channel, Child, python_environment
from tests.support.servers import EXAMPLES, example

CAMERA = "Simulated Camera"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a server with the simulated camera."""
    with example("simulated_camera.py", tmp_path, "--serve") as found:
        yield found


def sequence(port: int, folder: Path, *words: str) -> Child:
    program = [PYTHON, str(EXAMPLES / "exposure_sequence.py"), "--port", str(port), "--folder", str(folder / "night")]
    return Child([*program, *words], folder, env=python_environment())


def test_a_sequence_saves_its_frames(port: int, tmp_path: Path) -> None:
    with sequence(port, tmp_path, "--count", "2", "--seconds", "0.1", "--temperature", "14") as client:
        assert client.wait() == 0
        cooling, *saved = client.stderr.splitlines()
    assert cooling == "cooling to 14 °C"
    assert [Path(line) for line in saved] == sorted((tmp_path / "night").iterdir())
    assert len(saved) == 2
    for line in saved:
        with fits.open(line) as file:
            assert file[0].header["EXPTIME"] == 0.1
            assert abs(file[0].header["CCD-TEMP"] - 14) <= 0.5


def test_ctrl_c_aborts_the_exposure_of_a_sequence(port: int, tmp_path: Path) -> None:
    observer = Channel.connect(port)
    with sequence(port, tmp_path, "--count", "2", "--seconds", "600") as client:
        observer.send(b'<getProperties version="1.7"/>')
        observer.until(lambda message: b'name="CCD_EXPOSURE" state="Busy"' in message)
        os.kill(client.pid, signal.SIGINT)
        assert client.wait() == 130
        assert client.stderr == "stopped\n"
        observer.until(lambda message: b'name="CCD_EXPOSURE" state="Idle"' in message)
    observer.close()
    assert not list((tmp_path / "night").iterdir())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--seconds", "-1"], "went to Alert"),
        (["--camera", "Nothing"], "Nothing"),
        (["--port", "1"], "waited 10 s"),
    ],
    ids=["refused", "no such camera", "no server"],
)
def test_a_sequence_that_fails_says_why_in_one_line(
    port: int, tmp_path: Path, words: list[str], complaint: str
) -> None:
    with sequence(port, tmp_path, *words) as client:
        assert client.wait() == 1
        (line,) = client.stderr.splitlines()
    assert line.startswith("exposure_sequence: ") and complaint in line


def cells() -> list[str]:
    """Return the programs in the notebook's cells."""
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_notebook(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells run one after another in one namespace, on a thread with an event loop, as in Jupyter."""
    matplotlib.use("agg")

    async def kernel() -> None:
        names: dict[str, object] = {}
        for number, source in enumerate(cells()):
            exec(compile(source.replace("7624", str(port)), f"cell {number}", "exec"), names)
            await asyncio.sleep(0)

    asyncio.run(kernel())
    printed = capsys.readouterr().out
    assert "pixels: 1280 x 1024" in printed
    assert float(printed.split("gain: ")[1].split()[0]) == pytest.approx(1, abs=0.05)


def test_notebook_is_stored_without_results() -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            ast.parse("".join(cell["source"]))
