"""Machines on a switch, whose cables can be pulled: network namespaces on a bridge.

    with Switch() as switch:
        near, far = switch.machine(1), switch.machine(2)
        Child([*near.enter, …], folder)
        far.unplug()     # nobody is told: what is sent to it is lost
        far.plug()

Root is needed, or a kernel that lets users create namespaces.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.network import do, namespace, nested_namespace, own_user_namespace

NETWORK = "10.78.0"


class Machine:
    """One machine: `enter` is what a command has to begin with to run on it."""

    def __init__(self, switch: Switch, number: int) -> None:
        self.host = f"{NETWORK}.{number}"
        self._switch = switch
        self._port = f"port{number}"
        self._card = f"02:00:00:00:00:{number:02x}"  # others remember it for half a minute
        self._stack = ExitStack()
        pid = self._stack.enter_context(nested_namespace(switch.pid))
        self._pid = pid
        self.enter = [*switch.nsenter, f"--net=/proc/{pid}/ns/net", "--"]
        self.plug()

    def plug(self) -> None:
        """Connect the machine to the switch."""
        switch = self._switch.enter
        do([*switch, "ip", "link", "add", "name", self._port, "type", "veth",
            "peer", "name", "eth0", "address", self._card, "netns", str(self._pid)])  # fmt: skip
        do([*switch, "ip", "link", "set", "dev", self._port, "master", "switch", "up"])
        self.give_address()
        for device in ("lo", "eth0"):
            do([*self.enter, "ip", "link", "set", "dev", device, "up"])

    def unplug(self) -> None:
        """Pull the cable. No other machine is told."""
        do([*self._switch.enter, "ip", "link", "delete", "dev", self._port])

    def give_address(self) -> None:
        """Give the network card its address."""
        do([*self.enter, "ip", "address", "add", f"{self.host}/24", "dev", "eth0"])

    def take_address(self) -> None:
        """Take the address from the network card, which stays connected."""
        do([*self.enter, "ip", "address", "delete", f"{self.host}/24", "dev", "eth0"])

    def end(self) -> None:
        """Forget the machine. What runs on it has to be ended by who has started it."""
        self._stack.close()


class Switch:
    """A switch, and the machines on it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.pid = self._stack.enter_context(namespace())
        self.nsenter = ["nsenter", *own_user_namespace(self.pid)]
        self.enter = [*self.nsenter, f"--net=/proc/{self.pid}/ns/net", "--"]
        # Without its protocols for networks with several switches, a new port works at once.
        options = ["forward_delay", "0", "stp_state", "0"]
        do([*self.enter, "ip", "link", "add", "name", "switch", "type", "bridge", *options])
        do([*self.enter, "ip", "link", "set", "dev", "switch", "up"])

    def machine(self, number: int) -> Machine:
        """Start a machine. Its number is the last part of its address."""
        machine = Machine(self, number)
        self._stack.callback(machine.end)
        return machine

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
