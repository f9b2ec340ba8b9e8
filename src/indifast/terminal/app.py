"""Textual app of the terminal client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import events, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.widgets import Footer, Input, Static, Tree

from indifast.client import INDICheckError
from indifast.client.display import Server
from indifast.terminal import clock
from indifast.terminal.blobbox import BlobBox
from indifast.terminal.board import Board, Property
from indifast.terminal.celltext import shortened, visible
from indifast.terminal.history import History
from indifast.terminal.log import BoardHandler
from indifast.terminal.messagelog import MessageLog
from indifast.terminal.pane import Pane
from indifast.terminal.panes import PaneList
from indifast.terminal.screens import ConnectScreen, HelpScreen
from indifast.terminal.session import Session
from indifast.terminal.stopping import TerminalDriver
from indifast.terminal.tree import Place, PropertyTree

INTERVAL = 1 / 15
"""Minimum seconds between two refreshes."""

SLOWEST = 0.5
"""Seconds between two refreshes on the slowest machines."""

ANIMATION = 0.25
"""Seconds between two steps of fading highlights and of the clocks of Busy properties."""

LEAST = (60, 16)
"""Columns and lines below which the screen only says that it is too small."""

THEMES = {"textual": ("textual-dark", "textual-light"), "ansi": ("ansi-dark", "ansi-light")}


KEYS_FIRST = """\
c  choose a server
?  show all keys
q  quit"""

SERVERS = """\
To start one on this machine, in another terminal:
indifast serve indi_simulator_ccd
indifast serve indifast.cli.demo.drivers:ThermostatDriver"""

NO_DEVICES = """\
The server has no devices yet. Some drivers take a while to start; the log of the server says what became of them.

