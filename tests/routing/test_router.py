"""The router's rules, one by one, without sockets."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest

from indifast.protocol.complaints import BURST
from indifast.routing import demand, link, ownership, rings
from indifast.routing.asking import ASK_INTERVAL
from indifast.routing.link import Demand
from indifast.routing.peer import Courtesy, Kind
from indifast.routing.requests import ASK_BURST
from tests.routing.fakes import drain
from tests.routing.talk import Talk, World, blob, command, define, update, who
from tests.support.operations import assert_constant_cost, operations

STATE_ONLY = "<setBLOBVector device='D' name='B' state='Busy'/>"


@pytest.fixture
def world() -> World:
    world = World()
    world.driver("driver", "D", "E")
    world.client("all")
    world.client("silent", asks=False)
    world.client("only E", asks=False)
    world.say("only E", "<getProperties version='1.7' device='E'/>")
    world.client("only D.P", asks=False)
    world.say("only D.P", "<getProperties version='1.7' device='D' name='P'/>")
    world.forget()
    return world


def test_each_of_the_definitions_that_come_in_a_row_reaches_those_who_want_it(world: World) -> None:
    def heard(*definitions: str) -> dict[str, list[str]]:
        world.forget()
        world.say("driver", "".join(definitions))
        return {label: names for label in world.peers if (names := world.heard(label))}

    d1, d, e, d2 = ("defNumberVector " + what for what in ("D P1", "D P", "E P", "D P2"))
    in_a_row = define("D", "P1"), define("D"), define("E"), define("D", "P2")
    assert heard(*in_a_row) == {"all": [d1, d, e, d2], "only E": [e], "only D.P": [d]}
    world.say("only D.P", "<getProperties version='1.7' device='D'/>")
    assert heard(*in_a_row) == {"all": [d1, d, e, d2], "only E": [e], "only D.P": [d1, d, d2]}
    world.client("late")
    assert heard(define("D"), define("D", "P2"))["late"] == [d, d2]
    world.router.detach(world.peers.pop("only D.P"), world.now)
    assert heard(define("D", "P2"), define("D", "P1")) == {"all": [d2, d1], "late": [d2, d1]}


# Text in, text out


def test_messages_from_and_to_peers_as_text() -> None:
    talk = Talk()
    talk.join("driver", Kind.DRIVER)
    talk.join("client", Kind.CLIENT)
    talk.say("client", "<getProperties version='1.7'/>")
    assert talk.told("driver") == '<getProperties version="1.7" />'
    talk.say("driver", "<defTextVector device='D' name='P' perm='rw' state='Idle'><defText name='m'/></defTextVector>")
    assert talk.told("client").startswith('<defTextVector device="D" name="P"')
    talk.say("client", "<newTextVector device='D' name='P'><oneText name='m'>new</oneText></newTextVector>")
    assert "new</oneText>" in talk.told("driver") and talk.told("client") == ""
    talk.say("client", "<newTextVector device='E' name='P'><oneText name='m'>new</oneText></newTextVector>")
    assert "a command for E, which is not here" in talk.told("client")


def test_a_tap_sees_all_messages_to_peers() -> None:
    seen: list[tuple[str, str, str]] = []
    talk = Talk(tap=lambda direction, peer, message: seen.append((direction, peer.label, message.tag)))
    for label, kind in (("driver", Kind.DRIVER), ("snooping", Kind.DRIVER), ("client", Kind.CLIENT)):
        talk.join(label, kind)
    for label in ("client", "snooping"):
        talk.say(label, "<getProperties version='1.7'/>")
    talk.say("driver", define("D") + define("D", "B", "BLOB"))
    talk.say("client", "<enableBLOB device='D'>Also</enableBLOB>")
    talk.say("driver", update("D") + update("D") + blob("D"))
    talk.say("client", command("D") + "<pingRequest uid='1'/>")
    sent = {label: [message.tag for message in talk.messages(label)] for label in talk.peers}
    assert "setBLOBVector" in sent["client"] and sent["client"].count("setNumberVector") == 2
    assert sent["snooping"].count("setNumberVector") == 2 and "newNumberVector" in sent["driver"]
    assert sent["client"][0] == "pingReply"
    for label, tags in sent.items():
        tapped = [tag for direction, peer, tag in seen if (direction, peer) == ("to", label)]
        assert tapped.count("getProperties") >= tags.count("getProperties"), "equal ones wait as one"
        assert sorted({*tapped}) == sorted({*tags})
        assert len(tapped) - tapped.count("getProperties") == len(tags) - tags.count("getProperties")


# Interests


def test_updates_go_to_clients_that_asked_for_them(world: World) -> None:
    assert who(world, update("D")) == {"all", "only D.P"}
    assert who(world, update("D", "Q")) == {"all"}
    assert who(world, update("E")) == {"all", "only E"}
    assert who(world, "<message device='D' message='x'/>") == {"all"}
    assert who(world, "<message device='E' message='x'/>") == {"all", "only E"}


def test_a_message_without_device_goes_to_every_client(world: World) -> None:
    assert who(world, "<message message='x'/>") == {"all", "silent", "only E", "only D.P"}


def test_a_wider_request_widens_an_interest_and_a_narrower_one_does_not_narrow_it(world: World) -> None:
    world.say("only E", "<getProperties version='1.7'/>")
    world.say("all", "<getProperties version='1.7' device='E'/>")
    assert who(world, update("D")) == {"all", "only D.P", "only E"}
    world.say("only D.P", "<getProperties version='1.7' device='D'/>")
    assert who(world, update("D", "Q")) == {"all", "only D.P", "only E"}


def test_a_command_or_enable_blob_is_an_interest_in_the_property(world: World) -> None:
    world.say("silent", command("D"))
    assert who(world, update("D")) == {"all", "only D.P", "silent"}
    assert who(world, update("D", "Q")) == {"all"}
    world.say("only E", "<enableBLOB device='D' name='B'>Also</enableBLOB>")
    assert who(world, blob("D")) == {"only E"}


def test_clients_cannot_fill_or_forge_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for i in range(1000):
            world.say("silent", command(f"&#10;ERROR forged {i} " + "x" * 10_000))
        lines = [record.getMessage() for record in caplog.records]
    assert world.peers["silent"].refused["unknown device"] == 1000
    assert 1 <= len(lines) <= 100
    assert all(line.isprintable() and len(line) < 200 for line in lines)


def test_interests_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.driver("driver", "D")
    client = world.client("c", asks=False)
    for i in range(30_000):
        world.say("c", f"<enableBLOB device='D{i}' name='B'>Also</enableBLOB>")
    assert client.refused["too many interests"] == 20_000
    assert sum("more than 10000" in record.getMessage() for record in caplog.records) == 1
    assert world.heard("c") == []
    world.say("c", "<getProperties version='1.7'/>")
    assert who(world, update("D")) == {"c"}


# getProperties


def test_get_properties_goes_to_the_owner_with_a_version_that_drivers_accept() -> None:
    world = World()
    world.driver("one", "D")
    world.driver("two", "E")
    world.client("c", asks=False)
    world.forget()
    world.say("c", "<getProperties version='9.9' device='D' name='P'/>")
    message = world.peers["one"].outbox.pop()
    assert message is not None
    assert message.parts(False) == (b'<getProperties version="1.7" device="D" name="P" />',)
    assert world.heard("two") == []
    world.say("c", "<getProperties/>")
    for label in ("one", "two"):
        message = world.peers[label].outbox.pop()
        assert message is not None and message.parts(False) == (b'<getProperties version="1.7" />',)
    world.say("c", "<getProperties version='1.7' device='unknown'/>")
    assert world.heard("one") == world.heard("two") == []


def test_clients_do_not_receive_messages_of_other_clients(world: World) -> None:
    assert who(world, command("D"), "all") == {"driver"}
    assert who(world, "<getProperties version='1.7'/>", "all") == {"driver"}


def test_requests_of_many_clients_are_combined() -> None:
    """Each answer goes to all clients: passed on one by one, a thousand requests would cost a million definitions."""
    world = World()
    world.driver("one", "D")
    world.driver("two", "E")
    world.remote("link")
    world.say("link", define("R"))
    world.forget()
    heard = []
    for number in range(100):
        world.client(f"client {number}")
        heard += world.heard("one")
    assert heard == ["getProperties"] * (ASK_BURST - 1), "the link has already asked once"
    assert world.held == 1, "there is one timer for all of them"
    world.say("client 7", "<getProperties version='1.7' device='D' name='P'/>")
    assert world.heard("one") == []
    world.forget()
    assert world.router.asking.ask_held(world.now), "not yet"
    assert world.heard("one") == world.heard("link") == []
    interval = world.router.asking.interval
    world.now += interval * 1.01
    assert not world.router.asking.ask_held(world.now)
    assert world.heard("one") == world.heard("two") == ["getProperties"], "one for all of them"
    assert world.heard("link") == ["getProperties R"]
    world.now += interval * ASK_BURST * 1.01
    world.say("client 7", "<getProperties version='1.7' device='D' name='P'/>")
    assert world.heard("one") == ["getProperties D P"], "at once again"


@pytest.mark.parametrize("properties", [1, 300])
def test_requests_are_held_back_longer_the_more_their_answers_cost(properties: int) -> None:
    """If a driver has few definitions, a client gets them soon even if a thousand others are connected."""
    world = World()
    world.driver("one", "D")
    for number in range(100):
        world.client(f"client {number}")

    def answer() -> None:
        for _ in world.heard("one"):
            for number in range(properties):
                world.say("one", define("D", f"P{number}"))

    answer()
    intervals = []
    for number in range(3 * ASK_BURST):
        world.say(f"client {number}", "<getProperties version='1.7' device='D'/>")
        answer()
        if world.peers["one"].requests.held:
            intervals.append(world.router.asking.interval)
            world.now += intervals[-1] * 1.01
            assert not world.router.asking.ask_held(world.now)
            answer()
    assert intervals[-1] == pytest.approx(ASK_INTERVAL * 100 * properties)


def test_held_requests_are_bounded_and_forgotten_with_the_owner() -> None:
    world = World()
    world.driver("one", "D")
    link = world.remote("link")
    world.say("link", define("R"))
    world.client("client")
    for number in range(3000):
        for device in "DR":
            world.say("client", f"<getProperties version='1.7' device='{device}' name='{number}'/>")
    assert len(world.peers["one"].requests.held) <= 101 and len(link.requests.held) <= 101
    world.forget()
    world.router.lose(link, world.now)
    world.now += 1000.0
    while world.router.asking.ask_held(world.now):
        world.now += 1.0
    heard = world.heard("one")
    assert heard[0] == "getProperties" and len(heard) == 1
    assert world.heard("link") == []


def test_a_starting_driver_is_asked() -> None:
    world = World()
    peer = world.add("driver", Kind.DRIVER)
    world.router.start(peer, 0.0)
    assert world.heard("driver") == ["getProperties"]


def test_who_gets_frames_follows_every_change() -> None:
    """The receivers of one frame are remembered for the next one."""
    world = World()
    world.driver("driver", "D")
    for label in ("a", "b"):
        world.client(label)
    world.driver("snooper")

    def after(label: str, xml: str) -> set[str]:
        world.say(label, xml)
        return who(world, blob("D"))

    assert who(world, blob("D")) == set()
    assert after("a", "<enableBLOB device='D'>Also</enableBLOB>") == {"a"}
    assert who(world, blob("D", "OTHER")) == {"a"}
    assert after("b", "<enableBLOB device='D' name='B'>Only</enableBLOB>") == {"a", "b"}
    assert who(world, blob("D", "OTHER")) == {"a"}
    assert after("snooper", "<getProperties version='1.7' device='D' name='B'/>") == {"a", "b"}
    assert after("snooper", "<enableBLOB device='D' name='B'>Also</enableBLOB>") == {"a", "b", "snooper"}
    assert after("a", "<enableBLOB device='D'>Never</enableBLOB>") == {"b", "snooper"}
    world.router.detach(world.peers["b"], world.now)
    assert who(world, blob("D")) == {"snooper"}
    world.client("c")
    assert after("c", "<enableBLOB device='D'>Also</enableBLOB>") == {"c", "snooper"}
    gone = weakref.ref(world.peers["c"])
    world.router.detach(world.peers.pop("c"), world.now)
    gc.collect()
    assert gone() is None, "it is not remembered as a receiver"


# BLOBs: the enableBLOB table


@pytest.mark.parametrize(
    ("settings", "content", "others"),
    [
        ("", False, True),
        ("<enableBLOB device='D'>Never</enableBLOB>", False, True),
        ("<enableBLOB device='D'>Also</enableBLOB>", True, True),
        ("<enableBLOB device='D'> Also\n</enableBLOB>", True, True),
        ("<enableBLOB device='D'>Only</enableBLOB>", True, False),
        ("<enableBLOB device='D' name='B'>Also</enableBLOB>", True, True),
        ("<enableBLOB device='D' name='B'>Only</enableBLOB>", True, True),
        ("<enableBLOB device='D' name='Other'>Also</enableBLOB>", False, True),
        ("<enableBLOB device='E'>Also</enableBLOB>", False, True),
        ("<enableBLOB device='D'>Also</enableBLOB><enableBLOB device='D' name='B'>Never</enableBLOB>", False, True),
        ("<enableBLOB device='D'>Only</enableBLOB><enableBLOB device='D' name='B'>Never</enableBLOB>", False, False),
        ("<enableBLOB device='D' name='B'>Never</enableBLOB><enableBLOB device='D'>Also</enableBLOB>", True, True),
        ("<enableBLOB device='D' name='B'>Also</enableBLOB><enableBLOB device='D'>Never</enableBLOB>", False, True),
        ("<enableBLOB device='D'>Also</enableBLOB><enableBLOB device='D'/>", True, True),
        ("<enableBLOB device='D'>Also</enableBLOB><enableBLOB device='D'>also</enableBLOB>", True, True),
        ("<enableBLOB>Also</enableBLOB>", False, True),
    ],
)
def test_enable_blob(settings: str, content: bool, others: bool) -> None:
    world = World()
    world.driver("driver", "D", "E")
    world.client("c")
    world.say("c", settings)

    def hears(xml: str) -> bool:
        return "c" in who(world, xml)

    assert hears(blob("D")) is content
    assert hears(update("D")) is others
    assert hears("<message device='D' message='x'/>") is others
    assert hears(update("E"))
    assert hears(STATE_ONLY) and hears(define("D", "B", "BLOB")) and hears(define("D", "P2"))
    assert hears("<message message='x'/>")
    assert hears("<delProperty device='D' name='P'/>")


def test_each_connection_has_its_own_settings() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("a")
    world.client("b")
    world.say("a", "<enableBLOB device='D'>Also</enableBLOB>")
    assert who(world, blob("D")) == {"a"}
    world.router.detach(world.peers.pop("a"), 0.0)
    world.client("a")
    assert who(world, blob("D")) == set()


def test_demand_has_the_forms_that_are_wanted() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("tcp")
    world.client("unix", attached=True)
    demand = world.router.demand
    assert demand("D", "B") == Demand(False, False)
    world.say("unix", "<enableBLOB device='D'>Also</enableBLOB>")
    assert demand("D", "B") == Demand(False, True)
    world.say("tcp", "<enableBLOB device='D' name='B'>Only</enableBLOB>")
    assert demand("D", "B") == Demand(True, True) and demand("D", "C") == Demand(False, True)
    world.router.detach(world.peers.pop("unix"), 0.0)
    assert demand("D", "B") == Demand(True, False)


# Owners


def test_only_the_owner_may_send_messages_of_a_device(world: World, caplog: pytest.LogCaptureFixture) -> None:
    hostile = define("D") + update("D") + blob("D") + "<delProperty device='D'/><message device='D' message='x'/>"
    with caplog.at_level(logging.WARNING):
        assert who(world, hostile * 10, "silent") <= {"all", "silent", "only E", "only D.P"}
        heard = {label: world.heard(label) for label in world.peers}
        assert not any(heard.values())
    assert world.peers["silent"].refused["not the owner"] == 50
    assert sum("silent" in record.getMessage() for record in caplog.records) == 1
    assert world.router.owners["D"] is world.peers["driver"]


def test_two_drivers_with_one_device() -> None:
    world = World()
    world.client("c")
    world.driver("one", "D")
    world.driver("two")
    assert who(world, define("D"), "two") == {"c"}  # a message about the conflict
    assert who(world, update("D"), "two") == set()
    world.router.detach(world.peers.pop("one"), 0.0)
    assert "getProperties D" in world.heard("two")
    assert who(world, define("D"), "two") == {"c"}
    assert who(world, update("D"), "two") == {"c"}


def test_a_driver_hears_of_another_ones_device_all_that_it_asks_for_although_it_offers_it_as_well() -> None:
    world = World()
    world.driver("one", "D")
    world.driver("two")
    world.say("two", "<getProperties version='1.7' device='D'/><enableBLOB device='D'>Also</enableBLOB>")
    world.say("two", define("D"))
    assert world.router.demand("D", "B") == Demand(True, False)
    assert who(world, update("D"), "one") == who(world, blob("D"), "one") == {"two"}


@pytest.mark.parametrize("device", ["", " device='X'"])
def test_a_driver_that_defines_nothing_by_itself_is_asked_once_somebody_asks(device: str) -> None:
    """A client that asks for one device is not to depend on whether it comes before or after the driver."""
    world = World()
    world.router.introduce(world.driver("driver"), world.now)
    world.client("c", asks=False)
    assert world.heard("driver") == []
    world.say("c", f"<getProperties version='1.7'{device}/>")
    assert world.heard("driver") == ["getProperties"]
    world.say("c", "<getProperties version='1.7' device='Y'/>")
    assert world.heard("driver") == []
    world.router.introduce(world.driver("late"), world.now)
    assert world.heard("late") == ["getProperties"]


def test_a_connection_may_own_new_devices_only_where_links_are_accepted() -> None:
    world = World()
    world.client("c")
    world.client("link")
    assert who(world, define("X"), "link") == {"c"}
    assert who(world, update("X"), "link") == {"c"}
    assert who(world, command("X"), "c") == {"link"}
    closed = World(accept_links=False)
    closed.client("c")
    closed.client("link")
    assert who(closed, define("X") + update("X") + "<message message='m'/>", "link") == set()
    assert who(closed, command("X"), "c") == {"c"}  # refused


def test_a_command_for_an_unknown_device_is_refused_with_a_message(world: World) -> None:
    world.say("all", command("X"))
    assert world.heard("driver") == []
    (heard,) = world.heard("all")
    assert heard.startswith("message X refused: a command for X")


def test_a_deleted_device_is_free(world: World) -> None:
    assert who(world, "<delProperty device='D' name='P'/>") == {"all", "only D.P"}
    assert world.router.owners["D"] is world.peers["driver"]
    assert who(world, "<delProperty device='D'/>") == {"all", "only D.P"}
    assert "D" not in world.router.owners
    world.driver("new", "D")
    assert world.router.owners["D"] is world.peers["new"]


def test_the_devices_of_a_dead_driver_vanish(world: World) -> None:
    world.driver("snooper", "S")
    world.say("snooper", "<getProperties version='1.7' device='D' name='P'/>")
    world.forget()
    world.router.lose(world.peers["driver"], 0.0)
    assert world.heard("all") == ["delProperty D", "delProperty E"]
    assert world.heard("only E") == ["delProperty E"]
    assert world.heard("only D.P") == ["delProperty D"]
    assert world.heard("snooper") == ["delProperty D"]
    assert world.heard("silent") == []
    assert list(world.router.owners) == ["S"]


def test_an_executable_may_speak_before_it_defines() -> None:
    world = World()
    world.client("c")
    world.driver("d")
    assert who(world, "<message device='D' message='x'/>", "d") == {"c"}
    assert who(world, update("D"), "d") == {"c"}


# Snooping


def test_a_driver_snoops_on_a_property_a_device_or_everything(world: World) -> None:
    for label, request in [
        ("s1", "<getProperties version='1.7' device='D' name='P'/>"),
        ("s2", "<getProperties version='1.7' device='D'/>"),
        ("s3", "<getProperties version='1.7'/>"),
    ]:
        world.driver(label, f"own {label}")
        world.say(label, request)
    clients = {"all"}
    assert who(world, update("D")) == clients | {"only D.P", "s1", "s2", "s3"}
    assert who(world, update("D", "Q")) == clients | {"s2", "s3"}
    assert who(world, update("E")) == clients | {"only E", "s3"}
    assert "s3" in who(world, "<message message='x'/>")
    assert who(world, update("own s3"), "s3") == clients


def test_a_snoop_request_is_passed_to_the_owner(world: World) -> None:
    world.driver("s", "S")
    world.forget()
    world.say("s", "<getProperties version='1.7' device='D'/>")
    assert world.heard("driver") == ["getProperties D"]
    assert world.heard("s") == []


def test_snooping_survives_a_restart(world: World) -> None:
    world.driver("s", "S")
    world.say("s", "<getProperties version='1.7' device='D'/>")
    world.router.lose(world.peers["s"], 0.0)
    world.router.start(world.peers["s"], 0.0)
    assert who(world, update("D")) == {"all", "only D.P", "s"}
    world.router.lose(world.peers["driver"], 0.0)
    assert "s" in who(world, define("D"))
    assert "s" in who(world, update("D"))


def test_a_driver_gets_snooped_blobs_once_it_enables_them(world: World) -> None:
    world.driver("s", "S")
    world.driver("python", "T", blobs_by_default=True)
    world.say("s", "<enableBLOB device='D'>Also</enableBLOB>")
    world.say("s", "<getProperties version='1.7' device='D'/>")
    world.say("python", "<getProperties version='1.7' device='D'/>")
    assert who(world, blob("D")) == {"python"}
    world.say("s", "<enableBLOB device='D'>Also</enableBLOB>")
    assert who(world, blob("D")) == {"python", "s"}
    assert world.router.demand("D", "B") == Demand(True, False)


# Pings and pauses


def test_a_ping_is_answered_ahead_of_everything(world: World) -> None:
    world.say("all", command("D"))
    world.say("driver", "<pingRequest uid='SetBLOB/1'/>")
    assert world.heard("driver")[0] == "pingReply SetBLOB/1"


def test_a_client_waits_for_a_full_driver_while_another_client_does_not() -> None:
    world = World()
    world.driver("stuck", "D", full_at=300)
    world.driver("fine", "E")
    world.client("a")
    world.client("b")
    world.heard("stuck")
    for _ in range(10):
        world.say("a", command("D"))
    world.say("b", command("E"))
    assert world.paused == ["a"]
    assert len(world.heard("stuck")) == 10
    assert world.paused == []


def test_requests_for_definitions_do_not_pause_clients() -> None:
    world = World()
    world.driver("stuck", "D", full_at=300)
    world.client("a")
    for _ in range(1000):
        world.say("a", "<getProperties version='1.7'/>")
    assert world.paused == [] and len(world.heard("stuck")) < 20


def test_the_death_of_a_full_driver_ends_the_pause() -> None:
    world = World()
    world.driver("stuck", "D", full_at=10)
    world.client("a")
    world.say("a", command("D"))
    assert world.paused == ["a"]
    world.router.lose(world.peers["stuck"], 0.0)
    assert world.paused == []


def test_a_frame_sets_a_pace_until_any_reader_starts_it(world: World) -> None:
    driver = world.peers["driver"]
    world.say("driver", blob("D"))
    assert driver.pace is None
    for label in ("all", "only E"):
        world.say(label, "<enableBLOB device='D'>Also</enableBLOB>")
    world.forget()
    world.say("driver", blob("D"))
    assert driver.pace is not None and not driver.pace.begun
    world.peers["only E"].outbox.take(1000, 10)
    world.peers["only E"].outbox.sent(1, 0.0)
    assert driver.pace.begun


def test_a_frame_behind_one_that_a_reader_has_begun_was_waited_for(world: World) -> None:
    """The one before may have been replaced: nobody would ever begin it."""
    driver = world.peers["driver"]
    world.say("all", "<enableBLOB device='D'>Also</enableBLOB>")
    world.forget()
    for _ in range(3):
        world.say("driver", blob("D"))
    first, last = driver.awaited, driver.pace
    assert first is not None and last is not None and not first.begun
    last.begin()
    assert first.begun and last.begun
    assert first.before is None and last.before is None, "no chain is kept"


def test_a_large_frame_is_waited_for_before_the_next_one_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = world.peers["driver"]
    world.say("all", "<enableBLOB device='D'>Also</enableBLOB>")
    world.forget()
    world.say("driver", blob("D"))
    small = driver.pace
    world.say("driver", blob("D"))
    assert driver.awaited is small
    monkeypatch.setattr(link, "PATIENT_RATE", 1)
    world.say("driver", blob("D"))
    assert driver.awaited is driver.pace
    monkeypatch.undo()
    large = driver.pace
    world.say("driver", blob("D"))
    assert driver.awaited is large


def test_a_large_frame_may_arrive_as_the_readers_take_the_one_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = world.peers["driver"]
    world.client("other")
    for label in ("all", "other"):
        world.say(label, "<enableBLOB device='D'>Also</enableBLOB>")
    world.forget()
    world.say("driver", blob("D"))
    assert driver.pace is not None and driver.pace.room() == (1, False, ()), "a small frame is not waited for like this"
    monkeypatch.setattr(link, "PATIENT_RATE", 1)
    boxes = [world.peers[label].outbox for label in ("all", "other")]
    drained = drain(boxes[0]), drain(boxes[1])
    assert drained[0] == drained[1]
    world.say("driver", blob("D"))
    pace = driver.pace
    assert pace is not None
    assert pace.room() == (link.LEAD, False, (boxes[0], boxes[0]))
    world.say("other", "<enableBLOB device='E'>Also</enableBLOB>")
    world.say("driver", blob("E"))
    assert pace.room() == (link.LEAD - 1, False, (boxes[0], boxes[1])), "the one that is behind counts"
    drain(boxes[0])
    assert pace.room() == (link.LEAD - 1, True, (boxes[0], boxes[1])), "who has taken the frame waits for a while"
    world.say("driver", blob("D"))
    assert driver.pace is not None and driver.pace.readers == [boxes[0]], "who is behind is not waited for"


def test_the_fastest_readers_wait_for_slower_ones_for_a_share_of_the_time() -> None:
    courtesy = Courtesy()
    assert courtesy.left(1000.0) == link.FRAME_PAUSE
    courtesy.spend(link.FRAME_PAUSE + link.COURTESY)
    assert courtesy.left(1000.0) == pytest.approx(-link.COURTESY)
    assert courtesy.left(1000.5) == pytest.approx(-link.COURTESY / 2)
    assert courtesy.left(1001.5) == pytest.approx(link.COURTESY / 2)
    assert courtesy.left(2000.0) == link.FRAME_PAUSE


def test_a_producer_outruns_its_readers_when_all_are_far_behind(world: World) -> None:
    driver = world.peers["driver"]
    assert not world.router.outrun(driver)
    for _ in range(20_000):
        world.say("driver", update("E"))
    assert world.router.outrun(driver)
    world.heard("all")
    assert not world.router.outrun(driver)


def test_dirty_peers_are_returned_once(world: World) -> None:
    world.router.take_dirty()
    for _ in range(3):
        world.say("driver", update("D"))
    assert {peer.label for peer in world.router.take_dirty()} == {"all", "only D.P"}
    assert world.router.take_dirty() == []


# Links


def test_a_link_is_asked_once_for_everything_and_then_for_its_devices() -> None:
    world = World()
    world.driver("driver", "D")
    world.remote("link")
    assert world.heard("link") == ["getProperties"]
    assert "getProperties" in world.heard("driver")  # so that the other side learns of our devices
    world.say("link", define("X"))
    world.client("c")
    assert world.heard("link") == ["getProperties X"]
    world.say("c", "<getProperties version='1.7' device='X' name='P'/>")
    assert world.heard("link") == ["getProperties X P"]
    world.say("c", "<getProperties version='1.7' device='D'/>")
    assert world.heard("link") == []


def test_a_link_carries_both_directions() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("c")
    world.remote("link")
    assert who(world, define("X"), "link") == {"c"}
    assert who(world, command("X"), "c") == {"link"}
    assert who(world, command("D"), "link") == {"driver"}
    assert who(world, update("D")) == {"c", "link"}
    assert who(world, update("X"), "link") == {"c"}


def test_a_link_for_one_device() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("c")
    world.remote("link", limit_to="X")
    assert world.heard("link") == ["getProperties X"]
    assert who(world, define("X"), "link") == {"c"} and who(world, define("Y"), "link") == set()
    assert who(world, update("D")) == {"c"}


def test_a_peer_owns_and_contests_a_limited_number_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "MAX_DEVICES", 2)
    world = World()
    world.driver("driver", "D", "E")
    world.driver("another", "F")
    world.remote("link")
    world.client("c")
    assert who(world, define("X"), "driver") == set()
    assert who(world, define("X"), "another") == {"c", "link"}
    for device in "DEF":
        world.say("link", define(device))
    assert list(world.peers["link"].conflicts) == ["D", "E"]


def test_a_limited_number_of_messages_without_device_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings, "_RECENT", 2)
    world = World()
    world.driver("driver", "D")
    world.client("c")
    world.remote("link")
    for number in range(3):
        assert "c" in who(world, f"<message message='{number}'/>", "driver")
    assert who(world, "<message message='0'/>", "link") == {"c"}  # the oldest is forgotten
    assert who(world, "<message message='2'/>", "link") == set()


def test_messages_without_device_do_not_cross_from_link_to_link() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("c")
    world.remote("link")
    world.client("inbound")
    world.say("inbound", define("Y"))
    assert who(world, "<message message='m1'/>", "link") == {"c"}
    assert who(world, "<message message='m2'/>", "inbound") == {"c"}
    assert who(world, "<message message='m3'/>", "driver") == {"c", "inbound"}
    assert who(world, "<message message='m3'/>", "link") == set()  # it has gone round a ring


def test_a_second_link_to_a_device_is_used_only_when_the_first_is_gone() -> None:
    world = World()
    world.client("c")
    world.remote("one")
    world.remote("two")
    world.say("one", define("X"))
    world.forget()
    world.say("two", define("X") * 3)
    assert len(world.heard("c")) == 1  # a message about the conflict, no definition
    assert who(world, update("X"), "two") == set()
    assert who(world, update("X"), "one") == {"c"}  # and not back to "two"
    world.router.lose(world.peers["one"], 0.0)
    assert "delProperty X" in world.heard("c")
    assert world.heard("two") == ["getProperties X"]
    assert who(world, define("X"), "two") == {"c"}


def test_blobs_cross_a_link_only_while_a_client_wants_them() -> None:
    world = World()
    world.remote("link")
    world.client("a")
    world.client("b")
    world.say("link", define("X") + define("X", "B", "BLOB"))
    world.forget()
    world.say("a", "<enableBLOB device='X'>Also</enableBLOB>")
    assert world.heard("link") == ["enableBLOB X B Also"]
    world.say("b", "<enableBLOB device='X' name='B'>Only</enableBLOB>")
    assert world.heard("link") == []
    world.say("a", "<enableBLOB device='X'>Never</enableBLOB>")
    assert world.heard("link") == []
    world.router.detach(world.peers.pop("b"), 0.0)
    assert world.heard("link") == ["enableBLOB X B Never"]
    world.say("a", "<enableBLOB device='X'>Only</enableBLOB>")
    world.say("link", define("X", "B2", "BLOB"))
    assert world.heard("link") == ["enableBLOB X B Also", "enableBLOB X B2 Also"]


def test_blobs_do_not_cross_a_link_without_blob_enable() -> None:
    world = World()
    world.driver("driver", "D")
    world.remote("link", blob_enable=False)
    world.client("a")
    world.say("link", define("X", "B", "BLOB") + "<enableBLOB device='D'>Also</enableBLOB>")
    world.forget()
    world.say("a", "<enableBLOB device='X'>Also</enableBLOB>")
    assert world.heard("link") == []
    assert who(world, blob("X"), "link") == set()
    assert who(world, blob("D")) == set()
    assert who(world, blob("X", tag="newBLOBVector"), "a") == {"a"}


def test_the_other_side_of_a_link_receives_the_blobs_that_it_enables() -> None:
    world = World()
    world.driver("driver", "D")
    world.remote("link")
    world.remote("second")
    world.say("driver", define("D", "B", "BLOB"))
    assert who(world, blob("D")) == set()
    world.say("link", "<enableBLOB device='D' name='B'>Also</enableBLOB>")
    assert who(world, blob("D")) == {"link"}
    world.say("second", define("X", "B", "BLOB"))
    world.forget()
    world.say("link", "<enableBLOB device='X' name='B'>Also</enableBLOB>")
    assert world.heard("second") == ["enableBLOB X B Also"]
    world.router.lose(world.peers["link"], 0.0)
    assert world.heard("second") == ["enableBLOB X B Never"]


def test_a_link_that_returns_is_sent_everything_again() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("c")
    link = world.remote("link")
    world.say("link", define("X", "B", "BLOB"))
    world.say("c", "<enableBLOB device='X'>Also</enableBLOB>")
    world.forget()
    world.router.lose(link, 0.0)
    assert world.heard("c") == ["delProperty X"] and world.heard("link") == []
    world.router.start(link, 0.0)
    assert world.heard("link") == ["getProperties"] and world.heard("driver") == ["getProperties"]
    world.say("link", define("X", "B", "BLOB"))
    assert world.heard("link") == ["enableBLOB X B Also"]
    assert who(world, update("D")) == {"c", "link"}


def test_a_libindi_server_that_reads_from_us_receives_snoop_requests() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("chained", asks=False)
    world.say("chained", "<getProperties version='1.7' device='*'/>")
    assert world.heard("driver") == ["getProperties"]
    assert who(world, update("D")) == {"chained"}
    world.say("driver", "<getProperties version='1.7' device='Far'/>")
    assert world.heard("chained") == ["getProperties Far"]
    world.say("chained", define("Far"))
    assert world.heard("driver") == ["defNumberVector Far P"]


def test_the_echo_of_a_libindi_server_is_not_a_command() -> None:
    world = World()
    world.remote("link")
    world.say("link", define("X"))
    assert who(world, command("X"), "link") == set()


def test_a_device_that_was_claimed_is_known_before_its_definition() -> None:
    world = World()
    peer = world.driver("driver")
    assert world.router.claim(peer, "D")
    other = world.driver("other")
    assert not world.router.claim(other, "D")
    world.client("c")
    world.forget()
    assert who(world, command("D"), "c") == {"driver"}


def test_a_ring_through_a_libindi_server_is_found_and_cut() -> None:
    world = World()
    world.driver("driver", "D")
    world.remote("link")
    world.client("chained", asks=False)
    world.client("other link")
    world.client("c")
    world.say("other link", define("Y"))
    world.say("chained", "<getProperties device='*' version='1.7'/>")
    world.forget()
    world.say("link", define("X"))
    heard = []
    while (message := world.peers["chained"].outbox.pop()) is not None:
        heard.append(message)
    assert [message.tag for message in heard] == ["defNumberVector", "delProperty"]
    (check,) = heard[1].parts(False) or ()
    world.forget()
    world.say("link", bytes(check).decode())
    assert "leads back" in world.heard("c")[0]
    assert who(world, update("X"), "link") == {"c", "other link"}
    assert who(world, update("D"), "driver") == {"c", "chained", "other link", "link"}
    assert who(world, update("Y"), "other link") == {"c", "chained", "link"}
    assert who(world, command("X"), "chained") == set()
    assert who(world, "<getProperties version='1.7' device='X'/>", "chained") == set()
    world.router.lose(world.peers["link"], 0.0)
    world.router.start(world.peers["link"], 0.0)
    world.now += 1
    assert "chained" in who(world, define("X"), "link")


def test_requests_for_blobs_do_not_circulate_through_a_libindi_server() -> None:
    """It passes enableBLOB on to where the device comes from, so that our own requests come back by the ring."""
    world = World()
    world.remote("link")
    world.client("chained", asks=False)
    world.client("c")
    world.say("chained", "<getProperties device='*' version='1.7'/>")
    world.say("link", define("X", "B", "BLOB"))
    world.say("chained", "<enableBLOB device='X' name='B'>Also</enableBLOB>")
    told = world.messages("chained")
    assert [message.tag for message in told] == ["defBLOBVector", "delProperty"]
    assert "enableBLOB X B Also" in world.heard("link")
    world.say("link", bytes(*(told[1].parts(False) or ())).decode())
    assert world.heard("link") == ["enableBLOB X B Never"], "the ring is found, and nobody else wants the BLOBs"
    for policy in ("Also", "Never"):
        world.say("c", f"<enableBLOB device='X' name='B'>{policy}</enableBLOB>")
        assert world.heard("link") == [f"enableBLOB X B {policy}"]
    for policy in ("Also", "Never"):  # both have gone round
        world.say("chained", f"<enableBLOB device='X' name='B'>{policy}</enableBLOB>")
        assert world.heard("link") == []


def test_a_link_is_told_that_blobs_are_no_longer_wanted_once_it_defines_them_again() -> None:
    """It may remember what it was asked for before it deleted them."""
    world = World()
    world.remote("link")
    world.client("c")
    world.say("c", "<enableBLOB device='X'>Also</enableBLOB>")
    for deletion in ("<delProperty device='X'/>", "<delProperty device='X' name='B'/>"):
        world.say("link", define("X", "B", "BLOB"))
        assert "enableBLOB X B Also" in world.heard("link")
        world.say("link", deletion)
        world.say("link", define("X", "B", "BLOB"))
        assert "enableBLOB X B Also" in world.heard("link"), "it may have forgotten"
        world.say("link", deletion)
        world.say("c", "<enableBLOB device='X'>Never</enableBLOB>")
        assert world.heard("link") == []
        world.say("link", define("X", "B", "BLOB") * 2)
        assert world.heard("link") == ["enableBLOB X B Never"]
        world.say("c", "<enableBLOB device='X'>Also</enableBLOB>")


def test_a_link_is_told_that_its_blobs_are_no_longer_wanted_if_they_come_from_elsewhere() -> None:
    world = World()
    world.remote("link")
    world.remote("other")
    world.client("c")
    world.say("c", "<enableBLOB device='X'>Also</enableBLOB>")
    world.say("link", define("X", "B", "BLOB") + "<delProperty device='X'/>")
    world.say("other", define("X", "B", "BLOB"))
    world.forget()
    world.say("link", define("X", "B", "BLOB") * 2)
    assert world.heard("link") == ["enableBLOB X B Never"]
    assert world.heard("other") == []


def test_few_requests_for_blobs_are_remembered_that_a_link_has_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "_MAX_ASKED", 10)
    world = World()
    link = world.remote("link")
    world.client("c")
    world.say("c", "<enableBLOB device='X'>Also</enableBLOB>")
    for number in range(30):
        world.say("link", define("X", f"B{number}", "BLOB") + "<delProperty device='X'/>")
    assert len(link.asked_blobs) == 10


def test_nothing_is_kept_of_a_libindi_server_that_is_gone() -> None:
    world = World()
    world.remote("link")
    gone = []
    for _ in range(3):
        world.client("chained", asks=False)
        world.say("chained", "<getProperties device='*' version='1.7'/>")
        world.say("link", define("X") + define("X"))  # the second check is put off
        peer = world.peers.pop("chained")
        world.router.detach(peer, world.now)
        gone.append(weakref.ref(peer))
        del peer
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]


def test_a_ring_that_is_closed_after_a_ring_check_is_found_by_the_next_one() -> None:
    """Definitions that come soon after a check cause another one, because the ring may have been closed since."""
    world = World()
    world.remote("link")
    world.client("chained", asks=False)
    world.say("chained", "<getProperties device='*' version='1.7'/>")
    world.say("link", define("X"))
    assert [text.split()[0] for text in world.heard("chained")] == ["defNumberVector", "delProperty"]
    world.say("link", define("X", "Q") + define("X", "R"))
    assert [text.split()[0] for text in world.heard("chained")] == ["defNumberVector"] * 2
    assert world.held == 1
    world.now += world.router.held_for / 2
    assert world.router.send_held(world.now), "not yet"
    assert world.heard("chained") == []
    world.now += world.router.held_for
    assert not world.router.send_held(world.now)
    assert [text.split()[0] for text in world.heard("chained")] == ["delProperty"]
    world.say("link", define("X"))
    world.router.detach(world.peers["chained"], world.now)
    assert not world.router.send_held(world.now), "the peer is gone"


def test_another_servers_ring_check_is_passed_on_once() -> None:
    world = World()
    world.remote("link")
    world.client("other link")
    world.say("other link", define("Y"))
    world.client("c")
    check = "<delProperty device='indifast ring check' name='abc'/>"
    assert who(world, check, "link") == {"other link"}
    assert who(world, check, "link") == set()
    assert who(world, check, "c") == set()


# Empty attributes

ALL = {"one": "getProperties", "two": "getProperties"}


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("<getProperties version='1.7' device='' name=''/>", ALL),
        ("<getProperties version='1.7' device='' name=''></getProperties>", ALL),
        ("<getProperties device='' version='1.7'/>", ALL),
        ("<getProperties version='1.7' device='' name='P'/>", ALL),
        ("<getProperties version='1.7' device='D' name=''/>", {"one": "getProperties D"}),
    ],
)
def test_an_empty_attribute_means_the_same_as_none(said: str, asked: dict[str, str]) -> None:
    world = World()
    world.driver("one", "D")
    world.driver("two", "E")
    client = world.client("c", asks=False)
    world.forget()
    world.say("c", said)
    assert {label: lines for label in ("one", "two") if (lines := world.heard(label))} == {
        label: [line] for label, line in asked.items()
    }
    assert who(world, update("D", "any"), "one") == {"c"}
    assert who(world, update("E", "any"), "two") == ({"c"} if "two" in asked else set())
    assert not client.libindi_server


def test_an_empty_name_enables_the_blobs_of_the_device() -> None:
    world = World()
    world.driver("driver", "D")
    client = world.client("c", asks=False)
    world.say("c", "<enableBLOB device='D' name=''>Also</enableBLOB>")
    assert who(world, blob("D")) == {"c"}
    world.say("c", "<enableBLOB device='' name=''>Never</enableBLOB>")
    assert who(world, blob("D")) == {"c"}
    assert client.refused["no device or name"] == 1


def test_an_empty_device_cannot_be_claimed() -> None:
    world = World()
    driver = world.driver("driver")
    assert not world.router.claim(driver, "")
    assert not driver.devices and not world.router.owners


@pytest.mark.parametrize("policy", ["", "also", "Alsö"])
def test_an_unknown_blob_policy_is_refused_and_logged_once(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.driver("driver", "D")
    client = world.client("c")
    world.say("c", "<enableBLOB device='D'>Also</enableBLOB>")
    world.say("c", f"<enableBLOB device='D'>{policy}</enableBLOB>")
    world.say("c", f"<enableBLOB device='D' name='B'>{policy}</enableBLOB>")
    assert who(world, blob("D")) == {"c"}
    assert client.refused["unknown BLOB policy"] == world.router.refused["unknown BLOB policy"] == 2
    said = [record.getMessage() for record in caplog.records if "enableBLOB" in record.getMessage()]
    assert len(said) == 1 and "for D with '" in said[0] and "not one of Never, Also, Only: refused" in said[0]


def test_a_message_with_an_empty_device_goes_to_all_clients(world: World) -> None:
    world.forget()
    world.say("driver", "<message device='' message='x' timestamp='2024-01-02T03:04:05'/>")
    for label in ("all", "silent", "only E", "only D.P"):
        message = world.peers[label].outbox.pop()
        assert message is not None
        assert message.parts(False) == (b'<message timestamp="2024-01-02T03:04:05" message="x" />',)


def test_an_empty_name_deletes_nothing(world: World) -> None:
    assert who(world, "<delProperty device='D' name=''/>") == {"all"}
    assert who(world, update("D", "Q")) == {"all"}
    assert "D" in world.router.owners
    world.say("driver", "<delProperty device='D'/>")
    assert "D" not in world.router.owners


@pytest.mark.parametrize("kind", list(Kind))
def test_messages_of_an_empty_device_or_property_are_refused(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.client("c")
    source = world.add("source", kind)
    world.say("source", define("D"))
    world.forget()
    with caplog.at_level(logging.WARNING):
        for xml in (define("", ""), define("", "P"), define("D", ""), update("", ""), update("", "P"), blob("", "")):
            assert who(world, xml, "source") == set()
        assert who(world, "<delProperty device='' name=''/><delProperty device=''/>", "source") == set()
    assert list(world.router.owners) == ["D"] and list(source.devices) == ["D"]
    assert source.refused == {"no device or name": 8}
    assert len(caplog.records) == 1
    world.client("later")
    assert len([line for line in world.heard("source") if line.startswith("getProperties")]) == 1


def test_a_command_with_an_empty_device_or_name_is_refused(world: World) -> None:
    for xml in (command("", "P"), command("D", "")):
        assert who(world, xml, "all") == set()
    assert world.peers["all"].refused == {"no device or name": 2}


# Logging


def test_snoop_requests_are_logged_once_each_and_not_without_limit(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.driver("d", "Own")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            world.say("d", "<getProperties version='1.7' device='Cam' name='P'/>")
        assert [record.getMessage() for record in caplog.records] == ["d: snooping on Cam.P"]
        world.say("d", "".join(f"<getProperties version='1.7' device='Cam' name='P{n}'/>" for n in range(1000)))
        assert len(caplog.records) == BURST
        world.now += 10
        world.say("d", "<getProperties version='1.7' device='Cam' name='Q'/>")
    assert caplog.records[-1].getMessage() == "d: snooping on Cam.Q (951 more of these were not logged)"


def test_refusals_of_clients_that_reconnect_are_not_logged_without_limit(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for number in range(1000):
        client = world.client(f"c{number}")
        world.say(client.label, update("Nobody"))
        world.router.detach(client, world.now)
    assert len(caplog.records) == BURST and world.router.refused["not the owner"] == 1000


# Cost

SIZES = (100, 1_000, 8_000)


def test_the_cost_per_device_of_losing_an_owner_is_constant() -> None:
    def cost(size: int) -> float:
        world = World()
        world.client("c")
        world.driver("d", *map(str, range(size)))
        return operations(lambda: world.router.detach(world.peers["d"], world.now)) / size

    assert_constant_cost(cost, SIZES, factor=1.2, slack=20)


def test_the_cost_of_losing_a_client_that_wanted_no_blobs_of_a_link_is_constant() -> None:
    def cost(size: int) -> float:
        world = World()
        world.remote("link")
        for number in range(size):
            world.say("link", define("D", f"B{number}", "BLOB"))
        world.client("c")
        return operations(lambda: world.router.detach(world.peers["c"], world.now))

    assert_constant_cost(cost, SIZES, factor=1.2, slack=20)
