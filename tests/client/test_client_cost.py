"""The cost of handling a message does not grow with what the client knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from indifast._parser import Tokenizer
from indifast.client import IPyClient
from tests.support.operations import operations

FEW, MORE, MANY = SIZES = (100, 1_000, 9_000)
TIMES = 50


def same_cost(prepare: Callable[[IPyClient, int], list[str]]) -> None:
    """Check that the last messages that `prepare` returns cost the same for all sizes of what comes before them."""

    async def cost(size: int) -> int:
        client = IPyClient()
        elements = Tokenizer(relay=False).feed("".join(prepare(client, size)).encode())
        take(client, elements[:-TIMES])
        return operations(lambda: take(client, elements[-TIMES:]))

    costs = {size: asyncio.run(cost(size)) for size in SIZES}
    assert max(costs.values()) < 1.2 * costs[FEW] + 100, costs


def take(client: IPyClient, elements: list[Any]) -> None:
    """Do what the receiving task does with elements that are not updates."""
    for element in elements:
        client._indifast.receiver.take(element, element)


def definition(device: object, name: object) -> str:
    return f'<defTextVector device="{device}" name="{name}" state="Ok" perm="rw"><defText name="t"/></defTextVector>'


def deletion(device: object, name: object = None) -> str:
    return f'<delProperty device="{device}"/>' if name is None else f'<delProperty device="{device}" name="{name}"/>'


def test_deleting_vectors_one_by_one() -> None:
    def prepare(_: IPyClient, size: int) -> list[str]:
        names = range(size + TIMES + 1)
        return [definition("D", name) for name in names] + [deletion("D", name) for name in names[: size + TIMES]]

    same_cost(prepare)


def test_deleting_devices_one_by_one() -> None:
    def prepare(_: IPyClient, size: int) -> list[str]:
        names = range(size + TIMES + 1)
        return [definition(name, "V") for name in names] + [deletion(name) for name in names[: size + TIMES]]

    same_cost(prepare)


def test_defining_deleted_vectors_again_one_by_one() -> None:
    def prepare(_: IPyClient, size: int) -> list[str]:
        names = [*map(definition, ["D"] * size, range(size))]
        return names + [deletion("D", name) for name in range(size)] + names[-TIMES:]

    same_cost(prepare)


def test_a_device_with_many_deleted_vectors_is_defined_and_deleted() -> None:
    def prepare(_: IPyClient, size: int) -> list[str]:
        names = [*map(definition, ["D"] * size, range(size))]
        return [*names, deletion("D"), *(definition("D", 7), deletion("D")) * (TIMES // 2)]

    same_cost(prepare)


def test_new_devices_while_many_commands_are_unanswered() -> None:
    def prepare(client: IPyClient, size: int) -> list[str]:
        take(client, Tokenizer(relay=False).feed("".join(map(definition, ["D"] * size, range(size))).encode()))
        client._indifast.link.connection = object()  # type: ignore[assignment] # a connection
        for vector in client["D"].data.values():
            client._indifast.timeouts.expect(vector)
        return [definition(number, "V") for number in range(TIMES)]

    same_cost(prepare)


def test_the_counts_of_enabled_items_follow_changes_by_the_program() -> None:
    client = IPyClient()
    elements = [definition("D", "a"), definition("D", "b"), definition("E", "c")]
    take(client, Tokenizer(relay=False).feed("".join(elements).encode()))
    device = client["D"]
    assert device.enable and client.enabledlen() == 2
    device.data["a"].enable = False
    del device.data["b"]
    assert not device.enable and client.enabledlen() == 1 and client._indifast.model.any_enabled()
    device.data["a"].enable = True
    assert device.enable and client.enabledlen() == 2
    device.disable()
    del client["E"]
    assert not device.enable and client.enabledlen() == 0 and not client._indifast.model.any_enabled()
    take(client, Tokenizer(relay=False).feed(definition("E", "c").encode()))
    assert client["E"].enable and client._indifast.model.any_enabled() and not client["D"].enable
