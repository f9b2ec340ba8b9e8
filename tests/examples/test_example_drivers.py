"""The example drivers, each run as a newcomer would run it and watched over TCP."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.blackbox import LIMIT, PYTHON, Channel, Child, free_port, python_environment, tree, until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GET = b'<getProperties version="1.7"/>'
LISTENING = re.compile(r"listening on port (\d+)\n")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Channel]]:
    """Starts an example on a port of the kernel's choice; gives a client that has asked for everything."""
    children: list[Child] = []
    channels: list[Channel] = []

    def start(name: str, *arguments: str) -> Channel:
        child = Child([PYTHON, str(EXAMPLES / name), "--port", "0", *arguments], tmp_path, env=python_environment())
        children.append(child)
        until(lambda: LISTENING.search(child.stderr), what="the listener")
        found = LISTENING.search(child.stderr)
        assert found is not None
        channels.append(Channel.connect(int(found.group(1))))
        channels[-1].send(GET)
        return channels[-1]

    yield start
    for channel in channels:
        channel.close()
    for child in children:
        text = child.stderr
        child.kill()
        assert "Traceback" not in text, text


def numbers(channel: Channel, device: str, name: str, count: int) -> list[float]:
    """The next values of a one-member number vector."""
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
    client.until_text("defLightVector")
    # It cools down until the heater starts, and the light tells.
    values = numbers(client, "Thermostat", "temperature", 3)
    assert values[0] > values[-1]
    client.until(lambda m: m.startswith(b"<setLightVector") and b">Busy<" in m)


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
    while numbers(client, "Thermostat", "temperature", 1)[0] < 19.5:  # until it has followed its target
        pass


def test_window_follows_the_thermostat(run: Callable[..., Channel]) -> None:
    client = run("window.py", "--period", "0.02")
    client.until_text('<defSwitchVector device="Window"')
    # The room cools down below the lower threshold and is heated again, over and over.
    for position in (b"CLOSED", b"OPEN", b"CLOSED"):
        client.until(lambda m, p=position: m.startswith(b"<setSwitchVector") and b'name="' + p + b'">On' in m)  # type: ignore[misc]


def test_filter_wheels(run: Callable[..., Channel]) -> None:
    client = run("filter_wheels.py", "--seconds-per-slot", "0.05")
    client.until_text('<defSwitchVector device="Wheel 2"')

    def choose(wheel: str, *names: str) -> None:
        members = "".join(f'<oneSwitch name="{name}">On</oneSwitch>' for name in names)
        client.send(f'<newSwitchVector device="{wheel}" name="slot">{members}</newSwitchVector>'.encode())

    def told(wheel: str, state: str) -> dict[str, str | None]:
        words = f'device="{wheel}" name="slot" state="{state}"'.encode()
        message = client.until(lambda m: m.startswith(b"<setSwitchVector") and words in m)[-1]
        return {member.get("name", ""): member.text for member in tree(message)}

    choose("Wheel 1", "B")
    told("Wheel 1", "Busy")
    assert [name for name, value in told("Wheel 1", "Ok").items() if value == "On"] == ["B"]
    choose("Wheel 1", "G")
    told("Wheel 1", "Busy")
    choose("Wheel 1", "R")
    client.until_text("Wait until the wheel has stopped")
    assert [name for name, value in told("Wheel 1", "Ok").items() if value == "On"] == ["G"]
    choose("Wheel 2", "R", "G")
    told("Wheel 2", "Alert")


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
    # Whole frames: every pixel of a gradient that moves by one with each frame.
    for content in frames:
        first = int.from_bytes(content[:2], sys.byteorder)
        last = int.from_bytes(content[-2:], sys.byteorder)
        assert last - first == 63 + 47


def test_old_style_thermostat(tmp_path: Path) -> None:
    port = free_port()
    words = [PYTHON, str(EXAMPLES / "thermostat_old_style.py"), str(port), "0.05"]
    with Child(words, tmp_path, env=python_environment()) as child:
        client = Channel.connect(port)
        client.send(GET)
        client.until_text('name="target"')
        values = numbers(client, "Boiler", "temperature", 4)
        assert values == sorted(values) and values[-1] > values[0]
        client.send(
            b'<newNumberVector device="Boiler" name="target"><oneNumber name="celsius">20</oneNumber></newNumberVector>'
        )
        client.until(lambda m: b'name="target"' in m and b">20<" in m)
        values = numbers(client, "Boiler", "temperature", 4)
        assert values[-1] < values[0]
        client.send(  # sexagesimal
            b'<newNumberVector device="Boiler" name="target"><oneNumber name="celsius">20:30</oneNumber></newNumberVector>'
        )
        client.until(lambda m: b'name="target"' in m and b">20.5<" in m)
        client.close()
        assert "Traceback" not in child.stderr


def test_old_style_thermostat_runs_with_the_release_it_was_written_for(peers: dict[str, Path], tmp_path: Path) -> None:
    """The very same program, with the one import changed back, under indipydriver 1.2.2."""
    program = (EXAMPLES / "thermostat_old_style.py").read_text()
    assert "import indifast as indipydriver\nfrom indifast import" in program
    old = program.replace(
        "import indifast as indipydriver\nfrom indifast import", "import indipydriver\nfrom indipydriver import"
    )
    path = tmp_path / "old.py"
    path.write_text(old)
    port = free_port()
    with Child([str(peers["d12"]), str(path), str(port), "0.05"], tmp_path, env={"PYTHONPATH": ""}):
        client = Channel.connect(port)
        client.send(GET)
        client.until_text('name="target"')
        assert numbers(client, "Boiler", "temperature", 2)
        client.close()


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.py") if p.name != "thermostat_old_style.py"))
def test_every_example_tells_its_arguments(name: str) -> None:
    done = subprocess.run(
        [PYTHON, str(EXAMPLES / name), "--help"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
        env={**os.environ, **python_environment()},
    )
    assert "--port" in done.stdout
