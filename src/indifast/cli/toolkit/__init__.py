"""Building blocks of the commands that talk to a server: connecting, selecting properties, printing answers."""
