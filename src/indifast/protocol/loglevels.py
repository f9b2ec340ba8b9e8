"""A level of log records that `logging` lacks."""

from __future__ import annotations

import logging

NOTICE = 25
"""Between INFO and WARNING: nothing is wrong, but whoever runs the program should see it. The `notice` of syslog."""

logging.addLevelName(NOTICE, "NOTICE")
