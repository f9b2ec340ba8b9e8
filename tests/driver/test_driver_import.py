"""What importing the package imports."""

from __future__ import annotations

import subprocess
import sys


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_no_module_of_it() -> None:
    ours = {name for name in modules_after("import indifast") if name.startswith("indifast")}
    assert ours == {"indifast"}


def test_a_driver_needs_neither_numpy_nor_the_server_nor_the_client() -> None:
    loaded = modules_after("from indifast import IPyDriver, NumberVector, newBLOBVector; IPyDriver()")
    assert not {"numpy", "indifast.server", "indifast.client", "xml.etree.ElementTree"} & loaded


def test_star_import_and_dir() -> None:
    modules_after("from indifast import *; assert IPyDriver and newBLOBVector and version")
    modules_after("import indifast; assert 'IPyDriver' in dir(indifast)")
