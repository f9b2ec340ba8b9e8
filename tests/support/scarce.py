"""Programs in which any allocation can be made to fail."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support import native
from tests.support.blackbox import python_environment

SOURCE = Path(__file__).with_name("scarce.c")

PRELUDE = """
import ctypes, gc

_library = ctypes.CDLL(None)

def each_allocation(prepare, act, check, counts=(1, 2, 20)):
    '''Call `act(prepare())` again and again: each time a later allocation fails, and the `count` - 1 after it.

    After each call, `check` examines the result. A MemoryError of `act` is ignored: the failure may have hit what it
    calls, or its own first line.
    '''
    for count in counts:
        first = refused = 0
        while refused or not first:
            subject = prepare()
            _library.scarce(first, count)
            try:
                act(subject)
            except MemoryError:
                pass
            refused = enough()
            check(subject, refused)
            first += 1
        assert first > 1, 'nothing was allocated'

def enough():
    '''Let allocations succeed again, and return how many have failed.'''
    while True:
        try:
            _library.scarce(-1, 0)
            return _library.scarce_refused()
        except MemoryError:  # raised by ctypes itself
            pass

def live():
    '''Return the number of allocated blocks.'''
    gc.collect()
    return _library.scarce_live()
"""


def run(program: str, folder: Path) -> None:
    """Run a program that can use the functions of `PRELUDE`. It fails the test unless it exits with status 0."""
    if sys.platform != "linux":
        pytest.skip("only Linux has LD_PRELOAD")
    library = native.compile_c(SOURCE, folder / "scarce.so", "-O1", "-shared", "-fPIC", "-ldl")
    # Sanitizers are loaded after it: they see successful allocations only.
    environment = os.environ | {
        "LD_PRELOAD": f"{library} {os.environ.get('LD_PRELOAD', '')}".strip(),
        "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0".lstrip(":"),
        "PYTHONMALLOC": "malloc",
        **python_environment(),
    }
    environment.pop("COVERAGE_PROCESS_START", None)  # coverage.py would itself run out of memory
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
