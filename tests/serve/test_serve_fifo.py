"""Drivers that are started and stopped over the FIFO, as KStars and INDI Web Manager do."""

from __future__ import annotations

import os
import signal
import subprocess

import psutil
import pytest

from tests.serve.support import GET, Client, Server, installed, refusal, running
from tests.support.blackbox import LIMIT, free_port, until
from tests.support.programs import python_program


def send(fifo, line: str) -> None:
    with open(fifo, "w") as file:
        file.write(line + "\n")


def test_start_and_stop(tmp_path, fifo, toy):
    with running(tmp_path, "-v", "-p", "0", "-f", fifo) as server:
        client = server.connect().say(GET)
        send(fifo, f"start {toy}")
        assert client.get("defTextVector", "Toy")
        send(fifo, f'start {toy} -n "Second One"')
        assert client.get("defTextVector", "Second One")
        send(fifo, f'stop {toy} -n "Second One"')
        assert client.get("delProperty").device == "Second One"
        send(fifo, f"stop {toy}")
        assert client.get("delProperty").device == "Toy"
        until(lambda: not server.children())
        send(fifo, f"start {toy}")
        assert client.get("defTextVector", "Toy"), "it runs even without any driver"
        assert f"FIFO: start {toy}" in server.log
        client.close()


def test_the_second_start_of_a_driver_is_warned_of(tmp_path, fifo, toy):
    warning = (
        f"FIFO: {toy} runs already, and is started once more: to tell the two apart, name the second one: start {toy}"
    )
    with running(tmp_path, "-v", "-p", "0", "-f", fifo) as server:
        server.port()
        send(fifo, f'start {toy}\nstart {toy} -n "Second One"\nstop {toy}\nstart {toy}')
        until(lambda: server.log.count("FIFO: start ") == 3)
        assert "runs already" not in server.log
        send(fifo, f"start {toy}")
        server.wait_for(f'{warning} -n "NAME"\n')
        send(fifo, f'start {toy} -n "Second One"')
        until(lambda: server.log.count("runs already") == 2)
        until(lambda: len(server.children()) == 4)


def test_a_driver_is_stopped_once(tmp_path, fifo, toy):
    with running(tmp_path, "-v", "-p", "0", "-f", fifo, toy) as server:
        server.port()
        until(server.children)
        send(fifo, f"stop {toy}\nstop {toy}")
        server.wait_for(f"FIFO: 'stop {toy}' ignored: no such driver is running\n")
        until(lambda: not server.children())


def test_a_module_is_no_program(tmp_path, fifo):
    with running(tmp_path, "-v", "-p", "0", "-f", fifo) as server:
        server.port()
        send(fifo, "start thermometer:make")
        why = "a FIFO starts programs only: name thermometer:make when you start the server"
        server.wait_for(f"Driver thermometer:make: {why}\n")
        server.wait_for("Driver thermometer:make: Terminated after #0 restarts.\n")  # for KStars


def test_prefix_and_environment(tmp_path, fifo):
    (tmp_path / "bin").mkdir()
    python_program(
        tmp_path / "bin" / "lister",
        "import os, sys\n"
        "print([os.environ.get(f'INDI{name}') for name in ('DEV', 'CONFIG', 'SKEL')], file=sys.stderr)\ninput()\n",
    )
    with running(tmp_path, "-v", "-p", "0", "-f", fifo) as server:
        server.port()
        send(fifo, f'start lister -p "{tmp_path}" -n "A B" -s "/tmp/x.xml"')
        server.wait_for("Driver lister: ['A B', None, '/tmp/x.xml']")


@pytest.mark.parametrize(
    "line",
    [
        "bogus {toy}",
        "start {toy} -n NoQuotes",
        'start {toy} -n "" -s "x"',
        'start {toy} -x "y"',
        "start",
        "nonsense",
        "start @host:port",
        "stop never_started",
        "x" * 2000,
    ],
)
def test_malformed_lines_have_no_effect_but_an_error(tmp_path, fifo, toy, line):
    with running(tmp_path, "-v", "-p", "0", "-f", fifo, toy) as server:
        client = server.connect().say(GET)
        client.get("defTextVector", "Toy")
        before = {child.pid for child in server.children()}
        send(fifo, line.format(toy=toy))
        until(lambda: " ignored: " in server.log or "FIFO: a line of more than" in server.log)
        client.say(GET)
        assert client.get("defTextVector", "Toy")
        assert {child.pid for child in server.children()} == before
        client.close()


