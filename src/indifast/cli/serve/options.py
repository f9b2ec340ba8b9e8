"""Options of `indifast serve`: the flags of libindi's indiserver, further options, and a configuration file."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from indifast.protocol.compress import AUTO
from indifast.protocol.drivernames import LOCAL_SOCKET, PORT, is_program, peer_port, split_remote
from indifast.protocol.limits import DEFAULT_LIMITS, MIB, MOST_SENDERS, MOST_VIEWERS, Limits
from indifast.transport.sockets import parse_place

TYPE_CHECKING = False  # as in `typing`, which must not be imported before the server listens
if TYPE_CHECKING:
    from typing import Any

METRICS_PORT = 9624
"""A port for counters, as an example."""

WEB_PORT = 8625
"""A port for the page in the browser, as an example."""

MANAGER_PORT = 8624
"""The port of INDI Web Manager."""

_WEB_PORTS = {"listen": WEB_PORT, "manager": MANAGER_PORT}

USAGE = """\
Usage: {program} [options] driver [driver ...]
Purpose: server for local and remote INDI drivers
Options, which may be bundled (-vvp PORT):
 -l d     : log driver messages to <d>/YYYY-MM-DD.islog
 -m m     : drop BLOBs for a client that is more than this many MB behind, default 128
 -d m     : replace streamed BLOBs for a client that is more than this many MB behind, default 5. 0 to disable
 -u path  : name of the local connection socket (abstract), default /tmp/indiserver
 -p p     : IP port, up to 65535, default 7624. 0 for any free port
 -r r     : maximum driver restarts in a row, default 10
 -f path  : path to a FIFO for dynamic startup and shutdown of drivers
 -v       : log key events, no traffic
 -vv      : -v + heads of messages
 -vvv     : -vv + complete messages, without the content of BLOBs
 --pipes P        : start the driver P, a program, with two pipes instead of one socket; BLOBs are sent inline
 --host H         : listen on this name or address, default {host}
 --socket PATH[,MODE[,GROUP]] : also listen on this local socket, a file with mode 600 or MODE (octal)
 --no-abstract    : no abstract local socket (-u), to which every user of this machine can connect
 --tls-cert FILE  : use TLS with this certificate (PEM); clients without TLS are then refused
 --tls-key FILE   : key of the certificate, if it is not in the same file
 --tls-ca FILE    : accept only clients with a certificate from this authority
 --no-raw         : send BLOBs as base64 to indifast clients and servers, too, instead of raw bytes
 --compress HOW   : compress raw frames, auto: where a link gets faster; off, lz4 or zstd; needs indifast[compression]
 --record FILE    : record all traffic, with times, in a new file for `indifast replay`
 --record-blobs   : include the content of BLOBs in the recording
 --stats[=S]      : print counters (JSON) at the end, on SIGUSR1, and every S seconds
 --metrics [H:]P  : serve counters for Prometheus at http://H:P/metrics, default H 127.0.0.1
 --web [H:]P      : show the devices in the browser at http://H:P/, default H 127.0.0.1; needs indifast[web]
 --web-token-file FILE : let in only those who show one of these tokens; needed for other machines
 --web-users FILE : let in these users, by name and password
 --web-drivers FILE : let operators start and stop the drivers in this list (TOML) from the browser
 --web-manager [H:]P : answer the requests of INDI Web Manager for these drivers at http://H:P/, for this machine only
 --web-read-only  : send no commands from the browser
 --web-name NAME  : a name by which browsers ask for the page, besides those of this machine; may be repeated
 --web-public NAME : a web server in front passes on requests to this name: all of them need a token or login
 --web-viewers N  : how many may look at live frames in the browser at once, default 10000
 --web-connections N : how many other connections there may be to the page, default 1000
 --senders N      : threads that write frames, default as many as pay off, at most 4. 0 for none
 --config FILE    : read drivers, remote servers and limits from this file (TOML)
 --help           : show this text
 --version        : show the version
driver    : program, [device]@host[:port], or module:callable for a driver in Python
"""

EXAMPLES = """\

examples:
  {program} indi_simulator_ccd indi_simulator_telescope
  {program} -v -p 7625 --host 0.0.0.0 "CCD Simulator@observatory" camera:make
  {program} --config observatory.toml --record night.indi
