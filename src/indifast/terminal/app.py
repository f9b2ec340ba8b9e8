"""The terminal client's app."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Footer, Input, Static, Tree

from indifast.terminal.board import Board
from indifast.terminal.messagelog import MessageLog
from indifast.terminal.panes import PaneList
from indifast.terminal.plain import plain
from indifast.terminal.session import Server, Session
from indifast.terminal.tree import Place, PropertyTree

INTERVAL = 1 / 15
"""Seconds between two refreshes at least."""

ANIMATION = 0.25
"""Seconds between two steps of fading highlights and of the clocks of Busy properties."""


class TermApp(App[int]):
    """Shows a server's devices. `server` is connected to at the start; None: when people say so."""

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "indifast term"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("t", "dark", "Dark/light"),
    ]

    class Refresh(Message):
        """Something is to be shown. There is never more than one of these under way."""

    def __init__(self, server: Server | None = None) -> None:
        super().__init__()
        self.board = Board(self._wake)
        self.session = Session(self.board)
        self.first_server = server
        self._last_refresh = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.status_bar = Static("", id="status", markup=False)
        self.search_field = Input(placeholder="search", id="search", compact=True)
        self.property_tree = PropertyTree(self.board, id="tree")
        self.panes = PaneList(self.board, id="panes")
        self.message_log = MessageLog(self.board.messages, id="log")

    def compose(self) -> ComposeResult:
        """Tree and panes side by side, messages below."""
        yield self.status_bar
        with Horizontal(id="main"):
            with Vertical(id="left"):
                yield self.search_field
                yield self.property_tree
            yield self.panes
        yield self.message_log
        yield Footer()

    def on_mount(self) -> None:
        """Connect."""
        self.search_field.display = False
        self.property_tree.focus()
        self._show_status()
        if self.first_server is not None:
            self.connect_to(self.first_server)

    @work(group="session")
    async def connect_to(self, server: Server) -> None:
        """Show another server."""
        await self.session.connect(server)
        self._show_status()

    async def on_unmount(self) -> None:
        """End the connection."""
        if self._timer is not None:
            self._timer.cancel()
        await self.session.disconnect()

    # -- refreshing

    def _wake(self) -> None:
        """The board has news: refresh, but not before its time."""
        self._refresh_in(self._last_refresh + INTERVAL - time.monotonic())

    def _refresh_in(self, seconds: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= self._timer_now() + seconds:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._due)

    def _timer_now(self) -> float:
        return asyncio.get_running_loop().time()

    def _due(self) -> None:
        self._timer = None
        self.post_message(self.Refresh())

    def on_term_app_refresh(self) -> None:
        """Show what changed."""
        now = self._last_refresh = time.monotonic()
        changes = self.board.take(now)
        if not self.panes.is_mounted:
            return
        if changes.structure:
            self.property_tree.follow()
            if self.panes.place is None and self.board.properties:
                self.property_tree.go_to(Place(next(iter(self.board.properties))[0]))
            self.panes.follow_structure()
        else:
            self.property_tree.follow_states(changes.keys)
        self.panes.follow(changes)
        if changes.messages:
            self.message_log.follow()
        if changes.link or changes.structure or changes.messages:
            self._show_status()
        if self.panes.animate_panes(now):
            self._refresh_in(ANIMATION)

    def _show_status(self) -> None:
        session = self.session
        if session.server is None:
            text = "no server"
        elif self.board.linked:
            devices = len({key[0] for key in self.board.properties})
            text = f"● {session.server}  {devices} device{'s' if devices != 1 else ''}"
        elif not session.running:
            text = f"○ {session.server}  not connected"
        else:
            text = f"▲ {session.server}  {'lost link, trying again' if self.board.properties else 'connecting'}"
        self.status_bar.update(plain(text))

    # -- what people do

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Place]) -> None:
        """Show what the cursor is on."""
        self.panes.show(event.node.data)

    def action_search(self) -> None:
        """Ask for words to search for in the tree."""
        self.search_field.display = True
        self.search_field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search as words are typed."""
        if event.input is self.search_field:
            self.property_tree.search(event.value)

    def action_dark(self) -> None:
        """Change between dark and light."""
        pair = ("ansi-dark", "ansi-light") if self.theme.startswith("ansi") else ("textual-dark", "textual-light")
        self.theme = pair[0] if self.theme == pair[1] else pair[1]
