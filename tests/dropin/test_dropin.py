"""Programs written for the three Python packages run with indifast instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.blackbox import LIMIT, PYTHON, python_environment


def run(*words: str, code: int = 0, folder: Path | None = None, **environment: str) -> str:
    """Run `python -m indifast.dropin` with these words in a folder, and return what it prints."""
    done = subprocess.run(
        [PYTHON, "-m", "indifast.dropin", *words],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=folder,
        env={**os.environ, **python_environment(), **environment},
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def script(tmp_path: Path, text: str) -> str:
    """Write a program, and return its path."""
    path = tmp_path / "program.py"
    path.write_text(text)
    return str(path)


MODULES = [
    "indipydriver",
    "indipydriver.ipydriver",
    "indipydriver.propertyvectors",
    "indipydriver.propertymembers",
    "indipydriver.events",
    "indipydriver.comms",
    "indipydriver.ipyserver",
    "indipydriver.exdriver",
    "indipydriver.remote",
    "indipyserver",
    "indipyserver.ipyserver",
    "indipyserver.exdriver",
    "indipyserver.remote",
    "indipyclient",
    "indipyclient.ipyclient",
    "indipyclient.events",
    "indipyclient.propertyvectors",
    "indipyclient.propertymembers",
    "indipyclient.queclient",
]


def test_every_module_of_the_packages_imports(tmp_path: Path) -> None:
    program = script(
        tmp_path,
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.__name__ == name, name\n"
        "print('all imported')\n",
    )
    assert run(program, *MODULES).strip() == "all imported"


NAMES = {
    "indipydriver": "IPyDriver Device SwitchVector newSwitchVector enableBLOB Message IPyServer getfloat version",
    "indipydriver.ipydriver": "IPyDriver Device",
    "indipydriver.events": "EventException newTextVector setBLOBVector Message delProperty getProperties",
    "indipydriver.propertyvectors": "PropertyVector SwitchVector LightVector TextVector NumberVector BLOBVector",
    "indipydriver.propertymembers": "SwitchMember LightMember TextMember NumberMember BLOBMember",
    "indipydriver.ipyserver": "IPyServer",
    "indipyserver": "IPyServer version",
    "indipyserver.ipyserver": "IPyServer",
    "indipyclient": "IPyClient ClientEvent getfloat ConnectionMade ConnectionLost delProperty defSwitchVector VectorTimeOut",
    "indipyclient.ipyclient": "IPyClient Snap SnapDevice Device DEFTAGS",
    "indipyclient.events": "Event Message getProperties defVector setVector VectorTimeOut ConnectionMade",
    "indipyclient.propertyvectors": "Vector SnapVector SnapNumberVector ClientEvent PropertyVector SwitchVector BLOBVector",
    "indipyclient.propertymembers": "ParseException Member SwitchMember NumberMember BLOBMember getfloat",
    "indipyclient.queclient": "QueClient EventItem runqueclient",
}


def test_names_belong_to_indifast(tmp_path: Path) -> None:
    program = script(
        tmp_path,
        "import importlib, json, sys\n"
        "for name, names in json.loads(sys.argv[1]).items():\n"
        "    module = importlib.import_module(name)\n"
        "    for one in names.split():\n"
        "        value = getattr(module, one, None)\n"
        "        if value is None or not getattr(value, '__module__', 'indifast').startswith('indifast'):\n"
        "            print('missing', name, one, value)\n",
    )
    assert run(program, json.dumps(NAMES)) == ""


def test_star_import_and_version(tmp_path: Path) -> None:
    program = script(
        tmp_path,
        "from indipydriver import *\n"
        "import indipydriver, indipyclient, indipyserver\n"
        "from importlib.metadata import version as installed\n"
        "print(IPyDriver.__name__, Message.__name__, version == indipydriver.version, type(version).__name__)\n"
        "print(indipydriver.version, indipyserver.version, indipyclient.version)\n"
        "print(installed('indipydriver'), installed('indipyserver'), installed('indipyclient'))\n",
    )
    assert run(program).splitlines() == ["IPyDriver Message True str", "3.1.2 0.0.6 0.9.4", "3.1.2 0.0.6 0.9.4"]


def test_indifast_imported_under_the_names_of_the_packages() -> None:
    import indifast as indipydriver

    assert isinstance(indipydriver.version, str)
    assert indipydriver.IPyDriver.__name__ == "IPyDriver"
    import indifast.client as indipyclient
    from indifast.client import events, propertymembers, propertyvectors, queclient

    assert isinstance(indipyclient.version, str)
    assert events and propertymembers and propertyvectors and queclient


def test_a_script_sees_its_name_folder_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("VALUE = 'from beside the script'\n")
    program = script(
        tmp_path,
        "import sys, helper\nprint(__name__, sys.argv[1:], helper.VALUE, sys.argv[0] == __file__)\nsys.exit(3)\n",
    )
    out = run(program, "-x", "two words", code=3)
    assert out.strip() == "__main__ ['-x', 'two words'] from beside the script True"


def test_a_module_is_run_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(
        "import sys, indipydriver\nprint(sys.argv[1:], indipydriver.IPyDriver.__module__)\n"
    )
    assert run("-m", "package", "a", folder=tmp_path).startswith("['a'] indifast.")


def test_usage_and_missing_script() -> None:
    assert "usage" in run(code=2)
    assert "usage" in run("--help")
    assert "/nonexistent/program.py" in run("/nonexistent/program.py", code=2)


def test_an_exception_of_the_program_is_shown(tmp_path: Path) -> None:
    out = run(script(tmp_path, "raise ValueError('of the program')\n"), code=1)
    assert "ValueError: of the program" in out


LOGGING = """
import asyncio, logging, sys
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s", level=logging.DEBUG)
import indipydriver as ipd
vector = ipd.TextVector("t", "T", "G", "rw", "Ok", [ipd.TextMember("m")])
vector["nobody"] = "x"
vector.state = "Nonsense"
logging.getLogger("indipydriver.propertyvectors").setLevel(logging.CRITICAL)
vector.state = "Silence"
logging.getLogger("indipydriver").setLevel(logging.CRITICAL)
driver = ipd.IPyDriver(ipd.Device("D", [vector]))
driver.snoop("D", "t", 30)
logging.getLogger("indipydriver").setLevel(logging.INFO)
driver.snoop("D", "t", 30)
"""


def test_log_records_have_the_names_of_the_packages(tmp_path: Path) -> None:
    lines = [line for line in run(script(tmp_path, LOGGING)).splitlines() if line.startswith("indi")]
    assert lines == ["indipydriver.propertyvectors ERROR"] * 2 + ["indipydriver.ipydriver ERROR"]


def test_log_records_of_the_server_have_the_name_of_the_package_in_use(tmp_path: Path) -> None:
    text = """
