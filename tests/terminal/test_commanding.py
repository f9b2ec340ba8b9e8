"""What the user enters, and what devices then receive: real simulators, read by a second client."""

from __future__ import annotations

from textual import events

from indifast import Device, IPyDriver, NumberMember, NumberVector, SwitchMember, SwitchVector, TextMember, TextVector
from indifast.cli.demo.drivers import ThermostatDriver
from indifast.terminal.editor import Editor
from tests.terminal.support import go_to, off_screen, on_screen, serving, simulator_has, terminal, until

TELESCOPE = "Telescope Simulator"


class Bench(IPyDriver):
    """Accepts commands, and records them."""

    def __init__(self) -> None:
        limited = NumberMember("LIMITED", "Limited", "%.2f", 0.5, 10, 2, 4.5)
        free = NumberMember("FREE", "Free", "%10.6m", 0, 0, 0, 12.5)
        self.numbers = NumberVector("NUMBERS", "Numbers", "Main", "rw", "Ok", [limited, free])
        self.texts = TextVector("TEXTS", "Texts", "Main", "rw", "Ok", [TextMember("A", "A", "alpha"), TextMember("B")])
        self.one = SwitchVector(
            "ONE", "One", "Main", "rw", "OneOfMany", "Ok", [SwitchMember("X", "X", "On"), SwitchMember("Y")]
        )
        self.any = SwitchVector(
            "ANY", "Any", "Main", "rw", "AnyOfMany", "Ok", [SwitchMember("P", "P", "On"), SwitchMember("Q")]
        )
        self.fixed = NumberVector("FIXED", "Fixed", "Main", "ro", "Ok", [NumberMember("N", "N", "%g", 0, 1, 0, 1)])
        self.commands: list[tuple[str, dict[str, str]]] = []
        self.answer = True
        super().__init__(Device("Bench", [self.numbers, self.texts, self.one, self.any, self.fixed]))

    async def rxevent(self, event: object) -> None:
        if getattr(event, "eventtype", "") not in ("New", "newVector") and not hasattr(event, "vector"):
            return
        members = dict(event.items()) if hasattr(event, "items") else {}
        if not members:
            return
        self.commands.append((event.vectorname, members))
        if self.answer:
            for name, value in members.items():
                event.vector[name] = value
            await event.vector.send_setVector(state="Ok")


async def test_an_entered_number_reaches_the_simulator() -> None:
    async with serving(programs=("indi_simulator_telescope",)) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, TELESCOPE, "Main Control", "CONNECTION")
        await on_screen(app, "OneOfMany")
        await pilot.press("right", "enter")
        await go_to(app, pilot, TELESCOPE, "Site Management", "GEOGRAPHIC_COORD")
        await on_screen(app, "GEOGRAPHIC_COORD")
        await pilot.press("right", "enter", *"51:30:00", "tab", *"352.5", "enter")
        await simulator_has(port, f"{TELESCOPE}.GEOGRAPHIC_COORD.LAT", 51.5)
        await simulator_has(port, f"{TELESCOPE}.GEOGRAPHIC_COORD.LONG", 352.5)
        await on_screen(app, "51:30:00")


async def test_range_and_step_are_checked_before_a_number_is_sent() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "NUMBERS")
        await pilot.press("right", "enter", *"99")
        await on_screen(app, "99 is outside 0.5 to 10")
        await pilot.press("enter")
        assert bench.commands == []
        await pilot.press("ctrl+u", *"abc")
        await on_screen(app, "'abc' is not a number")
        await pilot.press("ctrl+u", *"6.5")
        await off_screen(app, "is not a number")
        await pilot.press("enter")
        await until(lambda: bench.commands)
        assert bench.commands == [("NUMBERS", {"LIMITED": "6.5", "FREE": "12.5"})]
        await on_screen(app, "6.50")
        await pilot.press("enter", "7", "enter")  # steps of 2 from 0.5
        await on_screen(app, "steps of 2 from 0.5 give 6.5 or 8.5")
        assert len(bench.commands) == 1
        await pilot.press("enter")
        await until(lambda: len(bench.commands) == 2)
        assert bench.commands[1][1]["LIMITED"] == "7.0"


async def test_equal_limits_are_no_limits_and_sexagesimal_is_read() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "NUMBERS")
        await pilot.press("right", "down", "enter", *"-100:30:00", "enter")
        await until(lambda: bench.commands)
        assert bench.commands == [("NUMBERS", {"LIMITED": "4.5", "FREE": "-100.5"})]
        await on_screen(app, "-100:30:00")


