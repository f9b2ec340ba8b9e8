"""A small driver and a FIFO for servers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.serve.support import TOY
from tests.support.programs import python_program


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A small driver as a program; its device is Toy, or what INDIDEV names."""
    return python_program(tmp_path / "toy_driver", TOY)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A FIFO for commands to a server."""
    path = tmp_path / "indififo"
    os.mkfifo(path)
    return path
