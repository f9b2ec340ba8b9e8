"""The targets in C: the headers of the extension modules without Python, compiled with sanitizers.

With clang they become programs of libFuzzer, with gcc programs that replay inputs and mutate them by a fixed seed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from fuzzing.corpus import HOME

SOURCES = {"native-tokenizer": "tokens.c", "native-codec": "codec.c"}
"""The targets, and the file of each."""

_HERE = Path(__file__).resolve().parent
_CHECKED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_OPTIONS = ("-O1", "-g1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", *_CHECKED)
_INCLUDED = (f"-I{HOME.parent / 'src' / 'indifast' / 'csrc'}", f"-I{_HERE}")


def sibling(name: str) -> str:
    """Return the target in Python whose inputs a native one shares: both read them alike."""
    return name.removeprefix("native-")


def build_fuzzer(name: str, folder: Path) -> Path:
    """Compile a target for libFuzzer, with clang."""
    work = ["-fsanitize-coverage=trace-loads"] if name == "native-tokenizer" else []
    return _compile("clang", name, folder, ["-fsanitize=fuzzer", *work], [])


def build_replay(name: str, folder: Path) -> Path:
    """Compile a target that replays inputs, with gcc."""
    work = ["-fsanitize-coverage=trace-pc"] if name == "native-tokenizer" else []
    return _compile("gcc", name, folder, work, [_HERE / "replay.c"])


def _compile(compiler: str, name: str, folder: Path, options: list[str], more: list[Path]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / f"{name}-{compiler}"
    sources = map(str, [_HERE / SOURCES[name], *more])
    command = [compiler, *_OPTIONS, *options, *_INCLUDED, *sources, "-o", str(program)]
    subprocess.run(command, check=True, env=environment())
    return program


def environment() -> dict[str, str]:
    """Return the environment for such programs: a sanitizer that is loaded here must not be loaded there."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
