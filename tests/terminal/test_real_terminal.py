"""`indifast term` as a user runs it: in a terminal, operated with keys, in front of a C++ simulator."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from astropy.io import fits

from tests.support.blackbox import LIMIT, PYTHON
from tests.support.libindi import Indiserver, value
from tests.terminal.pty_support import Terminal, served

SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "make.py"
TELESCOPE = "Telescope Simulator"
SETTINGS = {
    "true color": {"COLORTERM": "truecolor"},
    "256 colors": {},
    "16 colors": {"TERM": "xterm"},
    "no colors": {"NO_COLOR": "1"},
}
SWITCHED = (b"?1049", b"?1000", b"?1003", b"?2004", b"?1004")
"""Modes that `h` turns on and `l` turns off: alternate screen, mouse and focus reports, bracketed paste."""

SHELL = """
import subprocess, sys, termios
before = termios.tcgetattr(0)
status = subprocess.call([sys.executable, "-m", "indifast", "term", *sys.argv[1:]])
print("status", status, "as before" if termios.tcgetattr(0) == before else "changed")
"""
"""Takes the place of the shell from which the user starts the program."""


def simulator_has(terminal: Terminal, port: int, name: str, wanted: str) -> None:
    """Wait until DEVICE.VECTOR.MEMBER has a value, according to `indi_getprop`, while the terminal is read."""
    terminal.until(lambda: value(port, name) == wanted, f"{name}={wanted}")


def find(terminal: Terminal, words: str, gone: str, *shown: str, key: str = "s Send") -> None:
    """Search for a property and move the focus to its pane.

    Wait until `gone` is no longer on the screen, until `shown` is, and at last until the footer names `key`.
    """
    terminal.type("/")
    terminal.until(lambda: "/ Search" in terminal.text and "q Quit" not in terminal.text, "the search")
    terminal.type(words)
    terminal.until(lambda: words in terminal.text, "the typed words")
    terminal.type("\r")
    terminal.until(lambda: gone not in terminal.text, f"{gone} to disappear")
    terminal.shows(*shown)
    terminal.type("\x1b[C")
    terminal.shows(key)


def test_words_that_come_together_with_the_key_are_searched_for(tmp_path: Path, program: Callable[[str], str]) -> None:
    """Over a slow link they do: none of them may be taken for a command, such as q."""
    with (
        Indiserver(tmp_path, program("indi_simulator_telescope")) as server,
        Terminal("-m", "indifast", "term", f"localhost:{server.port}") as terminal,
    ):
        terminal.shows(TELESCOPE)
        for words in ("qcbx", "equatorial"):
            terminal.type("/" + words)
            terminal.shows(words)
            terminal.type("\x1b")
            terminal.shows("q Quit")


@pytest.mark.parametrize("environment", SETTINGS.values(), ids=SETTINGS)
def test_typed_values_reach_the_simulator(program: Callable[[str], str], environment: dict[str, str]) -> None:
    with (
        served(program("indi_simulator_telescope")) as port,
        Terminal("-c", SHELL, f"127.0.0.1:{port}", environment=environment) as terminal,
    ):
        terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
        find(terminal, "polling", "DRIVER_INFO", "POLLING_PERIOD")
        terminal.type("\r")
        terminal.shows("esc Drop")
        terminal.type("2010\r")
        simulator_has(terminal, port, f"{TELESCOPE}.POLLING_PERIOD.PERIOD_MS", "2010")
        terminal.until(lambda: re.search(r"Period \(ms\) +2010\b", terminal.text), "the new period on the screen")
        terminal.shows("s Send")
        terminal.type("\x1b")
        terminal.until(lambda: "q Quit" in terminal.text and "s Send" not in terminal.text, "the tree")
        find(terminal, "Main Control", "POLLING_PERIOD", "CONNECTION  rw OneOfMany")
        terminal.type("\r")
        simulator_has(terminal, port, f"{TELESCOPE}.CONNECTION.CONNECT", "On")
        terminal.until(lambda: re.search(r"Connect +◉ On", terminal.text), "the switch on the screen")
        terminal.type("q")
        assert terminal.ended() == 0
        assert b"status 0 as before" in terminal.output
        assert b"Traceback" not in terminal.output
        for mode in SWITCHED:
            assert 0 < terminal.output.rfind(b"\x1b[%bh" % mode) < terminal.output.rfind(b"\x1b[%bl" % mode), mode
        assert terminal.output.rfind(b"\x1b[?25l") < terminal.output.rfind(b"\x1b[?25h")


def test_keys_that_arrive_together_are_all_taken(program: Callable[[str], str]) -> None:
    """The rest of a number arrives before its input field has opened."""
    with (
        served(program("indi_simulator_telescope")) as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}") as terminal,
    ):
        terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
        find(terminal, "polling", "DRIVER_INFO", "POLLING_PERIOD")
        for keys in ("3010\r", "\r4010\r"):
            terminal.type(keys)
            simulator_has(terminal, port, f"{TELESCOPE}.POLLING_PERIOD.PERIOD_MS", keys.strip())
            terminal.shows("s Send")


def test_tls_with_certificates_on_both_ends(program: Callable[[str], str], tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    files = ("--tls-ca", str(tmp_path / "ca.pem"), "--tls-cert", str(tmp_path / "client.pem"))
    with served(program("indi_simulator_telescope"), ssl=context) as port:
        with Terminal("-m", "indifast", "term", f"localhost:{port}", *files) as terminal:
            terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
            find(terminal, "Main Control", "DRIVER_INFO", "CONNECTION  rw OneOfMany")
            terminal.type("\r")
            terminal.until(lambda: re.search(r"Connect +◉ On", terminal.text), "the switch on the screen")
        with Terminal("-m", "indifast", "term", f"localhost:{port}", "--tls") as stranger:
            stranger.shows("connecting", "certificate")


def test_a_unix_socket_of_the_cpp_server(program: Callable[[str], str], tmp_path: Path) -> None:
    with (
        Indiserver(tmp_path, program("indi_simulator_telescope")) as server,
        Terminal("-m", "indifast", "term", "--unix", server.socket, columns=200) as terminal,
    ):
        terminal.shows("the local socket", TELESCOPE, "connected, 1 device")


def test_the_program_that_makes_the_screenshots_can_be_loaded(tmp_path: Path) -> None:
    """It uses the terminal of these tests, and is only run by hand."""
    code = f"import runpy; runpy.run_path({str(SCREENSHOTS)!r}, run_name='loaded')"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=LIMIT, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_exposure_is_shown_and_saved(program: Callable[[str], str], tmp_path: Path) -> None:
    """From the first key to the file, with the C++ camera simulator."""
    with (
        served(program("indi_simulator_ccd")) as port,
        Terminal(
            "-m", "indifast", "term", f"127.0.0.1:{port}", "--blobs", str(tmp_path), columns=120, lines=40
        ) as term,
    ):
        term.shows("CCD Simulator", "DRIVER_INFO", "q Quit")
        find(term, "Main Control Connection", "DRIVER_INFO", "CONNECTION  rw OneOfMany")
        term.type("\r")
        term.until(lambda: re.search(r"Connect +◉ On", term.text), "the switch on the screen")
        term.type("\x1b")
        term.until(lambda: "q Quit" in term.text and "s Send" not in term.text, "the tree")
        find(term, "CCD_EXPOSURE", "CONNECTION", "CCD_EXPOSURE  rw")
        term.type("0.2\r")
        term.shows("Enter again sends 0.2 anyway")
        term.type("\r")
        term.until(lambda: list(tmp_path.glob("*.fits")), "the file")
        term.type("\x1b")
        term.until(lambda: "q Quit" in term.text and "s Send" not in term.text, "the tree")
        find(term, "CCD1 Image", "CCD_EXPOSURE", "saved to", "1280 x 1024 16 bit", key="s Save BLOB")
        (file,) = tmp_path.glob("*.fits")
        assert fits.getdata(file).shape == (1024, 1280)
