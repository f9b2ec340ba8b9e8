"""The session of a command with a server, and the reason why there is none."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from indifast.cli.toolkit.address import Address
from indifast.cli.toolkit.definitions import gather
from indifast.cli.toolkit.failures import failure
from indifast.cli.toolkit.session import Status, ToolError, connected, device_of, vector_of
from indifast.client import IPyClient
from tests.support import commands
from tests.support.blackbox import LIMIT, PYTHON, Child, free_port, python_environment
from tests.support.servers import await_listener
from tests.support.waiting import eventually
from tests.tools.support import answering

NUMBER = (
    b'<defNumberVector device="Mount" name="RATE" state="Ok" perm="rw"><defNumber name="A" format="%g" min="0" max="9"'
    b' step="1">5</defNumber></defNumberVector>'
)


def failing(address: Address, work: Callable[[IPyClient], object] | None = None, *, ready: bool = True) -> ToolError:
    """Return the error with which a session with this server ends."""

    async def session() -> None:
        async with connected(address) as client:
            if ready:
                await client.ready(4, quiet=1)
            if work is not None:
                await asyncio.ensure_future(work(client))  # type: ignore[arg-type]

    with pytest.raises(ToolError) as caught:
        asyncio.run(session())
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_connected_client() -> None:
    async def session(port: int) -> None:
        async with connected(Address("localhost", port)) as client:
            await client.ready(LIMIT, ("Mount", "RATE"))
            assert vector_of(client, "Mount", "RATE")["A"] == "5"
        assert client.stop

    with answering(NUMBER) as port:
        asyncio.run(session(port))


def test_a_port_on_which_nobody_listens() -> None:
    port = free_port()
    error = failing(Address("localhost", port))
    start = f"start one with `indifast serve -p {port} DRIVER`"
    assert str(error) == f"no INDI server at localhost:{port}: connection refused; {start}"
    assert error.status == Status.TROUBLE


def test_an_unknown_host() -> None:
    assert str(failing(Address("no-such-host.invalid"))).startswith("unknown host 'no-such-host.invalid': ")


def test_a_socket_that_does_not_exist(tmp_path: Path) -> None:
    error = str(failing(Address(unix=f"{tmp_path}/none")))
    assert error.startswith(f"no INDI server at the local socket {tmp_path}/none: connection refused")


def test_a_socket_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert "no INDI server at" in str(failing(Address(unix=str(path))))


def test_a_socket_without_permission() -> None:
    """The error is made here, because the tests may run as root."""
    error = failure(PermissionError(errno.EACCES, "Permission denied"), Address(unix="/run/indi"))
    assert error is not None
    sentence = "no permission to use the local socket /run/indi: permission denied; ask the owner of the server"
    assert (str(error), error.status) == (sentence, Status.TROUBLE)


def test_a_server_of_another_protocol() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>no</html>", close=True) as port:
        assert str(failing(Address("localhost", port))) == f"what answers at localhost:{port} is not an INDI server"
    with answering(b"220 mail ESMTP\r\n") as port:
        assert str(failing(Address("localhost", port))) == f"what answers at localhost:{port} is not an INDI server"


def test_a_server_that_sends_nothing() -> None:
    with answering(b"") as port:
        error = failing(Address("localhost", port))
        assert "sends nothing" in str(error)
        assert error.status == Status.TIMEOUT
    with answering(b"", close=True) as port:
        assert "does it require TLS (--tls)?" in str(failing(Address("localhost", port)))


@pytest.mark.parametrize("proof", [b"<?indi-accept raw?>", b'<pingReply uid="1"/>', b"<getProperties version='1.7'/>"])
def test_a_server_that_has_no_devices(proof: bytes) -> None:
    async def devices(client: IPyClient) -> None:
        await eventually(lambda: client.stats()["received_bytes"], "the proof")
        await gather(client, lambda: False, 0.3)

    async def patiently(client: IPyClient) -> None:
        await gather(client, lambda: False, LIMIT)

    with answering(proof) as port:
        error = failing(Address("localhost", port), devices, ready=False)
        assert str(error) == "the server has no devices (waited 0.3 s): start a driver"
        assert error.status == Status.TIMEOUT
    with answering(proof, close=True) as port:
        error = failing(Address("localhost", port), patiently, ready=False)
        assert str(error) == f"lost the connection to localhost:{port}: closed by the server"


def test_a_server_of_indifast_without_drivers(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    port = free_port()
    with commands.start(tmp_path, "serve", "-p", port, "--no-abstract", "-f", tmp_path / "fifo") as server:
        await_listener(server, port)
        for words in (
            ["devices"],
            ["get", "D.P.M"],
            ["set", "D.P.M=1"],
            ["snap"],
            ["expose", "D", "1", "-o", tmp_path / "x.fits"],
        ):

            def answered(words: list[object] = words) -> subprocess.CompletedProcess[str] | None:
                """Run a command, unless the server took longer than that to say anything at all."""
                done = commands.run(words[0], "-p", port, "-t", 0.5, *words[1:])
                return None if "sends nothing" in done.stderr else done

            done = asyncio.run(eventually(answered, "an answer"))
            assert done is not None
            said = f"indifast {words[0]}: the server has no devices (waited 0.5 s): start a driver\n"
            assert (done.returncode, done.stdout, done.stderr) == (Status.TIMEOUT, "", said)


def test_a_server_that_ends_the_connection() -> None:
    async def ask(client: IPyClient) -> None:
        await client.send_newVector("Mount", "RATE", members={"A": 1}, wait=True, timeout=LIMIT)

    with answering(NUMBER, close=True) as port:
        assert (
            str(failing(Address("localhost", port), ask))
            == f"lost the connection to localhost:{port}: closed by the server"
        )


def test_similar_names_are_suggested_for_unknown_ones() -> None:
    async def vector(client: IPyClient) -> None:
        vector_of(client, "Mount", "rates")

    async def device(client: IPyClient) -> None:
        device_of(client, "Telescope")

    with answering(NUMBER) as port:
        error = failing(Address("localhost", port), vector)
        assert str(error) == "no property 'rates' of Mount: did you mean 'RATE'?"
        assert error.status == Status.NOTHING
        error = failing(Address("localhost", port), device)
        assert str(error) == "no device 'Telescope' on this server: known: 'Mount'"


def test_a_command_that_cannot_be_sent() -> None:
    async def ask(client: IPyClient) -> None:
        await client.send_newVector("Mount", "RATE", members={"A": 10}, check=True)

    with answering(NUMBER) as port:
        error = failing(Address("localhost", port), ask)
        assert error.status == Status.NOTHING
        assert "A" in str(error)


def test_tls(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("localhost")
    stranger = other.issue_cert("client")
    stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    trusting = {"tls": True, "tls_ca": str(tmp_path / "ca.pem")}

    async def session(port: int) -> None:
        async with connected(Address("localhost", port, **trusting)) as client:
            await client.ready(LIMIT, "Mount")

    with answering(NUMBER, context=context) as port:
        asyncio.run(session(port))
        assert (
            str(failing(Address("localhost", port, tls=True)))
            == f"no TLS with localhost:{port}: its certificate is of an authority that is not trusted here: "
            "name its authority with --tls-ca FILE"
        )
        elsewhere = str(failing(Address("127.0.0.1", port, **trusting)))
        assert f"no TLS with 127.0.0.1:{port}: its certificate is not for '127.0.0.1': connect by a name" in elsewhere
        assert "--tls" in str(failing(Address("localhost", port)))
    with answering(b"no TLS here\r\n") as port:
        assert (
            str(failing(Address("localhost", port, **trusting)))
            == f"no TLS with localhost:{port}: it does not speak TLS: connect without TLS"
        )
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with answering(NUMBER, context=context) as port:
        assert (
            str(failing(Address("localhost", port, **trusting)))
            == f"no TLS with localhost:{port}: it requires a certificate: name ours with --tls-cert FILE"
        )
        rogue = Address("localhost", port, **trusting, tls_cert=str(tmp_path / "stranger.pem"))
        assert "it does not trust the authority of our certificate" in str(failing(rogue))
    none, ca = str(tmp_path / "none"), str(tmp_path / "ca.pem")
    assert str(failing(Address(tls=True, tls_ca=none))) == f"--tls-ca FILE: {none}: no such file or directory"
    without_key = f"{ca} holds a certificate without its key: name the key with --tls-key FILE"
    assert str(failing(Address(tls=True, tls_cert=ca))) == without_key


PROGRAM = """
import sys
from indifast.cli.main import run as whole
from indifast.cli.arguments import Parser
from indifast.cli.toolkit.session import add_server_options, connected, run

