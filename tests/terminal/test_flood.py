"""Ten thousand updates a second: the terminal keeps responding, and redraws only a few times a second."""

from __future__ import annotations

import time
from pathlib import Path

from indifast.cli.toolkit.address import Address, parse_address
from indifast.terminal.app import INTERVAL, TermApp
from indifast.terminal.editor import Editor
from tests.terminal.support import go_to, on_screen, server_process, terminal, until

PROGRAM = str(Path(__file__).parent / "programs" / "flood.py")


class Counting(TermApp):
    """Counts its refreshes."""

    refreshes = 0

    def on_term_app_refresh(self) -> None:
        self.refreshes += 1
        super().on_term_app_refresh()


async def test_keys_are_answered_during_a_flood() -> None:
    with server_process(PROGRAM, "10000") as port:
        app = Counting(Address("127.0.0.1", port), parse_address)
        async with terminal(port, app=app) as (_, pilot):
            await go_to(app, pilot, "Flood", "Main")
            await on_screen(app, "Number 0")
            await pilot.press("right")  # opens the group

            def received() -> int:
                assert app.session.client is not None
                return app.session.client.stats()["received"]

            began, drawn, start = received(), app.refreshes, time.monotonic()
            # The pilot's own `press` would wait until the app is idle, which it never is here.
            answered = 0
            while received() < began + 50_000 or answered < 40:
                line = app.property_tree.cursor_line
                app.simulate_key("down" if line < 40 else "home")
                await until(lambda line=line: app.property_tree.cursor_line != line, "the cursor")
                answered += 1
            # The rate of refreshes is limited, however fast the machine is: there is not one for each update.
            assert app.refreshes - drawn <= (time.monotonic() - start) / INTERVAL + 2
            await go_to(app, pilot, "Flood", "Other", "OFFSET")
            await until(lambda: app.panes.pane_of("Flood", "OFFSET"))
            app.simulate_key("right")
            await until(lambda: app.focused is app.panes.pane_of("Flood", "OFFSET"))
            app.simulate_key("4")
            await until(lambda: isinstance(app.focused, Editor) and app.focused.value == "4")
            app.simulate_key("2")
            app.simulate_key("enter")
            await until(lambda: app.board.properties["Flood", "OFFSET"].vector["O"] == "42.0")
            app.simulate_key("escape")
            await go_to(app, pilot, "Flood", "Main", "N07")
            before = app.board.properties["Flood", "N07"].vector.getfloatvalue("A")
            await until(lambda: app.board.properties["Flood", "N07"].seen["A"] != f"{before:.0f}")
            await until(lambda: len(app.board.history["Flood", "N07", "A"]) > 10)
            app.simulate_key("right")
            await on_screen(app, " values, ")  # the history of the number
