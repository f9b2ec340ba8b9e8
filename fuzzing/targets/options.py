"""The command line and the configuration file of the server: what makes no sense is said in a sentence."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from fuzzing.inputs import Input
from indifast._parser import Tokenizer
from indifast.cli.serve.options import ConfigError, Options, UsageError, parse_arguments
from indifast.server.ipyserver import IPyServer
from indifast.transport.incoming import most_unfinished
from indifast.transport.sockets import check_port

_home = tempfile.TemporaryDirectory(prefix="indifast-fuzzing-")
_PATH = os.path.join(_home.name, "configuration.toml")


def run(data: bytes) -> None:
    """Read options: a byte that says which, then a configuration file, or words with NUL between them."""
    given = Input(data)
    as_file = given.byte() & 1
    text = given.rest()
    if as_file:
        with open(_PATH, "wb") as file:
            file.write(text)
        words = ["--config", _PATH, "indi_a"]
    else:
        words = [os.fsdecode(word) for word in text.split(b"\0")]
        if any(word.startswith("--config") for word in words):
            return  # files of the machine that this runs on
    try:
        options = parse_arguments(words)
    except (UsageError, ConfigError) as error:
        assert str(error)
    else:
        _check(options)


def _check(options: Options) -> None:
    """Check that a server can be made of what was accepted. It looks at the port when it listens, and not before."""
    try:
        check_port(options.port)
    except ValueError:
        return
    IPyServer(host=options.host, port=options.port, limits=options.limits, maxconnections=options.limits.connections)
    bounds: dict[str, Any] = dict(options.limits.tokenizer())
    Tokenizer(**bounds)
    assert most_unfinished(options.limits) > 0
    assert options.programs or options.remotes or options.python or options.fifo
    for program in options.programs:
        words = (program.path, *program.args, *program.environment.values())
        assert all(isinstance(word, str) and "\0" not in word for word in words)
    for remote in options.remotes:
        assert remote.host and 0 < remote.port <= 65535
