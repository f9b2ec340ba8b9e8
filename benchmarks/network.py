"""A link between two places on this machine, with the rate and the delay of a real one.

    with link(Speed(rate=100, delay=20)) as (near, far):   # Mbit/s, and milliseconds each way
        with peers.process([…], at=near) as server, peers.process([…], at=far) as client: …

The places are network namespaces, so that TCP runs from end to end: its windows, its acknowledgements and its losses
are real. Without a delay, a pair of veth devices joins them; with one, `csrc/delay.c` holds packets back between two
TUN devices. The rate is that of a token bucket (`tc tbf`) with a queue of 20 ms at each end. TCP is set as Linux does
by default, whatever this machine prefers: cubic if the kernel gives it to namespaces, and at most 6 MiB to receive.

A namespace has no name. It lives as long as the processes in it: a holder, which ends with this program, and what is
started there. So nothing is left behind, and programs that run at the same time do not meet.

Root is needed, or a kernel that lets users create namespaces.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.peers import HOME, Place

DEVICE = "link0"
QUEUE = 20
"""Milliseconds that a packet may wait for the rate; what would wait longer is lost."""
BURST = 2e-3
"""Seconds of the rate that may pass at once: the accuracy of the token bucket."""
SMALLEST_BURST = 8000
TCP: Mapping[str, str] = {
    "tcp_rmem": "4096 131072 6291456",
    "tcp_wmem": "4096 16384 4194304",
}


def congestion_control() -> str:
    """Return TCP's congestion control on links: cubic, or that of this machine if the kernel keeps cubic to itself."""
    own, allowed = (Path(f"/proc/sys/net/ipv4/tcp_{what}congestion_control") for what in ("", "allowed_"))
    return "cubic" if "cubic" in allowed.read_text().split() else own.read_text().strip()


_HOLDER = ("sh", "-c", "echo ready; exec cat")


class Unavailable(RuntimeError):
    """The reason why this machine cannot make a link."""


@dataclass(frozen=True)
class Speed:
    """What a link does: Mbit/s (0: not limited), and milliseconds of delay each way."""

    rate: float = 0
    delay: float = 0

    def __str__(self) -> str:
        rate = f"{self.rate:g} Mbit/s" if self.rate else "unlimited"
        return f"{rate}, {self.delay:g} ms each way" if self.delay else rate


@contextmanager
def link(speed: Speed) -> Iterator[tuple[Place, Place]]:
    """Yield two places, joined by a link.

    Raises:
        Unavailable: The machine lacks the rights, a program, or a part of the kernel.
    """
    with ExitStack() as stack:
        near_pid = stack.enter_context(namespace())
        far_pid = stack.enter_context(nested_namespace(near_pid))
        own = own_user_namespace(near_pid)
        near, far = (
            Place(host, ("nsenter", *own, f"--net=/proc/{pid}/ns/net", "--"))
            for host, pid in (("10.77.0.1", near_pid), ("10.77.0.2", far_pid))
        )
        if speed.delay:
            words = [str(_delay_program()), DEVICE, f"{speed.delay:g}", f"/proc/{far_pid}/ns/net"]
            stack.enter_context(_ready([*near.enter, *words]))
        else:
            ends = ["type", "veth", "peer", "name", DEVICE, "netns", str(far_pid)]
            do([*near.enter, "ip", "link", "add", DEVICE, *ends])
        for place in (near, far):
            do([*place.enter, "ip", "address", "add", f"{place.host}/30", "dev", DEVICE])
            for device in ("lo", DEVICE):
                do([*place.enter, "ip", "link", "set", device, "up"])
            for name, value in {**TCP, "tcp_congestion_control": congestion_control()}.items():
                do([*place.enter, "sh", "-c", f"echo {value} >/proc/sys/net/ipv4/{name} || true"])
            if speed.rate:
                do([*place.enter, "tc", "qdisc", "add", "dev", DEVICE, "root", "tbf", *_bucket(speed.rate)])
        yield near, far


def _delay_program() -> Path:
    try:
        return peers.compile_c("delay")
    except (OSError, subprocess.CalledProcessError) as why:
        raise Unavailable(f"csrc/delay.c was not compiled: {why}") from why


@contextmanager
def loopback() -> Iterator[tuple[Place, Place]]:
    """Yield this machine twice: what can be had without namespaces."""
    yield HOME, HOME


def missing(speed: Speed) -> str:
    """Return why this machine cannot make such a link; empty if it can."""
    try:
        with link(speed):
            return ""
    except Unavailable as why:
        return str(why)


def _bucket(rate: float) -> list[str]:
    """Return the parameters of the token bucket for Mbit/s."""
    burst = max(SMALLEST_BURST, round(rate * 1e6 / 8 * BURST))
    return ["rate", f"{rate:g}mbit", "burst", str(burst), "latency", f"{QUEUE}ms"]


@contextmanager
def namespace() -> Iterator[int]:
    """Run a process in a new network namespace, and yield its ID. It ends with this program, even if that is killed."""
    with _ready(["unshare", *(["-r"] if _is_user() else []), "-n", *_HOLDER]) as pid:
        yield pid


@contextmanager
def nested_namespace(other: int) -> Iterator[int]:
    """Do the same, beside the namespace of another process. Devices can be joined to those in that namespace."""
    enter = ["nsenter", *own_user_namespace(other), "--"] if _is_user() else []
    with _ready([*enter, "unshare", "-n", *_HOLDER]) as pid:
        yield pid


def own_user_namespace(pid: int) -> list[str]:
    """Return the words for `nsenter` by which a user who is not root enters what `namespace` has made."""
    return [f"--user=/proc/{pid}/ns/user", "--preserve-credentials"] if _is_user() else []


def _is_user() -> bool:
    return os.geteuid() != 0


@contextmanager
def _ready(command: Sequence[str]) -> Iterator[int]:
    """Run a process in the background, once it has said that it is ready; yield its ID.

    It has a session of its own, so that Ctrl-C ends it only after what runs on the link.

    Raises:
        Unavailable: It ended instead.
    """
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as exc:
        raise Unavailable(str(exc)) from exc
    with child:
        try:
            assert child.stdout is not None and child.stderr is not None
            if child.stdout.readline().strip() != "ready":
                raise Unavailable(child.stderr.read().strip() or f"{command[0]} ended")
            yield child.pid
        finally:
            child.kill()


def do(command: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        Unavailable: It failed.
    """
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[-6:])}: {done.stderr.strip()}")
