"""Screens above the main one: help, and the choice of a server and a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

if TYPE_CHECKING:
    from indifast.client.display import Server
    from indifast.terminal.session import Session

KEYS = (
    ("Everywhere", ""),
    ("Tab, Shift+Tab", "go to the next or previous part or property"),
    ("/", "search devices, groups and properties; Enter goes to the first match, Esc ends the search"),
    ("c", "connect, disconnect, change the server; set the folder where BLOBs are saved"),
    ("b", "request the BLOBs of what is chosen, or stop them"),
    ("n", "go to the newest BLOB, such as the last picture"),
    ("f", "filter the messages; Esc ends the filter"),
    ("l", "enlarge or shrink the messages"),
    ("x", "forget what did not come back after the link was lost"),
    ("t", "switch between dark and light"),
    ("q", "quit"),
    ("In the tree", ""),
    ("↑ ↓", "choose: the right side shows a device, a group or one property"),
    ("Enter, Space", "open and close"),
    ("→ ←", "open, then go to the properties on the right; close"),
    ("In a property", ""),
    ("↑ ↓", "choose a member"),
    ("Enter", "numbers and texts: edit; switches: toggle and send"),
    ("Space", "switches: mark, to send several at once"),
    ("s", "send what was entered, as one command"),
    ("Esc", "discard what was entered; then return to the tree"),
    ("While editing", ""),
    ("Enter", "send this and all that was entered before"),
    ("Tab, Shift+Tab", "keep it, and edit the next or previous member"),
    ("↑ ↓", "numbers: a step up or down"),
    ("Esc", "discard it"),
    ("Signs", ""),
    ("○ ● ◐ ▲", "Idle, Ok, Busy, Alert; a group shows the one that most needs attention"),
    ("ro wo rw", "read-only, write-only, both"),
)


class HelpScreen(ModalScreen[None]):
    """Shows the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """Yield a table with a line for each key."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for key, what in KEYS:
            if what:
                table.add_row(Text(f"  {key}"), Text(what))
            else:
                table.add_row(Text(key, "underline"))
        with VerticalScroll(classes="dialog"):
            yield Static(table)
            yield Label("Esc closes this page", markup=False, classes="hint")


class ConnectScreen(ModalScreen["str | None"]):
    """Asks for a server and a folder for BLOBs.

    The result is the server to connect to, as it was typed; empty to disconnect, None to change nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close")]

    def __init__(self, session: Session, parse: Callable[[str], Server]) -> None:
        super().__init__()
        self.session = session
        self.parse_server = parse
        self.server_field = Input(str(session.server or "localhost"), placeholder="HOST:PORT, [::1]:7624 or unix:PATH")
        self.folder_field = Input(str(session.folder or ""), placeholder="none: BLOBs are not saved")
        self.problem = Static("", markup=False, classes="problem")

    def compose(self) -> ComposeResult:
        """Yield the fields and buttons."""
        with Vertical(classes="dialog"):
            yield Label("Server", markup=False)
            yield self.server_field
            yield Label("Folder for BLOBs (setting one requests those of all devices)", markup=False)
            yield self.folder_field
            yield self.problem
            with Horizontal(classes="buttons"):
                yield Button("Connect", id="connect", variant="primary", compact=True)
                yield Button("Disconnect", id="disconnect", disabled=not self.session.running, compact=True)
                yield Button("Set folder", id="folder", compact=True)
                yield Button("Close", id="close", compact=True)

    def on_mount(self) -> None:
        """Start in the field for the server."""
        self.server_field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Connect or set the folder, depending on the field in which Enter was pressed."""
        if event.input is self.server_field:
            self._connect()
        elif self._set_folder():
            self.dismiss(None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Do what the button says."""
        match event.button.id:
            case "connect":
                self._connect()
            case "disconnect":
                self.dismiss("")
            case "folder":
                if self._set_folder():
                    self.dismiss(None)
            case _:
                self.dismiss(None)

    def _connect(self) -> None:
        text = self.server_field.value.strip()
        try:
            self.parse_server(text)
        except ValueError as error:
            self.problem.update(str(error))
            return
        if self._set_folder():
            self.dismiss(text)

    def _set_folder(self) -> bool:
        text = self.folder_field.value.strip()
        folder = Path(text).expanduser().resolve() if text else None
        if folder == self.session.folder:
            return True
        try:
            self.session.save_to(folder)
        except KeyError:
            self.problem.update(f"{folder} is not an existing folder")
            self.folder_field.focus()
            return False
        return True