"""

RESTARTS = 10

# The native front is compiled with these, and must find the same options (tests/serve/test_front_options.py).
SHORT_VALUES = "lmduprf"
SHORT_FLAGS = "v"
LONG_VALUES = (
    "host", "socket", "tls-cert", "tls-key", "tls-ca", "record", "config", "pipes", "metrics", "senders", "web",
    "web-token-file", "web-users", "web-drivers", "web-manager", "web-name", "web-public",
    "web-viewers", "web-connections", "compress",
)  # fmt: skip
"""Options with a value, in the next word or after "="."""
LONG_FLAGS = ("stats", "record-blobs", "no-abstract", "no-raw", "web-read-only", "help", "version")
"""Options without a value; "stats" may have one after "="."""

PYTHON = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""Matches `module:callable`. It is compiled when first needed, not at every start."""

_EMPTY = "{} requires a value, and was given an empty one"  # as "--host=$HOST" does where HOST is not set
_NO_GROUP = (1 << 32) - 1  # to the system this number means "leave the group as it is"


class UsageError(Exception):
    """The arguments are wrong: one sentence on standard error, the exit status is 2."""


class ConfigError(Exception):
    """The configuration file or the value of an argument is wrong: one sentence on standard error, exit status 1."""


@dataclass(frozen=True)
class LocalSocket:
    """A local socket that is a file."""

    path: str
    mode: int = 0o600
    group: str | int | None = None


@dataclass(frozen=True)
class Program:
    """A driver that is a program."""

    name: str
    args: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    pipes: bool = False
    forgiving: bool = False

    @property
    def path(self) -> str:
        """The program to start: the one below INDIPREFIX if that is set."""
        prefix = self.environment.get("INDIPREFIX")
        return f"{prefix}/bin/{self.name}" if prefix else self.name


@dataclass(frozen=True)
class Remote:
    """A remote server, or one of its devices."""

    host: str
    port: int = PORT
    device: str | None = None
    blobs: bool = True
    tls: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    compress: str | None = None


@dataclass
class Web:
    """The page in the browser: where it is served, and who may do what."""

    listen: tuple[str, int] | None = None
    token_file: str | None = None
    users: str | None = None
    drivers: str | None = None
    manager: tuple[str, int] | None = None
    read_only: bool = False
    names: list[str] = field(default_factory=list)
    public: str | None = None
    viewers: int | None = None
    connections: int | None = None


@dataclass
class Options:
    """All settings of the server."""

    host: str | None = None
    port: int = PORT
    local_socket: str = LOCAL_SOCKET
    abstract: bool = True
    socket: LocalSocket | None = None
    message_log: str | None = None
    restarts: int = RESTARTS
    senders: int | None = None
    fifo: str | None = None
    verbose: int = 0
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    raw_frames: bool = True
    compress: str = AUTO
    record: str | None = None
    record_blobs: bool = False
    stats: bool = False
    stats_interval: float | None = None
    metrics: tuple[str, int] | None = None
    web: Web = field(default_factory=Web)
    limits: Limits = DEFAULT_LIMITS
    programs: list[Program] = field(default_factory=list)
    remotes: list[Remote] = field(default_factory=list)
    python: list[str] = field(default_factory=list)

    @property
    def starts_drivers(self) -> bool:
        """Whether drivers may be started while the server runs."""
        return self.fifo is not None or self.web.drivers is not None

    @property
    def unix_socket(self) -> str:
        """The name of the local socket: an abstract one, as C++ clients expect."""
        return f"@{self.local_socket}"

    def add_driver(self, word: str) -> None:
        """Add a driver given as a word of the command line."""
        if not is_program(word):
            self.remotes.append(parse_remote(word))
        elif re.fullmatch(PYTHON, word):
            self.python.append(word)
        else:
            self.programs.append(Program(word))


def parse_remote(word: str) -> Remote:
    """Parse `[device]@host[:port]`, with an IPv6 address in brackets.

    Raises:
        ConfigError: The word does not have this form.
    """
    found = split_remote(word)
    if found is None:
        raise ConfigError(f"{word!r} is not [device]@host[:port]")
    device, host, port = found
    return Remote(host, port, device)


def parse_socket(text: str) -> LocalSocket:
    """Parse `PATH[,MODE[,GROUP]]`.

    Raises:
        ValueError: The text does not have this form.
    """
    path, *rest = text.split(",")
    mode, group = (*rest, "", "")[:2]
    if not path or len(rest) > 2 or "" in rest:
        raise ValueError(f"{text!r} is not PATH[,MODE[,GROUP]]; a path can't contain a comma")
    if path.startswith("@"):
        raise ValueError(f"{path!r} is not a path: -u names the abstract socket")
    if mode and not re.fullmatch("0?[0-7]{3}", mode):
        raise ValueError(f"{mode!r} is not a mode: three octal digits, as in 660")
    number = int(group) if re.fullmatch("[0-9]{1,10}", group) else None
    if number is not None and number >= _NO_GROUP:
        raise ValueError(f"{group} is not the number of a group")
    return LocalSocket(path, int(mode or "600", 8), (group or None) if number is None else number)


