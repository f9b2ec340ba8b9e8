"""Plugin for coverage.py: the lines of the extension modules.

The plugin of Cython itself takes names as relative to the working directory, and reads all the generated C code in each
process. This one reads it for the report only. `Tree` copies it into the environment, where every process finds it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from coverage.plugin import CoveragePlugin, FileReporter, FileTracer

_FOLDER = "src/indifast/"
"""What the names of the sources begin with in the compiled code."""


class _Source(FileTracer):
    def __init__(self, path: str) -> None:
        self._path = path

    def source_filename(self) -> str:
        return self._path


class Plugin(CoveragePlugin):
    """Traces the files in the folder that the variable INDIFAST_COVERED names."""

    def __init__(self) -> None:
        self._folder = os.environ.get("INDIFAST_COVERED", "")
        self._cython: Any = None

    def file_tracer(self, filename: str) -> FileTracer | None:
        _, found, name = filename.rpartition(_FOLDER)
        if not found or not name.endswith((".pyx", ".pxi")):
            return None
        return _Source(f"{self._folder}/{name}")

    def file_reporter(self, filename: str) -> FileReporter:
        from Cython.Coverage import Plugin

        if self._cython is None:
            self._cython = Plugin()
            self._cython._excluded_lines_map = {}
            for module in Path(self._folder).glob("*.pyx"):  # an include file is known once its module is
                self._cython.file_reporter(str(module))
        reporter: FileReporter = self._cython.file_reporter(filename)
        return reporter


def coverage_init(registry: Any, options: Any) -> None:
    registry.add_file_tracer(Plugin())
