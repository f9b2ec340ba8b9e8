"""How frames are compressed if no method is named. A module of its own, because a command that starts loads it."""

AUTO, OFF = "auto", "off"
