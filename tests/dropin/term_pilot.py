"""Uses indipyterm as a user would: goes to the camera, sets a number and waits until the change is shown.

    python -m indifast.dropin term_pilot.py PORT

Runs in indipyterm's own environment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from indipyterm import IPyTerm
from textual.css.query import QueryError
from textual.pilot import WaitForScreenTimeout
from textual.widgets import Button, TabbedContent

LIMIT = 60.0


def text(widget: Any) -> str:
    return str(widget.render()).strip()


class User:
    """Finds things on the screen of the application, and acts on them."""

    def __init__(self, app: IPyTerm, pilot: Any) -> None:
        self.app, self.pilot = app, pilot

    async def until(self, find: Callable[[], Any], what: str) -> Any:
        """Wait until `find` returns something, and return that."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LIMIT
        while loop.time() < end:
            try:
                if found := find():
                    return found
            except QueryError:  # the screen is not complete yet
                pass
            with suppress(WaitForScreenTimeout):  # on a busy machine; this loop waits longer
                await self.pilot.pause(0.05)
        raise SystemExit(f"not shown: {what}")

    def pane(self, label: str) -> Any:
        """Return the pane of the vector that has a number with this label."""
        for pane in self.app.screen.query("VectorPane"):
            if any(label in text(widget) for widget in pane.query("NumberLabel")):
                return pane
        return None

    async def show(self, label: str) -> Any:
        """Go to the tab of the vector that has a number with this label, and return its pane."""

        def shown() -> Any:
            if (pane := self.pane(label)) is None:
                return None
            tab = next(node for node in pane.ancestors if type(node).__name__ == "GroupTabPane")
            tabs = self.app.screen.query_one(TabbedContent)
            if not tabs.active:  # the tabs are not complete yet, and would forget which one is active
                return None
            if tabs.active != tab.id:
                tabs.active = tab.id
            return pane if pane.region and pane.is_on_screen else None

        return await self.until(shown, f"the tab of {label}")

    async def submit(self, pane: Any) -> None:
        button = next(button for button in pane.query(Button) if str(button.label) == "Submit")
        await self.pilot.click(button)


async def main(port: int) -> None:
    app = IPyTerm(host="localhost", port=port)
    async with app.run_test(size=(150, 200)) as pilot:
        user = User(app, pilot)

        def camera() -> Any:
            return [button for button in app.screen.query(Button) if "CCD Simulator" in str(button.label)]

        await pilot.click((await user.until(camera, "the camera"))[0])

        period = await user.show("Period (ms)")
        assert text(period.query_one("NumberValue")) == "1000"
        await pilot.click(period.query_one("NumberInputField"))
        await pilot.press(*"3000", "enter")
        await user.submit(period)
        # The value beside the input field is that of the driver.
        await user.until(lambda: text(period.query_one("NumberValue")) == "3000", "the new polling period")
    print("shown")


asyncio.run(main(int(sys.argv[1])))
