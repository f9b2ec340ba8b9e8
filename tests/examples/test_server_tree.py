"""The tree of servers with TLS, with certificates made as the documentation says."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.documentation.blocks import blocks_of
from tests.support.blackbox import LIMIT, PYTHON, Channel
from tests.support.servers import EXAMPLES, announced_port, example_child

ROOT = EXAMPLES.parent
PAGE = ROOT / "docs" / "howto" / "tls.md"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipe of the documentation has been followed."""
    folder = tmp_path_factory.mktemp("certificates")
    blocks = blocks_of(PAGE, ROOT)
    (configuration,) = (block for block in blocks if block.words.get("file") == "certificates.cnf")
    recipe = next(block for block in blocks if block.language == "sh" and "openssl" in block.text)
    (folder / "certificates.cnf").write_text(configuration.text)
    subprocess.run(["bash", "-e", "-c", recipe.text], cwd=folder, check=True, capture_output=True, timeout=LIMIT)
    return folder


def admitted(certificates: Path, port: int, name: str) -> bool:
    """Return whether a server sends something to a client with this certificate, or without one."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if name:
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    with socket.create_connection(("localhost", port), timeout=LIMIT) as plain:
        try:  # with TLS 1.3, a client learns only after the handshake that it was refused
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(b'<getProperties version="1.7"/>')
                return bool(connection.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False


def test_a_tree_with_tls(certificates: Path, tmp_path: Path) -> None:
    place = ["--certificates", str(certificates)]
    with example_child("server_tree.py", tmp_path, "telescope", *place, "--name", "server") as telescope:
        port = announced_port(telescope)
        words = ["observatory", *place, "--name", "desk", "--telescope", f"localhost:{port}"]
        with example_child("server_tree.py", tmp_path, *words) as observatory:
            client = Channel.connect(announced_port(observatory))
            client.send(b'<getProperties version="1.7"/><enableBLOB device="Simulated Camera">Also</enableBLOB>')
            seen: set[str] = set()
            while not {"Simulated Camera", "Focuser", "Thermostat"} <= seen:
                seen.add(client.until_text("<def")[-1].decode().split('device="')[1].split('"')[0])
            client.send(
                b'<newSwitchVector device="Simulated Camera" name="CONNECTION"><oneSwitch name="CONNECT">On</oneSwitch></newSwitchVector>'
            )
            client.until_text('name="UPLOAD_SETTINGS"')
            client.send(
                b'<newNumberVector device="Simulated Camera" name="CCD_EXPOSURE"><oneNumber name="CCD_EXPOSURE_VALUE">0.1</oneNumber></newNumberVector>'
            )
            client.until(lambda message: message.startswith(b"<setBLOBVector"))

            assert not admitted(certificates, port, "")
            assert admitted(certificates, port, "desk")

            for server in (observatory, telescope):
                os.kill(server.pid, signal.SIGINT)
                assert server.wait() == 0
                assert server.stderr.splitlines()[-1] == "stopped"
                assert "Traceback" not in server.stderr
            client.close()


def test_without_certificates(tmp_path: Path) -> None:
    words = [PYTHON, str(EXAMPLES / "server_tree.py"), "telescope", "--name", "server"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "server_tree: [Errno 2] No such file or directory: 'ca.pem'"
