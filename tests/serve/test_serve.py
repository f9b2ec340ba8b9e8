"""`indifast serve`, and the server under the name indiserver: start, drivers, signals, exit status and logs."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import sys

import psutil
import pytest
import trustme

from indifast._parser import Tokenizer
from tests.recording.support import as_text
from tests.serve.support import GET, Client, Server, refusal, running
from tests.support import blackbox
from tests.support.blackbox import LIMIT, alive, free_port, until
from tests.support.libindi import libindi
from tests.support.programs import python_program
from tests.support.servers import getprop

TELESCOPE = "Telescope Simulator"


@pytest.mark.parametrize("arguments", [[], ["-h"], ["-q", "indi_a"], ["-p"], ["-vvp"]])
@pytest.mark.parametrize("name", [None, "indiserver"])
def test_wrong_arguments_end_it_with_status_2_and_a_sentence(tmp_path, arguments, name):
    """It comes last: the usage of over 40 lines would push it out of sight."""
    server = Server(tmp_path, *arguments, name=name)
    assert server.ended() == 2
    assert server.log.splitlines()[-1].startswith(f"{name or 'indifast serve'}: ")
    assert server.log.endswith(" (--help lists the options)\n")
    assert "Usage:" not in server.log
    assert "Traceback" not in server.log


def test_help_and_version(tmp_path):
    server = Server(tmp_path, "--help")
    assert server.ended() == 0
    assert "default localhost" in server.log
    server = Server(tmp_path, "--version", name="indiserver")
    assert server.ended() == 0
    assert server.log.startswith("indifast ")


def test_a_simulator_answers_the_tools(tmp_path, program):
    member = f"{TELESCOPE}.CONNECTION.CONNECT"
    with running(tmp_path, "-v", "-p", "0", "indi_simulator_telescope") as server:
        port = server.port()
        assert getprop(program, port, member) == [f"{member}=Off"]
        assert not libindi("setprop", port, f"{TELESCOPE}.CONNECTION.CONNECT=On").returncode
        until(lambda: getprop(program, port, member) == [f"{member}=On"])
        assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: startup: indifast serve -u ", server.log, re.M)
        assert re.search(r": Driver indi_simulator_telescope: pid=\d+$", server.log, re.M)
        assert re.search(r": Client 127\.0\.0\.1:\d+: new arrival - welcome!$", server.log, re.M)
        assert re.search(r": Client 127\.0\.0\.1:\d+: .*shut down complete - bye!$", server.log, re.M)
        assert f"listening on local domain at: @{tmp_path}/local" in server.log
        assert ": Driver indi_simulator_telescope: snooping on GPS Simulator.GEOGRAPHIC_COORD\n" in server.log


@pytest.mark.parametrize(("name", "everywhere"), [(None, False), ("indiserver", True), ("indifast-server", True)])
def test_interfaces(tmp_path, name, everywhere):
    with running(tmp_path, "-v", "-p", "0", "indi_simulator_telescope", name=name) as server:
        port = server.port()
        addresses = {
            (c.laddr.ip, c.laddr.port) for c in psutil.Process(server.process.pid).net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        }  # fmt: skip
        expected = ("0.0.0.0", "::") if everywhere else ("127.0.0.1", "::1")
        assert addresses == {(address, port) for address in expected}
        server.wait_for("anyone who can connect" if everywhere else "this machine only")  # said once all is ready
        assert ("all interfaces" in server.log) == everywhere
        for host in ("127.0.0.1", "::1"):
            client = Client.tcp(port, host).say(GET)
            assert client.get("defSwitchVector", TELESCOPE, "CONNECTION")
            client.close()


def test_the_local_socket_is_abstract(tmp_path, toy):
    with running(tmp_path, "-v", "-p", "0", toy) as server:
        server.port()
        server.wait_for("Local server")
        client = Client.local(tmp_path / "local").say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()


def test_drivers_inherit_only_their_standard_streams(tmp_path):
    code = "import os; print(sorted(os.listdir('/proc/self/fd')), file=__import__('sys').stderr); input()"
    driver = python_program(tmp_path / "lister", code)
    with running(tmp_path, "-p", "0", driver, driver) as server:
        until(lambda: server.log.count("['0', '1', '2', '3']") >= 2, what="two listings")


def test_the_descriptor_limit_is_raised(tmp_path, toy):
    command = (
        f"ulimit -Sn 64; exec {sys.executable} -c 'import sys; from indifast.cli.main import main; sys.exit(main())' "
    )
    command += f"serve -v -u {tmp_path}/limit -p 0 {toy} 2>{tmp_path}/log"
    process = subprocess.Popen(["sh", "-c", command])
    until(lambda: (tmp_path / "log").exists() and "pid=" in (tmp_path / "log").read_text())
    soft, hard = psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard > 64
    process.terminate()
    assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path, number):
    server = Server(tmp_path, "-v", "-u", f"{tmp_path}/x", "-p", "0", "indi_simulator_ccd", "indi_simulator_telescope")
    server.port()
    until(lambda: len(server.children()) == 2)
    children = server.children()
    server.end(number)
    assert not any(alive(child.pid) for child in children)


def test_a_port_in_use_is_reported_and_ends_it(tmp_path, toy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        log = refusal(tmp_path, "-p", port, toy)
    assert f"port {port} of localhost is in use by another program" in log
    assert log.endswith(": good bye\n")


def test_a_local_socket_in_use_is_reported_and_ends_it(tmp_path, toy):
    with running(tmp_path, "-v", "-p", "0", toy) as first:
        first.port()
        first.wait_for("Local server")
        log = refusal(tmp_path, "-p", "0", "-u", f"{tmp_path}/local", toy)
    assert f"the local socket @{tmp_path}/local is in use" in log


def test_a_missing_program_ends_indifast_serve(tmp_path, toy):
    log = refusal(tmp_path, "-p", "0", toy, "indi_no_such")
    assert "program 'indi_no_such' not found" in log
    assert log.endswith(": good bye\n")


def test_a_missing_program_does_not_end_indiserver(tmp_path, toy):
    with running(tmp_path, "-v", "-p", "0", "indi_no_such", toy, name="indiserver") as server:
        client = server.connect().say(GET)
        assert client.get("defTextVector", "Toy")
        assert "Driver indi_no_such: Terminated after #0 restarts." in server.log
        client.close()


def test_it_ends_with_its_last_driver(tmp_path):
    lines = refusal(tmp_path, "-p", "0", "-r", "0", "false").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: Driver false: Terminated after #0 restarts\.", lines[-3])
    assert lines[-2].endswith(": the server ends: no driver is left, and there is no FIFO to start one")
    assert lines[-1].endswith(": good bye")


LENDER = """
import socket
sock = socket.socket(socket.AF_UNIX)
sock.connect({!r})
socket.send_fds(sock, [b"x"], [0])
sock.recv(1)
"""


def test_connections_and_disconnections_before_a_ping_are_handled_before_its_answer(tmp_path):
    """libindi's own test relies on this order when it looks for leaked descriptors."""
    lender = python_program(tmp_path / "lender", LENDER.format(str(tmp_path / "lent")))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "lent"))
        listening.listen()
        listening.settimeout(LIMIT)
        with running(tmp_path, "-v", "-p", "0", lender) as server:
            port = server.port()
            held, _ = listening.accept()
            _, (fd,), _, _ = socket.recv_fds(held, 1, 1)
            driver = Client(socket.socket(fileno=fd))
            driver.get("getProperties")

            def descriptors() -> int:
                driver.say("<pingRequest uid='1'/>\n").get("pingReply")
                return blackbox.descriptors(server.process.pid)

            idle = descriptors()
            for _ in range(20):
                client = socket.create_connection(("127.0.0.1", port))
                assert descriptors() == idle + 1
                client.close()
                assert descriptors() == idle
            driver.close()
            held.close()


