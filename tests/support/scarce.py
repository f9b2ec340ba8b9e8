"""Programs in which memory runs out at any allocation that one likes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import indifast

SOURCE = Path(__file__).with_name("scarce.c")

PRELUDE = """
import ctypes, gc

_library = ctypes.CDLL(None)

def each_allocation(prepare, act, check, counts=(1, 2, 20)):
    '''`act(prepare())` with one allocation after the other failing, and `count` - 1 behind it; `check` what came of it.

    What `act` raises for want of memory is caught: it may be what it calls that fails, or its own first line.
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
    '''There is memory again; how many allocations have failed.'''
    while True:
        try:
            _library.scarce(-1, 0)
            return _library.scarce_refused()
        except MemoryError:  # of ctypes
            pass

def live():
    '''Blocks of memory in use.'''
    gc.collect()
    return _library.scarce_live()
"""


def run(program: str, folder: Path) -> None:
    """Run a program behind PRELUDE; it fails the test when it ends otherwise than well."""
    if shutil.which("gcc") is None:
        pytest.fail("gcc is not installed; on Debian: apt install build-essential")
    library = folder / "scarce.so"
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, str(SOURCE), "-o", str(library), "-ldl"], check=True, env=plain)
    # The sanitizers are loaded behind it: they see what is allocated, and nothing of what is refused.
    environment = os.environ | {
        "LD_PRELOAD": f"{library} {os.environ.get('LD_PRELOAD', '')}".strip(),
        "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0".lstrip(":"),
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(
            [str(Path(indifast.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