def parse_arguments(words: Sequence[str]) -> Options:
    """Parse the command line as indiserver does: options up to the first word without a dash, then drivers.

    A configuration file is read first, wherever it is named: options on the command line override it, while `-v`
    and drivers add to it.

    Raises:
        UsageError: The arguments are wrong.
        ConfigError: The configuration file or a remote server is wrong.
    """
    pairs, drivers = split(list(words))
    options = Options()
    for name, value in pairs:
        if name == "config":
            _read_config(options, value)
    for name, value in pairs:
        _set(options, name, value)
    for word in drivers:
        options.add_driver(word)
    if not (options.programs or options.remotes or options.python or options.starts_drivers):
        raise UsageError("no drivers given, and no FIFO to start any")
    return options


def split(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Split the command line into options, as pairs of name and value, and drivers.

    Raises:
        UsageError: An option is unknown, or lacks its value, or it is empty.
    """
    pairs: list[tuple[str, str]] = []
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word.startswith("--"):
            name, given, value = word[2:].partition("=")
            if name in LONG_VALUES:
                if not given:
                    value = _next(words, word)
            elif name not in LONG_FLAGS or (given and name != "stats"):
                raise UsageError(f"unknown option {word}")
            if name in LONG_VALUES and not value:
                raise UsageError(_EMPTY.format(f"--{name}"))
            pairs.append((name, value))
            continue
        for letter in word[1:]:
            if letter in SHORT_VALUES:
                value = _next(words, f"-{letter}")
                if not value:
                    raise UsageError(_EMPTY.format(f"-{letter}"))
                pairs.append((letter, value))
            elif letter in SHORT_FLAGS:
                pairs.append((letter, ""))
            else:
                raise UsageError(f"unknown option -{letter}")
    return pairs, words


def _next(words: list[str], option: str) -> str:
    if not words:
        raise UsageError(f"{option} requires a value")
    return words.pop(0)


def _set(options: Options, name: str, value: str) -> None:
    match name:
        case "l":
            options.message_log = value
        case "m":
            options.limits = dataclasses.replace(options.limits, queue=_integer(name, value, 1) * MIB)
        case "d":
            options.limits = dataclasses.replace(options.limits, stream=_integer(name, value, 0) * MIB)
        case "u":
            options.local_socket = value
        case "p":
            options.port = _integer(name, value, 0, 65535)
        case "r":
            options.restarts = max(0, _integer(name, value))
        case "f":
            options.fifo = value
        case "v":
            options.verbose += 1
        case "stats":
            options.stats = True
            if value:
                options.stats_interval = _seconds(value)
        case "metrics":
            try:
                options.metrics = parse_place(value, METRICS_PORT)
            except ValueError as exc:
                raise UsageError(f"--metrics: {exc}") from None
        case "web" | "web-manager":
            try:
                setattr(options.web, *_web_place("listen" if name == "web" else "manager", value))
            except ValueError as exc:
                raise UsageError(f"--{name}: {exc}") from None
        case "web-token-file" | "web-users" | "web-drivers" | "web-public":
            setattr(options.web, name.removeprefix("web-").replace("-", "_"), value)
        case "web-viewers" | "web-connections":
            setattr(options.web, name.removeprefix("web-"), _integer(f"-{name}", value, 1, MOST_VIEWERS))
        case "web-read-only":
            options.web.read_only = True
        case "web-name":
            options.web.names.append(value)
        case "senders":
            options.senders = _integer(f"-{name}", value, 0, MOST_SENDERS)
        case "pipes":
            if not is_program(value) or re.fullmatch(PYTHON, value):
                raise UsageError(f"--pipes requires a program, not {value!r}")
            options.programs.append(Program(value, pipes=True))
        case "record-blobs":
            options.record_blobs = True
        case "no-abstract":
            options.abstract = False
        case "no-raw":
            options.raw_frames = False
        case "compress":
            options.compress = _compress("--compress", value, UsageError)
        case "socket":
            try:
                options.socket = parse_socket(value)
            except ValueError as exc:
                raise UsageError(f"--socket: {exc}") from None
        case "host" | "record":
            setattr(options, name, value)
        case "tls-cert" | "tls-key" | "tls-ca":
            setattr(options, name.replace("-", "_"), value)


def _integer(name: str, value: str, low: int | None = None, high: int = 1 << 31) -> int:
    try:
        number = int(value)
    except ValueError:
        raise UsageError(f"-{name} requires a number, not {value!r}") from None
    if number > high or (low is not None and number < low):
        wanted = f"of at most {high}" if low is None else f"from {low} to {high}"
        raise UsageError(f"-{name} requires a number {wanted}, not {value}")
    return number


def _compress(where: str, value: str, wrong: type[Exception]) -> str:
    """Return a value that says how frames are compressed.

    Args:
        where: What an error begins with.
        value: The value.
        wrong: What is raised if it is another word.

    Raises:
        ConfigError: It is a method that is not installed.
    """
    from indifast.compression import check_choice  # only now: a server must listen soon

    try:
        check_choice(value)
    except ValueError as exc:
        raise wrong(f"{where} {str(exc).removeprefix('compress ')}") from None
    except ImportError as exc:
        raise ConfigError(f"{where}: {exc}") from None
    return value


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not _is_interval(seconds):
        raise UsageError(f"--stats requires a number of seconds from 0.1 to 1000000, not {value!r}")
    return seconds


def _is_interval(seconds: float) -> bool:
    return 0.1 <= seconds <= 1e6


# -- Configuration file

_TOP: dict[str, type | tuple[type, ...]] = {
    "host": str,
    "port": int,
    "local_socket": str,
    "abstract": bool,
    "socket": str,
    "message_log": str,
    "restarts": int,
    "senders": int,
    "fifo": str,
    "verbose": int,
    "record": str,
    "record_blobs": bool,
    "raw_frames": bool,
    "compress": str,
}
_ENVIRONMENT = {"device": "INDIDEV", "config": "INDICONFIG", "skeleton": "INDISKEL", "prefix": "INDIPREFIX"}
_PROGRAM = {"program": str, "args": list, "pipes": bool, "forgiving": bool} | dict.fromkeys(_ENVIRONMENT, str)
_REMOTE_KEYS = dict.fromkeys((each.name for each in dataclasses.fields(Remote)), str) | {
    "port": int,
    "blobs": bool,
    "tls": bool,
}
_WEB = {
    "listen": (str, int),
    "token_file": str,
    "users": str,
    "drivers": str,
    "manager": (str, int),
    "read_only": bool,
    "names": list,
    "public": str,
    "viewers": int,
    "connections": int,
}
_TLS = {"cert": str, "key": str, "ca": str}
_LIMITS = {each.name: (int, float) if each.type == "float" else int for each in dataclasses.fields(Limits)}
_MOST = 1 << 62  # what a limit can be, in the extension modules too


def read_toml(path: str, what: str) -> tuple[dict[str, Any], os.stat_result]:
    """Return what a file of TOML contains, and its owner and mode at that time.

    Args:
        path: The file.
        what: What errors begin with.

    Raises:
        ConfigError: It can't be read.
    """
    import tomllib  # imported only if there is such a file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file), os.fstat(file.fileno())
    except (OSError, ValueError, RecursionError) as exc:  # ValueError: no TOML, no UTF-8, a number of too many digits
        raise ConfigError(f"{what}: {getattr(exc, 'strerror', None) or exc}") from None


def _read_config(options: Options, path: str) -> None:
    """Apply a configuration file."""
    found, _ = read_toml(path, f"configuration file {path}")
    drivers, remotes = found.pop("drivers", []), found.pop("remotes", [])
    limits, tls = found.pop("limits", {}), found.pop("tls", {})
    _read_counters(options, path, found)
    _read_web(options, path, found.pop("web", {}))
    for key, value in _checked(f"configuration file {path}", "", found, _TOP).items():
        try:
            setattr(options, key, parse_socket(value) if key == "socket" else value)
        except ValueError as exc:
            raise ConfigError(f"configuration file {path}: socket: {exc}") from None
    _compress(f"configuration file {path}: compress", options.compress, ConfigError)
    if options.senders is not None and not 0 <= options.senders <= MOST_SENDERS:
        raise ConfigError(f"configuration file {path}: senders must be from 0 to {MOST_SENDERS}")
    for key, value in _checked(f"configuration file {path}", "tls.", tls, _TLS).items():
        setattr(options, f"tls_{key}", value)
    for key, value in _checked(f"configuration file {path}", "limits.", limits, _LIMITS).items():
        if not (0 < value <= _MOST or (value == 0 and key == "stream")):
            raise ConfigError(
                f"configuration file {path}: limits.{key} must be more than 0 and at most {_MOST}, not {value}"
            )
        options.limits = dataclasses.replace(options.limits, **{key: value})
    if not isinstance(drivers, list) or not isinstance(remotes, list):
        raise ConfigError(
            f"configuration file {path}: drivers and remotes must be arrays, written [[drivers]], [[remotes]]"
        )
    for table in drivers:
        _add_driver(options, path, table)
    for table in remotes:
        values = _checked(f"configuration file {path}", "remotes.", table, _REMOTE_KEYS)
        if "host" not in values:
            raise ConfigError(f"configuration file {path}: a remote server needs a host")
        remote = Remote(**values)
        if remote.compress is not None:
            _compress(f"configuration file {path}: remotes.compress", remote.compress, ConfigError)
        try:
            peer_port(remote.port)
        except ValueError as exc:
            raise ConfigError(f"configuration file {path}: remotes: {exc}") from None
        options.remotes.append(remote)


def _read_counters(options: Options, path: str, found: dict[str, Any]) -> None:
    stats, metrics = found.pop("stats", None), found.pop("metrics", None)
    if isinstance(stats, bool):
        options.stats = stats
    elif isinstance(stats, int | float) and _is_interval(stats):
        options.stats, options.stats_interval = True, float(stats)
    elif stats is not None:
        wanted = "true, false, or a number of seconds from 0.1 to 1000000"
        raise ConfigError(f"configuration file {path}: stats must be {wanted}, not {stats!r}")
    if metrics is not None:
        try:
            options.metrics = parse_place(str(metrics), METRICS_PORT)
        except ValueError as exc:
            raise ConfigError(f"configuration file {path}: metrics: {exc}") from None


def _web_place(key: str, value: str) -> tuple[str, tuple[str, int]]:
    """Return what to set in `Web`, and the host and port.

    Raises:
        ValueError: The value is something else.
    """
    return key, parse_place(value, _WEB_PORTS[key])


def _read_web(options: Options, path: str, table: Any) -> None:
    for key, value in _checked(f"configuration file {path}", "web.", table, _WEB).items():
        try:
            setattr(options.web, *(_web_place(key, str(value)) if key in _WEB_PORTS else (key, value)))
        except ValueError as exc:
            raise ConfigError(f"configuration file {path}: web.{key}: {exc}") from None
    for key, value in (("viewers", options.web.viewers), ("connections", options.web.connections)):
        if value is not None and not 1 <= value <= MOST_VIEWERS:
            raise ConfigError(f"configuration file {path}: web.{key} must be from 1 to {MOST_VIEWERS}, not {value}")
    if not all(isinstance(name, str) for name in options.web.names):
        raise ConfigError(f"configuration file {path}: web.names must be texts")


def _add_driver(options: Options, path: str, table: Any) -> None:
    if isinstance(table, dict) and "python" in table:
        name = _checked(f"configuration file {path}", "drivers.", table, {"python": str})["python"]
        if not re.fullmatch(PYTHON, name):
            raise ConfigError(f"configuration file {path}: {name!r} is not module:callable")
        options.python.append(name)
        return
    options.programs.append(program_of(f"configuration file {path}", table, ", or python = 'module:callable'"))


def program_of(file: str, table: Any, otherwise: str = "") -> Program:
    """Return the driver that a table in a file describes; `otherwise` is what there may be instead of a program.

    Raises:
        ConfigError: It describes none. The sentence begins with `file`.
    """
    values = _checked(file, "drivers.", table, _PROGRAM)
    if not values.get("program"):
        raise ConfigError(f"{file}: a driver needs a program{otherwise}")
    environment = {variable: values.pop(key) for key, variable in _ENVIRONMENT.items() if key in values}
    args = tuple(map(str, values.pop("args", ())))
    return Program(values.pop("program"), args, environment, **values)


def _checked(file: str, where: str, table: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the table, which may hold only known keys with values of the right types."""
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: {where.rstrip('.')} is not a table")
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{file}: unknown key {where}{key}; known are {', '.join(known)}")
        if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
            raise ConfigError(f"{file}: {where}{key} has a value of the wrong type: {value!r}")
        if any("\0" in str(each) for each in (value if isinstance(value, list) else [value])):
            raise ConfigError(f"{file}: {where}{key} has a NUL character")
        if value == "" and known is not _PROGRAM:  # variables of a driver may be empty
            raise ConfigError(f"{file}: {where}{key} is empty: leave it out, or give it a value")
    return dict(table)
