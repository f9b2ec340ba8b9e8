"""Build of the compiled parts: the Cython extension modules and the native front of `indifast-server`.

Everything else about the project is in pyproject.toml.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.errors import BaseError, CompileError, LinkError

if sys.platform == "win32":  # docs/reference/platforms.md says what it would need
    sys.exit("indifast runs on Linux and macOS, not on Windows: install it in the Windows Subsystem for Linux (WSL 2)")

PACKAGE = Path("src/indifast")
FRONT = PACKAGE / "front"

# The directives turn off bounds and wraparound checks on C arrays and use C division; where this could go wrong, the
# sources contain explicit checks. Annotations are not used as C types, so the types in the stubs are authoritative.
DIRECTIVES = {
    "language_level": "3str",
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "annotation_typing": False,
    "embedsignature": True,
    # Only the GIL protects what objects share, see _parser.pxd: a free-threaded Python re-enables the GIL.
    "freethreading_compatible": False,
}

compile_args = ["-O3", "-std=gnu11", "-Wno-unused-function"]
link_args: list[str] = []
# Python's own flags ask for debug information, which would be four fifths of the extension modules.
if not any(flag.startswith("-g") for flag in os.environ.get("CFLAGS", "").split()):
    compile_args.append("-g0")
if sanitizers := os.environ.get("INDIFAST_SANITIZE"):  # e.g. "address,undefined"
    compile_args = ["-O1", "-g", "-std=gnu11", f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer"]
    link_args = [f"-fsanitize={sanitizers}"]
macros: list[tuple[str, str | None]] = []
if os.environ.get("INDIFAST_COVERAGE"):  # lines are counted, by Cython for coverage.py and by gcc for gcov
    DIRECTIVES["linetrace"] = True
    macros = [("CYTHON_TRACE_NOGIL", "1")]
    compile_args = ["-O1", "-g", "-std=gnu11", "-Wno-unused-function", "--coverage", "-fprofile-update=prefer-atomic"]
    link_args = ["--coverage"]

# `make` installs the package in place, and builds the extensions in a separate step with its own timestamps.
pure = os.environ.get("INDIFAST_EXTENSIONS") == "later"

headers = [str(path) for path in sorted((PACKAGE / "csrc").glob("*.h"))]
extensions = [
    Extension(
        f"indifast.{source.stem}",
        [str(source)],
        include_dirs=[str(PACKAGE / "csrc")],
        depends=headers,
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for source in sorted(PACKAGE.glob("*.pyx"))
    if not pure
]


sys.path.insert(0, "src")
from distutils.ccompiler import new_compiler  # noqa: E402 - setuptools, imported above, provides it
from distutils.command.build_scripts import build_scripts  # noqa: E402
from distutils.sysconfig import customize_compiler  # noqa: E402

from indifast.cli.serve import options  # noqa: E402
from indifast.transport.sockets import BACKLOG  # noqa: E402


class BuildFront(build_scripts):
    """Build `indifast-server`: a native program on Linux, or the script it contains if the program can't be built.

    There is no entry point of that name, because its script would replace the program.
    """

    def run(self):
        if sys.platform == "linux":
            try:
                self.put(self.build_program())
                return
            except (BaseError, CompileError, LinkError) as error:
                self.warn(f"indifast-server will be a script, which only listens once Python has started: {error}")
        self.force = True  # the existing file may be the program, newer than the script
        super().run()

    def build_program(self):
        (script,) = map(Path, self.scripts)
        temporary = Path(self.get_finalized_command("build").build_temp)
        self.mkpath(str(temporary))
        archive = temporary / "script.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(zipfile.ZipInfo("__main__.py"), script.read_text())
        compiler = new_compiler()
        customize_compiler(compiler)
        objects = compiler.compile(
            [str(FRONT / "front.c")],
            output_dir=str(temporary),
            macros=[(name, in_c(value)) for name, value in self.known(archive).items()],
            extra_postargs=compile_args,
        )
        # Without symbols, the archive is near the end of the file, where Python looks for it.
        compiler.link_executable(objects, script.name, output_dir=str(temporary), extra_postargs=[*link_args, "-s"])
        program = temporary / script.name
        if not zipfile.is_zipfile(program):
            raise BaseError("Python cannot find the archive in the program")
        return program

    def put(self, program):
        """Install the program atomically: the old one may be about to run."""
        self.mkpath(self.build_dir)
        new = Path(shutil.copy(program, Path(self.build_dir) / f".{program.name}"))
        new.chmod(0o755)
        new.replace(new.with_name(program.name))

    def known(self, archive):
        """Return the definitions that the program shares with the Python part."""
        return {
            "SCRIPT_ARCHIVE": str(archive),
            "SHORT_VALUES": options.SHORT_VALUES,
            "SHORT_FLAGS": options.SHORT_FLAGS,
            "LONG_VALUES": options.LONG_VALUES,
            "LONG_FLAGS": options.LONG_FLAGS,
            "PORT": options.PORT,
            "LOCAL_SOCKET": options.LOCAL_SOCKET,
            "BACKLOG": BACKLOG,
        }


def in_c(value):
    """Return a number, a string, or several strings as a C initializer."""
    if isinstance(value, str):
        return '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"'
    return str(value) if isinstance(value, int) else ",".join(map(in_c, value))


setup(
    ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, include_path=["src"]),
    scripts=[str(FRONT / "indifast-server")],
    cmdclass={"build_scripts": BuildFront},
)
