"""`indifast serve --web-drivers FILE`: drivers that are started and stopped from the browser."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from indifast.cli.serve.listed import read_list
from indifast.cli.serve.options import ConfigError, Program, parse_arguments
from indifast.server.exdriver import LAST_LINES, LONGEST_LINE
from indifast.web.bounds import BODY
from indifast.web.users import Password
from tests.serve.support import TOY
from tests.support.blackbox import until
from tests.support.programs import python_program
from tests.web.support import API, Answer, Site, path, secret_file, serving, site

pytestmark = pytest.mark.xdist_group("web")

SLASH = "../Toy?/x"


def write(file: Path, drivers: list[dict[str, Any]]) -> Path:
    tables = ("".join(f"{key} = {json.dumps(value)}\n" for key, value in driver.items()) for driver in drivers)
    file.write_text("".join(f"[[drivers]]\n{table}" for table in tables))
    file.chmod(0o644)
    return file


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that starts without any driver."""
    folder = tmp_path_factory.mktemp("drivers")
    toy = str(python_program(folder / "toy", f"import sys; print('x' * 9999, file=sys.stderr)\n{TOY}"))
    dying = str(python_program(folder / "dying", "import sys; sys.exit('out of luck')"))
    listed = write(folder / "drivers.toml", [
        {"name": "Toy", "program": toy, "device": "Bear"},
        {"name": "Dying", "program": dying},
        {"name": "Missing", "program": "/nonexistent/driver"},
        {"name": SLASH, "program": toy, "device": "Slash"},
    ])  # fmt: skip
    rights = {"anna": "operator = true", "dora": "viewer = true", "carol": 'operator = ["Bear"]'}
    users = secret_file(folder, "users", "".join(f'[{name}]\npassword = "{Password.of(name, (4, 8, 1))}"\n{each}\n'
                             for name, each in rights.items()))  # fmt: skip
    with serving(folder, "-r", "0", "--web-users", users, "--web-drivers", listed) as running:
        yield running


def children(web: Site) -> list[psutil.Process]:
    return psutil.Process(web.process.pid).children()


def cookie(web: Site, user: str = "anna") -> str:
    answer = web.ask("POST", f"{API}/session", {"user": user, "password": user})
    return answer.headers["Set-Cookie"].partition(";")[0]


def listed(web: Site, session: str) -> dict[str, Any]:
    answer = web.ask("GET", f"{API}/drivers", Cookie=session)
    assert answer.status == 200, answer.body
    return {each["driver"]: each for each in answer.json("web_drivers")["drivers"]}


def tell(web: Site, session: str, name: str, verb: str, body: Any = None) -> Answer:
    target = f"{API}/drivers/{quote(name, safe='')}/{verb}"
    return web.ask("POST", target, {} if body is None else body, Cookie=session)


