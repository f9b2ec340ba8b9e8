"""How people name servers."""

from __future__ import annotations

import argparse

import pytest

from indifast.cli.toolkit.address import Address, AddressError, add_server_options, address_of, parse_address


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


def options(*words: str, positional: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=positional)
    add_server_options(parser, positional=positional)
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


def test_a_positional_server() -> None:
    assert address_of(options(positional=True)) == Address()
    assert address_of(options("[::1]:5", "--tls", positional=True)) == Address("::1", 5, tls=True)


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
