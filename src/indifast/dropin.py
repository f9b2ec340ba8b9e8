"""Runner for unchanged programs that were written for indipydriver, indipyserver and indipyclient.

    python -m indifast.dropin SCRIPT [ARGS]
    python -m indifast.dropin -m MODULE [ARGS]

From code, `indifast.dropin.install()` does the same for all subsequent imports. It changes four things:

* The three packages and their submodules are imported as stand-ins, which look up each name in indifast when it is
  used. The stand-ins take precedence over installed packages of the same name.
* `importlib.metadata` reports the three distributions in the versions that indifast stands in for.
* The log records of indifast appear under the logger names of the packages, so that a program's logging setup works.
* External drivers get pipes, as they do from the packages, unless `add_exdriver(..., pipes=False)` says otherwise.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import runpy
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import Distribution, DistributionFinder

USAGE = "usage: python -m indifast.dropin SCRIPT [ARGS]\n       python -m indifast.dropin -m MODULE [ARGS]"

VERSIONS = {"indipydriver": "3.1.2", "indipyserver": "0.0.6", "indipyclient": "0.9.4"}
"""The releases whose API the stand-ins provide. The driver's also includes everything else in 2.2.0 and 1.2."""

_DRIVER = ("indifast.driver", "indifast.server")

SOURCES: dict[str, tuple[str, ...]] = {
    "indipydriver": ("indifast",),
    "indipydriver.ipydriver": ("indifast.driver.ipydriver", *_DRIVER),
    "indipydriver.propertyvectors": ("indifast.driver.propertyvectors", *_DRIVER),
    "indipydriver.propertymembers": ("indifast.driver.propertymembers", *_DRIVER),
    "indipydriver.events": ("indifast.driver.events", *_DRIVER),
    "indipydriver.comms": _DRIVER,
    "indipydriver.ipyserver": ("indifast.server",),
    "indipydriver.exdriver": ("indifast.server",),
    "indipydriver.remote": ("indifast.server",),
    "indipyserver": ("indifast.server",),
    "indipyserver.ipyserver": ("indifast.server",),
    "indipyserver.exdriver": ("indifast.server",),
    "indipyserver.remote": ("indifast.server",),
    "indipyclient": ("indifast.client",),
    "indipyclient.ipyclient": ("indifast.client.ipyclient", "indifast.client"),
    "indipyclient.events": ("indifast.client.events", "indifast.client"),
    "indipyclient.propertyvectors": ("indifast.client.propertyvectors", "indifast.client"),
    "indipyclient.propertymembers": ("indifast.client.propertymembers", "indifast.client"),
    "indipyclient.queclient": ("indifast.client.queclient", "indifast.client"),
}
"""Module of a package -> modules of indifast in which to look up its names, in this order."""

_PUBLIC = {
    "indipydriver": """version IPyDriver Device IPyServer getfloat
        SwitchVector LightVector TextVector BLOBVector NumberVector
        SwitchMember LightMember TextMember BLOBMember NumberMember
        getProperties newSwitchVector newTextVector newNumberVector newBLOBVector enableBLOB Message delProperty
        defSwitchVector defTextVector defNumberVector defLightVector defBLOBVector
        setSwitchVector setTextVector setNumberVector setLightVector setBLOBVector""",
    "indipyserver": "version IPyServer",
    "indipyclient": """version IPyClient ClientEvent getfloat ConnectionMade ConnectionLost delProperty
        defSwitchVector defTextVector defNumberVector defLightVector defBLOBVector
        setSwitchVector setTextVector setNumberVector setLightVector setBLOBVector Message VectorTimeOut""",
}
"""Package -> the names that `from PACKAGE import *` imports, separated by white space."""


class _StandIn(ModuleType):
    """A module that takes its names from indifast, looking each one up on first use."""

    def __getattr__(self, name: str) -> Any:
        full = self.__name__
        if name == "version" and full in VERSIONS:
            return VERSIONS[full]
        if name == "__all__" and full in _PUBLIC:
            return _PUBLIC[full].split()
        if not name.startswith("__"):
            for source in SOURCES[full]:
                try:
                    value = getattr(importlib.import_module(source), name)
                except AttributeError:
                    continue
                setattr(self, name, value)
                return value
        raise AttributeError(f"module {full!r} has no attribute {name!r}")

    def __dir__(self) -> Iterable[str]:
        known = set(super().__dir__())
        for source in SOURCES[self.__name__]:
            known.update(dir(importlib.import_module(source)))
        return sorted(known)