def state(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return str(answer.json("web_driver")["driver"]["state"])


@pytest.mark.parametrize(("name", "device"), [("Toy", "Bear"), (SLASH, "Slash")])
def test_a_driver_is_started_and_stopped(web: Site, name: str, device: str) -> None:
    anna = cookie(web)
    about = web.ask("GET", API, Cookie=anna).json("web_site")
    assert about["drivers"] is True
    assert listed(web, anna)[name]["state"] == "stopped"
    assert state(tell(web, anna, name, "start")) == "running"
    until(lambda: web.ask("GET", path(device, "T"), Cookie=anna).status == 200, what="its device")
    shown = listed(web, anna)[name]
    assert (shown["devices"], shown["reason"]) == ([device], None)
    assert shown["lines"] == ["x" * LONGEST_LINE]
    number = len(children(web))
    assert state(tell(web, anna, name, "start")) == "running"
    assert len(children(web)) == number, "there is only one of it"
    for _ in range(2):
        assert state(tell(web, anna, name, "stop")) == "stopped"
    until(lambda: web.ask("GET", path(device), Cookie=anna).status == 404, what="that its device is gone")
    assert len(children(web)) == number - 1


def test_one_that_cannot_be_started(web: Site) -> None:
    anna = cookie(web)
    answer = tell(web, anna, "Missing", "start")
    error = answer.json("web_failure")["error"]
    assert (answer.status, error["code"]) == (409, "failed")
    assert error["message"].startswith("Missing cannot be started: program '/nonexistent/driver' not found")
    shown = listed(web, anna)["Missing"]
    assert shown["state"] == "failed" and "not found" in shown["reason"]


def test_one_that_ends_by_itself(web: Site) -> None:
    anna = cookie(web)
    tell(web, anna, "Dying", "start")
    until(lambda: listed(web, anna)["Dying"]["state"] == "failed", what="its end")
    shown = listed(web, anna)["Dying"]
    assert (shown["reason"], shown["lines"]) == ("it has ended, and is not started again", ["out of luck"])
    assert state(tell(web, anna, "Dying", "stop")) == "stopped"


def test_what_viewers_may_know_and_do(web: Site) -> None:
    anna, dora, carol = cookie(web), cookie(web, "dora"), cookie(web, "carol")
    tell(web, anna, "Dying", "start")
    until(lambda: listed(web, anna)["Dying"]["state"] == "failed", what="its end")
    assert listed(web, anna)["Dying"]["lines"]
    assert listed(web, dora)["Dying"]["lines"] == []
    assert web.ask("GET", API, Cookie=carol).json("web_site")["drivers"] is False
    assert web.ask("GET", f"{API}/drivers", Cookie=carol).status == 403
    assert web.ask("GET", f"{API}/drivers").status == 401
    before = len(children(web))
    for session, status in ((dora, 403), (carol, 403), ("", 401)):
        assert tell(web, session, "Toy", "start").status == status
        assert tell(web, session, "Toy", "stop").status == status
    origin = {"Origin": "http://evil.example", "Cookie": anna}
    assert web.ask("POST", f"{API}/drivers/Toy/start", {}, **origin).status == 403
    form = {"Content_Type": "application/x-www-form-urlencoded", "Cookie": anna}
    assert web.ask("POST", f"{API}/drivers/Toy/start", b"", **form).status == 415
    assert len(children(web)) == before


@pytest.mark.parametrize(
    "name",
    ["/bin/sh", "../../bin/sh", "..", ".", "", "Toy/../Dying", "Toy ", "toy", "Toy\0", "Toy\n", "Toy -x", "Toy;id",
     "$(id)", "@localhost", "\ud800", "T" * 4000],
)  # fmt: skip
def test_a_name_that_is_not_in_the_list_starts_nothing(web: Site, name: str) -> None:
    anna, before = cookie(web), children(web)
    words = quote(name.encode("utf-8", "surrogatepass"), safe="")
    for each in {words, quote(name.encode("utf-8", "surrogatepass"), safe="/"), quote(words)}:
        answer = web.ask("POST", f"{API}/drivers/{each}/start", {}, Cookie=anna)
        assert answer.status == 404, answer.body
    assert children(web) == before


def test_similar_names_are_offered(web: Site) -> None:
    error = tell(web, cookie(web), "Tow", "start").json("web_failure")["error"]
    assert error["similar"] == ["Toy"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"program": "/bin/sh"}, 400), ({"args": ["-c", "id"]}, 400), ({"x": None}, 400), ([], 400), ("x", 400), (0, 400),
     (b"", 400), (b"{", 400), (b"[" * 9999, 400), ({"x": "x" * BODY}, 413)],
)  # fmt: skip
def test_a_request_says_nothing_about_how_it_is_started(web: Site, body: Any, status: int) -> None:
    anna, before = cookie(web), children(web)
    headers = {"Content_Type": "application/json", "Cookie": anna}
    assert web.ask("POST", f"{API}/drivers/Toy/start", body, **headers).status == status
    assert children(web) == before


def test_a_driver_of_the_command_line_may_be_in_the_list(tmp_path: Path) -> None:
    toy = python_program(tmp_path / "toy", TOY)
    file = write(tmp_path / "drivers.toml", [{"name": "Bear", "program": str(toy)}])
    with serving(tmp_path, "--web-drivers", file, toy) as web:
        assert listed(web, "")["Bear"]["state"] == "running"
        assert state(tell(web, "", "Bear", "stop")) == "stopped"
        assert web.get(API, "web_site")["device_count"] == 0, "the server goes on without a driver"
        assert state(tell(web, "", "Bear", "start")) == "running"


