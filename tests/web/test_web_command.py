"""The command `indifast web`: what it refuses, and how it ends."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from indifast.transport.hostnames import OwnNames
from indifast.web.access import SHORTEST, Access, read_tokens
from indifast.web.bounds import SESSION_TIME, SESSIONS
from indifast.web.rights import EVERYTHING, Rights, Role
from indifast.web.users import SecretFileError
from tests.support import commands
from tests.support.blackbox import free_port, python_environment
from tests.web.support import API, site, token_file

TOKEN = "t" * SHORTEST


@pytest.mark.parametrize("where", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8625"])
def test_other_machines_need_tokens(where: str) -> None:
    done = commands.run("web", "--listen", where)
    assert (done.returncode, done.stdout) == (2, "")
    assert "give --token-file FILE, with lines of a role (viewer, operator) and a token, or --users FILE" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--listen", "nonsense"], "[HOST:]PORT is required, as in 8625 or 0.0.0.0:8625"),
        (["--listen", "no.such.host.invalid:1"], "cannot listen on 'no.such.host.invalid'"),
        (["--token-file", "/nonexistent"], "/nonexistent: no such file or directory"),
        (["--users", "/nonexistent"], "/nonexistent: no such file or directory"),
        (["a b"], "'a b' is not a server"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence(words: list[str], said: str) -> None:
    done = commands.run("web", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "PIL"])
def test_without_the_extra_it_says_what_to_install(missing: str, tmp_path: Path) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('no', name={missing!r})\n")
    done = commands.run("web", PYTHONPATH=f"{tmp_path}:{python_environment()['PYTHONPATH']}")
    assert done.returncode == 2
    assert (
        done.stderr == "indifast web: Starlette, which serves the page, is not installed: pip install 'indifast[web]'\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_although_viewers_are_connected(number: signal.Signals, tmp_path: Path) -> None:
    with site(tmp_path, f"localhost:{free_port()}") as running:
        assert running.get(API, "web_site")["connected"] is False
        with running.events() as socket:
            socket.recv()
            running.process.process.send_signal(number)
            assert running.process.wait() == 0


def test_a_file_with_tokens(tmp_path: Path) -> None:
    file = token_file(tmp_path, f"# comment\n viewer  {TOKEN}1 # for the wall\n\noperator {TOKEN}2\n")
    assert read_tokens(file) == [(f"{TOKEN}1", Role.VIEWER), (f"{TOKEN}2", Role.OPERATOR)]
    file = token_file(tmp_path, f"operator {TOKEN}#{TOKEN} #me")
    assert read_tokens(file) == [(f"{TOKEN}#{TOKEN}", Role.OPERATOR)], "no token is cut"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no token"),
        ("# nothing\n", "has no token"),
        (f"operator{TOKEN}", "line 1: write a role and a token"),
        (f"viewer {TOKEN}\noperator {TOKEN} me", "line 2: write a role and a token"),
        (f"operater {TOKEN}", "line 1: 'operater' is not a role: use viewer or operator; did you mean 'operator'?"),
        (f"{TOKEN} operator", "line 1: the first word is not a role: use viewer or operator"),
        ("operator short", "line 1: a token has at least 16 characters"),
    ],
)
def test_a_wrong_file_with_tokens(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match=r".*") as refused:
        read_tokens(token_file(tmp_path, text))
    assert said in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_a_file_with_tokens_that_others_may_read(tmp_path: Path) -> None:
    file = token_file(tmp_path, f"viewer {TOKEN}")
    file.chmod(stat.S_IRUSR | stat.S_IROTH)
    with pytest.raises(SecretFileError, match="chmod 600"):
        read_tokens(file)


def rights(access: Access, session: str | None) -> Rights | None:
    found = access.session(session or "")
    return None if found is None else found.rights


def test_logins_end_and_are_limited() -> None:
    now = 0.0
    access = Access([(TOKEN, Role.OPERATOR)], clock=lambda: now)
    first = access.login(TOKEN, "")
    assert rights(access, first) == EVERYTHING
    assert access.login(f"{TOKEN}x", "") is None
    now = SESSION_TIME
    assert rights(access, first) is None
    names = [access.login(TOKEN, "") or "" for _ in range(SESSIONS + 1)]
    assert rights(access, names[0]) is None
    assert rights(access, names[1]) == rights(access, names[-1]) == EVERYTHING
    access.logout(names[1])
    assert rights(access, names[1]) is None


def test_the_holder_of_one_token_does_not_end_the_logins_of_others() -> None:
    access = Access([(TOKEN, Role.OPERATOR), (f"{TOKEN}2", Role.VIEWER)])
    operator = access.login(TOKEN, "")
    for _ in range(SESSIONS + 1):
        access.login(f"{TOKEN}2", "")
    assert rights(access, operator) == EVERYTHING


def test_names_are_given_with_and_without_a_port() -> None:
    names = OwnNames(["Telescope.example:8443", "dome.example."])
    assert names.has("telescope.example:8443") and names.has("telescope.example") and names.has("dome.example:1")
    assert not names.has("example:8443")


def test_read_only_makes_viewers_of_operators() -> None:
    access = Access([(TOKEN, Role.OPERATOR)], read_only=True)
    assert access.of_token(TOKEN) == Access(read_only=True).anybody() == Rights.of(Role.VIEWER)
