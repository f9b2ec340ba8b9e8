"""`indifast serve --web`: the page in the process of the server."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from indifast.cli.serve.options import ConfigError, Web, parse_arguments
from indifast.fits import read_image
from indifast.web.access import SHORTEST
from tests.support import commands
from tests.support.blackbox import LIMIT, python_environment, until
from tests.support.certificates import make_certificates
from tests.web.support import API, CAMERA, PROGRAMS, Site, event, logs_few_wrong_requests, path, serving, token_file

pytestmark = pytest.mark.xdist_group("web")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("inside"), "indi_simulator_ccd", "strange:make") as running:
        for device, name in (("Strange", "ANSWER"), (CAMERA, "CONNECTION")):
            running.wait_for(device, name)
        yield running


def child(site: Site, word: str) -> psutil.Process:
    """Return the child process of a server whose command line has this word."""
    (found,) = [each for each in psutil.Process(site.process.pid).children() if word in " ".join(each.cmdline())]
    return found


def test_devices_are_shown_and_commanded(inside: Site) -> None:
    about = inside.get(API, "web_site")
    assert (about["connected"], about["connection"]) == (True, 1)
    assert about["server"].startswith(f"{socket.gethostname()}:")
    answer = inside.set("Strange", "ANSWER", {"VALUE": 5})
    assert (answer.status, answer.json("web_answer")["message"]) == (200, "five after all")
    assert "ttempting to connect" not in inside.process.stderr, "a connection within the process is nothing to tell"


def test_frames(inside: Site) -> None:
    inside.wait_for(CAMERA, "CONNECTION")
    assert inside.set(CAMERA, "CONNECTION", {"CONNECT": True}, timeout=LIMIT).status == 200
    inside.wait_for(CAMERA, "CCD1")
    frame = path(CAMERA, "CCD1", "CCD1")
    inside.ask("GET", frame)  # asks for frames
    assert inside.set(CAMERA, "CCD_EXPOSURE", {"CCD_EXPOSURE_VALUE": 0.1}, timeout=LIMIT).status == 200
    received = inside.ask("GET", f"{frame}?wait=25")
    assert read_image(received.body).scaled().shape == (1024, 1280)


def test_a_driver_that_ends_takes_its_devices_from_the_page(inside: Site) -> None:
    inside.wait_for(CAMERA, "CONNECTION")
    with inside.events() as viewer:
        viewer.send('{"subscribe": [{"device": "CCD Simulator", "property": "CONNECTION"}]}')
        assert event(viewer, "property")["device"] == CAMERA
        driver = child(inside, "indi_simulator_ccd")
        driver.kill()
        event(viewer, "delete", device=CAMERA, property="CONNECTION")


def test_a_page_that_ends_is_started_again(inside: Site) -> None:
    former = child(inside, "pageprocess")
    former.kill()
    until(lambda: not former.is_running() or former.status() == psutil.STATUS_ZOMBIE, what="its end")
    inside.wait_for("Strange", "ANSWER")
    assert child(inside, "pageprocess").pid != former.pid
    assert "the page in the browser has ended: starting it again" in inside.process.stderr


def test_the_log_of_wrong_requests_is_limited(inside: Site) -> None:
    logs_few_wrong_requests(inside)


def test_it_ends_although_viewers_are_connected(tmp_path: Path) -> None:
    with serving(tmp_path, "strange:make") as web, web.events() as viewer:
        event(viewer, "link")
        web.process.process.send_signal(signal.SIGHUP)
        assert web.process.wait() == 0
        assert "the server ends: SIGHUP" in web.process.stderr


def test_a_page_does_not_outlive_its_server(tmp_path: Path) -> None:
    with serving(tmp_path, "strange:make") as web:
        page = child(web, "pageprocess")
        web.process.process.kill()
        until(lambda: not page.is_running() or page.status() == psutil.STATUS_ZOMBIE, what="the end of the page")


def test_no_module_of_the_current_directory_is_run(tmp_path: Path) -> None:
    for name in ("PIL", "starlette", "uvicorn"):
        (tmp_path / f"{name}.py").write_text(f"open('{tmp_path}/was run', 'a').write(__name__)\n")
    with serving(tmp_path, "strange:make") as web:
        web.wait_for("Strange", "ANSWER")
    assert not (tmp_path / "was run").exists()


def test_it_needs_no_certificate_of_its_own(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    words = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-ca", "ca.pem"]
    tokens = token_file(tmp_path, f"viewer {'v' * SHORTEST}\n")
    words += ["--web-token-file", str(tokens), "--web-name", "dome.example"]
    with serving(tmp_path, *words, "strange:make") as web:
        assert web.ask("GET", API).status == 401
        headers = {"Authorization": f"Bearer {'v' * SHORTEST}", "Host": "dome.example"}
        until(lambda: web.ask("GET", path("Strange", "ANSWER"), **headers).status == 200, what="a property")
        assert web.ask("GET", API, **headers | {"Host": "evil.example"}).status == 403


def refusal(folder: Path, *words: object, status: int = 1, python_path: object = ".") -> str:
    """Run a server that must not start, and return what it says."""
    paths = f"{python_path}:{PROGRAMS}:{python_environment()['PYTHONPATH']}"
    words = ("-p", 0, "--no-abstract", *words, "strange:make")
    done = commands.run("serve", *words, cwd=folder, PYTHONPATH=paths)
    assert done.returncode == status, done.stderr
    return done.stderr


def test_what_it_refuses(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--web", "0.0.0.0:0")
    assert "others could use the devices by 0.0.0.0: give --web-token-file FILE" in said
    assert "add --web PORT" in refusal(tmp_path, "--web-read-only")
    assert "--web: [HOST:]PORT is required, as in 8625" in refusal(tmp_path, "--web", "x", status=2)
    assert "/nonexistent: no such file" in refusal(tmp_path, "--web", "0", "--web-token-file", "/nonexistent")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} " in refusal(tmp_path, "--web", port)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('no', name='starlette')\n")
    assert "pip install 'indifast[web]'" in refusal(tmp_path, "--web", "0", python_path=tmp_path)


def test_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    text = 'listen = 8625\ntoken_file = "tokens"\nusers = "users"\nread_only = true\nmanager = 8624\nnames = ["dome"]'
    text += '\npublic = "a.example"'
    file.write_text(f"[web]\n{text}\n")
    options = parse_arguments(["--config", str(file), "--web-name", "hut", "--web", "[::1]:1", "camera"])
    manager, names = ("127.0.0.1", 8624), ["dome", "hut"]
    assert options.web == Web(("::1", 1), "tokens", "users", None, manager, True, names, "a.example")
    for text, said in (
        ("listen = 'x'", "web.listen: [HOST:]PORT is required"),
        ("manager = true", "web.manager has a value of the wrong type"),
        ("manager = 'x'", "web.manager: [HOST:]PORT is required, as in 8624"),
        ("names = [1]", "web.names must be texts"),
        ("token = 'x'", "unknown key web.token"),
    ):
        file.write_text(f"[web]\n{text}\n")
        with pytest.raises(ConfigError) as refused:
            parse_arguments(["--config", str(file), "camera"])
        assert said in str(refused.value)
