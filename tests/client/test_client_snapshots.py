"""Snapshots: what they hold, that they never change, and that they cost only what has changed."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import pickle
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from indifast._parser import Tokenizer
from indifast.client import IPyClient
from indifast.client.ipyclient import Snap, SnapDevice
from indifast.client.propertymembers import SnapBLOBMember, SnapMember, SnapNumberMember
from indifast.client.propertyvectors import SnapNumberVector, SnapVector
from indifast.client.records import changed
from tests.client.support import BLOBS, LIGHTS, NUMBERS, SWITCHES, TEXTS, blob, session

ALL = (NUMBERS, TEXTS, SWITCHES, LIGHTS, BLOBS)


def update(value: Any, vector: str = "N") -> str:
    return (
        f'<setNumberVector device="D" name="{vector}" state="Ok" timestamp="2024-01-02T03:04:06">'
        f'<oneNumber name="a">{value}</oneNumber></setNumberVector>'
    )


def test_a_snapshot_never_changes() -> None:
    async def scenario() -> None:
        async with session(*ALL) as (server, client):
            before = client.snapshot()
            device_before, vector_before = client["D"].snapshot(), client["D"]["N"].snapshot()
            plain = before.dictdump(inc_user_string=True, inc_itemid=True)
            await server.send(update(7), blob(b"x"), '<message device="D" message="m"/>')
            await server.send('<delProperty device="D" name="T"/>')
            await client.got("Delete")
            client["D"]["N"].user_string = "changed"
            client["D"]["S"].state = "Alert"
            client["D"]["N"].member("b").user_string = "changed"
            client["D"].user_string = "changed"
            after = client.snapshot()
            assert before.dictdump(inc_user_string=True, inc_itemid=True) == plain
            assert (device_before["N"]["a"], vector_before["a"], before["D"]["N"]["a"]) == ("1", "1", "1")
            assert before["D"].messages == [] and after["D"].messages[0][1] == "m"
            assert after["D"]["N"]["a"] == "7"
            assert after["D"]["N"].user_string == after["D"].user_string == "changed"
            assert after["D"]["S"].state == "Alert"
            assert after["D"]["N"].member("b").user_string == "changed"
            assert not after["D"]["T"].enable and before["D"]["T"].enable
            assert after["D"]["B"]["img"] == b"x"
            client["D"].messages.appendleft((client.seen[-1].timestamp, "of the program"))
            assert client.snapshot()["D"].messages[0][1] == "of the program"

    asyncio.run(scenario())


def test_changing_a_snapshot_changes_no_other_and_not_the_client() -> None:
    async def scenario() -> None:
        async with session(*ALL) as (_, client):
            one, other = client.snapshot(), client.snapshot()
            one["D"]["N"]["a"] = "9"
            one["D"]["N"].state = "Alert"
            one["D"].disable()
            one.messages.clear()
            assert (one["D"]["N"]["a"], one["D"]["N"].state, one["D"].enable) == ("9", "Alert", False)
            for untouched in (other, client.snapshot(), client):
                assert (untouched["D"]["N"]["a"], untouched["D"]["N"].state) == ("1", "Idle")
                assert untouched["D"].enable and untouched.enabledlen() == 1
            assert other.messages
            with pytest.raises(ValueError, match="not a state"):
                one["D"]["N"].state = "Wrong"

    asyncio.run(scenario())


def test_types_and_mapping_behaviour() -> None:
    async def scenario() -> None:
        async with session(*ALL) as (_, client):
            snap = client.snapshot()
            assert isinstance(snap, Snap) and isinstance(snap["D"], SnapDevice)
            assert type(snap["D"]["N"]) is SnapNumberVector and type(snap["D"]["T"]) is SnapVector
            kinds = [type(next(iter(snap["D"][name].members().values()))) for name in "NTSLB"]
            assert kinds == [SnapNumberMember, SnapMember, SnapMember, SnapMember, SnapBLOBMember]
            assert (list(snap), list(snap["D"]), len(snap)) == (["D"], list("NTSLB"), 1)
            assert "D" in snap and "X" not in snap
            assert snap.get("X") is None and snap["D"].data.get("N") is snap["D"]["N"]
            assert snap["D"]["N"] is snap["D"]["N"] and snap == client.snapshot()
            assert snap.get_vector_state("D", "N") == "Idle" and snap.get_vector_state("D", "X") is None
            assert (snap["D"]["N"].getfloatvalue("a"), snap["D"]["N"].getformattedvalue("a")) == (1.0, " 1.00")
            assert (snap["D"]["L"].perm, snap["D"]["S"].rule, snap["D"]["N"].rule) == ("ro", "OneOfMany", None)
            assert not hasattr(snap["D"]["N"], "device")
            with pytest.raises(TypeError):
                hash(snap)
            twin = copy.deepcopy(snap)
            assert twin.dictdump() == snap.dictdump()
            assert list(client["D"].snapshot()) == list("NTSLB")

    asyncio.run(scenario())


def test_only_changed_vectors_are_copied() -> None:
    async def scenario() -> None:
        async with session(*ALL) as (server, client):
            before = client.snapshot()
            assert client.snapshot()._records is before._records
            await server.send(update(2))
            await client.got("Set")
            after = client.snapshot()
            old, new = before._records["D"].vectors, after._records["D"].vectors
            assert [old[name] is new[name] for name in "NTSLB"] == [False, True, True, True, True]
            del client["D"]["T"].data["y"]
            del client["D"]["T"], client.data["D"].data["S"]
            assert list(client.snapshot()["D"]) == ["N", "L", "B"]
            del client["D"]
            assert list(client.snapshot()) == []

    asyncio.run(scenario())


def test_few_of_many_records_are_copied_for_a_change() -> None:
    """Each mapping shows all records, in the order of a dictionary with the same changes."""
    records: Mapping[str, int] = {}
    expected: dict[str, int] = {}
    copied, shared = 0, None
    for number in range(10_000):
        change = {f"r{number % 7_000}": number, f"r{number // 3}": -number}
        before, records = records, changed(records, change)
        expected |= change
        rest = records if isinstance(records, dict) else records.rest  # type: ignore[attr-defined]
        copied += len(records) if rest is not shared else len(records.above)  # type: ignore[attr-defined]
        shared = rest
        if number % 487 == 0:
            assert dict(records) == expected and list(records) == list(expected) and len(records) == len(expected)
            assert "r0" in records and "x" not in records and records.get("x") is None
            assert before.get(f"r{number}") != number, "earlier mappings do not change"
    assert copied / 10_000 < 4 * 7_000**0.5, "not all records are copied each time"


def test_snapshots_of_many_vectors_show_each_definition_and_deletion() -> None:
    client = IPyClient()
    names = [f"V{number}" for number in range(500)]
    definition = (
        '<defTextVector device="D" name="{}" state="Ok" perm="rw"><defText name="t">x</defText></defTextVector>'
    )
    deletion = '<delProperty device="D" name="{}"/>'
    snaps = []
    text = "".join([*map(definition.format, names), *map(deletion.format, names[:-1])])
    for element in Tokenizer().feed(text.encode()):
        client._indifast.receiver.take(element, element)
        snaps.append(client.snapshot())
    for number in (0, 1, 299, 300, 301, 320, 498):
        defined, deleted = snaps[number]["D"], snaps[500 + number]["D"]
        assert list(defined) == names[: number + 1] and len(defined) == number + 1
        assert [name for name in deleted if deleted[name].enable] == names[number + 1 :]
    for copied in (copy.deepcopy(snaps[700]), pickle.loads(pickle.dumps(snaps[700]))):
        assert copied.dictdump() == snaps[700].dictdump()


def test_threads_may_read_snapshots_while_events_arrive() -> None:
    async def scenario() -> None:
        async with session(*ALL) as (server, client):
            snaps = [client.snapshot()]
            faults: list[BaseException] = []
            done = threading.Event()

            def read() -> None:
                try:
                    while not done.is_set():
                        for snap in list(snaps):
                            assert float(snap["D"]["N"]["a"]) == snap["D"]["N"].getfloatvalue("a")
                            json.loads(snap.dumps())
                except BaseException as error:
                    faults.append(error)

            threads = [threading.Thread(target=read) for _ in range(2)]
            for thread in threads:
                thread.start()
            for value in range(100):
                await server.send(update(value))
                await client.got("Set", value + 1)
                snaps[:] = [client.snapshot()]
            done.set()
            for thread in threads:
                thread.join()
            assert not faults

    asyncio.run(scenario())


def test_snapshots_can_be_copied_and_pickled() -> None:
    async def main() -> None:
        async with session(NUMBERS, TEXTS) as (_, client):
            for snap in (client.snapshot(), client.snapshot()["D"], client.snapshot()["D"]["N"]):
                for copied in (copy.copy(snap), snap.copy(), copy.deepcopy(snap), pickle.loads(pickle.dumps(snap))):
                    assert list(copied) == list(snap) and copied.dumps() == snap.dumps()
                copied = copy.copy(snap)
                del copied.data[next(iter(copied))]
                assert len(copied) == len(snap) - 1

    asyncio.run(main())


def test_json_layout() -> None:
    async def scenario() -> None:
        async with session(NUMBERS, BLOBS) as (server, client):
            await server.send(blob(b"content"))
            await client.got("SetBLOB")
            plain = json.loads(client.snapshot().dumps(inc_blob=True, inc_user_string=True, inc_itemid=True))
            assert list(plain) == ["indihost", "indiport", "connected", "messages", "devices", "user_string"]
            device = plain["devices"]["D"]
            assert list(device) == ["devicename", "enable", "messages", "vectors", "user_string", "itemid"]
            vector = device["vectors"]["N"]
            assert list(vector) == [
                "vectortype", "name", "devicename", "label", "enable", "message", "message_timestamp", "group", "state",
                "timeout", "timestamp", "perm", "user_string", "itemid", "members",
            ]  # fmt: skip
            assert vector["timestamp"] == "2024-01-02T03:04:05+00:00"
            assert vector["members"]["b"] == {
                "label": "B", "format": "%9.6m", "min": "0", "max": "0", "step": "0", "value": "-0:30:15",
                "floatvalue": -0.5041666666666667, "formattedvalue": " -0:30:15", "user_string": "", "itemid": 4,
            }  # fmt: skip
            assert device["vectors"]["B"]["members"]["img"]["value"] == "Y29udGVudA=="
            snap = client["D"]["B"].snapshot()
            assert snap.dictdump(inc_blob=True)["members"]["img"]["value"] == b"content"
            assert snap.dictdump()["members"]["img"]["value"] is None
            out = io.StringIO()
            snap.dump(out, indent=2)
            assert out.getvalue() == json.dumps(snap.dictdump(), indent=2)

    asyncio.run(scenario())


def test_an_invalid_number_format_does_not_break_snapshots() -> None:
    async def scenario() -> None:
        wide = NUMBERS.replace('"N"', '"W"').replace("%5.2f", "%999999999f")
        async with session(NUMBERS.replace("%5.2f", "%q"), wide) as (_, client):
            plain = client.snapshot().dictdump()
            for name in ("N", "W"):
                assert plain["devices"]["D"]["vectors"][name]["members"]["a"]["formattedvalue"] == "1"
                with pytest.raises(TypeError):
                    client["D"][name].getformattedvalue("a")

    asyncio.run(scenario())
