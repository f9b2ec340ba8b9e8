"""Faults that a sanitizer must find in the extension modules, as programs: they show that it works."""

from __future__ import annotations

import os
import subprocess

from instrumented.tree import Tree

ADDRESS = """
import ctypes
from indifast import codec
block = ctypes.create_string_buffer(1000)
codec.encode((ctypes.c_char * 1064).from_address(ctypes.addressof(block)))  # 64 bytes after the end are read
"""

THREAD = """
import threading
from indifast import codec
shared = bytearray(1 << 20)
def write():
    for _ in range(100):
        codec.encode_into(bytes(60_000), shared)  # of this size, the GIL is released
threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def find(tree: Tree, program: str, report: str) -> None:
    """Run a program with a fault, and raise AssertionError unless the sanitizer reports it."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("SAN_OPTIONS")}
    done = subprocess.run([tree.python, "-c", program], cwd=tree.root, env=environment, capture_output=True, text=True)
    assert done.returncode and report in done.stderr, f"no {report} in: {done.stderr or 'nothing'}"