@cache
def _distribution(name: str) -> Distribution:
    """Return the metadata of a package that indifast stands in for.

    Few programs ask for it, so what takes long to import is imported then.
    """
    from importlib import metadata

    class _Distribution(metadata.Distribution):
        def read_text(self, filename: str) -> str | None:
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSIONS[name]}\n"
            return text if filename == "METADATA" else None

        def locate_file(self, path: str | os.PathLike[str]) -> Any:
            return path

    return _Distribution()


class _Loader:
    """Loader that creates a stand-in; there is no code to run, as names are looked up on first use."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Finder:
    """Finder for the stand-ins and their distributions, consulted before installed packages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in SOURCES:
            return None
        loader: Any = _Loader()  # has all that one needs, without the import of importlib.abc
        return ModuleSpec(fullname, loader, origin="indifast", is_package=fullname in VERSIONS)

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        wanted = None if context is None else context.name
        names = VERSIONS if wanted is None else [wanted.lower().replace("_", "-")]
        return (_distribution(name) for name in names if name in VERSIONS)


_LOGGERS = {
    "indifast.driver.comms": "indipydriver.comms",
    "indifast.driver.events": "indipydriver.events",
    "indifast.driver.propertyvectors": "indipydriver.propertyvectors",
    "indifast.driver.propertymembers": "indipydriver.propertyvectors",
    "indifast.driver.blobsender": "indipydriver.propertyvectors",
    "indifast.driver": "indipydriver.ipydriver",
    "indifast.server.exdriver": "indipyserver.exdriver",
    "indifast.server.remote": "indipyserver.remote",
    "indifast.server": "indipyserver.ipyserver",
    "indifast.client": "indipyclient.ipyclient",
}
"""Logger of indifast -> the name the packages use for such records. An entry also applies to all child loggers."""


def _upstream_name(name: str) -> str | None:
    while name:
        if name in _LOGGERS:
            upstream = _LOGGERS[name]
            if upstream.startswith("indipyserver.") and "indipyserver" not in sys.modules:
                # Until 2.5 the server was part of indipydriver, and the program was written for such a version.
                return upstream.replace("indipyserver", "indipydriver")
            return upstream
        name = name.rpartition(".")[0]
    return None


class _Renamed(logging.Logger):
    """A logger of indifast that passes its records to the logger of another name, whose level and handlers apply."""

    def _upstream(self) -> logging.Logger:
        name = _upstream_name(self.name)
        assert name is not None
        return logging.getLogger(name)

    def isEnabledFor(self, level: int) -> bool:
        return self._upstream().isEnabledFor(level)

    def getEffectiveLevel(self) -> int:
        return self._upstream().getEffectiveLevel()

    def handle(self, record: logging.LogRecord) -> None:
        upstream = self._upstream()
        record.name = upstream.name
        upstream.handle(record)


def _rename_loggers() -> None:
    for layer in ("driver", "server", "client"):
        package = importlib.import_module(f"indifast.{layer}")
        modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        for name in {package.__name__, *modules, *_LOGGERS}:
            if name.startswith(package.__name__):
                logging.getLogger(name).__class__ = _Renamed


def install() -> None:
    """Make `import indipydriver`, `indipyserver` and `indipyclient` import indifast from now on.

    Modules with these names that are already loaded are removed from `sys.modules`. Further calls have no effect.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for name in [name for name in sys.modules if name.partition(".")[0] in VERSIONS]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())
    importlib.invalidate_caches()
    _rename_loggers()
    # The packages give their external drivers pipes; a driver in Python may lose bytes of BLOBs on a single socket.
    importlib.import_module("indifast.server").IPyServer.exdriver_pipes = True


def main(arguments: list[str] | None = None) -> int:
    """Run a script or a module as `python` would, with the stand-ins installed.

    Args:
        arguments: The words after `python -m indifast.dropin`; by default those of this process.

    Returns:
        The exit status: 0 when the program has run, 2 if the arguments are wrong.
    """
    words = sys.argv[1:] if arguments is None else arguments
    as_module = words[:1] == ["-m"]
    words = words[as_module:]
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    install()
    target = words[0]
    sys.argv = words
    if as_module:
        sys.path[0] = os.getcwd()
        runpy.run_module(target, run_name="__main__", alter_sys=True)
        return 0
    if not os.path.exists(target):
        print(f"{sys.executable}: can't open file {target!r}: no such file", file=sys.stderr)
        return 2
    sys.path[0] = os.path.dirname(os.path.abspath(target))
    runpy.run_path(target, run_name="__main__")
    return 0


if __name__ == "__main__":
    # Use the module under its own name instead of `__main__`, so that a program that imports it gets the same module.
    sys.exit(importlib.import_module("indifast.dropin").main())
