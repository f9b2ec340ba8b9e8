"""Runs the web application as a program, and asks it as browsers and programs do."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import PIL.Image
from websockets.sync.client import ClientConnection, connect

from indifast.protocol.complaints import BURST, PER_SECOND
from tests.support import commands
from tests.support.blackbox import LIMIT, Child, python_environment, until
from tests.support.jsonschema import valid

CAMERA = "CCD Simulator"
API = "/api/v1"


def path(device: str | None = None, name: str | None = None, member: str | None = None) -> str:
    """Return the path of a device, a property or a frame."""
    words = [API]
    for kind, word in (("devices", device), ("properties", name), ("frames", member)):
        words += [] if word is None else [kind, quote(word, safe="")]
    return "/".join(words)


class Answer:
    """What a request was answered with."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self, name: str) -> Any:
        """Return the JSON, which must be what the schema calls `name`."""
        return valid(name, self.body.decode())


class Site:
    """A running `indifast web`."""

    def __init__(self, process: Child, port: int) -> None:
        self.process, self.port = process, port
        self.manager: Site = self
        """What answers the requests of INDI Web Manager."""

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection for requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * LIMIT)

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """Send a request, and return the answer. A body that is not bytes is sent as JSON."""
        with self._requesting(method, target, body, headers) as connection:
            return Answer(connection.getresponse())

    @contextlib.contextmanager
    def asking(self, method: str, target: str, body: Any = None, **headers: str) -> Iterator[Callable[[], Answer]]:
        """Send a request that is not answered soon, and wait until it was read. Yields what waits for the answer."""
        with self._requesting(method, target, body, headers) as connection:
            until(lambda: not unread(self.port), what="that the request was read")
            yield lambda: Answer(connection.getresponse())

    @contextlib.contextmanager
    def _requesting(
        self, method: str, target: str, body: Any, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPConnection]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, target, body, given)
            yield connection

    def get(self, target: str, name: str) -> Any:
        """Return the JSON at a path."""
        answer = self.ask("GET", target)
        assert answer.status == 200, answer.body
        return answer.json(name)

    def set(self, device: str, name: str, members: dict[str, Any], **more: Any) -> Answer:
        """Send a command."""
        return self.ask("POST", path(device, name), {"members": members, **more})

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that is answered until the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT) as sock:
            sock.settimeout(LIMIT)
            answered = b""
            with contextlib.suppress(ConnectionError):
                sock.sendall(data)
                while part := sock.recv(1 << 16):
                    answered += part
            return answered

    def events(self, **headers: str) -> ClientConnection:
        """Open the WebSocket with changes."""
        return self.socket(f"{API}/events", **headers)

    def socket(self, target: str, **headers: str) -> ClientConnection:
        """Open a WebSocket."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return connect(
            f"ws://127.0.0.1:{self.port}{target}", additional_headers=given, open_timeout=LIMIT, proxy=None,
            compression=None,
        )  # fmt: skip

    def live(self, device: str, name: str, member: str, **headers: str) -> ClientConnection:
        """Open a WebSocket with live frames."""
        return self.socket(f"{path(device, name, member)}/live", **headers)

    def wait_for(self, device: str, name: str) -> None:
        """Wait until a property is defined."""
        until(lambda: self.ask("GET", path(device, name)).status == 200, what=f"{device}.{name}")


def unread(port: int) -> bool:
    """Return whether a server has not read all that was sent to its port, or not accepted a connection, according to
    the system."""
    server = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        sent, received = (int(each, 16) for each in queues.split(":"))
        if (received and local.endswith(server)) or (sent and remote.endswith(server)):
            return True
    return False


def logs_few_wrong_requests(site: Site) -> None:
    """Check that the log of a flood of requests that are none is limited, but not empty."""
    said = "Invalid HTTP request received"
    before, began = site.process.stderr.count(said), time.monotonic()
    for _ in range(2 * BURST):
        site.raw(b"\r\n\r\n\r\n")
    until(lambda: site.process.stderr.count(said) - before >= BURST // 2, what="what is logged")
    count = site.process.stderr.count(said) - before
    assert count < 1.5 * BURST + PER_SECOND * (time.monotonic() - began), "there may be more in a longer time"


def event(socket: ClientConnection, kind: str, **wanted: Any) -> Any:
    """Return the next event of a kind with these contents; those before it are only checked."""
    while True:
        found = valid("web_event", str(socket.recv(LIMIT)))
        if found["event"] == kind and all(found.get(key) == value for key, value in wanted.items()):
            return found


def frame(socket: ClientConnection) -> tuple[Any, PIL.Image.Image]:
    """Return the next live frame: what is said about it, and its picture."""
    message = socket.recv(LIMIT)
    assert isinstance(message, bytes), message
    end = 4 + int.from_bytes(message[:4], "big")
    return valid("web_live", message[4:end].decode()), PIL.Image.open(io.BytesIO(message[end:]))


PROGRAMS = Path(__file__).with_name("programs")


@contextlib.contextmanager
def serving(folder: Path, *words: object) -> Iterator[Site]:
    """`indifast serve --web` with these words, on free ports. SIGTERM must end it."""
    command = [*commands.INDIFAST, "serve", "-p", "0", "--no-abstract", "--web", "0", *map(str, words)]
    environment = python_environment(HOME=str(folder))
    environment["PYTHONPATH"] += f":{PROGRAMS}"
    with Child(command, folder, env=environment, cwd=folder) as process:
        process.until_stderr("page in the browser: http://")
        running = Site(process, int(re.findall(r"page in the browser: http://[^ ]+:(\d+)/\n", process.stderr)[0]))
        if "--web-manager" in words:
            process.until_stderr("in place of INDI Web Manager: ")
            running.manager = Site(process, int(re.findall(r"Web Manager: http://[^ ]+:(\d+)/\n", process.stderr)[0]))
        yield running
        if process.running():
            process.process.terminate()
            assert process.wait() == 0, process.stderr
        assert "Traceback" not in process.stderr, process.stderr


def secret_file(folder: Path, name: str, text: str) -> Path:
    """Write a file that only its owner may read, and return it."""
    file = folder / name
    file.touch(0o600)
    file.write_text(text)
    return file


def token_file(folder: Path, text: str) -> Path:
    """Write a file of tokens, and return it."""
    return secret_file(folder, "tokens", text)


@contextlib.contextmanager
def site(folder: Path, *words: object) -> Iterator[Site]:
    """`indifast web` with these words, on a free port."""
    with commands.start(folder, "web", "--listen", "0", *words) as process:
        process.until_stderr("(Ctrl-C ends)")
        port = int(process.stderr.partition("open http://")[2].partition("/")[0].rpartition(":")[2])
        yield Site(process, port)
        if process.running():
            process.process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert "Traceback" not in process.stderr, process.stderr
