"""Pixels for terminals that can draw them, and not a byte of them for others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.terminal.pty_support import Terminal

PROGRAM = str(Path(__file__).parent / "programs" / "pane_alone.py")
SHADES = "▀░▒▓"


def pixels_sent(terminal: Terminal) -> bool:
    return b"\x1bP" in terminal.output or b"\x1b_G" in terminal.output


@pytest.mark.parametrize(
    ("attributes", "environment"),
    [
        ("62;22", {}),
        (None, {}),
        ("62;4;22", {"TMUX": "/tmp/tmux-0/default,1,0"}),
        ("62;4;22", {"STY": "1.pts-0"}),
        ("62;4;22", {"TERM": "screen-256color"}),
        ("62;4;22", {"TERM": "linux"}),
        ("62;22", {"TERM": "xterm"}),
        (None, {"TERM": "xterm-kitty"}),
    ],
    ids=["plain", "mute", "tmux", "screen", "TERM=screen", "console", "16 colors", "mute kitty"],
)
def test_terminals_without_pixels_get_characters(attributes: str | None, environment: dict[str, str]) -> None:
    with Terminal(PROGRAM, attributes=attributes, environment=environment) as terminal:
        terminal.until(lambda: any(shade in terminal.text for shade in SHADES), "a picture made of characters")
        terminal.shows("160 x 120 8 bit", "below")
        terminal.type("q")
        assert terminal.ended() == 0
        assert not pixels_sent(terminal)
        assert b"\x1b_G" not in terminal.output


def test_sixels_are_drawn_at_the_place_of_the_picture() -> None:
    with Terminal(PROGRAM, "patient", attributes="62;4;22", cell=(8, 16)) as terminal:
        terminal.until(lambda: re.search(rb"\x1bP[^\x1b]*\x1b\\\x1b8", terminal.output), "sixels")
        found = re.search(rb'\x1b7\x1b\[(\d+);(\d+)H\x1bP[0-9;]*q"1;1;(\d+);(\d+)[#;0-9]', terminal.output)
        assert found is not None
        line, column, width, height = map(int, found.groups())
        assert (line, column) == (2, (80 - width // 8) // 2 + 1)
        assert width % 8 == height % 16 == 0
        assert abs(width / height - 160 / 120) < 0.1
        terminal.type("q")
        assert terminal.ended() == 0


def test_kitty_receives_the_picture_once_and_is_told_to_delete_it_at_the_end() -> None:
    kitty = {"TERM": "xterm-kitty"}
    with Terminal(PROGRAM, "patient", attributes="62", environment=kitty, cell=(8, 16)) as terminal:
        terminal.until(lambda: "\U0010eeee".encode() in terminal.output, "placeholders")
        terminal.type("q")
        assert terminal.ended() == 0
        sent = [int(number) for number in re.findall(rb"\x1b_Gi=(\d+),m=0,f=100", terminal.output)]
        deleted = [int(number) for number in re.findall(rb"\x1b_Ga=d,I=(\d+)", terminal.output)]
        assert sent
        assert sent == deleted