async def test_arrow_keys_step_from_the_minimum() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "NUMBERS")
        await pilot.press("right", "enter", "up", "up", "up", "enter")
        await until(lambda: bench.commands)
        assert bench.commands[0][1]["LIMITED"] == "8.5"  # the last step within the range


async def test_keys_that_arrive_together_are_taken_in_order() -> None:
    """Steps before Enter are sent, a digit after it is not."""
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "NUMBERS")
        await pilot.press("right", "enter")
        await until(lambda: isinstance(app.focused, Editor))
        for key in ("up", "up", "enter", "9"):
            app.simulate_key(key)
        await until(lambda: bench.commands)
        assert bench.commands[0][1]["LIMITED"] == "8.5"


async def test_pasted_text_is_an_entry_and_several_entries_are_sent_as_one_vector() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "TEXTS")
        await pilot.press("right")
        app.focused.post_message(events.Paste("[red]pasted"))
        await on_screen(app, "[red]pasted")
        await pilot.press("tab", *"second", "tab")
        await on_screen(app, "2 changes entered", "→ [red]pasted", "→ second")
        assert bench.commands == []
        await pilot.press("s")
        await until(lambda: bench.commands)
        assert bench.commands == [("TEXTS", {"A": "[red]pasted", "B": "second"})]
        await off_screen(app, "changes entered")


async def test_an_update_does_not_disturb_the_value_that_is_being_edited() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "NUMBERS")
        await pilot.press("right", "down", "enter", *"33")
        bench.numbers["LIMITED"] = 8.5
        bench.numbers["FREE"] = 1
        await bench.numbers.send_setVector(state="Busy")
        await on_screen(app, "8.50", "Busy")
        await pilot.press("enter")
        await until(lambda: bench.commands)
        assert bench.commands == [("NUMBERS", {"LIMITED": "8.5", "FREE": "33.0"})]


async def test_the_switch_rule_is_checked_before_switches_are_sent() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "ONE")
        await pilot.press("right", "space")
        await on_screen(app, "1 change entered", "→ Off")
        await pilot.press("s")
        await on_screen(app, "the rule OneOfMany needs one switch On")
        assert bench.commands == []
        await pilot.press("escape", "down", "enter")
        await until(lambda: bench.commands)
        assert bench.commands == [("ONE", {"X": "Off", "Y": "On"})]
        await go_to(app, pilot, "Bench", "Main", "ANY")
        await pilot.press("right", "space", "down", "space")
        await on_screen(app, "2 changes entered")
        await pilot.press("s")
        await until(lambda: len(bench.commands) == 2)
        assert bench.commands[1] == ("ANY", {"P": "Off", "Q": "On"})


async def test_a_read_only_property_says_so_and_cannot_be_edited() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "FIXED")
        await on_screen(app, "ro read-only")
        await pilot.press("right", "enter")
        await on_screen(app, "this is read-only")
        assert bench.commands == []


async def test_busy_time_and_a_missing_answer_are_shown() -> None:
    bench = Bench()
    bench.answer = False
    bench.numbers.timeout = 1
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "NUMBERS")
        await pilot.press("right", "enter", *"2.5", "enter")
        await on_screen(app, "Busy ━", "of 1 s")
        await on_screen(app, "the driver has not answered")
        bench.numbers["LIMITED"] = 2.5
        await bench.numbers.send_setVector(state="Ok")
        await off_screen(app, "the driver has not answered")
        await off_screen(app, "Busy")


async def test_switches_can_be_clicked() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "ONE")
        await on_screen(app, "OneOfMany")
        pane = app.panes.pane_of("Bench", "ONE")
        await pilot.click(pane, offset=(30, 2))
        assert bench.commands == []  # the first click only selects
        await pilot.click(pane, offset=(30, 2))
        await until(lambda: bench.commands)
        assert bench.commands == [("ONE", {"X": "Off", "Y": "On"})]


async def test_the_heading_can_be_clicked() -> None:
    bench = Bench()
    async with serving(bench) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Bench", "Main", "ANY")
        await pilot.press("right", "space")
        await on_screen(app, "1 change entered: [s] send [Esc] drop")
        pane = app.panes.pane_of("Bench", "ANY")
        await pilot.click(pane, offset=(30, 1))
        await off_screen(app, "1 change entered")
        assert bench.commands == []
        await pilot.press("space")
        await on_screen(app, "1 change entered")
        await pilot.click(pane, offset=(20, 1))
        await until(lambda: bench.commands)
        assert bench.commands == [("ANY", {"P": "Off"})]


async def test_a_thermostat_is_set() -> None:
    async with serving(ThermostatDriver()) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Demo Thermostat", "Main", "TARGET")
        await pilot.press("right", *"25.5", "enter")
        await simulator_has(port, "Demo Thermostat.TARGET.T", 25.5)