ASYNCIO_PIPES = """
import asyncio, sys
async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    while data := await reader.read(4096):
        writer.write(b"<defTextVector device='Pipes' name='T' state='Ok' perm='ro'><defText name='m'>hi</defText>"
                     b"</defTextVector>")
        {wait}
asyncio.run(main())
"""


def asyncio_driver(folder, wait="await writer.drain()"):
    """Write a driver like many others, which opens its standard input and output as asyncio pipes."""
    return python_program(folder / "pipes_driver", ASYNCIO_PIPES.format(wait=wait))


HINT = "it seems to make asyncio pipes of its standard input and output"


def test_a_driver_that_needs_pipes_fails_without_them_and_the_log_says_why(tmp_path):
    driver = asyncio_driver(tmp_path)
    server = Server(tmp_path, "-v", "-r", "0", "-u", f"{tmp_path}/x", "-p", "0", driver)
    client = server.connect()

    def asked_until_it_ended() -> bool:
        with contextlib.suppress(OSError):
            client.say(GET)
        return server.process.poll() is not None

    until(asked_until_it_ended, what="the end of the server")
    assert server.ended() == 1
    assert server.log.count(HINT) == 1
    assert server.log.index("ConnectionResetError") < server.log.index(HINT) < server.log.index("Terminated after #0")
    client.close()