c  choose another server
?  show all keys
q  quit"""


class TermApp(App[int]):
    """Shows a server's devices.

    Args:
        server: The server to connect to at the start; None to wait until the user chooses one.
        parse: Returns the server for what users type, or raises ValueError with a sentence for them.
        folder: An existing folder where BLOBs are saved, or None.
        ansi: Whether to use the terminal's own 16 colors.
        light: Whether to start with a light theme.
    """

    CSS_PATH = Path(__file__).with_name("app.tcss")
    ENABLE_COMMAND_PALETTE = False
    TITLE = "indifast term"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("slash", "search('at once')", "Search", key_display="/", priority=True),
        Binding("c", "connect", "Server"),
        Binding("b", "blobs", "BLOBs"),
        Binding("n", "newest", "Newest BLOB", show=False),
        Binding("f", "filter", "Filter"),
        Binding("f", "filter('at once')", "Filter", priority=True),
        Binding("l", "messages", "Log"),
        Binding("x", "forget", "Forget", show=False),
        Binding("t", "dark", "Dark/light", show=False),
        Binding("escape", "leave", "Back", show=False),
    ]

    class Refresh(Message):
        """A request to show what changed. There is never more than one of these on its way."""

    def __init__(
        self,
        server: Server | None,
        parse: Callable[[str], Server],
        *,
        folder: Path | None = None,
        ansi: bool = False,
        light: bool = False,
    ) -> None:
        super().__init__()
        self.board = Board(self._wake)
        self.session = Session(self.board)
        self.session.save_to(folder)
        self.first_server = server
        self.parse_server = parse
        self.theme = THEMES["ansi" if ansi else "textual"][light]
        self._last_refresh = 0.0
        self._columns = LEAST[0]
        self._interval = INTERVAL
        self._timer: asyncio.TimerHandle | None = None
        self._handler: logging.Handler | None = None
        self.status_bar = Static("", id="status", markup=False)
        self.search_field = Input(placeholder="search: Enter goes there, Esc ends", id="search", compact=True)
        self.filter_field = Input(placeholder="filter messages: words, Esc ends", id="filter", compact=True)
        self.property_tree = PropertyTree(self.board, id="tree")
        self.panes = PaneList(self.board, id="panes")
        self.history = History(self.board, id="history")
        self.message_log = MessageLog(self.board.messages, id="log")
        self.too_small = Static("", id="too_small", markup=False)

    def get_driver_class(self) -> type[Driver]:
        """Return the class of what draws on the terminal and reads the keys."""
        driver = super().get_driver_class()
        return TerminalDriver if driver is LinuxDriver else driver

    def compose(self) -> ComposeResult:
        """Yield tree and panes, side by side, with messages below."""
        yield self.status_bar
        with Horizontal(id="main"):
            with Vertical(id="left"):
                yield self.search_field
                yield self.property_tree
            with Vertical(id="right"):
                yield self.panes
                yield self.history
        with Vertical(id="bottom"):
            yield self.filter_field
            yield self.message_log
        yield Footer(compact=True)
        yield self.too_small

    def on_mount(self) -> None:
        """Show errors of the program as messages, and connect to the first server."""
        self._handler = BoardHandler(self.board, asyncio.get_running_loop())
        logging.getLogger("indifast").addHandler(self._handler)
        self.search_field.display = self.filter_field.display = False
        self.property_tree.focus()
        self._tell_zone()
        self._show_status()
        if self.first_server is not None:
            self.connect_to(self.first_server)

    async def on_unmount(self) -> None:
        """Cancel the refresh, and end the connection."""
        if self._timer is not None:
            self._timer.cancel()
        await self.session.disconnect()
        if self._handler is not None:
            logging.getLogger("indifast").removeHandler(self._handler)

    def on_resize(self, event: events.Resize) -> None:
        """Fit the first line to the width; show a note if the terminal is too small."""
        width, height = event.size
        self._columns = width
        small = width < LEAST[0] or height < LEAST[1]
        self.too_small.display = small
        if small:
            self.too_small.update(
                f"This terminal has {width} columns and {height} lines; indifast term needs {LEAST[0]} and {LEAST[1]}. "
                "It continues as soon as there is room; q quits."
            )
        self._show_status()

    # -- The session

    @work(group="session")
    async def connect_to(self, server: Server) -> None:
        """Show another server."""
        try:
            await self.session.connect(server)
        except ValueError as error:
            self.board.note(str(error))
        self._show_status()

    @work(group="session")
    async def disconnect_now(self) -> None:
        """End the connection; what is shown stays."""
        await self.session.disconnect()
        self._show_status()

    @work(group="commands")
    async def send_command(self, shown: Property, members: dict[str, object]) -> None:
        """Send what was entered."""
        sent = {name: shown.edits[name] for name in members if name in shown.edits}
        try:
            await self.session.send(*shown.key, members)
        except (INDICheckError, ConnectionError, ValueError, TypeError) as error:
            shown.problem = str(error)
        else:
            for name, text in sent.items():
                if shown.edits.get(name) == text:
                    del shown.edits[name]
        self.board.touch(shown.key)

    @work(group="commands")
    async def switch_blobs(self, place: Place) -> None:
        """Request BLOBs, or stop requesting them."""
        vector = place.vector
        if vector is not None:
            shown = self.board.properties.get((place.device, vector))
            if shown is None or shown.vector.vectortype != "BLOBVector":
                vector = None
        wanted = self.session.blobs_wanted(place.device, vector)
        if wanted and self.session.folder is not None:
            self.notify("BLOBs of all devices are saved to a folder: c changes that", markup=False)
            return
        try:
            await self.session.want_blobs(place.device, vector, not wanted)
        except ConnectionError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        what = visible(place.device if vector is None else f"{place.device} {vector}")
        self.notify(f"BLOBs of {what}: {'no longer requested' if wanted else 'requested'}", markup=False, timeout=2)

    # -- Refreshing

    def _wake(self) -> None:
        """Refresh because the board has changed, but not before the interval is over."""
        self._refresh_in(self._last_refresh + self._interval - time.monotonic())

    def _refresh_in(self, seconds: float) -> None:
        if not self.is_running:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, seconds)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        self.post_message(self.Refresh())

    def on_term_app_refresh(self) -> None:
        """Show what changed."""
        now = self._last_refresh = time.monotonic()
        changes = self.board.take(now)
        if not self.panes.is_mounted:
            return
        if changes.another:
            self.panes.show(None)
        if changes.structure:
            self.property_tree.follow()
            if self.panes.place is None and self.board.properties:
                self.property_tree.go_to(Place(self.board.in_order()[0].key[0]))
            self.panes.follow_structure()
        else:
            self.property_tree.follow_states(changes.keys)
        self.panes.follow(changes)
        number = self.panes.number_at_cursor()
        if number != self.history.where or (number is not None and number[:2] in changes.keys):
            self.history.follow(number)
        if changes.messages:
            self.message_log.follow()
            self._tell_zone()
        if changes.link or changes.structure or changes.messages:
            self._show_status()
        moving = self.panes.animate_panes(now, changes.keys)
        # On a slow machine the interval is longer, to leave time for everything else.
        self._interval = min(max(INTERVAL, 3 * (time.monotonic() - now)), SLOWEST)
        if moving:
            self._refresh_in(max(ANIMATION, self._interval))

    def _show_status(self) -> None:
        session = self.session
        devices = self.board.devices
        if self.board.linked:
            sign, state = "●", f"connected, {devices} device{'s' if devices != 1 else ''}"
            if self.board.to_connect:
                sign, state = "▲", f"{state}; connect {self._to_connect()} again"
        elif not session.running:
            sign, state = "○", "not connected: c connects"
        elif devices:
            sign, state = "▲", "lost link, trying again"
        else:
            sign, state = "◐", "connecting"
        text = "no server: c connects"
        if session.server is not None:
            # A long name is shortened in favor of the state.
            server = shortened(visible(str(session.server)), self._columns - len(f"{sign}   {state}"))
            text = f"{sign} {server}  {state}"
        if session.folder is not None:
            text += f"  BLOBs to {session.folder}"
        self.status_bar.update(visible(text))
        self.panes.offer(self._offer())

    def _offer(self) -> str:
        """Return what to do while there is nothing to choose."""
        session = self.session
        if self.board.devices:
            return "Choose a device, a group or a property on the left."
        if self.board.linked:
            return NO_DEVICES
        if session.server is None or not session.running:
            return f"No server is connected.\n\n{KEYS_FIRST}"
        return (
            f"No answer yet from {visible(str(session.server))}. Is a server running there? The terminal tries again "
            f"by itself, until it answers.\n\n{KEYS_FIRST}\n\n{SERVERS}"
        )

    def _tell_zone(self) -> None:
        """Say which time the messages have, which changes with daylight saving time."""
        for bottom in self.query("#bottom"):  # none while the program ends
            bottom.border_title = f"Messages, times in {clock.zone()}"

    def _to_connect(self) -> str:
        devices = self.board.to_connect
        return shortened(visible(min(devices)), 24) if len(devices) == 1 else f"{len(devices)} devices"

    # -- User input

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Place]) -> None:
        """Show the place under the cursor."""
        self.panes.show(event.node.data)

    def on_descendant_focus(self) -> None:
        """Show the history of the number under the cursor, which may be another one."""
        self.history.follow(self.panes.number_at_cursor())

    def on_pane_moved(self) -> None:
        """Show the history of the number that is now under the cursor."""
        self.history.follow(self.panes.number_at_cursor())

    def on_pane_command(self, event: Pane.Command) -> None:
        """Send what was entered in a pane."""
        self.send_command(event.shown, event.members)

    def on_blob_box_send_file(self, event: BlobBox.SendFile) -> None:
        """Send a file as a BLOB."""
        self.send_command(event.shown, {event.member: (event.path, 0, "")})

    def on_pane_leave(self) -> None:
        """Go back from the panes to the tree."""
        self.property_tree.focus()

    def on_property_tree_inwards(self) -> None:
        """Go to the properties on the right."""
        self.panes.focus_first()

    def action_leave(self) -> None:
        """End a filter, or end a search and go to the tree."""
        if self.focused is self.filter_field:
            self.filter_field.value = ""
            self.filter_field.display = False
            self.message_log.focus()
            return
        if self.search_field.display:
            self.search_field.value = ""
            self.search_field.display = False
        self.property_tree.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether a key may do something now.

        Over a slow link, keys arrive in bursts: what follows a key that opens a field must go into the field and not be
        taken for commands. So such a key acts at once, before the next one is passed on. In the panes, keys act in
        turn, because an editor may be about to open there.
        """
        if parameters == ("at once",):
            return self.focused in (self.property_tree, self.message_log)
        return super().check_action(action, parameters)

    def action_search(self, when: str = "") -> None:
        """Open the field for words to search for in the tree."""
        self.search_field.display = True
        self.screen.set_focus(self.search_field)  # before the next key

    def action_filter(self, when: str = "") -> None:
        """Open the field for words that messages must contain."""
        self.filter_field.display = True
        self.screen.set_focus(self.filter_field)  # before the next key

    def action_messages(self) -> None:
        """Enlarge or shrink the messages."""
        self.screen.toggle_class("-messages")
        if self.screen.has_class("-messages"):
            self.message_log.focus()
        else:
            self.property_tree.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search and filter as words are typed."""
        if event.input is self.search_field:
            self.property_tree.search(event.value)
        elif event.input is self.filter_field:
            self.message_log.filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go to the first match of a search, or to the filtered messages."""
        if event.input is self.search_field:
            self.property_tree.go_to_first()
            self.property_tree.focus()
        elif event.input is self.filter_field:
            self.message_log.focus()

    def action_blobs(self) -> None:
        """Request the BLOBs of what is chosen, or stop requesting them."""
        place = self.panes.blob_place()
        if place is not None:
            self.switch_blobs(place)

    def action_newest(self) -> None:
        """Go to the property whose BLOB arrived last, wherever it is; a search ends if it hides the property."""
        shown = None if self.board.newest is None else self.board.properties.get(self.board.newest)
        if shown is None:
            self.notify("No BLOB has arrived yet: b requests those of what is chosen", markup=False)
            return
        self.screen.remove_class("-messages")
        place = Place(shown.key[0], shown.group, shown.key[1])
        if not self.property_tree.go_to(place):
            self.search_field.value = ""
            self.search_field.display = False
            self.property_tree.search("")
            self.property_tree.go_to(place)
        self.property_tree.focus()

    def action_forget(self) -> None:
        """Forget what did not come back after the link was lost."""
        if self.board.linked or not self.session.running:
            self.board.forget_lost()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    def action_connect(self) -> None:
        """Let the user choose a server or a folder."""
        self.push_screen(ConnectScreen(self.session, self.parse_server), self._chosen)

    def _chosen(self, server: str | None) -> None:
        self._show_status()
        if server:
            self.connect_to(self.parse_server(server))
        elif server == "":
            self.disconnect_now()

    def action_dark(self) -> None:
        """Switch between dark and light."""
        pair = THEMES["ansi" if self.theme.startswith("ansi") else "textual"]
        self.theme = pair[0] if self.theme == pair[1] else pair[1]
