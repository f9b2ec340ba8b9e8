"""Runs nginx with the configuration of the documentation, and counts what it asks the application for."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.blackbox import LIMIT, Child, until
from tests.web.support import Answer, Site

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "docs/howto/nginx.conf"

NAME = "observatory.example"

_MAIN = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    include {folder}/site.conf;
}}
"""


class Relay:
    """Passes connections on to the application, and remembers what was asked for."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._heard: list[bytearray] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def heard(self) -> bytes:
        """All that was sent to the application."""
        return b"\r\n".join(bytes(each) for each in self._heard)

    def fetched(self) -> list[str]:
        """Return the paths of frames and pictures that were asked for."""
        return re.findall(r"GET (/frames/\S*) HTTP/1\.[01]\r", self.heard.decode("latin-1"))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                heard = bytearray()
                self._heard.append(heard)
                threading.Thread(target=self._pass_on, args=(near, far, heard), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(far, near, None), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, to: socket.socket, heard: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if heard is not None:
                    heard += data
                to.sendall(data)
        for each in (source, to):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more connections."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


class Front(Site):
    """nginx in front of an application."""

    def __init__(self, process: Child, port: int, relay: Relay, certificate: Path) -> None:
        super().__init__(process, port)
        self.relay = relay
        self._tls = ssl.create_default_context(cafile=str(certificate))

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection to nginx, which asks for its name."""
        connection = http.client.HTTPSConnection(NAME, self.port, timeout=2 * LIMIT, context=self._tls)
        create: Any = lambda _, *more: socket.create_connection(("127.0.0.1", self.port), *more)  # noqa: E731
        connection._create_connection = create  # type: ignore[attr-defined]
        return connection

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """Send a request to nginx, and return the answer."""
        return super().ask(method, target, body, **({"Host": NAME} | headers))

    def socket(self, target: str, **headers: str) -> ClientConnection:
        """Open a WebSocket through nginx."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return connect(
            f"wss://{NAME}{target}", sock=socket.create_connection(("127.0.0.1", self.port), LIMIT), ssl=self._tls,
            additional_headers=given, open_timeout=LIMIT, proxy=None, compression=None,
        )  # fmt: skip


def _configuration(folder: Path, port: int, to: int) -> str:
    """Return the configuration of the documentation with other files and ports."""
    text = CONFIGURATION.read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("server 127.0.0.1:8625;", f"server 127.0.0.1:{to};"),
        ("/var/cache/indifast", f"{folder}/cache"),
        ("/etc/ssl/observatory.pem", f"{folder}/server.pem"),
        ("/etc/ssl/private/observatory.key", f"{folder}/server.key"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(folder: Path, to: int, location: str | None = None) -> Iterator[Front]:
    """nginx in front of the application on a port of this machine.

    Args:
        folder: Where its files are.
        to: The port of the application.
        location: All that is said of how requests are passed on, in place of what the documentation says.

    Raises:
        FileNotFoundError: It is not installed.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("nginx is not installed; on Debian: apt install nginx")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "server.key", "-out",
         "server.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    # nginx takes sockets over, as from the process that it replaces; so the kernel chooses the port.
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.closing(Relay(to)) as relay:
        port = listening.getsockname()[1]
        text = _configuration(folder, port, relay.port)
        if location is not None:
            text = f"{text.partition('    proxy_http_version')[0]}    location / {{ {location} }}\n}}\n"
        (folder / "site.conf").write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""  # else workers may not use the folder
        (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
        words = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        inherited = {"NGINX": f"{listening.fileno()};"}
        with Child(words, folder, env=inherited, pass_fds=[listening.fileno()]) as process:
            listening.close()
            front = Front(process, port, relay, folder / "server.pem")
            until(lambda: _answers(front), what="nginx")
            yield front
            process.process.terminate()
            assert process.wait() == 0, process.stderr
            assert "[emerg]" not in process.stderr and "[alert]" not in process.stderr, process.stderr


def _answers(front: Front) -> bool:
    assert front.process.running(), front.process.stderr
    try:
        return front.ask("GET", "/").status > 0
    except OSError:
        return False
