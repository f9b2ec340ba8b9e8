"""What a soak test runs: three servers in a chain, their drivers, clients, a recorder and a terminal.

Every server shows the devices of all three. The links and one client go through proxies, where the network has its
faults::

    Alpha, CCD Simulator, Peer --- server a ---proxy ab--- server b ---proxy bc--- server c --- Gamma (inside)
                                    |  |                    |  |  \\- Beta, Telescope  |  |  |
                              local-a  tcp-a     proxy client  terminal        local-c  |  recorder
                                                       |                                tcp-c
                                                    client-b
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.soak.parts import Pipe, Screen, Server
from tests.soak.processes import MARK, QUICK, Failure, Program, SmallDisks, describe, marked, until
from tests.soak.proxy import Network, Proxy
from tests.soak.report import Figures
from tests.support.blackbox import PYTHON, free_port, python_environment

ROOT = Path(__file__).resolve().parents[2]

COUNTING = ("Alpha", "Beta", "Gamma", "Peer")
"""The devices with a counter, which obey commands."""

_PROGRAMS = "tests.soak.programs"
_QUEUE, _STREAM = 6 << 20, 2 << 20  # bytes; low, so that clients and links that stall reach them
_STALL = 36_000  # seconds; long, so that no timeout hides that something was forgotten
_DISK = "128m"


class World:
    """Everything that runs in one round.

    Args:
        folder: A folder of its own.
        loop: The event loop of the servers.
        peer: The interpreter that has indipydriver; None: no driver of that.
        disks: What gives programs small disks.
        preload: The library that moves clocks.
    """

    def __init__(self, folder: Path, loop: str, peer: Path | None, disks: SmallDisks, preload: Path) -> None:
        self.folder = folder
        self.disks = disks
        self.figures = Figures(loop)
        self.temporary = folder / "tmp"
        self.disk = folder / "disk"
        self.recordings = folder / "recordings"
        for path in (self.temporary, self.disk, self.recordings):
            path.mkdir(parents=True)
        self._mark = f"{os.getpid()}-{folder.name}-{time.monotonic_ns()}"
        self._clock = folder / "clock"
        self._clock.write_bytes(struct.pack("q", 0))
        self.environment = python_environment(
            **{MARK: self._mark},
            LD_PRELOAD=str(preload),
            SOAK_CLOCK=str(self._clock),
            TMPDIR=str(self.temporary),
            PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "src"))),
        )
        self.proxies: dict[str, Proxy] = {}
        self.programs: dict[str, Program] = {}
        """Everything that has to run all the time, except the terminal."""
        self.servers: dict[str, Server] = {}
        self.clients: dict[str, Program] = {}
        self.recorder: Program
        self.recording: Path
        self.screen: Screen
        self.pipe = Pipe(folder / "server-b.pipe", folder / "server-b-pipe.log")
        """The standard error of server b."""
        self._network = Network()
        self._screens: list[Screen] = []
        self._tokens = itertools.count(1)
        self._peer = peer
        self._loop = loop

    # -- Start

    def start(self) -> None:
        """Start everything."""
        ports = {name: free_port() for name in ("a", "b", "c", "ab", "bc", "client")}
        for name, target in (("ab", "a"), ("bc", "b"), ("client", "b")):
            self.proxies[name] = Proxy(self._network, ports[name], ports[target])
        alpha = _driver(PYTHON, "-m", f"{_PROGRAMS}.driver", "Alpha")
        beta = _driver(PYTHON, "-m", f"{_PROGRAMS}.driver", "Beta", "Alpha")
        gamma = f'[[drivers]]\npython = "{_PROGRAMS}.driver:make"'
        ccd, telescope = (_foreign(f"indi_simulator_{name}") for name in ("ccd", "telescope"))
        peer = [] if self._peer is None else [_foreign(self._peer, _peer_script(), "Peer", pipes=True)]
        devices = ("Alpha", "CCD Simulator", *(("Peer",) if peer else ()))
        self._serve("a", ports["a"], devices, alpha, ccd, *peer)
        self._serve("b", ports["b"], ("Beta", "Telescope Simulator"), beta, telescope, _link(ports["ab"]))
        self._serve("c", ports["c"], ("Gamma",), gamma, _link(ports["bc"]))
        for server in self.servers.values():
            self.wait_for_port(server.port)
        for name, kind, address in (
            ("local-a", "observer", self.servers["a"].local),
            ("tcp-a", "observer", f"127.0.0.1:{ports['a']}"),
            ("client-b", "client", f"127.0.0.1:{ports['client']}"),
            ("tcp-c", "observer", f"127.0.0.1:{ports['c']}"),
            ("local-c", "client", self.servers["c"].local),
        ):
            folder = [str(self.folder / "saved")] if name == "client-b" else []
            command = [PYTHON, "-m", f"{_PROGRAMS}.{kind}", address, *folder]
            self.clients[name] = self._run(name, command, controlled=True)
        self.start_recorder()
        self.start_terminal()

    def _serve(self, name: str, port: int, devices: tuple[str, ...], *drivers: str) -> None:
        local = f"indifast-soak-{self._mark}-{name}"
        lines = [f"port = {port}", f'local_socket = "{local}"', "restarts = 1000000", "verbose = 1", "senders = 2"]
        if name == "a":
            lines += [f'record = "{self.disk}/traffic.indi"', "record_blobs = true", f'message_log = "{self.disk}"']
        lines += ["[limits]", f"queue = {_QUEUE}", f"stream = {_STREAM}", f"stall = {_STALL}", *drivers]
        config = self.folder / f"{name}.toml"
        config.write_text("\n".join(lines) + "\n")
        command = [PYTHON, "-m", f"{_PROGRAMS}.serve", self._loop, "--config", str(config), "--stats"]
        if name == "a" and not self.disks.missing:
            command = self.disks.command([self.disk, Path("/dev/shm")], _DISK, command)
        errors = self.pipe.path if name == "b" else None
        program = self._run(f"server-{name}", command, errors=errors, SOAK_DEVICE="Gamma")
        self.servers[name] = Server(name, program, port, f"@{local}", devices)

    def _run(
        self,
        name: str,
        command: Sequence[object],
        *,
        controlled: bool = False,
        errors: Path | None = None,
        **extra: str,
    ) -> Program:
        environment = self.environment | extra
        program = Program(name, command, self.folder, environment, controlled=controlled, errors=errors)
        self.programs[name] = program
        return program

    def start_recorder(self) -> None:
        """Start a recorder of server c, with a new file."""
        self.recording = self.recordings / f"{len(list(self.recordings.iterdir()))}.indi"
        where = f"127.0.0.1:{self.servers['c'].port}"
        self.recorder = self._run(
            "recorder", [PYTHON, "-m", "indifast", "record", where, "-o", self.recording, "--blobs"]
        )
        until(lambda: self.recorder.alive() and self.recording.exists(), f"{self.recording} is begun")

    def start_terminal(self) -> None:
        """Start the terminal at server b, and let it show the token of `Alpha`."""
        self.screen = Screen(self.servers["b"].port, self.folder / "terminal.log", self.environment)
        self._screens.append(self.screen)
        for shown, keys in (("Alpha", "/"), ("search:", "alpha token"), ("alpha token", "\r"), ("token  token", "")):
            self.screen.until(shown)
            self.screen.type(keys)

    def wait_for_port(self, port: int) -> None:
        """Wait until something listens there."""

        def listening() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except OSError:
                return not self.alive()
            return True

        until(listening, f"port {port} is open")

    # -- Parts

    @property
    def has_peer(self) -> bool:
        """Whether there is a driver of indipydriver."""
        return self._peer is not None

    @property
    def devices(self) -> set[str]:
        """The devices that every client has to know."""
        return {device for server in self.servers.values() for device in server.devices}

    def pids(self) -> dict[str, int]:
        """The processes that are measured, by name."""
        return {name: program.pid for name, program in self.programs.items()} | {"terminal": self.screen.pid}

    def alive(self) -> bool:
        """Whether everything runs that must.

        Raises:
            Failure: It does not.
        """
        if self._screens:
            self.screen.shows("")
        return all(program.alive() for program in self.programs.values())

    def driver_pid(self, server: str, word: str) -> int | None:
        """The process of a driver of a server with this word in its command line; None if it does not run now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.servers[server].program.pid).children(recursive=True):
                if word in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    return child.pid
        return None

    def send_command(self, sender: str, device: str) -> str:
        """Let a client command a device; the text that the device shows when it has obeyed."""
        text = f"{sender}:{next(self._tokens)}"
        self.clients[sender].say(f"token {device}|{text}")
        self.figures.commands += 1
        return text

    def set_clock(self, seconds: int) -> None:
        """Move the clock that the programs see by so many seconds from the right time."""
        with self._clock.open("r+b") as file:  # the programs have it mapped, so it must not be truncated
            file.write(struct.pack("q", seconds))

    # -- The end

    def stop(self) -> None:
        """End everything in an orderly way.

        Raises:
            Failure: Something does not end, ends with a wrong status, or leaves a process behind.
        """
        began = time.monotonic()
        statuses = {"recorder": self.recorder.end()}
        self.screen.type("q")
        statuses["terminal"] = self.screen.end()
        for server in self.servers.values():
            statuses[server.program.name] = server.program.end()
        for name, client in self.clients.items():
            statuses[name] = client.end(None)
        for name, status in statuses.items():
            if status != 0:
                log = self.programs[name].log if name in self.programs else self.screen.text
                raise Failure(f"{name} ended with status {status}:\n{log[-3000:]}")
        until(
            lambda: not marked(self._mark), lambda: f"the end of {[describe(pid) for pid in marked(self._mark)]}", QUICK
        )
        self.figures.stop_seconds = time.monotonic() - began

    def kill(self) -> None:
        """End whatever still runs."""
        for screen in self._screens:
            screen.close()
        for program in self.programs.values():
            program.kill()
        for pid in marked(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for proxy in self.proxies.values():
            proxy.close()
        self.pipe.close()
        self._network.close()


# -- The configuration of a server


def _driver(program: object, *arguments: object, pipes: bool = False) -> str:
    words = ", ".join(f'"{word}"' for word in arguments)
    return f'[[drivers]]\nprogram = "{program}"\nargs = [{words}]\npipes = {str(pipes).lower()}'


def _foreign(*command: object, pipes: bool = False) -> str:
    """A driver that is not of indifast. Its clock stays right: the timers of some do not survive a jump."""
    return _driver("env", "-u", "LD_PRELOAD", *command, pipes=pipes)


def _peer_script() -> Path:
    return Path(__file__).with_name("programs") / "peer_driver.py"


def _link(port: int) -> str:
    return f'[[remotes]]\nhost = "127.0.0.1"\nport = {port}\nblobs = true'
