"""The native front and Python read the same arguments, and open the same sockets and FIFOs."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.cli.serve.options import LONG_FLAGS, LONG_VALUES, ConfigError, UsageError, parse_arguments, split
from indifast.transport.sockets import KNOWN_HOSTS, addresses_of, check_port, tcp_sockets, unix_path, unix_socket
from tests.serve.front_support import Stubbed, build

# OWN-HOST and OWN-NAME are replaced with an unused address and name, which are different in each example.
HOSTS = ["OWN-HOST", "", "localhost", "::1", "127.1", "::ffff:127.0.0.1", "192.0.2.1", "127.0.0.1 ", "::1%lo"]
PORTS = ["0", "00000", "45678", "65535", "000045678", "+45678", " 45678", "45_678", "٤٥٦٧٨", "65536", "-1", "x", ""]
NAMES = ["OWN-NAME", "OWN-NAME-é", "OWN-NAME-\udce9", "OWN-NAME".ljust(107, "x"), "OWN-NAME".ljust(108, "x")]
FIFOS = ["fifo", "fifo", "fifo", "file", "none", ""]
VALUES = {"p": PORTS, "u": NAMES, "f": FIFOS, "l": ["folder", "-v"]}
# Defaults for examples without these options. Without --host, it is all interfaces.
FIRST = [["-p", "0", "-u", "OWN-NAME", *host] for host in ((), ("--host", "OWN-HOST"), ("--host", "OWN-HOST"))]


@st.composite
def letters(draw: st.DrawFn) -> list[str]:
    """Options in one word, and their values. Sometimes there is one value too few, or one too many."""
    bundle = draw(st.lists(st.sampled_from("pufpufpufvvvvlmdr"), max_size=4))
    values = [draw(st.sampled_from(VALUES.get(letter, ["1"]))) for letter in bundle if letter != "v"]
    slip = draw(st.sampled_from([*[""] * 40, "x", "-", "é", "one too few", "one too many"]))
    if slip.startswith("one"):
        values = values[1:] if slip == "one too few" else ["more", *values]
        slip = ""
    return ["-" + "".join(bundle) + slip, *values]


@st.composite
def long_words(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from([*["host"] * 12, *["config"] * 3, *LONG_VALUES, *LONG_FLAGS[:3], "hos", "hostx", ""]))
    value = draw(st.sampled_from(HOSTS if name == "host" else ["file"] if name == "config" else ["1", "-v", ""]))
    whole = [f"--{name}", value] if name in LONG_VALUES else [f"--{name}"]
    return draw(st.sampled_from([whole, whole, [f"--{name}={value}"]]))


OPTIONS = st.lists(st.one_of(letters(), long_words()), max_size=4).map(lambda several: list(itertools.chain(*several)))
DRIVERS = st.lists(st.sampled_from(["indi_a", "a:b", "@far", "-v", "-p", "--help", "--config"]), max_size=2).map(
    lambda more: ["indi_b", *more]
) | st.just([])
COUNTER = itertools.count(random.SystemRandom().randrange(1 << 20))


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Stubbed:
    """The front with all checks of the compiler, at compile time and at run time."""
    program = build(tmp_path_factory.mktemp("front"), INDIFAST_SANITIZE="address,undefined")
    front = Stubbed(program, tmp_path_factory.mktemp("stubbed"))
    os.mkfifo(front.folder / "fifo")
    (front.folder / "file").touch()
    return front


def test_front_and_python_open_the_same(front: Stubbed) -> None:
    seen = {True: 0, False: 0}  # the number of examples with something to open, and without

    @given(first=st.sampled_from(FIRST), options=OPTIONS, drivers=DRIVERS)
    @settings(max_examples=300, deadline=None)
    def agree(first: list[str], options: list[str], drivers: list[str]) -> None:
        number = next(COUNTER)
        host = f"127.{1 + (number >> 14 & 63)}.{number >> 7 & 127}.{1 + (number & 127)}"
        words = [*first, *options, *drivers]
        words = [word.replace("OWN-HOST", host).replace("OWN-NAME", f"n{number:07}") for word in words]
        for _ in range(3):  # another program may use a port or name at one moment and not at the next
            found = opened_by_front(front, words)
            try:
                expected = opened_by_python(words)
            except (UsageError, ConfigError):
                return  # Python ends, so it does not matter what the front has opened
            if found == expected:
                break
        assert found == expected, words
        seen[bool(found)] += 1

    with contextlib.chdir(front.folder):
        agree()
    assert min(seen.values()) > 20, seen


def opened_by_python(words: list[str]) -> list[str]:
    """Return what the stub should report. This is nothing if the front has to leave everything to Python."""
    options = parse_arguments([word for word in words if word not in ("--help", "--version")])
    pairs, _ = split([*words])
    if {"--help", "--version"} & {*words} or any(name in ("config", "socket", "no-abstract") for name, _ in pairs):
        return []
    if not all(re.fullmatch(r"[0-9]{1,5}", value) for name, value in pairs if name == "p"):
        return []
    if not (options.programs or options.remotes or options.python or options.fifo):
        return []  # drivers are started from a browser, which the front knows nothing of
    host = options.host or ""
    if host not in KNOWN_HOSTS and not is_address(host):
        return []
    with contextlib.ExitStack() as stack:
        try:
            check_port(options.port)
            sockets = [stack.enter_context(each) for each in tcp_sockets(addresses_of(host), options.port, host)]
            local = stack.enter_context(unix_socket(unix_path(options.unix_socket)))
            if options.fifo is not None:
                stack.callback(os.close, os.open(options.fifo, os.O_RDONLY | os.O_NONBLOCK))
        except (OSError, ValueError):
            return []
        if options.fifo == "file":
            return []
        places = [f"{address} {options.port or 'free'}" for address, *_ in (each.getsockname() for each in sockets)]
        places.append("@" + os.fsdecode(local.getsockname()[1:]))
        return [*places, *(["fifo"] if options.fifo is not None else [])]


def is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            return bool(socket.inet_pton(family, host))
    return False


def opened_by_front(front: Stubbed, words: list[str]) -> list[str]:
    report = front.start(*words)
    assert report.all("word")[2:] == words
    passed = [fd for name in ("sockets", "fifo") for fd in report.front[name].split(",") if fd]
    assert report.all("open") == passed
    assert report.all("fifo") == passed[len(report.all("socket")) :]
    places = report.all("socket")
    ports = {place.partition(" ")[2] for place in places[:-1]}
    assert len(ports) <= 1, "all addresses have the same port"
    free = ports and int(*ports) not in (45678, 65535)
    return [re.sub(r" \d+$", " free", place) if free else place for place in places] + ["fifo"] * len(
        report.all("fifo")
    )
