"""How people name servers."""

from __future__ import annotations

import argparse

import pytest

from indifast.cli import COMMANDS, module_of
from indifast.cli.toolkit.address import Address, AddressError, add_server_options, address_of, parse_address
from indifast.cli.tools.completion import options_of
from tests.tools.support import answering, tool


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dome", Address("dome")),
        ("dome:7625", Address("dome", 7625)),
        (":7625", Address("localhost", 7625)),
        ("192.168.0.7:1", Address("192.168.0.7", 1)),
        ("::1", Address("::1")),
        ("[::1]", Address("::1")),
        ("[::1]:7625", Address("::1", 7625)),
        ("fe80::1%eth0", Address("fe80::1%eth0")),
        ("::ffff:10.0.0.1", Address("::ffff:10.0.0.1")),
        ("localhost:7625", Address("localhost", 7625)),
        ("localhost:/tmp/x", Address(unix="/tmp/x")),
        ("localhost:", Address(unix="/tmp/indiserver")),
        ("unix:", Address(unix="/tmp/indiserver")),
        ("unix:/tmp/x", Address(unix="/tmp/x")),
        ("unix:@x", Address(unix="@x")),
        ("/tmp/x", Address(unix="/tmp/x")),
        ("@x", Address(unix="@x")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "dome:", "dome:x", "dome:0", "dome:65536", "dome:-1", "dome:²", "a b", "[::1", "x/y", "[::1]:", "[]"]
)
def test_text_that_is_not_an_address(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


def options(*words: str, word: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False)
    add_server_options(parser, word=word)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Address()),
        (["-h", "dome", "-p", "7625"], Address("dome", 7625)),
        (["-hdome", "-p7625"], Address("dome", 7625)),
        (["-h", "dome:7625", "-p", "7625"], Address("dome", 7625)),
        (["-h", "::1", "-p", "7625"], Address("::1", 7625)),
        (["--host=dome", "--tls"], Address("dome", tls=True)),
        (["--tls-ca", "x"], Address(tls=True, tls_ca="x")),
        (["--tls-cert", "x", "--tls-key", "y"], Address(tls=True, tls_cert="x", tls_key="y")),
        (["--unix", "@x"], Address(unix="@x")),
    ],
)
def test_options(words: list[str], expected: Address) -> None:
    assert address_of(options(*words)) == expected


def test_a_server_as_a_word() -> None:
    assert address_of(options(word=True)) == Address()
    assert address_of(options("[::1]:5", "--tls", word=True)) == Address("::1", 5, tls=True)
    assert address_of(options("dome", "-p", "5", word=True)) == Address("dome", 5)
    assert address_of(options("-h", "dome", word=True)) == Address("dome")
    with pytest.raises(AddressError, match="two servers are given, dome and roof"):
        address_of(options("dome", "-h", "roof", word=True))


TALKING = [name for name in COMMANDS if name != "serve" and "--tls-ca" in options_of(name)]


def test_every_command_that_talks_to_a_server_is_given_it_in_the_same_way() -> None:
    assert len(TALKING) == 10
    for name in TALKING:
        parser = module_of(name).parser()
        options = {option: action for action in parser._actions for option in action.option_strings}
        assert {"-h", "--host", "-p", "--port", "--unix", "--tls", "--tls-cert", "--tls-key"} <= set(options), name
        assert options["-h"].dest == "host"
        assert parser.prog == f"indifast {name}"


@pytest.mark.parametrize("command", ["devices", "record", "term"])
def test_commands_without_other_words_take_the_server_as_a_word(command: str) -> None:
    words = {"record": ["-o", "x"]}.get(command, [])
    for server in (["dome:7625"], ["-h", "dome:7625"], ["-h", "dome", "-p", "7625"], ["dome", "-p", "7625"]):
        assert address_of(module_of(command).parser().parse_args([*server, *words])) == Address("dome", 7625)


def test_a_server_in_place_of_a_query_is_explained() -> None:
    text = b"<defTextVector device='D' name='T' state='Ok' perm='ro'><defText name='m'/></defTextVector>"
    with answering(text) as port:
        said = tool("get", port, "dome:7624").stderr
    assert said == "indifast get: no device 'dome:7624' on this server: known: 'D'; -h dome:7624 names a server\n"


@pytest.mark.parametrize(
    "words",
    [
        ["-h", "dome:7625", "-p", "7626"],
        ["-p", "x"],
        ["--unix", "/x", "-p", "1"],
        ["--unix", "/x", "-h", "dome"],
        ["--unix", "/x", "--tls"],
        ["--unix", ""],
        ["--unix", "/" + "x" * 107],
        ["-h", "/x", "--tls"],
        ["--tls-key", "x"],
        ["--tls-ca="],
        ["--tls", "--tls-cert="],
        ["--tls-cert", "x", "--tls-key="],
    ],
)
def test_options_that_contradict_each_other_or_are_malformed(words: list[str]) -> None:
    with pytest.raises(AddressError):
        address_of(options(*words))


def test_an_address_as_text() -> None:
    assert [str(parse_address(text)) for text in ("dome", "::1", "@x")] == [
        "dome:7624",
        "[::1]:7624",
        "the local socket @x",
    ]
