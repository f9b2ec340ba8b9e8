"""The programs of libindi, which tests run as a reference: its server and its command-line tools."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.blackbox import LIMIT, Child, free_port, until


class Indiserver(Child):
    """A running `indiserver`. What its drivers store and its Unix socket are in `folder`."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.socket = f"{folder}/indi-{self.port}"
        command = ["indiserver", "-p", str(self.port), "-u", self.socket, *arguments]
        super().__init__(command, folder, env={"HOME": str(folder)})

    def until_defined(self, name: str) -> None:
        """Wait until DEVICE.VECTOR.MEMBER has a definition."""
        until(lambda: not libindi("getprop", self.port, name).returncode, what=f"the definition of {name}")


def libindi(name: str, port: int, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `indi_NAME` against the server at `port`.

    Unless the words say otherwise with -t, `indi_setprop` waits for the definition of what it sets for much longer than
    its usual two seconds: a busy machine may need more, and nothing would be set. See also `value`.
    """
    patient = ("-t", "30") if name == "setprop" else ()
    command = [f"indi_{name}", "-p", str(port), *patient, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def value(port: int, name: str) -> str:
    """The value of DEVICE.VECTOR.MEMBER as `indi_getprop` prints it; empty if there is none within half a minute."""
    return libindi("getprop", port, "-1", "-t", 30, name).stdout.strip()
