"""Simulated machines for the programs of a page. Each has its own folder, ports and sockets.

Programs can use `localhost:7624` and `dome.local` as they do on the page, whatever else runs on this computer. Each
machine is an address of the loopback network; see machines.c.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect

from benchmarks.processes import descendants
from tests.support import native
from tests.support.blackbox import LIMIT, python_environment
from tests.support.terminals import end

SOURCE = Path(__file__).with_name("machines.c")
ROOT = SOURCE.parents[2]
NAMES = ("localhost", "observatory", "telescope.local", "dome.local", "guider.local", "pi.local")
"""The machines that the documentation mentions."""

FORBIDDEN = (
    "sudo",
    "apt",
    "apt-get",
    "pip",
    "pip3",
    "pipx",
    "git",
    "systemctl",
    "journalctl",
    "ssh",
    "scp",
    "dd",
    "reboot",
)
"""Programs that only blocks marked `system` may call, because they change the system or leave it."""

QUIET = 0.5
"""Seconds without a definition after which all devices of a server count as defined, if all its processes sleep."""

STARTING = 15.0
"""Seconds without a definition after which they count as defined although a process is busy: some always are."""


def library(folder: Path) -> Path:
    """Compile the library that is preloaded."""
    return native.compile_c(SOURCE, folder / "machines.so", "-O1", "-shared", "-fPIC", "-ldl", counted=False)


def shims(folder: Path) -> Path:
    """Write stand-ins for programs of the system: `make` only checks that the target exists, all others fail."""
    made = folder / "programs"
    made.mkdir(exist_ok=True)
    texts = {name: f'echo "{name} is called in a block that is not marked system" >&2; exit 97' for name in FORBIDDEN}
    texts["make"] = f'exec {shutil.which("make") or "make"} --dry-run --directory "{ROOT}" "$@" >/dev/null'
    for name, text in texts.items():
        (made / name).write_text(f"#!/bin/sh\n{text}\n")
        (made / name).chmod(0o755)
    return made


@contextlib.contextmanager
def network() -> Iterator[str]:
    """Yield the first three bytes of addresses that no other test is using."""
    for attempt in range(1000):
        number = (os.getpid() * 7 + attempt) % 60000
        prefix = f"127.{number // 250 + 8}.{number % 250 + 1}"
        with socket.socket(socket.AF_UNIX) as reservation:
            try:
                reservation.bind(f"\0indifast-tests-machines-{prefix}")
            except OSError:
                continue
            yield prefix
            return
    raise RuntimeError("no free network")


class Running:
    """A program in the background."""

    def __init__(self, where: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.where, self.process, self.output = where, process, output

    def printed(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(errors="replace")

    def busy(self) -> bool:
        """Return whether it, or a process that it has started, has something to do, even if it has to wait for that."""
        for pid in (self.process.pid, *descendants(self.process.pid)):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "SZ":
                    return True
        return False

    def stop(self) -> None:
        """End it with Ctrl-C, as a reader would; it must end properly."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.where}: does not end after Ctrl-C:\n{self.printed()}") from None
        assert status in (0, 130, -signal.SIGINT), f"{self.where}: status {status} after Ctrl-C:\n{self.printed()}"
        assert "Traceback" not in self.printed(), f"{self.where}: a traceback after Ctrl-C:\n{self.printed()}"

    def kill(self) -> None:
        """End it and everything that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT)


class Machine:
    """A machine on which programs run."""

    def __init__(self, name: str, address: str, folder: Path, environment: dict[str, str]) -> None:
        self.name, self.address, self.folder = name, address, folder
        folder.mkdir()
        self._home = folder
        self._environment = environment | {"MACHINE": address, "HOME": str(folder)}
        self._running: list[Running] = []
        self._count = 0

    def save(self, name: str, text: str) -> None:
        """Write a file to the current folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)

    def _popen(self, command: list[str], output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _output(self) -> Path:
        self._count += 1
        return self._home.parent / f"{self.name}-{self._count}.txt"

    def shell(self, text: str) -> tuple[int, str]:
        """Run lines in bash, in the folder and with the variables that earlier lines have left.

        Returns:
            The exit status and the output.
        """
        state = self._home.parent / f"{self.name}.state"
        wrapped = f"trap 'pwd >{state}; env -0 >>{state}' EXIT\nset -e -o pipefail\n{text}"
        output = self._output()
        process = self._popen(["bash", "-c", wrapped], output)
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"not done after {LIMIT:g} s:\n{output.read_text(errors='replace')}") from None
        if state.exists():
            folder, _, variables = state.read_text().partition("\n")
            self.folder = Path(folder)
            self._environment = dict(each.split("=", 1) for each in variables.split("\0") if "=" in each)
            state.unlink()
        return status, output.read_text(errors="replace")

    def start(self, command: list[str], where: str) -> Running:
        """Start a program in the background."""
        output = self._output()
        running = Running(where, self._popen(command, output), output)
        self._running.append(running)
        return running

    def in_terminal(self, line: str, text: str, where: str) -> None:
        """Run a program in a terminal until it has drawn a text, then press `q`; it must end properly."""
        environment = self._environment | {"TERM": "xterm-256color"}
        options = {"timeout": LIMIT, "dimensions": (30, 100), "encoding": "utf-8"}
        child = pexpect.spawn("bash", ["-c", f"exec {line}"], cwd=self.folder, env=environment, **options)
        try:
            child.expect_exact(text)
            child.send("q")
            child.expect(pexpect.EOF)
            end(child, None)
        except pexpect.ExceptionPexpect as error:
            raise AssertionError(f"{where}: {error}") from None
        finally:
            end(child)
        assert child.exitstatus == 0, f"{where}: exit status {child.exitstatus}"

    def wait_for(self, running: Running, port: int | None) -> None:
        """Wait until a program in the background has printed something or, with a port, serves devices on it."""
        deadline = time.monotonic() + LIMIT
        while not (running.output.stat().st_size if port is None else self._serves(running, port, deadline)):
            status = running.process.poll()
            assert status is None, f"{running.where}: has ended with status {status}:\n{running.printed()}"
            assert time.monotonic() < deadline, f"{running.where}: is not ready:\n{running.printed()}"
            time.sleep(0.05)

    def _serves(self, running: Running, port: int, deadline: float) -> bool:
        """Return whether a server has defined its devices."""
        defined = quiet_since = 0.0  # when the last definition came, and since when no process has been busy after that
        try:
            connection = socket.create_connection((self.address, port), timeout=1)
        except OSError:
            return False
        try:
            with connection:
                connection.sendall(b'<getProperties version="1.7"/>')
                while (now := time.monotonic()) < deadline:
                    if defined and now > quiet_since + QUIET:
                        return True
                    if select.select([connection], [], [], 0.05)[0]:
                        data = connection.recv(1 << 16)
                        if not data:
                            return True  # it expects TLS
                        if b"<def" in data:
                            defined = quiet_since = time.monotonic()
                    elif defined and now < defined + STARTING and running.busy():
                        quiet_since = time.monotonic()
                return bool(defined)
        except OSError:
            pass
        return True  # it has reset the connection, because it expects TLS

    def stop(self) -> None:
        """End the programs in the background, the latest first."""
        running, self._running = self._running[::-1], []
        for each in running:
            each.stop()

    def kill(self) -> None:
        """Kill the programs that are still running."""
        for each in self._running:
            each.kill()


@contextlib.contextmanager
def machines(folder: Path) -> Iterator[dict[str, Machine]]:
    """Yield the machines, by name."""
    scripts = sysconfig.get_path("scripts")
    with network() as prefix:
        addresses = {name: f"{prefix}.{number}" for number, name in enumerate(NAMES, 1)}
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST", "XDG", "MAKE", "MFLAGS"))
        } | {
            "PATH": os.pathsep.join([str(shims(folder)), scripts, os.environ["PATH"]]),
            "PYTHONPATH": python_environment()["PYTHONPATH"],
            "SOURCE": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
            "LD_PRELOAD": f"{library(folder)} {os.environ.get('LD_PRELOAD', '')}".strip(),
            "MACHINES": " ".join(f"{name}={address}" for name, address in addresses.items() if name != "localhost"),
        }
        found = {name: Machine(name, address, folder / name, environment) for name, address in addresses.items()}
        try:
            yield found
        finally:
            for machine in found.values():
                machine.kill()


PYTHON = sys.executable