import asyncio, logging, sys
logging.basicConfig(stream=sys.stdout, format="%(name)s", level=logging.INFO)
{imports}
async def main():
    server = IPyServer(port=0)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    server.shutdown()
    await running
asyncio.run(main())
"""
    for imports, name in (
        ("from indipydriver import IPyServer", "indipydriver.ipyserver"),
        ("from indipyserver import IPyServer", "indipyserver.ipyserver"),
    ):
        assert name in run(script(tmp_path, text.format(imports=imports))).splitlines()


def test_install_called_by_a_program() -> None:
    code = (
        "import indifast.dropin\n"
        "indifast.dropin.install()\n"
        "indifast.dropin.install()\n"
        "import indipydriver, indipyclient.events, indipyserver\n"
        "assert indipydriver.IPyDriver.__module__.startswith('indifast')\n"
        "assert sum(type(f).__module__ == 'indifast.dropin' for f in sys.meta_path) == 1\n"
    )
    subprocess.run(
        [PYTHON, "-c", "import sys\n" + code], check=True, timeout=LIMIT, env={**os.environ, **python_environment()}
    )


def test_installed_packages_are_not_used(peers: dict[str, Path], tmp_path: Path) -> None:
    """The stand-ins take precedence over installed packages."""
    packages = next(peers["d31"].parent.parent.glob("lib/python3*/site-packages"))
    assert (packages / "indipydriver").is_dir()
    program = script(tmp_path, "import indipydriver\nprint(indipydriver.IPyDriver.__module__)\n")
    paths = python_environment()["PYTHONPATH"]
    assert run(program, PYTHONPATH=os.pathsep.join([str(packages), paths])).startswith("indifast")


def test_importing_the_dropin_module_changes_nothing() -> None:
    import indifast.dropin

    assert not [finder for finder in sys.meta_path if type(finder).__module__ == "indifast.dropin"]
    assert indifast.dropin.VERSIONS["indipydriver"] == "3.1.2"


def test_external_drivers_get_pipes_as_in_the_packages(tmp_path: Path) -> None:
    child = (
        "import os, stat; kinds = [stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (0, 1)];"
        " print(f'<message message=\"pipes {kinds}\"/>', flush=True); input()"
    )
    program = script(
        tmp_path,
        "import asyncio, sys\n"
        "from indipyserver import IPyServer\n"
        "from indipyclient import IPyClient, Message\n"
        "async def main():\n"
        "    server = IPyServer(port=0)\n"
        "    seen = asyncio.get_running_loop().create_future()\n"
        "    class Client(IPyClient):\n"
        "        async def rxevent(self, event):\n"
        "            if isinstance(event, Message) and 'pipes' in event.message and not seen.done():\n"
        "                seen.set_result(event.message)\n"
        "    async with server:\n"
        "        client = asyncio.create_task((c := Client(indiport=server.port)).asyncrun())\n"
        "        while not c.connected:\n"
        "            await asyncio.sleep(0)\n"
        f"        server.add_exdriver(sys.executable, '-c', {child!r})\n"
        f"        print(await asyncio.wait_for(seen, {LIMIT}))\n"
        "        c.shutdown()\n"
        "        await client\n"
        "asyncio.run(main())\n",
    )
    assert "pipes [True, True]" in run(program)
