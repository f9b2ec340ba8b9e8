"""`indifast term` as people meet it: in a terminal, by keys, in front of a C++ simulator."""

from __future__ import annotations

import re
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from astropy.io import fits

from tests.support.blackbox import free_port
from tests.terminal.pty_support import LIMIT, Terminal, served

TELESCOPE = "Telescope Simulator"
SETTINGS = {
    "true colour": {"COLORTERM": "truecolor"},
    "256 colours": {},
    "16 colours": {"TERM": "xterm"},
    "no colours": {"NO_COLOR": "1"},
}
SWITCHED = (b"?1049", b"?1000", b"?1003", b"?2004", b"?1004")
"""Switched on by `h` and off by `l`: the other screen, reports of mouse and focus, marks around what is pasted."""

AROUND = """
import subprocess, sys, termios
before = termios.tcgetattr(0)
status = subprocess.call([sys.executable, "-m", "indifast", "term", *sys.argv[1:]])
print("status", status, "as before" if termios.tcgetattr(0) == before else "changed")
"""
"""Stands for the shell that people come from and go back to."""


def told(program: Callable[[str], str], port: int, name: str) -> str:
    """A value as the C++ tool tells it."""
    command = [program("indi_getprop"), "-p", str(port), "-t", "10", "-1", name]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT).stdout.strip()


def becomes(terminal: Terminal, value: Callable[[], str], wanted: str) -> None:
    """Wait until somebody else sees a value, while the terminal goes on."""
    deadline = time.monotonic() + LIMIT
    while (seen := value()) != wanted:
        assert time.monotonic() < deadline, f"{seen!r}, not {wanted!r}\n{terminal.text}"
        terminal.read()


def find(terminal: Terminal, words: str, gone: str, *shown: str, key: str = "s Send") -> None:
    """Search for a property, go to it and into its pane; wait for what stands there and for what does not."""
    terminal.type("/")
    terminal.until(lambda: "/ Search" in terminal.text and "q Quit" not in terminal.text, "the search")
    terminal.type(words)
    terminal.until(lambda: words in terminal.text, "what was typed")
    terminal.type("\r")
    terminal.until(lambda: gone not in terminal.text, f"{gone} to go")
    terminal.shows(*shown)
    terminal.type("\x1b[C")
    terminal.shows(key)


@pytest.mark.parametrize("environment", SETTINGS.values(), ids=SETTINGS)
def test_what_is_typed_here_is_set_there(program: Callable[[str], str], environment: dict[str, str]) -> None:
    with (
        served(programs=(program("indi_simulator_telescope"),)) as port,
        Terminal("-c", AROUND, f"127.0.0.1:{port}", environment=environment) as terminal,
    ):
        terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
        find(terminal, "polling", "DRIVER_INFO", "POLLING_PERIOD")
        terminal.type("\r")
        terminal.shows("esc Drop")
        terminal.type("2010\r")
        becomes(terminal, lambda: told(program, port, f"{TELESCOPE}.POLLING_PERIOD.PERIOD_MS"), "2010")
        terminal.until(lambda: re.search(r"Period \(ms\) +2010\b", terminal.text), "the new period on the screen")
        terminal.shows("s Send")
        terminal.type("\x1b")
        terminal.until(lambda: "q Quit" in terminal.text and "s Send" not in terminal.text, "the tree")
        find(terminal, "Main Control", "POLLING_PERIOD", "CONNECTION  rw OneOfMany")
        terminal.type("\r")
        becomes(terminal, lambda: told(program, port, f"{TELESCOPE}.CONNECTION.CONNECT"), "On")
        terminal.until(lambda: re.search(r"Connect +◉ On", terminal.text), "the switch on the screen")
        terminal.type("q")
        terminal.until(lambda: b"status" in terminal.output, "the end")
        assert terminal.ended() == 0
        assert b"status 0 as before" in terminal.output
        assert b"Traceback" not in terminal.output
        for mode in SWITCHED:
            assert 0 < terminal.output.rfind(b"\x1b[%bh" % mode) < terminal.output.rfind(b"\x1b[%bl" % mode), mode
        assert terminal.output.rfind(b"\x1b[?25l") < terminal.output.rfind(b"\x1b[?25h")


def test_sixteen_colours_are_named_never_mixed(program: Callable[[str], str]) -> None:
    """A terminal of 16 colours gets none that it has to guess."""
    with (
        served(programs=(program("indi_simulator_telescope"),)) as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}", environment={"TERM": "xterm"}) as terminal,
    ):
        terminal.shows(TELESCOPE, "CONNECTION")
        terminal.type("q")
        assert terminal.ended() == 0
        assert re.search(rb"\x1b\[[0-9;]*3[0-7][;m]", terminal.output)
        assert not re.search(rb"\x1b\[(?:[0-9;]*;)?[34]8;[25];", terminal.output)


def test_keys_that_come_at_once_are_all_taken(program: Callable[[str], str]) -> None:
    """The rest of a number comes before the field for it has opened."""
    with (
        served(programs=(program("indi_simulator_telescope"),)) as port,
        Terminal("-m", "indifast", "term", f"127.0.0.1:{port}") as terminal,
    ):
        terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
        find(terminal, "polling", "DRIVER_INFO", "POLLING_PERIOD")
        for keys in ("3010\r", "\r4010\r"):
            terminal.type(keys)
            becomes(terminal, lambda: told(program, port, f"{TELESCOPE}.POLLING_PERIOD.PERIOD_MS"), keys.strip())
            terminal.shows("s Send")


def test_tls_with_certificates_of_both_ends(program: Callable[[str], str], tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    files = ("--tls-ca", str(tmp_path / "ca.pem"), "--tls-cert", str(tmp_path / "client.pem"))
    with served(programs=(program("indi_simulator_telescope"),), ssl=context) as port:
        with Terminal("-m", "indifast", "term", f"localhost:{port}", *files) as terminal:
            terminal.shows(TELESCOPE, "DRIVER_INFO", "q Quit")
            find(terminal, "Main Control", "DRIVER_INFO", "CONNECTION  rw OneOfMany")
            terminal.type("\r")
            terminal.until(lambda: re.search(r"Connect +◉ On", terminal.text), "the switch on the screen")
        with Terminal("-m", "indifast", "term", f"localhost:{port}", "--tls") as stranger:
            stranger.shows("connecting", "certificate")


def test_a_unix_socket_of_the_cpp_server(program: Callable[[str], str], tmp_path: Path) -> None:
    port = free_port()
    path = str(tmp_path / "socket")
    command = [program("indiserver"), "-p", str(port), "-u", path, program("indi_simulator_telescope")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with Terminal("-m", "indifast", "term", "--unix", path, columns=200) as terminal:
                terminal.shows("the local socket", TELESCOPE, "connected, 1 device")
        finally:
            server.kill()


def test_an_exposure_is_seen_and_saved(program: Callable[[str], str], tmp_path: Path) -> None:
    """From the first key to the file, in front of the C++ camera simulator."""
    with (
        served(programs=(program("indi_simulator_ccd"),)) as port,
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