def test_a_driver_that_needs_pipes_but_only_warns_is_reported_at_once(tmp_path):
    with running(tmp_path, "-v", "-p", "0", asyncio_driver(tmp_path, "pass")) as server:
        client = server.connect()
        until(lambda: client.say(GET) and server.log.count("pipe closed by peer") > 2, what="warnings")
        assert server.log.count(HINT) == 1
        client.close()


@pytest.mark.parametrize("how", ["option", "fifo"])
def test_a_driver_that_needs_pipes_can_have_them(tmp_path, fifo, how):
    driver = asyncio_driver(tmp_path)
    with running(tmp_path, "-v", "-p", "0", "-f", fifo, *(["--pipes", driver] if how == "option" else [])) as server:
        client = server.connect().say(GET)
        if how == "fifo":
            fifo.write_text(f"start {driver} --pipes\n")
        for _ in range(3):
            assert client.get("defTextVector", "Pipes")
            client.say(GET)
        assert HINT not in server.log
        client.close()


def test_a_driver_in_python(tmp_path):
    (tmp_path / "observatory.py").write_text(
        "from indifast import Device, IPyDriver, TextMember, TextVector\n"
        "def make():\n"
        "    vector = TextVector('T', 'label', 'group', 'ro', 'Ok', [TextMember('m', 'label', 'in python')])\n"
        "    return IPyDriver(Device('Python Toy', [vector]))\n"
    )
    with running(tmp_path, "-v", "-p", "0", "observatory:make", cwd=tmp_path) as server:
        client = server.connect().say(GET)
        assert client.get("defTextVector", "Python Toy", "T").values() == {"m": "in python"}
        client.close()


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("no_such_module:make", "driver no_such_module:make: "),
        ("json:no_such_function", "driver json:no_such_function: "),
        ("builtins:dict", "IPyDriver"),
    ],
)
def test_a_word_that_names_no_driver_in_python_ends_it(tmp_path, word, reason):
    assert reason in refusal(tmp_path, "-p", "0", word)


def test_remote_servers(tmp_path, toy):
    with running(tmp_path, "-v", "-p", "0", toy, "indi_simulator_telescope") as far:
        port = far.port()
        for word, both in ((f"@127.0.0.1:{port}", True), (f"Toy@localhost:{port}", False)):
            near = Server(tmp_path, "-v", "-u", f"{tmp_path}/near", "-p", "0", word)
            client = near.connect()
            client.say(GET)
            assert client.get("defTextVector", "Toy").name == "T"
            if both:
                assert client.get("defSwitchVector", TELESCOPE, "CONNECTION")
            client.close()
            near.end()


