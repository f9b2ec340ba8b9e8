"""Content of a BLOB property: what arrived, how fast, and a picture of it; saving BLOBs and sending files.

The contract between this module and the rest of the terminal: `BlobBox` puts a `BlobPane` below the heading of a BLOB
vector. It calls `shown` when state or permission change, `arrived` with the amount of data since the last refresh, and
`received` with the newest BLOB of a member, at most about twenty times a second. The pane calls `on_send(path, member)`
to send a file. The heading shows whether that worked, whether BLOBs are requested, and which key requests them. Text
from the network goes through `celltext.visible` and is never parsed as markup.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Button, Static

from indifast.picture import NoPreview, picture
from indifast.terminal import clock
from indifast.terminal.celltext import visible
from indifast.terminal.files import SaveDialog, SendDialog, free_path, suggested_name
from indifast.terminal.meter import Meter
from indifast.terminal.preview import Drawn, Preview

NOTHING_YET = "nothing received yet"


@dataclass(frozen=True, slots=True)
class _Received:
    """The newest BLOB of a member."""

    data: Any
    format: str
    size: int
    timestamp: datetime
    sizes: Sequence[tuple[int, int]]


class BlobPane(Widget):
    """The members of a BLOB property.

    Pictures are made in a thread, one at a time, always of the newest frame.

    Args:
        device: The name of the device.
        vector: The name of the vector.
        members: Pairs of name and label.
        on_send: Called with a path and a member name to send a file; an OSError or ValueError that it raises is shown.
        folder: Where files are saved unless the user chooses another folder; by default, the current one.
        clock: Returns monotonic seconds.
    """

    DEFAULT_CSS = """
    BlobPane { height: auto; layout: vertical; }
    BlobPane .facts { height: auto; }
    BlobPane .buttons { height: 1; }
    BlobPane Button { margin-right: 1; }
    BlobPane .note { width: 1fr; height: auto; color: $text-muted; display: none; }
    """
    BINDINGS = [  # noqa: RUF012 - Textual's way
        ("s", "save", "Save BLOB"),
        ("o", "send", "Send file"),
        ("m", "next_member", "Next member"),
    ]

    def __init__(
        self,
        device: str,
        vector: str,
        members: Sequence[tuple[str, str]],
        *,
        on_send: Callable[[Path, str], object] | None = None,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.device = device
        self.vector = vector
        self.members = list(members)
        self.on_send = on_send
        self.folder = folder or Path.cwd()
        self._clock = clock
        self._perm = "ro"
        self._state = ""
        self._meters = {name: Meter() for name, _ in members}
        self._newest: dict[str, _Received] = {}
        self._kinds: dict[str, str] = {}
        self._looked_at = ""
        self._fresh = asyncio.Event()
        self._shown_facts: Text | None = None
        self._rates_timer: Timer | None = None  # runs while there is a rate
        self._facts_line = Static(classes="facts", markup=False)
        self._preview = Preview(NOTHING_YET)
        self._save_button = Button("Save… (s)", id="save", disabled=True, compact=True)
        self._send_button = Button("Send… (o)", id="send", compact=True)
        self._note = Static(classes="note", markup=False)

    def compose(self) -> ComposeResult:
        yield self._facts_line
        yield self._preview
        with Horizontal(classes="buttons"):
            yield self._save_button
            yield self._send_button
        yield self._note

    def on_mount(self) -> None:
        self.shown(self._perm, self._state)
        self._tell()
        self._rates_timer = self.set_interval(0.5, self._tell, pause=not self._flowing())
        self.run_worker(self._decode(), group="decode", exclusive=True)

    def on_resize(self) -> None:
        self._fresh.set()

    # -- Called by the application

    def arrived(self, member: str, nbytes: int, count: int = 1) -> None:
        """Count `count` new frames of a member, with `nbytes` bytes in all."""
        if member in self._meters:
            self._meters[member].add(count, nbytes, self._clock())
            if self._rates_timer is not None:
                self._rates_timer.resume()

    def received(
        self,
        member: str,
        data: Any,
        format: str,
        size: int,
        timestamp: datetime,
        sizes: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take the newest content of a member.

        Args:
            member: The name of the member.
            data: The content.
            format: The format of the BLOB.
            size: The size of the BLOB as the driver announced it, in bytes.
            timestamp: The time of the BLOB, in UTC.
            sizes: What `indifast.client.frame_sizes` returns for the device at this time.
        """
        if member not in self._meters:
            return
        self._newest[member] = _Received(data, format, size, timestamp, sizes)
        self._looked_at = self._looked_at or member
        self._tell()
        if member == self._looked_at:
            self._fresh.set()

    def shown(self, perm: str, state: str) -> None:
        """Take over the permission and state of the property."""
        self._perm, self._state = perm, state
        self._send_button.display = perm != "ro"
        self._save_button.display = perm != "wo"
        if not self._newest:
            self._preview.say("files can be sent here; nothing is received" if perm == "wo" else NOTHING_YET)

    # -- Display

    def _tell(self) -> None:
        """Show what has arrived, and how fast."""
        self._save_button.disabled = not self._newest
        if self._rates_timer is not None and not self._flowing():
            self._rates_timer.pause()
        text = self._facts()
        if text != self._shown_facts:
            self._shown_facts = text
            self._facts_line.update(text)

    def _flowing(self) -> bool:
        """Return whether there is a rate, which falls when nothing more arrives."""
        now = self._clock()
        return any(meter.rates(now)[0] for meter in self._meters.values())

    def _facts(self) -> Text:
        now = self._clock()
        lines = Text(overflow="fold")
        for number, (name, label) in enumerate(self.members):
            if number:
                lines.append("\n")
            several = len(self.members) > 1
            lines.append(("▸ " if name == self._looked_at else "  ") if several else "")
            lines.append(visible(label or name), "bold")
            received = self._newest.get(name)
            if received is None:
                lines.append("  -", "dim")
                continue
            facts = [visible(received.format) or "no format", _bytes(len(received.data))]
            if kind := self._kinds.get(name):
                facts.append(kind)
            frames, nbytes = self._meters[name].rates(now)
            if frames:
                facts += [f"{frames:.1f} frames/s", f"{nbytes / 1e6:.1f} MB/s"]
            facts.append(clock.utc_time(received.timestamp))
            lines.append("  " + " · ".join(facts))
        return lines

    def note(self, sentence: str) -> None:
        """Show a sentence below the buttons, on as many lines as it needs."""
        self._note.update(sentence)
        self._note.display = bool(sentence)
        self.call_after_refresh(self._note.scroll_visible, animate=False)

    async def _decode(self) -> None:
        """Show the newest frame, whenever there is one."""
        preview = self._preview
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            member = self._looked_at
            received = self._newest.get(member)
            columns, rows = preview.room
            if received is None or columns < 1 or rows < 1:
                continue
            try:
                drawn = await asyncio.to_thread(_made, preview, received, columns, rows)
            except NoPreview as error:
                self._kinds.pop(member, None)
                preview.say(visible(str(error)))
            else:
                shown = drawn.picture
                self._kinds[member] = f"{shown.width} x {shown.height} {shown.kind}"
                preview.show(drawn)
            self._tell()

    # -- User input

    @on(Button.Pressed, "#save")
    def action_save(self) -> None:
        """Save the newest BLOB of the member that is shown."""
        received = self._newest.get(self._looked_at)
        if received is None:
            self.note("There is nothing to save yet.")
            return
        name = suggested_name(self.device, self._looked_at, received.timestamp, received.format)
        self.app.push_screen(SaveDialog(free_path(self.folder, name), received.data), self._saved)

    def _saved(self, path: Path | None) -> None:
        if path is not None:
            self.folder = path.parent
            self.note(f"Saved as {visible(str(path))}")

    @on(Button.Pressed, "#send")
    def action_send(self) -> None:
        """Choose a file and send it."""
        if self._perm == "ro":
            self.note("This property is read-only.")
            return
        self.app.push_screen(SendDialog(self.folder, self.members), self._send)

    def _send(self, choice: tuple[Path, str] | None) -> None:
        if choice is None or self.on_send is None:
            return
        path, member = choice
        self.folder = path.parent
        try:
            self.on_send(path, member)
        except (OSError, ValueError) as error:
            self.note(f"{visible(path.name)} was not sent: {error}.")

    def action_next_member(self) -> None:
        """Show the next member that has a BLOB."""
        names = [name for name, _ in self.members if name in self._newest]
        if names:
            index = names.index(self._looked_at) + 1 if self._looked_at in names else 0
            self._looked_at = names[index % len(names)]
            self._fresh.set()
            self._tell()


def _made(preview: Preview, received: _Received, columns: int, rows: int) -> Drawn:
    shown = picture(
        received.data, received.format, size=received.size, sizes=received.sizes, columns=columns, rows=rows
    )
    return preview.make(shown)


def _bytes(count: int) -> str:
    """Return a number of bytes for people, such as "12.6 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.1f} GB"