PATIENT = """
from indifast import IPyDriver
from indifast.server.exdriver import ExDriver

ExDriver.__init__.__kwdefaults__["grace"] = 60.0

def make():
    return IPyDriver()
"""
"""A driver without devices, in a server that kills no program that takes its time to end."""


def test_two_names_of_one_program_are_one_driver(tmp_path: Path) -> None:
    """While it is stopped by one name, it is not started by the other."""
    toy = python_program(
        tmp_path / "toy",
        f"import os, signal, time\nopen('{tmp_path}/starts', 'a').write('x')\n"
        "def late(*_):\n"
        f"    while not os.path.exists('{tmp_path}/may end'): time.sleep(0.01)\n"
        "    os._exit(0)\n"
        f"signal.signal(signal.SIGTERM, late)\n{TOY}",
    )
    (tmp_path / "patient.py").write_text(PATIENT)
    file = write(tmp_path / "drivers.toml", [{"name": name, "program": str(toy)} for name in ("One", "Two")])
    with serving(tmp_path, "--web-drivers", file, "patient:make") as web, ThreadPoolExecutor() as threads:
        assert state(tell(web, "", "One", "start")) == "running"
        until(lambda: (tmp_path / "starts").exists() and web.get(API, "web_site")["device_count"], what="its device")
        stopped = threads.submit(tell, web, "", "One", "stop")
        until(lambda: listed(web, "")["Two"]["state"] == "stopping", what="that it is being stopped")
        started = threads.submit(tell, web, "", "Two", "start")
        assert listed(web, "")["One"]["state"] == "stopping"
        (tmp_path / "may end").touch()
        assert state(stopped.result()) == "stopped"
        assert state(started.result()) == "running"
        assert [each["state"] for each in listed(web, "").values()] == ["running", "running"]
        assert len(children(web)) == 2, "the page, and one driver"


def test_a_list_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "list", [{"program": "a"}])
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    os.chown(file, 1234, -1) if os.getuid() == 0 else None
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        read_list(str(file))


def test_read_only(tmp_path: Path) -> None:
    file = write(tmp_path / "drivers.toml", [{"program": "cat"}])
    with serving(tmp_path, "--web-drivers", file, "--web-read-only") as web:
        assert tell(web, "", "cat", "start").status == 403
        assert listed(web, "")["cat"]["state"] == "stopped"


def test_without_a_list_there_is_none(tmp_path: Path) -> None:
    with site(tmp_path, "localhost:1") as web:
        answer = web.ask("GET", f"{API}/drivers")
        assert (answer.status, answer.json("web_failure")["error"]["code"]) == (404, "unknown")
        assert web.get(API, "web_site")["drivers"] is False


def test_the_list(tmp_path: Path) -> None:
    file = write(tmp_path / "list", [{"program": "a", "args": ["-x", 1], "device": "D", "pipes": True},
                                     {"name": "Other", "program": "a"}])  # fmt: skip
    assert read_list(str(file)) == {"a": Program("a", ("-x", "1"), {"INDIDEV": "D"}, pipes=True), "Other": Program("a")}
    assert parse_arguments(["--web", "1", "--web-drivers", str(file)]).web.drivers == str(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write [[drivers]] for each"),
        ("drivers = 1", "write [[drivers]] for each"),
        ("x = 1\n[[drivers]]\nprogram = 'a'", "nothing else"),
        ("[[drivers]]\nname = 'a'", "a driver needs a program"),
        ("[[drivers]]\nprogram = 'a'\n[[drivers]]\nprogram = 'a'", "a text that no other driver has, not 'a'"),
        ("[[drivers]]\nprogram = 'a'\nname = 1", "a text that no other driver has, not 1"),
        ("[[drivers]]\nprogram = 'a'\nshell = 'x'", "unknown key drivers.shell"),
        ("drivers = [1]", "is not a table"),
        ("[[", "list of drivers"),
    ],
)
def test_a_wrong_list(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "list"
    file.write_text(text)
    file.chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        read_list(str(file))
    assert said in str(refused.value) and str(file) in str(refused.value)


def test_a_list_that_others_may_change(tmp_path: Path) -> None:
    file = write(tmp_path / "list", [{"program": "a"}])
    file.chmod(0o664)
    with pytest.raises(ConfigError, match="chmod go-w"):
        read_list(str(file))
    assert LAST_LINES