def test_an_unreachable_remote_server_does_not_end_it(tmp_path, toy):
    """libindi's server ends, with all its drivers, when a remote server can't be reached."""
    with running(tmp_path, "-v", "-p", "0", f"@127.0.0.1:{free_port()}", "@no-such-host.invalid", toy) as server:
        assert server.serves()


def test_messages_of_drivers_are_logged_in_a_file_for_each_day(tmp_path, toy):
    with running(tmp_path, "-v", "-p", "0", "-l", tmp_path, toy):
        path = tmp_path / "2026-01-02.islog"
        until(lambda: path.exists() and path.read_text())
    assert path.read_text().splitlines()[0] == "2026-01-02T03:04:05: Toy: hello & welcome"


@pytest.mark.parametrize("name", [None, "indiserver"])
@pytest.mark.parametrize("how", ["option", "file"])
def test_a_missing_folder_for_messages_ends_it_at_the_start(tmp_path, toy, how, name):
    missing = tmp_path / "missing"
    (tmp_path / "observatory.toml").write_text(f"message_log = '{missing}'")
    words = ["-l", missing] if how == "option" else ["--config", tmp_path / "observatory.toml"]
    log = refusal(tmp_path, "-p", "0", *words, toy, name=name)
    assert f"{missing} is not a folder for the message log" in log
    assert log.endswith(": good bye\n")
    assert not missing.exists()


def test_a_file_instead_of_a_folder_for_messages_ends_it(tmp_path, toy):
    assert f"{toy} is not a folder" in refusal(tmp_path, "-p", "0", "-l", toy, toy)


@pytest.mark.parametrize("flag", ["-v", "-vv", "-vvv"])
def test_each_v_shows_more(tmp_path, toy, flag):
    with running(tmp_path, flag, "-p", "0", toy) as server:
        client = server.connect().say(GET)
        client.get("defTextVector", "Toy")
        until(lambda: flag == "-v" or "send <defTextVector" in server.log)
        assert ('read <getProperties version="1.7"' in server.log) == (flag != "-v")
        assert ("</defTextVector>" in server.log) == (flag == "-vvv")
        client.close()


def test_traffic_is_recorded_with_times_and_directions(tmp_path, toy):
    path = tmp_path / "traffic"
    with running(tmp_path, "-v", "-p", "0", "--record", path, toy) as server:
        client = server.connect().say(GET)
        client.get("defTextVector", "Toy")
        client.close()
    text = as_text(path).decode()
    assert re.search(r"<!-- \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} to driver \S*toy_driver -->\n<getProperties", text)
    assert re.search(r"from driver \S*toy_driver -->\n<defTextVector", text)
    assert re.search(r"from client \S+ -->\n<getProperties", text)
    assert re.search(r"to client \S+ -->\n<defTextVector", text)
    assert "getProperties" in {element.tag for element in Tokenizer().feed(text.encode())}, (
        "the recording is a stream of elements"
    )


def test_counters_are_logged_after_a_signal_or_regularly(tmp_path, toy):
    with running(tmp_path, "-v", "-p", "0", "--stats", toy) as server:
        server.port()
        server.wait_for("pid=")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("stats: {")
        found = re.search(r"stats: (\{.*\})$", server.log, re.M)
        assert json.loads(found[1])["running"] is True
    with running(tmp_path, "-v", "-p", "0", "--stats=0.1", toy) as server:
        until(lambda: server.log.count("stats: {") >= 3)


