"""What somebody who listens knows of the devices of others."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.ledger import Mark, Said


@dataclass
class Knowledge:
    """Properties that are defined, with the newest message about each, as any client keeps them."""

    vectors: dict[tuple[str, str], Said] = field(default_factory=dict)
    frames: dict[tuple[str, str], Said] = field(default_factory=dict)
    heard: int = 0
    undefined: list[Said] = field(default_factory=list)
    """Updates of properties that were not defined."""

    def learn(self, mark: Mark, said: Said | None, frame: bool) -> None:
        """Take a message."""
        self.heard += 1
        if mark.tag == "delProperty":
            for table in (self.vectors, self.frames):
                for key in list(table):
                    if key[0] == mark.device and mark.name in (None, key[1]):
                        del table[key]
            return
        if said is None or mark.device is None or mark.name is None or mark.tag == "message":
            return
        key = (mark.device, mark.name)
        if mark.tag.startswith("def"):
            self.vectors[key] = said
        elif frame:
            self.frames[key] = said
        elif key in self.vectors:
            self.vectors[key] = said
        else:
            self.undefined.append(said)
