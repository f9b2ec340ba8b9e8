"""The example drivers, run as a newcomer would run them and watched over TCP."""

from __future__ import annotations

import ast
import base64
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.blackbox import LIMIT, PYTHON, Channel, Child, free_port, python_environment, tree
from tests.support.servers import EXAMPLES, announced_port, await_listener, example, example_child, old_style_thermostat

GET = b'<getProperties version="1.7"/>'


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Channel]]:
    """A function that starts an example, and returns a client that has asked for everything."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: str) -> Channel:
            client = Channel.connect(stack.enter_context(example(name, tmp_path, *arguments)))
            stack.callback(client.close)
            client.send(GET)
            return client

        yield start


def numbers(channel: Channel, device: str, name: str, count: int) -> list[float]:
    """Return the next values of a number vector with one member."""
    found: list[float] = []
    while len(found) < count:
        message = channel.until(
            lambda m: m.startswith(b"<setNumberVector") and f'device="{device}" name="{name}"'.encode() in m
        )
        found.append(float(tree(message[-1])[0].text or ""))
    return found


def test_led(run: Callable[..., Channel]) -> None:
    client = run("led.py")
    client.until_text("defSwitchVector")
    for value in ("On", "Off"):
        client.send(
            f'<newSwitchVector device="Desk lamp" name="power"><oneSwitch name="ON">{value}</oneSwitch></newSwitchVector>'.encode()
        )
        message = tree(client.until_text("<setSwitchVector")[-1])
        assert (message.get("state"), message[0].text) == ("Ok", value)


def test_thermostat(run: Callable[..., Channel]) -> None:
    client = run("thermostat.py", "--period", "0.05")
    messages = client.until_text("defLightVector")
    # It cools down until the heater starts, as the light shows, and is warmer when that stops; again and again.
    before = []
    for state in (b">Busy<", b">Idle<", b">Busy<"):
        messages += client.until(lambda m, state=state: m.startswith(b"<setLightVector") and state in m)  # type: ignore[misc]
        before.append([float(tree(m)[0].text or "") for m in messages if b'NumberVector device="Thermostat"' in m][-1])
    assert before[0] < before[1] > before[2]


def test_thermostat_with_target(run: Callable[..., Channel]) -> None:
    client = run("thermostat_target.py", "--period", "0.05")
    client.until_text('name="target"')

    def ask(text: str) -> None:
        client.send(
            f'<newNumberVector device="Thermostat" name="target"><oneNumber name="VALUE">{text}</oneNumber></newNumberVector>'.encode()
        )

    def aim(text: str) -> tuple[str | None, str | None]:
        ask(text)
        message = tree(client.until(lambda m: m.startswith(b"<setNumberVector") and b'name="target"' in m)[-1])
        return message.get("state"), message[0].text

    assert aim("18:30") == ("Ok", "18.5")
    ask("warm")
    refusal = tree(client.until(lambda m: m.startswith(b"<message"))[-1])
    assert "'warm' is not a number" in (refusal.get("message") or "")
    assert aim("99")[0] == "Alert"
    assert aim("20") == ("Ok", "20.0")
    while numbers(client, "Thermostat", "temperature", 1)[0] < 19.5:  # it follows its target
        pass


def test_window_follows_the_thermostat(run: Callable[..., Channel]) -> None:
    client = run("window.py", "--period", "0.02")
    client.until_text('<defSwitchVector device="Window"')
    # The room cools down below the lower threshold, and is heated again and again.
    for position in (b"CLOSED", b"OPEN", b"CLOSED"):
        client.until(lambda m, p=position: m.startswith(b"<setSwitchVector") and b'name="' + p + b'">On' in m)  # type: ignore[misc]


def test_filter_wheels(run: Callable[..., Channel]) -> None:
    client = run("filter_wheels.py", "--seconds-per-slot", "0.05")
    client.until_text('<defSwitchVector device="Wheel 2"')

    def choice(wheel: str, *names: str) -> bytes:
        members = "".join(f'<oneSwitch name="{name}">On</oneSwitch>' for name in names)
        return f'<newSwitchVector device="{wheel}" name="slot">{members}</newSwitchVector>'.encode()

    def updated(wheel: str, state: str) -> dict[str, str | None]:
        words = f'device="{wheel}" name="slot" state="{state}"'.encode()
        message = client.until(lambda m: m.startswith(b"<setSwitchVector") and words in m)[-1]
        return {member.get("name", ""): member.text for member in tree(message)}

    client.send(choice("Wheel 1", "B"))
    updated("Wheel 1", "Busy")
    assert [name for name, value in updated("Wheel 1", "Ok").items() if value == "On"] == ["B"]
    refused, slots = b"Wait until the wheel has stopped", []
    while not slots or refused not in slots[-1][0]:  # unless the wheel has stopped in between, on a busy machine
        client.send(choice("Wheel 1", "G") + choice("Wheel 1", "R"))
        updated("Wheel 1", "Busy")
        answer = client.until(lambda m: refused in m or b'state="Ok"' in m)[-1]
        slots.append((answer, updated("Wheel 1", "Ok")))
    assert [name for name, value in slots[-1][1].items() if value == "On"] == ["G"]
    client.send(choice("Wheel 2", "R", "G"))
    updated("Wheel 2", "Alert")


def test_streaming_camera(run: Callable[..., Channel]) -> None:
    client = run("streaming_camera.py", "--size", "64x48", "--rate", "50")
    client.until_text("defNumberVector")
    client.send(b'<enableBLOB device="Video">Also</enableBLOB>')
    frames = []
    while len(frames) < 5:
        message = tree(client.until(lambda m: m.startswith(b"<setBLOBVector"))[-1])
        content = base64.b64decode(message[0].text or "")
        assert (len(content), message[0].get("size"), message[0].get("format")) == (64 * 48 * 2, "6144", ".stream")
        frames.append(content)
    # The frames are complete: a gradient that moves by one with each frame.
    for content in frames:
        first = int.from_bytes(content[:2], sys.byteorder)
        last = int.from_bytes(content[-2:], sys.byteorder)
        assert last - first == 63 + 47


def test_focuser_whose_library_calls_back(run: Callable[..., Channel]) -> None:
    client = run("focuser_sdk.py", "--steps-per-second", "100")  # so that it can be stopped on a busy machine, too
    client.until_text("<defSwitchVector")

    def move(position: int) -> None:
        client.send(
            f'<newNumberVector device="Focuser" name="ABS_FOCUS_POSITION"><oneNumber name="FOCUS_ABSOLUTE_POSITION">{position}</oneNumber></newNumberVector>'.encode()
        )

    def until(state: str) -> list[int]:
        """Return the positions up to the first in this state."""
        words = f'name="ABS_FOCUS_POSITION" state="{state}"'.encode()
        messages = client.until(lambda m: m.startswith(b"<setNumberVector") and words in m)
        return [int(tree(each)[0].text or "") for each in messages if each.startswith(b"<setNumberVector")]

    move(5100)
    positions = until("Ok")
    assert positions[-1] == 5100 and positions == sorted(positions)
    move(20000)
    assert "cannot move to 20000" in client.until_text("<setNumberVector")[-1].decode() or until("Alert")
    move(0)
    until("Busy")
    client.send(
        b'<newSwitchVector device="Focuser" name="FOCUS_ABORT_MOTION"><oneSwitch name="ABORT">On</oneSwitch></newSwitchVector>'
    )
    stopped = until("Ok")[-1]
    assert stopped > 0
    move(stopped)
    assert until("Ok")[-1] == stopped


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in its server", "on another server"])
def test_guider_follows_a_star(elsewhere: bool, run: Callable[..., Channel], tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        words: tuple[str, ...] = ()
        if elsewhere:
            port = stack.enter_context(example("simulated_camera.py", tmp_path, "--serve"))
            words = ("--camera-at", f"localhost:{port}")
        client = run("snooping_guider.py", *words)
        client.until_text('name="DRIVER_INFO"')

        def command(kind: str, name: str, member: str, value: object) -> None:
            client.send(
                f'<new{kind}Vector device="Simulated Camera" name="{name}"><one{kind} name="{member}">{value}</one{kind}></new{kind}Vector>'.encode()
            )

        command("Switch", "CONNECTION", "CONNECT", "On")
        client.until_text('name="UPLOAD_SETTINGS"')
        for _ in range(2):
            command("Number", "CCD_EXPOSURE", "CCD_EXPOSURE_VALUE", 0.3)
            x, y = (
                float(member.text or "nan")
                for member in tree(client.until_text('<setNumberVector device="Guider" name="ERROR"')[-1])
            )
            assert abs(x) < 7 and abs(y) < 0.3  # the sky sways 3 pixels to the left and right
        client.until_text('<setNumberVector device="Guider" name="PULSE"')
        command("Switch", "CONNECTION", "DISCONNECT", "On")
        client.until_text("The camera is gone")


def test_old_style_thermostat(tmp_path: Path) -> None:
    with old_style_thermostat(tmp_path, 0.05) as port:
        client = Channel.connect(port)
        client.send(GET)
        client.until_text('name="target"')

        def aim(text: str, value: bytes) -> None:
            client.send(
                f'<newNumberVector device="Boiler" name="target"><oneNumber name="celsius">{text}</oneNumber></newNumberVector>'.encode()
            )
            client.until(lambda m: b'name="target"' in m and b">" + value + b"<" in m)

        # It becomes warmer or colder until it is where it should be.
        for text, value, target in (("90", b"90", 90.0), ("85:30", b"85.5", 85.5), ("95", b"95", 95.0)):
            aim(text, value)
            while abs(numbers(client, "Boiler", "temperature", 1)[0] - target) > 1:
                pass
        client.close()


def test_old_style_thermostat_runs_with_the_release_it_was_written_for(peers: dict[str, Path], tmp_path: Path) -> None:
    """The same program with indipydriver 1.2.2, after changing only the import."""
    program = (EXAMPLES / "thermostat_old_style.py").read_text()
    assert "import indifast as indipydriver\nfrom indifast import" in program
    path = tmp_path / "old.py"
    path.write_text(
        program.replace(
            "import indifast as indipydriver\nfrom indifast import", "import indipydriver\nfrom indipydriver import"
        )
    )
    port = free_port()
    with Child([str(peers["d12"]), str(path), str(port), "0.05"], tmp_path, env={"PYTHONPATH": ""}) as server:
        await_listener(server, port)
        client = Channel.connect(port)
        client.send(GET)
        client.until_text('name="target"')
        assert numbers(client, "Boiler", "temperature", 2)
        client.close()


PARTS = {"sky.py", "camera_properties.py"}
"""Modules of examples that are no programs."""

PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in PARTS)


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "thermostat_old_style.py"])
def test_every_example_has_help(name: str) -> None:
    done = subprocess.run(
        [PYTHON, str(EXAMPLES / name), "--help"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
        env={**os.environ, **python_environment()},
    )
    assert "--port" in done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_example_says_how_to_run_it(name: str) -> None:
    documentation = ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or ""
    assert f"    python examples/{name}" in documentation


SERVERS = [
    name for name in PROGRAMS if name not in ("thermostat_old_style.py", "exposure_sequence.py", "server_tree.py")
]


@pytest.mark.parametrize("name", SERVERS)
def test_every_example_server_ends_quietly_at_ctrl_c(name: str, tmp_path: Path) -> None:
    words = ["--serve"] if name == "simulated_camera.py" else []
    with example_child(name, tmp_path, *words) as server:
        client = Channel.connect(announced_port(server))
        client.send(GET)
        client.until_text("<def")
        os.kill(server.pid, signal.SIGINT)
        assert server.wait() == 0
        client.close()
        assert server.stderr.splitlines()[1:] == ["stopped"]


def test_the_old_style_server_ends_quietly_at_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    with Child(
        [PYTHON, str(EXAMPLES / "thermostat_old_style.py"), str(port)], tmp_path, env=python_environment()
    ) as server:
        await_listener(server, port)
        os.kill(server.pid, signal.SIGINT)
        assert server.wait() == 0
        assert server.stderr.splitlines() == ["stopped"]
