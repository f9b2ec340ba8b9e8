"""Hostile names, labels and texts: all are shown, and none is interpreted."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.sax.saxutils import quoteattr

import pytest

from indifast.terminal.celltext import fitted, shortened, visible
from indifast.terminal.editor import End
from tests.terminal.support import go_to, on_screen, screen_text, terminal, until

NAMES = (
    "[bold red]x[/]",
    "[@click=app.quit]quit[/]",
    "]]>[[",
    "$variable",
    "a\tb\nc",
    "\u202egnp.exe",
    "\x85\x9b31m",
    "é日本語🔭",
)


@asynccontextmanager
async def saying(*texts: str) -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """A server that sends these texts to each client that has sent something; yields its port and the connections."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(1)
        for text in texts:
            writer.write(text.encode())
        while await reader.read(1 << 16):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], writers
    finally:
        server.close()
        for writer in writers:
            writer.close()


def number(device: str, name: str, group: str = "Main", form: str = "%g", message: str = "") -> str:
    return (
        f"<defNumberVector device={quoteattr(device)} name={quoteattr(name)} label={quoteattr(name)}"
        f" group={quoteattr(group)} state='Ok' perm='rw' message={quoteattr(message)}>"
        f"<defNumber name={quoteattr(name)} label={quoteattr(name)} format={quoteattr(form)} min='0' max='0' step='0'>"
        "3.25</defNumber></defNumberVector>"
    )


async def test_names_are_not_read_as_markup() -> None:
    texts = [number(name, name, name, message=name) for name in NAMES]
    async with saying(*texts) as (port, _), terminal(port, (120, 40)) as (app, pilot):
        await until(lambda: len(app.board.properties) == len(NAMES))
        for name in list(app.board.properties):
            await go_to(app, pilot, name[0], app.board.properties[name].group, name[1])
            await on_screen(app, "3.25", visible(name[1]))
        await on_screen(app, "[bold red]x[/]", "[@click=app.quit]quit[/]")
        for character in screen_text(app):
            assert character.isprintable() or character == "\n", repr(character)
        assert app.is_running


async def test_an_empty_group_and_invalid_formats() -> None:
    forms = ("%s%s", "%", "%5.99999f", "no format", "%n", "%99999999d")
    texts = [number("D", f"N{index}", "", form) for index, form in enumerate(forms)]
    async with saying(*texts) as (port, _), terminal(port, (120, 40)) as (app, pilot):
        await go_to(app, pilot, "D", "")
        await on_screen(app, "(no group)", "N0", "N5")
        await until(lambda: screen_text(app).count("3.25") >= 4)


async def test_every_kind_of_vector_with_hostile_content() -> None:
    blob = base64.b64encode(b"[red]not a picture[/]").decode()
    texts = (
        "<defTextVector device='D' name='T' group='[b]' state='Alert' perm='wo'>"
        "<defText name='[i]'>a&#10;b</defText></defTextVector>",
        "<defSwitchVector device='D' name='S' group='[b]' state='Busy' perm='rw' rule='OneOfMany'>"
        "<defSwitch name='[s]'>Off</defSwitch></defSwitchVector>",
        "<defLightVector device='D' name='L' group='[b]' state='Idle'>"
        "<defLight name='[l]'>Alert</defLight></defLightVector>",
        "<defBLOBVector device='D' name='B' group='[b]' state='Ok' perm='rw'><defBLOB name='[b]'/></defBLOBVector>",
        "<setBLOBVector device='D' name='B' state='Ok'>"
        f"<oneBLOB name='[b]' size='21' format='.[/b]'>{blob}</oneBLOB></setBLOBVector>",
        "<message device='D' message='[/] [blink]not this[/blink] \x1b[31m'/>",
        "<delProperty device='nobody' name='nothing'/>",
    )
    async with saying(*texts) as (port, _), terminal(port, (120, 40)) as (app, pilot):
        await go_to(app, pilot, "D", "[b]")
        await on_screen(app, "[i]", "[s]", "[l]", "[blink]not this[/blink]", "▲ Alert")
        await pilot.press("right", "tab", "tab", "down", "up", "l", "l", "question_mark", "escape")
        assert app.is_running


async def test_a_member_can_disappear_while_it_is_edited() -> None:
    async with saying(number("D", "N")) as (port, writers), terminal(port) as (app, pilot):
        await go_to(app, pilot, "D", "Main", "N")
        await pilot.press("right", "enter", *"12")
        writers[0].write(number("D", "N").replace('<defNumber name="N"', '<defNumber name="M"').encode())
        await until(lambda: "M" in app.board.properties["D", "N"].vector.members())
        await until(lambda: app.panes.pane_of("D", "N").editor is None)
        assert app.is_running


@pytest.mark.parametrize("keys", [("right", "down"), ("right", "enter", "1")], ids=["selected", "edited"])
async def test_the_tree_has_the_focus_when_a_device_has_gone(keys: tuple[str, ...]) -> None:
    """Neither a deleted property keeps the focus, nor does a property of another device receive it."""
    texts = [number(device, f"N{index}") for device in ("D", "E") for index in range(4)]
    async with saying(*texts) as (port, writers), terminal(port) as (app, pilot):
        await until(lambda: len(app.board.properties) == 8)
        await go_to(app, pilot, "D")
        await until(lambda: app.panes.pane_of("D", "N3"))
        await pilot.press(*keys)
        assert app.focused is not app.property_tree
        writers[0].write(b"<delProperty device='D'/>")
        await until(lambda: app.focused is app.property_tree, lambda: f"the focus, not {app.focused}")
        await go_to(app, pilot, "E")
        await pilot.press("right", "down")
        await until(lambda: app.panes.pane_of("E", "N1").has_focus)