async def command(options):
    async with connected(options) as client:
        await client.wait_for("Mount", timeout=60)
        print("up", flush=True)
        if options.way == "fault":
            return 1 // 0
        if options.way == "print":
            while True:
                print("x" * 1000)
        await client.wait_for("Mount", "LATER")

parser = Parser("thing", "", "")
parser.add_argument("way")
add_server_options(parser)
sys.exit(whole(lambda: run("thing", parser.parse_args(), command)))
"""


@pytest.mark.parametrize("debug", [False, True])
def test_a_fault_of_the_program_is_reported_as_one(debug: bool) -> None:
    with answering(NUMBER) as port:
        words = [PYTHON, "-c", PROGRAM, "fault", "-p", str(port), *(["--debug"] if debug else [])]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, env=python_environment())
    assert done.returncode == Status.TROUBLE
    assert "thing: a fault of this program: ZeroDivisionError" in done.stderr
    assert ("Traceback" in done.stderr) == debug


@contextmanager
def connected_program(folder: Path, way: str) -> Iterator[Child]:
    """PROGRAM, as soon as it has received a definition."""
    with answering(NUMBER) as port:
        words = [PYTHON, "-c", PROGRAM, way, "-p", str(port)]
        with Child(words, folder, env=python_environment(), stdio=True) as child:
            assert child.process.stdout is not None
            assert child.process.stdout.readline() == b"up\n"
            yield child


def test_ctrl_c(tmp_path: Path) -> None:
    with connected_program(tmp_path, "wait") as child:
        os.kill(child.pid, signal.SIGINT)
        assert child.wait() == Status.INTERRUPTED
        assert child.stderr == ""


def test_a_reader_that_closes_the_pipe(tmp_path: Path) -> None:
    with connected_program(tmp_path, "print") as child:
        assert child.process.stdout is not None
        child.process.stdout.close()
        assert child.wait() == Status.PIPE == 141
        assert child.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_not_reported_as_a_fault(unbuffered: str) -> None:
    with answering(NUMBER) as port, open("/dev/full", "w") as full:
        done = subprocess.run(
            [PYTHON, "-c", PROGRAM, "print", "-p", str(port)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            env={**python_environment(), "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 2
    assert done.stderr == "indifast: the output cannot be written: No space left on device\n"