def test_the_counters_at_the_end_are_those_before_everything_closes(tmp_path, toy):
    port = free_port()
    with running(tmp_path, "-p", port, "--stats", toy) as server:
        client = server.connect(port).say(GET)
        client.get("defTextVector", "Toy")
    client.close()
    (found,) = re.findall(r": stats: (\{.*\})$", server.log, re.M)
    stats = json.loads(found)
    assert stats["devices"] == {"Toy": f"Driver {toy}"}
    assert stats["clients"] == 1
    assert {peer["kind"] for peer in stats["peers"]} == {"client", "driver"}
    assert all(peer["received"] for peer in stats["peers"])


def test_counters_are_logged_when_the_last_driver_is_gone(tmp_path):
    program = python_program(tmp_path / "brief", "print(\"<message device='Brief' message='bye'/>\")")
    lines = refusal(tmp_path, "-p", "0", "-r", "0", "--stats", program).splitlines()
    assert lines[-1].endswith(": good bye")
    stats = json.loads(lines[-2].partition(": stats: ")[2])
    assert stats["running"] is True
    assert [(peer["name"], peer["received"]) for peer in stats["peers"]] == [(f"Driver {program}", 1)]


@pytest.mark.parametrize("name", [None, "indiserver"])
def test_a_signal_for_counters_does_nothing_if_nobody_wants_them(tmp_path, toy, name):
    port = free_port()
    with running(tmp_path, "-p", port, toy, name=name) as server:
        server.wait_for("startup: ")
        for _ in range(3):
            server.process.send_signal(signal.SIGUSR1)
            assert server.serves(port=port)
    assert "stats" not in server.log


def test_counters_can_be_asked_for_in_the_configuration_file(tmp_path, toy):
    path = tmp_path / "observatory.toml"
    path.write_text(f"port = 0\nstats = 0.1\n[[drivers]]\nprogram = '{toy}'\n")
    with running(tmp_path, "--config", path) as server:
        until(lambda: server.log.count("stats: {") >= 3)


def test_a_configuration_file(tmp_path, toy):
    path = tmp_path / "observatory.toml"
    path.write_text(f"port = 0\nverbose = 1\n[[drivers]]\nprogram = '{toy}'\ndevice = 'From the file'\n")
    with running(tmp_path, "--config", path) as server:
        assert server.serves("From the file")


def test_an_invalid_configuration_file_ends_it(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text("drivers = 5")
    assert "wrong.toml" in refusal(tmp_path, "--config", path)


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(tmp_path, toy, mutual):
    authorities = {"server": trustme.CA(), "client": trustme.CA()}
    for name, authority in authorities.items():
        authority.cert_pem.write_to_path(tmp_path / f"{name}-ca.pem")
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    arguments = ["--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.key"]
    arguments += ["--tls-ca", tmp_path / "client-ca.pem"] if mutual else []
    with running(tmp_path, "-v", "-p", "0", *arguments, toy) as server:
        port = server.port()
        context = ssl.create_default_context(cafile=tmp_path / "server-ca.pem")
        if mutual:
            with pytest.raises(OSError):
                sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
                sock.sendall(GET.encode())
                sock.settimeout(LIMIT)
                if not sock.recv(100):
                    raise ConnectionError("closed without an answer")
            context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        secure = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
        client = Client(secure).say(GET)
        assert client.get("defTextVector", "Toy")
        client.close()
        with pytest.raises((OSError, AssertionError)):
            Client.tcp(port).say(GET).get("defTextVector", "Toy")


def test_snooping_drivers_are_told_of_the_end_of_another(tmp_path, toy):
    """libindi's server tells only clients."""
    snooper = python_program(
        tmp_path / "snooper",
        "import sys\nprint(\"<getProperties version='1.7' device='Toy'/>\", flush=True)\n"
        "for line in sys.stdin: print(line.rstrip(), file=sys.stderr, flush=True)\n",
    )
    with running(tmp_path, "-v", "-p", "0", snooper, toy) as server:
        server.wait_for(f"Driver {snooper}: <defTextVector")
        (victim,) = (child for child in server.children() if str(toy) in child.cmdline())
        victim.kill()
        server.wait_for(f'Driver {snooper}: <delProperty device="Toy"')
