"""Runs a conformance program with one implementation in one way, and records what it does in each step."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.blackbox import PYTHON, SLOWNESS, Channel, Child, free_port, python_environment, until

PROGRAMS = Path(__file__).parent / "programs"
FIXED = "2024-01-02T03:04:05"
ANSWER = 20.0 * SLOWNESS
"""Seconds after which a program that runs but does not answer is considered silent."""

START = 120.0 * SLOWNESS
"""Seconds that a program may take to start and to answer for the first time: all start at once."""

SETTLING = 3
"""The number of questions and answers after which nothing more is expected to belong to a step."""

Record = dict[str, list[str]]
"""Step -> what happened, with a line for each message, event, exception and kind of log record."""


class Subject(NamedTuple):
    """An implementation, the style in which the program is written for it, and how the driver is run."""

    implementation: str
    style: str  # "modern" or "old"
    mode: str  # "stdio", "listen" or "server"

    @property
    def title(self) -> str:
        return f"{self.implementation}-{self.style}-{self.mode}"


class _Session:
    """A process of the program, and the stream to it."""

    def __init__(self, subject: Subject, python: str, program: str, folder: Path) -> None:
        self.log_path = folder / "log.jsonl"
        self.log_path.touch()
        self._log_at = self.log_path.stat().st_size
        settings = {"CONFORMANCE_LOG": str(self.log_path), "CONFORMANCE_STYLE": subject.style}
        script = [str(PROGRAMS / f"{program}.py"), subject.mode]
        if subject.implementation == "indifast":
            argv = [PYTHON, "-m", "indifast.dropin", *script]
            env = python_environment(**settings)
        else:
            argv = [python, *script]
            env = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "", **settings}
        if subject.mode == "stdio":
            self.child = Child(argv, folder, env=env, stdio=True)
            self.channel = self.child.channel()
        else:
            port = free_port()
            self.child = Child([*argv, str(port)], folder, env=env)
            try:
                self.channel = _connect(self.child, port)
            except (AssertionError, TimeoutError):
                self.child.kill()
                raise RuntimeError(f"{subject.title}: no listener\n{self.child.stderr[-3000:]}") from None
            # A client of a server has to ask for everything, and also for BLOBs, before it is sent anything.
            self.channel.send(b'<getProperties version="1.7"/><enableBLOB device="Dev">Also</enableBLOB>')

    def perform(self, data: bytes, name: str, limit: float = ANSWER) -> list[str]:
        """Send the bytes, wait for the answer of the step `name`, and return what happened meanwhile."""
        ending = ""
        messages: list[bytes] = []
        mark = f"done {name}"
        try:
            self.channel.send(data + _call(name))
            messages = self.channel.until_text(mark, limit)
            # Vectors are served concurrently, so answers of others may follow, on a busy machine much later.
            for again in range(SETTLING):
                self.channel.send(_call(f"settle {again} {name}"))
                messages += self.channel.until_text(f"done settle {again} {name}", limit)
        except TimeoutError:
            ending = "silent"
        except (EOFError, OSError):
            ending = "ended"
        if ending:
            messages += self.channel.messages
            self.channel.messages = []
        lines = [f"wire {_normal(message)}" for message in messages if b'device="Control"' not in message]
        with self.log_path.open(encoding="utf-8") as log:
            log.seek(self._log_at)
            entries = log.read()
            self._log_at = log.tell()
        for entry in entries.splitlines():
            line = _described(entry)
            if not (line.startswith("logged ") and line in lines):
                lines.append(line)
        return [*lines, ending] if ending else lines

    def close(self) -> None:
        self.channel.close()
        self.child.kill()


def _connect(child: Child, port: int) -> Channel:
    channels: list[Channel] = []

    def connected() -> bool:
        assert child.running()
        with contextlib.suppress(OSError):
            channels.append(Channel.connect(port, limit=0))
        return bool(channels)

    until(connected, START)
    return channels[0]


def _call(name: str) -> bytes:
    return f'<newTextVector device="Control" name="run"><oneText name="step">{name}</oneText></newTextVector>'.encode()


def _normal(message: bytes) -> str:
    text = message.decode("utf-8", "backslashreplace")

    def stamp(found: re.Match[str]) -> str:
        value = found.group(1)
        recent = re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?", value)
        return 'timestamp="NOW"' if recent and not value.startswith(FIXED) else found.group(0)

    text = re.sub(r"127\.0\.0\.1:\d+|\[::1\]:\d+", "ADDRESS", text)
    return re.sub(r'timestamp="([^"]*)"', stamp, text)


def _described(line: str) -> str:
    entry = json.loads(line)
    if "logged" in entry:
        return f"logged {entry['logged']}"
    if "raised" in entry:
        return f"raised {entry['raised']}"
    if "result" in entry:
        return f"result {json.dumps(entry['result'])}"
    described = entry.get("snooped", entry)
    parts = ", ".join(f"{key}={value!r}" for key, value in described.items() if key != "event")
    kind = "snooped" if "snooped" in entry else "event"
    return f"{kind} {described['event']}({parts})"


def run(subject: Subject, python: str, program: str, steps: list[tuple[str, bytes | None]]) -> Record:
    """Perform all steps. A program that ends or falls silent is restarted for the next one."""
    record: Record = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        folder = Path(name)
        session: _Session | None = None
        separators: set[str] = set()
        try:
            for step, data in steps:
                if session is None:
                    session = _Session(subject, python, program, folder)
                    begun = session.perform(b"", "begin", START)
                    record.setdefault("begin", begun)
                    for setup, nothing in steps:
                        if nothing is None and setup in record and program != "sends":
                            session.perform(b"", setup)
                record[step] = session.perform(data or b"", step)
                if record[step] and record[step][-1] in ("ended", "silent"):
                    session.close()
                    session = None
                else:
                    separators.add("newline" if session.channel.splitter.junk.count(b"\n") else "nothing")
        finally:
            if session is not None:
                session.close()
        record["between messages"] = sorted(separators)
    return record


def run_all(jobs: dict[Subject, Callable[[], Record]]) -> dict[Subject, Record]:
    """Perform jobs concurrently, because they mostly wait for their programs."""
    results: dict[Subject, Record] = {}
    failures: list[BaseException] = []

    def work(subject: Subject, job: Callable[[], Record]) -> None:
        try:
            results[subject] = job()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=item) for item in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


def peer_python(peers: dict[str, str | os.PathLike[str]], name: str) -> str:
    return os.fspath(peers[name])
