"""What every test may ask for: the C++ programs and the Python peers it talks to."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("d31", "d22", "d12")

for _number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # these two Python ignores by itself
    if signal.getsignal(_number) is signal.SIG_IGN:  # pytest runs under nohup, or behind `&` in a script
        signal.signal(_number, lambda number, frame: None)  # what tests start is not to ignore it, too


# A busy machine is slow: that is no fault of what is tested.
settings.register_profile("indifast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("indifast")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names a long value by its length: parallel workers must agree on it, also if it is random or has a time in it."""
    return f"{argname}-of-{len(val)}" if isinstance(val, bytes | str) and len(val) > 60 else None


@pytest.fixture(scope="session", autouse=True)
def no_size_of_a_terminal() -> None:
    """Programs find out the size of their own terminal: parallel workers of pytest have one in their environment."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Gives the full path of an installed program; a test that needs one which is missing fails."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.fail(f"{name} is not installed: the README names the packages that the tests need (indi-bin)")
        return path

    return find


def interpreters(names: tuple[str, ...]) -> dict[str, Path]:
    """The interpreters of environments that `make peers` makes; a missing one fails the test."""
    home = Path(os.environ.get("INDIFAST_PEERS") or ROOT / ".venv-peers")
    found = {name: home / name / "bin" / "python" for name in names}
    missing = [str(python) for python in found.values() if not python.exists()]
    if missing:
        pytest.fail(f"not found: {', '.join(missing)}: run `make peers`, or set INDIFAST_PEERS")
    return found


@pytest.fixture(scope="session")
def dependants() -> dict[str, Path]:
    """The interpreters of programs that use the Python packages; term: indipyterm, web: indipyweb."""
    return interpreters(("term", "web"))


@pytest.fixture(scope="session")
def peers() -> dict[str, Path]:
    """The Python interpreters of the peers' environments, by name.

    d31: indipydriver 3.1.2, indipyserver 0.0.6, indipyclient 0.9.4; d22: indipydriver 2.2.0; d12: indipydriver 1.2.2.
    `make peers` creates them below .venv-peers; the variable INDIFAST_PEERS names another place.
    """
    return interpreters(PEERS)
