"""A real systemd that starts services for the user who runs the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.blackbox import LIMIT, until

# systemd runs for a user only on a machine that was started with it, which it sees by this folder.
_START = (
    "mount -t tmpfs tmpfs /run && mkdir -p -m 700 /run/systemd/system /run/user/0 && exec /lib/systemd/systemd --user"
)


class UserManager:
    """A systemd, and how to reach it.

    Attributes:
        prefix: Words before each command that talks to it or needs its `/run`.
        units: The folder where it looks for units.
    """

    def __init__(self, prefix: Sequence[str], units: Path) -> None:
        self.prefix = prefix
        self.units = units

    def run(self, *words: object) -> str:
        """Run a command, and return its output. Fail the test if it fails."""
        command = [*self.prefix, *map(str, words)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def control(self, *words: object) -> str:
        """Run `systemctl --user`, and return its output."""
        return self.run("systemctl", "--user", *words)

    def answers(self) -> bool:
        """Return whether it runs."""
        command = [*self.prefix, "systemctl", "--user", "show-environment"]
        return not subprocess.run(command, capture_output=True, timeout=LIMIT).returncode


@contextlib.contextmanager
def user_manager(folder: Path) -> Iterator[UserManager]:
    """Use the systemd that runs for this user, or else start one, out of sight of the rest of the machine.

    Args:
        folder: A folder for what the started one keeps.
    """
    if shutil.which("systemctl") is None:
        pytest.fail("systemctl is not installed: README.md lists the packages that the tests need (systemd)")
    manager = UserManager([], Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "systemd/user")
    if manager.answers():
        yield manager
        return
    if os.getuid() != 0:
        pytest.skip("no systemd runs for this user, and only root can start one in its own namespace")
    environment = os.environ | {"XDG_RUNTIME_DIR": "/run/user/0", "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _START], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    prefix = ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "env", "XDG_RUNTIME_DIR=/run/user/0"]
    manager = UserManager(prefix, folder / "systemd/user")
    try:
        until(lambda: process.poll() is not None or manager.answers(), what="an answer of systemd")
        assert process.poll() is None, (folder / "log").read_text()
        yield manager
    finally:
        process.terminate()
        try:
            process.wait(LIMIT)
        finally:
            process.kill()