def test_a_remote_server_is_added_and_removed(tmp_path, fifo, toy):
    with running(tmp_path, "-v", "-p", "0", toy) as far:
        port = far.port()
        near = Server(tmp_path, "-v", "-u", f"{tmp_path}/near", "-p", "0", "-f", fifo)
        client = near.connect().say(GET)
        send(fifo, f"start Toy@127.0.0.1:{port}")
        assert client.get("defTextVector", "Toy")
        send(fifo, f"stop Toy@127.0.0.1:{port}")
        assert client.get("delProperty").device == "Toy"
        send(fifo, "start @no-such-host.invalid")  # libindi's server ends here
        client.say("<pingRequest uid='alive'/>")
        assert client.get("pingReply")
        client.close()
        near.end()


@pytest.mark.parametrize("device", ["ASI 120 -Guide", "CCD Imager Simulator @ sky"])
@pytest.mark.parametrize("form", ['"{}"@127.0.0.1:{}', "{}@127.0.0.1:{}", '"{}@127.0.0.1:{}"'])
def test_the_name_of_a_remote_device_may_contain_separators(tmp_path, fifo, toy, device, form, monkeypatch):
    monkeypatch.setenv("INDIDEV", device)
    (tmp_path / "near").mkdir()
    with (
        running(tmp_path, "-v", "-p", "0", toy) as far,
        running(tmp_path / "near", "-v", "-p", "0", "-f", fifo) as near,
    ):
        driver = form.format(device, far.port())
        client = near.connect().say(GET)
        send(fifo, f"start {driver}")
        assert client.get("defTextVector", device)
        send(fifo, f"stop {driver}")
        assert client.get("delProperty").device == device
        client.close()


def test_a_program_below_a_folder_with_an_at_sign(tmp_path, fifo, toy):
    folder = tmp_path / "user@corp"
    folder.mkdir()
    path = toy.rename(folder / "drv")
    with running(tmp_path, "-v", "-p", "0", "-f", fifo) as server:
        client = server.connect().say(GET)
        send(fifo, f'start {path} -n "A @ b"')
        assert client.get("defTextVector", "A @ b")
        send(fifo, f"stop {path}")
        assert client.get("delProperty").device == "A @ b"
        client.close()


def test_it_works_as_kstars_uses_it(tmp_path, fifo, toy):
    """With -r 0, a FIFO that stays open, and the line by which KStars finds out that a driver has ended."""
    held = os.open(fifo, os.O_RDWR)
    port = free_port()
    arguments = ["-v", "-p", port, "-m", "1000", "-r", "0", "-f", fifo]
    with running(tmp_path, *arguments, name="indiserver") as server:
        server.port()
        os.write(held, f'start {toy} -n "Cam" -s "/tmp/sk.xml"\n'.encode())
        client = Client.tcp(port).say(GET)
        client.get("defTextVector", "Cam")
        (child,) = server.children()
        child.kill()
        assert client.get("delProperty").device == "Cam"
        server.wait_for(f": Driver {toy}: Terminated after #0 restarts.\n")
        os.write(held, b"start indi_no_such_driver\n")
        server.wait_for(": Driver indi_no_such_driver: Terminated after #0 restarts.\n")
        os.write(held, b"start indi_simulator_telescope\n")
        assert client.get("defSwitchVector", "Telescope Simulator", "CONNECTION")
        os.write(held, b"stop indi_simulator_telescope\n")
        assert client.get("delProperty").device == "Telescope Simulator"
        assert "Driver indi_simulator_telescope: Terminated" not in server.log
        client.close()
    os.close(held)


def test_it_works_as_indi_web_manager_uses_it(tmp_path, fifo, toy):
    """Started by a shell, found by its name and its argument of -p, and ended by its name."""
    port = free_port()
    program = installed(tmp_path, "indiserver")
    log = tmp_path / "indiserver.log"
    command = f"{program} -p {port} -m 1000 -v -f {fifo} -u {tmp_path}/sock > {log} 2>&1 &"
    subprocess.run(["sh", "-c", command], check=True)

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or []
            if process.info["name"] == "indiserver" and str(port) in words:
                found.append(process)
        return found

    until(find, what="the process by its name")
    (process,) = find()
    try:
        until(lambda: log.exists() and "listening to port" in log.read_text())
        subprocess.run(
            ["sh", "-c", f'echo "start {toy} -s \\"x.xml\\" -n \\"Label\\"" > {fifo}'], check=True, timeout=LIMIT
        )
        client = Client.tcp(port).say(GET)
        assert client.get("defTextVector", "Label")
        subprocess.run(["sh", "-c", f'echo "stop {toy} -n \\"Label\\"" > {fifo}'], check=True, timeout=LIMIT)
        assert client.get("delProperty").device == "Label"
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        psutil.wait_procs([process], timeout=LIMIT)
    until(lambda: not find())


@pytest.mark.parametrize("name", ["missing", "toy_driver"])
def test_a_path_that_is_not_a_fifo_ends_it(tmp_path, toy, name):
    log = refusal(tmp_path, "-p", "0", "-f", tmp_path / name, toy)
    assert str(tmp_path / name) in log
    assert log.endswith(": good bye\n")
