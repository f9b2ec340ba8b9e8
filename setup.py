"""Builds the Cython extension modules; everything else about the project stands in pyproject.toml."""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

PACKAGE = Path("src/indifast")

# What the directives give up is checked by hand in the sources, where it can go wrong: no bounds or wrap-around
# checks on C arrays, C division. Annotations are not taken for C types, so that the stubs rule.
DIRECTIVES = {
    "language_level": "3str",
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "annotation_typing": False,
    "embedsignature": True,
}

compile_args = ["-O3", "-std=gnu11", "-Wno-unused-function"]
link_args: list[str] = []
if sanitizers := os.environ.get("INDIFAST_SANITIZE"):  # e.g. "address,undefined"
    compile_args = ["-O1", "-g", "-std=gnu11", f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer"]
    link_args = [f"-fsanitize={sanitizers}"]

# `make` installs the package in place and builds the extensions in a step of its own, with its own time stamps.
pure = os.environ.get("INDIFAST_EXTENSIONS") == "later"

headers = [str(path) for path in sorted((PACKAGE / "csrc").glob("*.h"))]
extensions = [
    Extension(
        f"indifast.{source.stem}",
        [str(source)],
        include_dirs=[str(PACKAGE / "csrc")],
        depends=headers,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for source in sorted(PACKAGE.glob("*.pyx"))
    if not pure
]

setup(ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, include_path=["src"]))
