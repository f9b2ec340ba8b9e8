"""Fixtures for all tests: the C++ programs and the Python peers that they talk to."""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from indifast.protocol import complaints
from indifast.protocol.complaints import Complaints
from indifast.transport.stream import read_buffer

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("d31", "d22", "d12")
_setups = itertools.count(1)

for _number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python itself ignores these two
    if signal.getsignal(_number) is signal.SIG_IGN:  # pytest runs under nohup, or in the background of a script
        signal.signal(_number, lambda number, frame: None)  # so that the tests' child processes do not ignore it too


# Tests may be slow on a busy machine without anything being wrong.
settings.register_profile("indifast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("indifast")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a long value by its length: parallel workers must agree on the name, even if the value is random."""
    return f"{argname}-of-{len(val)}" if isinstance(val, bytes | str) and len(val) > 60 else None


def rewrite(path: Path) -> None:
    """Let pytest rewrite the assertions of a test module, and store the result."""
    with contextlib.suppress(Exception, pytest.skip.Exception):  # whatever it is, pytest says it when it collects
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def find_constants(path: Path) -> None:
    """Let hypothesis find the constants in a module, which it tries as inputs, and store them.

    It parses the source again in each process that finds nothing stored, and has no public function for this.
    """
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises against doing this in each process
        from hypothesis.internal.constants_ast import constants_from_module

        constants_from_module(importlib.import_module(name.removesuffix(".__init__")))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Rewrite new tests before parallel workers start: each of them would rewrite all."""
    if not getattr(session.config.option, "numprocesses", None):
        return
    tests = ROOT / "tests"
    stored = {
        path.parent.parent / f"{path.name.partition('.')[0]}.py": path.stat().st_mtime
        for path in tests.rglob("__pycache__/test_*-pytest-*.pyc")
    }
    new = [path for path in tests.rglob("test_*.py") if stored.get(path, 0) < path.stat().st_mtime]
    if len(new) > 20:  # a few are rewritten sooner than other processes start
        with multiprocessing.get_context("fork").Pool() as pool:
            pool.map(rewrite, new, chunksize=1)
            modules = [path for path in (ROOT / "src").rglob("*.py") if path.name != "__main__.py"]
            pool.map(find_constants, modules, chunksize=8)


def ignore_what_is_there() -> None:
    """Let the garbage collector ignore all objects that are there now."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Let the garbage collector ignore modules and tests: hundreds of tests call it."""
    ignore_what_is_there()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let it also ignore, from time to time, what the tests so far have imported and cached, which stays."""
    if next(_setups) % 20 == 0:
        ignore_what_is_there()


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Undo what commands that run in the tests' own process do to the loggers."""
    logger = logging.getLogger("indifast")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.handlers[:] = before[2]


@pytest.fixture(autouse=True)
def fresh_complaints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the limits on log lines that the whole process shares: other tests may have used them up."""
    renew_complaints(monkeypatch)


@pytest.fixture
def bursts_only(fresh_complaints: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permit no lines after a burst, however long a test takes that counts them."""
    monkeypatch.setattr(complaints, "PER_SECOND", 0.0)
    renew_complaints(monkeypatch)


def renew_complaints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the limits on log lines that the whole process shares."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("indifast.")]
    for owner in [*modules, read_buffer()]:
        found = getattr(owner, "_complaints", None)
        if isinstance(found, Complaints):
            monkeypatch.setattr(owner, "_complaints", Complaints(found._logger))


@pytest.fixture(scope="session", autouse=True)
def no_terminal_size() -> None:
    """Remove the terminal size that parallel workers of pytest have in their environment: programs ask their own."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Return a function that finds the full path of an installed program. A missing program fails the test."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.fail(f"{name} is not installed: README.md lists the packages that the tests need (indi-bin)")
        return path

    return find


def interpreters(names: tuple[str, ...]) -> dict[str, Path]:
    """Return the interpreters of environments that `make peers` creates. A missing one fails the test."""
    home = Path(os.environ.get("INDIFAST_PEERS") or ROOT / ".venv-peers")
    found = {name: home / name / "bin" / "python" for name in names}
    missing = [str(python) for python in found.values() if not python.exists()]
    if missing:
        pytest.fail(f"not found: {', '.join(missing)}: run `make peers`, or set INDIFAST_PEERS")
    return found


@pytest.fixture(scope="session")
def dependants() -> dict[str, Path]:
    """The interpreters of programs that use the Python peers, by name: term is indipyterm, web is indipyweb."""
    return interpreters(("term", "web"))


@pytest.fixture(scope="session")
def peers() -> dict[str, Path]:
    """The interpreters of the peers' environments, by name.

    d31: indipydriver 3.1.2, indipyserver 0.0.6, indipyclient 0.9.4; d22: indipydriver 2.2.0; d12: indipydriver 1.2.2.
    `make peers` creates them in .venv-peers. The variable INDIFAST_PEERS names another folder.
    """
    return interpreters(PEERS)
