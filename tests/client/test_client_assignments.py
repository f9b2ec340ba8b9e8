"""What programs may assign to vectors and members of a client, and give to commands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from indifast.client.ipyclient import ParseException
from indifast.client.propertymembers import TextMember
from tests.client.support import BLOBS, LIGHTS, NUMBERS, SWITCHES, TEXTS, session


def test_the_rule_and_permission_of_a_live_vector() -> None:
    async def run() -> None:
        async with session(SWITCHES) as (_, client):
            vector = client["D"]["S"]
            before = client.snapshot()
            vector.rule = "AnyOfMany"
            vector.perm = "ro"
            assert (vector.rule, vector.perm) == ("AnyOfMany", "ro")
            after = client.snapshot()["D"]["S"]
            assert (after.rule, after.perm) == ("AnyOfMany", "ro")
            assert (before["D"]["S"].rule, before["D"]["S"].perm) == ("OneOfMany", "rw")
            with pytest.raises(ParseException):
                vector.rule = "bad"
            with pytest.raises(ParseException):
                vector.perm = "bad"
            assert (vector.rule, vector.perm) == ("AnyOfMany", "ro")

    asyncio.run(run())


def test_the_rule_and_permission_in_a_snapshot() -> None:
    async def run() -> None:
        async with session(SWITCHES) as (_, client):
            vector = client.snapshot()["D"]["S"]
            vector.rule = "AnyOfMany"
            vector.perm = "ro"
            assert (vector.rule, vector.perm) == ("AnyOfMany", "ro")
            assert (client["D"]["S"].rule, client["D"]["S"].perm) == ("OneOfMany", "rw")
            with pytest.raises(ValueError, match="bad"):
                vector.rule = "bad"
            with pytest.raises(ValueError, match="bad"):
                vector.perm = "bad"

    asyncio.run(run())


def test_the_permission_of_lights_stays() -> None:
    async def run() -> None:
        async with session(LIGHTS) as (_, client):
            client["D"]["L"].perm = "rw"
            assert client["D"]["L"].perm == "ro"

    asyncio.run(run())


def test_a_text_is_a_string() -> None:
    member = TextMember("t")
    wrong: Any = 5
    with pytest.raises(ParseException):
        member.membervalue = wrong
    with pytest.raises(ParseException):
        TextMember("t", None, wrong)
    assert member.membervalue == ""
    member.membervalue = "5"
    assert member.membervalue == "5"


def test_members_of_a_command_are_a_mapping() -> None:
    async def run() -> None:
        async with session(NUMBERS, TEXTS, SWITCHES, BLOBS) as (server, client):
            wrong: Any = [("a", "On")]
            for name in "NTSB":
                with pytest.raises(TypeError, match="mapping"):
                    await client.send_newVector("D", name, members=wrong)
            await client.send_getProperties("Last")
            await server.expect("Last")
            assert b"<new" not in server.received

    asyncio.run(run())