async def test_a_removed_pane_can_still_be_updated() -> None:
    """An editor loses the focus after its pane was removed."""
    async with saying(number("D", "N")) as (port, writers), terminal(port) as (app, pilot):
        await go_to(app, pilot, "D", "Main", "N")
        await pilot.press("right", "enter", "1")
        pane = app.panes.pane_of("D", "N")
        editor = pane.editor
        writers[0].write(b"<delProperty device='D'/>")
        await until(lambda: not pane.is_attached)
        pane.editor, editor.ended = editor, False
        pane.entered(editor, End.SEND, editor.value)
        pane.follow()
        await pilot.pause()
        assert app.is_running and app.focused is app.property_tree


async def test_numbers_that_are_not_finite() -> None:
    """The history leaves them out, and where limits are infinite, steps count from 0."""
    define = (
        "<defNumberVector device='D' name='N' group='G' state='Ok' perm='rw'>"
        "<defNumber name='A' format='%g' min='-inf' max='inf' step='0.5'>1</defNumber>"
        "<defNumber name='B' format='%.1f degrees' min='0' max='9' step='1'>3</defNumber></defNumberVector>"
    )
    async with saying(define) as (port, writers), terminal(port) as (app, pilot):
        await go_to(app, pilot, "D", "G", "N")
        await until(lambda: app.panes.pane_of("D", "N"))
        await pilot.press("right")
        for value in ("nan", "2", "inf", "-inf", "4"):
            before = app.board.properties["D", "N"].seen["A"]
            update = f"<setNumberVector device='D' name='N'><oneNumber name='A'>{value}</oneNumber></setNumberVector>"
            writers[0].write(update.encode())
            await until(lambda before=before: app.board.properties["D", "N"].seen["A"] != before)
        await on_screen(app, "3 values, 1 to 4")
        await pilot.press("enter", "up")
        assert app.focused.value == "4.5"
        await pilot.press("escape", "down", "enter", "up")
        assert app.focused.value == "4"
        assert app.is_running


async def test_a_deleted_property_no_longer_counts_for_the_state_of_its_device() -> None:
    light = (
        "<defLightVector device='D' name='{0}' group='G' state='{1}'><defLight name='l'>Ok</defLight></defLightVector>"
    )
    async with (
        saying(light.format("one", "Ok"), light.format("two", "Alert")) as (port, writers),
        terminal(port) as (app, _),
    ):
        await on_screen(app, "▲ D", "▲ G")
        writers[0].write(b"<delProperty device='D' name='two'/>")
        await on_screen(app, "● D", "● G")


async def test_labels_are_shortened_to_the_width_of_the_tree() -> None:
    """`…` replaces what is left out, also beside a scroll bar. More room shows more of a label."""
    name = "first second third fourth fifth"
    texts = (number(name, name, name), *(number("D", f"N{at}") for at in range(30)))
    async with saying(*texts) as (port, _), terminal(port) as (app, pilot):
        await until(lambda: len(app.board.properties) == 31)
        tree = app.property_tree
        await go_to(app, pilot, name, name, name)
        await on_screen(app, "▾ ● first second third …▕", "└ ▾ ● first second thir…▕", "  └ ● first second thir…▕")
        await go_to(app, pilot, "D", "Main", "N0")
        await until(lambda: tree.show_vertical_scrollbar)
        await go_to(app, pilot, name, name, name)
        await on_screen(app, "▾ ● first second third… ", "└ ▾ ● first second thi… ", "  └ ● first second thi… ")
        assert (tree.max_scroll_x, tree.scroll_x) == (0, 0)
        await pilot.resize_terminal(160, 50)
        await on_screen(app, f"▾ ● {name} ", f"  └ ● {name} ")


def test_invisible_characters_are_made_visible() -> None:
    assert visible("as it is [b]") == "as it is [b]"
    assert visible("\x1b[2J") == "␛[2J"
    assert visible("a\r\nb\tc\x7f") == "a⏎⏎b c␡"
    assert visible("\u202eabc\u200b") == "�abc�"
    assert visible("日本 é") == "日本 é"


def test_text_is_fitted_to_a_width() -> None:
    assert fitted("abc", 3) == "abc"
    assert fitted("abcd", 3) == "ab…"
    assert fitted("日本語", 4) == "日 …"
    assert fitted("abc", 0) == ""


def test_text_is_shortened_in_the_middle() -> None:
    assert shortened("/run/indi", 9) == "/run/indi"
    assert shortened("/run/indi", 8) == "/run…ndi"
    assert shortened("/run/indi", 2) == "/…"
    assert shortened("/run/indi", 1) == "…"
    assert shortened("/run/indi", 0) == shortened("/run/indi", -3) == ""
    assert shortened("日本語日本語", 7) == "日本…語"
