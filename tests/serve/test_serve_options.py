"""The command line and the configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from indifast import compression
from indifast.cli.serve.options import (
    LONG_VALUES,
    SHORT_VALUES,
    ConfigError,
    LocalSocket,
    Program,
    Remote,
    UsageError,
    parse_arguments,
)


def test_how_frames_are_compressed(tmp_path, monkeypatch):
    assert parse_arguments(["indi_a"]).compress == "auto"
    assert parse_arguments(["--compress", "zstd", "indi_a"]).compress == "zstd"
    path = tmp_path / "file.toml"
    path.write_text("compress = 'off'\n[[remotes]]\nhost = 'a'\n[[remotes]]\nhost = 'b'\ncompress = 'lz4'")
    options = parse_arguments(["--config", str(path)])
    assert options.compress == "off" and [remote.compress for remote in options.remotes] == [None, "lz4"]
    assert parse_arguments(["--config", str(path), "--compress=auto"]).compress == "auto"

    def missing():
        raise ImportError("no such library")

    monkeypatch.setattr(compression, "_LOADERS", dict.fromkeys(compression.METHODS, missing))
    for words in (["--compress", "lz4", "indi_a"], ["--config", str(path)]):
        with pytest.raises(ConfigError, match=r"compress: lz4 is not installed: pip install indifast\[compression\]"):
            parse_arguments(words)


def test_flags_can_be_bundled_and_values_are_the_next_words():
    options = parse_arguments(["-vvp", "7625", "-rm", "3", "200", "-d", "0", "-v", "indi_a", "-x"])
    assert (options.verbose, options.port, options.restarts) == (3, 7625, 3)
    assert options.limits.queue == 200 << 20
    assert options.limits.stream == 0
    assert options.programs == [Program("indi_a"), Program("-x")], (
        "the first word without a dash, and all after it, are drivers"
    )


def test_defaults():
    options = parse_arguments(["indi_a"])
    assert (options.port, options.restarts, options.verbose, options.local_socket) == (7624, 10, 0, "/tmp/indiserver")
    assert (options.limits.queue, options.limits.stream) == (128 << 20, 5 << 20)
    assert options.host is None


def test_kinds_of_drivers():
    words = ["indi_a", "@far", "CCD 1@far:7000", "@[::1]:7001", "observatory.cameras:make", "./a:b", "/x/y:z"]
    options = parse_arguments(words)
    assert options.programs == [Program("indi_a"), Program("./a:b"), Program("/x/y:z")]
    assert options.remotes == [Remote("far"), Remote("far", 7000, "CCD 1"), Remote("::1", 7001)]
    assert options.python == ["observatory.cameras:make"]


def test_an_at_sign_may_belong_to_a_device_or_to_a_path():
    words = ["CCD Imager Simulator @ sky@far", "A @ b@[::1]:7001", "/home/user@corp/drv", "./my@drv", "lib@2/drv"]
    options = parse_arguments(words)
    assert options.remotes == [Remote("far", device="CCD Imager Simulator @ sky"), Remote("::1", 7001, "A @ b")]
    assert options.programs == [Program("/home/user@corp/drv"), Program("./my@drv"), Program("lib@2/drv")]


def test_how_many_may_look_in_the_browser(tmp_path):
    web = parse_arguments(["indi_a"]).web
    assert (web.viewers, web.connections) == (None, None)
    (tmp_path / "file.toml").write_text("[web]\nviewers = 3\nconnections = 4")
    web = parse_arguments(["--config", str(tmp_path / "file.toml"), "--web-viewers=2", "indi_a"]).web
    assert (web.viewers, web.connections) == (2, 4)


def test_the_number_of_sending_threads(tmp_path):
    assert parse_arguments(["indi_a"]).senders is None
    assert parse_arguments(["--senders", "0", "indi_a"]).senders == 0
    (tmp_path / "file.toml").write_text("senders = 3")
    assert parse_arguments(["--config", str(tmp_path / "file.toml"), "indi_a"]).senders == 3
    assert parse_arguments(["--senders=2", "--config", str(tmp_path / "file.toml"), "indi_a"]).senders == 2


def test_programs_with_pipes():
    options = parse_arguments(["--pipes", "./a.py", "-v", "--pipes=indi_b", "indi_c"])
    assert options.programs == [Program("./a.py", pipes=True), Program("indi_b", pipes=True), Program("indi_c")]
    assert parse_arguments(["--pipes", "./a.py"]).programs == [Program("./a.py", pipes=True)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9624", ("127.0.0.1", 9624)),
        ("0", ("127.0.0.1", 0)),
        ("localhost:9624", ("localhost", 9624)),
        ("0.0.0.0:9624", ("0.0.0.0", 9624)),
        ("[::1]:9624", ("::1", 9624)),
    ],
)
def test_a_place_for_counters(tmp_path, text, place):
    assert parse_arguments(["--metrics", text, "indi_a"]).metrics == place
    (tmp_path / "file.toml").write_text(f"metrics = '{text}'")
    assert parse_arguments(["--config", str(tmp_path / "file.toml"), "indi_a"]).metrics == place


@pytest.mark.parametrize(
    ("text", "stats"),
    [
        ("stats = true", (True, None)),
        ("stats = false", (False, None)),
        ("stats = 10", (True, 10.0)),
        ("stats = 0.5", (True, 0.5)),
        ("metrics = 9624", (False, None)),
    ],
)
def test_counters_in_a_configuration_file(tmp_path, text, stats):
    (tmp_path / "file.toml").write_text(text)
    options = parse_arguments(["--config", str(tmp_path / "file.toml"), "indi_a"])
    assert (options.stats, options.stats_interval) == stats


def test_local_sockets(tmp_path):
    assert parse_arguments(["indi_a"]).socket is None
    assert parse_arguments(["--socket", "/run/a", "indi_a"]).socket == LocalSocket("/run/a", 0o600, None)
    assert parse_arguments(["--socket=/run/a,0660,20", "indi_a"]).socket == LocalSocket("/run/a", 0o660, 20)
    path = tmp_path / "observatory.toml"
    path.write_text('socket = "/run/a,660,astro"\nabstract = false\n')
    options = parse_arguments(["--config", str(path), "indi_a"])
    assert options.socket == LocalSocket("/run/a", 0o660, "astro")
    assert not options.abstract


def test_a_negative_number_of_restarts_means_0():
    assert parse_arguments(["-r", "-5", "indi_a"]).restarts == 0


def test_more_memory_than_fits_into_32_bits():
    assert parse_arguments(["-m", "4096", "indi_a"]).limits.queue == 4 << 30


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-v"],
        ["-h"],
        ["-x", "indi_a"],
        ["-p"],
        ["-p", "abc", "indi_a"],
        ["-p", "70000", "indi_a"],
        ["-m", "-1", "indi_a"],
        ["-m", "0", "indi_a"],
        ["--nonsense", "indi_a"],
        ["--host"],
        ["--stats=soon", "indi_a"],
        ["--help=x", "indi_a"],
        ["--metrics"],
        ["--metrics", "x", "indi_a"],
        ["--metrics", "", "indi_a"],
        ["--metrics", ":9624", "indi_a"],
        ["--metrics", "70000", "indi_a"],
        ["--metrics", "-1", "indi_a"],
        ["--metrics", "::1:9624", "indi_a"],
        ["--metrics", "localhost:", "indi_a"],
        ["--socket"],
        ["--socket", "", "indi_a"],
        ["--socket", "@name", "indi_a"],
        ["--socket", "/run/a,", "indi_a"],
        ["--socket", "/run/a,999", "indi_a"],
        ["--socket", "/run/a,660,", "indi_a"],
        ["--socket", "/run/a,660,astro,more", "indi_a"],
        ["--no-abstract=x", "indi_a"],
        ["--senders"],
        ["--senders", "two", "indi_a"],
        ["--senders", "-1", "indi_a"],
        ["--senders", "65", "indi_a"],
        ["--web-viewers", "0", "indi_a"],
        ["--web-viewers", "many", "indi_a"],
        ["--web-connections", "1000001", "indi_a"],
        ["--compress"],
        ["--compress", "gzip", "indi_a"],
        ["--compress=", "indi_a"],
        ["--pipes"],
        ["--pipes", "CCD@far"],
        ["--pipes", "observatory.dome:make"],
    ],
)
def test_wrong_arguments_are_usage_errors(words):
    with pytest.raises(UsageError):
        parse_arguments(words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-p", "80000"], "-p requires a number from 0 to 65535, not 80000"),
        (["--senders", "65"], "--senders requires a number from 0 to 64, not 65"),
        (["-r", "3000000000"], "-r requires a number of at most 2147483648, not 3000000000"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(words, sentence):
    with pytest.raises(UsageError, match=f"^{sentence}$"):
        parse_arguments([*words, "indi_a"])


@pytest.mark.parametrize("name", LONG_VALUES)
def test_an_empty_value_is_none(name):
    """A script gives one with "--host=$HOST" if HOST is not set. It must not mean all interfaces."""
    for words in ([f"--{name}=", "indi_a"], [f"--{name}", "", "indi_a"]):
        with pytest.raises(UsageError, match=f"^--{name} requires a value, and was given an empty one$"):
            parse_arguments(words)


@pytest.mark.parametrize("letter", SHORT_VALUES)
def test_an_empty_value_of_a_letter_is_none(letter):
    with pytest.raises(UsageError, match=f"^-{letter} requires a value, and was given an empty one$"):
        parse_arguments([f"-{letter}", "", "indi_a"])


@pytest.mark.parametrize("word", ["@", "a@", "@host:port", "@host:0", "@host:70000", "a@b@c:d", "@[::1", "CCD @ sky"])
def test_malformed_remote_servers_are_errors(word):
    with pytest.raises(ConfigError):
        parse_arguments([word])


def test_configuration_file(tmp_path):
    path = tmp_path / "observatory.toml"
    path.write_text(
        """
        port = 7700
        host = "0.0.0.0"
        restarts = 5
        [limits]
        queue = 1000000
        blob = 5000
        [tls]
        cert = "c.pem"
        [[drivers]]
        program = "indi_asi_ccd"
        args = ["-q", 5]
        device = "ASI 1"
        prefix = "/opt/indi"
        forgiving = true
        [[drivers]]
        python = "thermostat:make"
        [[remotes]]
        host = "dome"
        device = "Dome"
        blobs = false
        """
    )
    options = parse_arguments(["-p", "7701", "--config", str(path), "indi_more"])
    assert (options.port, options.host, options.restarts, options.tls_cert) == (7701, "0.0.0.0", 5, "c.pem")
    assert (options.limits.queue, options.limits.blob) == (1_000_000, 5000)
    first, second = options.programs
    assert first == Program(
        "indi_asi_ccd", ("-q", "5"), {"INDIDEV": "ASI 1", "INDIPREFIX": "/opt/indi"}, forgiving=True
    )
    assert first.path == "/opt/indi/bin/indi_asi_ccd"
    assert second == Program("indi_more")
    assert options.python == ["thermostat:make"]
    assert options.remotes == [Remote("dome", device="Dome", blobs=False)]


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "prot = 7624",
        "port = 'x'",
        "verbose = true",
        "socket = '/run/a,rw'",
        "host = ''",
        "fifo = ''",
        "[tls]\ncert = ''",
        "[[remotes]]\nhost = ''",
        "[[remotes]]\nhost = 'a'\ntls_ca = ''",
        "[[drivers]]\nprogram = ''",
        "abstract = 0",
        "drivers = ['indi_a']",
        "drivers = 5",
        "[[drivers]]\nargs = []",
        "[[drivers]]\nprogram = 'a'\npython = 'b:c'",
        "[[drivers]]\npython = 'no function'",
        "stats = 'yes'",
        "stats = 0",
        "stats = nan",
        "stats = [1]",
        "metrics = true",
        "senders = -1",
        "[web]\nviewers = 0",
        '[web]\nviewers = "many"',
        "[web]\nconnections = 1000001",
        "senders = 65",
        "senders = true",
        "compress = 'gzip'",
        "compress = true",
        "[[remotes]]\nhost = 'a'\ncompress = 'gzip'",
        "metrics = 70000",
        "metrics = ':9624'",
        "[[remotes]]\nport = 5",
        "[[remotes]]\nhost = 'a'\nport = 'b'",
        "[limits]\nblobs = 5",
        "[limits]\nblob = 0",
        "limits = 5",
        "[limits]\nstall = nan",
        "[limits]\npartial_memory = inf",
        "[limits]\nattribute = 1.5",
        "[limits]\nstream = -1",
        "[limits]\nelement = 99999999999999999999",
        "[[remotes]]\nhost = 'a'\nport = 70000",
        "[[remotes]]\nhost = 'a'\nport = 0",
        'record = "a\\u0000b"',
        '[[drivers]]\nprogram = "indi_a"\nargs = ["a\\u0000b"]',
        "port = " + "[" * 10_000,
        "port = " + "9" * 10_000,
    ],
)
def test_invalid_configuration_files_are_errors(tmp_path, text):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"configuration file .*wrong\.toml"):
        parse_arguments(["--config", str(path), "indi_a"])


def test_a_configuration_file_that_is_not_text(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_bytes(b"host = '\xe9'")
    with pytest.raises(ConfigError, match=r"configuration file .*wrong\.toml"):
        parse_arguments(["--config", str(path), "indi_a"])


def test_a_missing_configuration_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"/none: No such file or directory$"):
        parse_arguments(["--config", str(tmp_path / "none"), "indi_a"])


def test_the_file_in_the_documentation_is_valid(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "reference" / "serve.md"
    path = tmp_path / "observatory.toml"
    path.write_text(page.read_text().partition("```toml file=observatory.toml\n")[2].split("```")[0])
    options = parse_arguments(["--config", str(path)])
    assert [program.name for program in options.programs] == ["indi_asi_ccd"]
    assert options.remotes == [Remote("guider.local", device="Guide camera", compress="off")]
    assert options.python == ["observatory.dome:make"]
    assert options.limits.queue == 256 << 20
    assert options.tls_ca == "clients.pem"
    assert (options.stats_interval, options.metrics) == (60.0, ("127.0.0.1", 9624))
