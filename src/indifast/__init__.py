"""A fast INDI stack: drivers, server and client for instruments on a network."""

from __future__ import annotations

version = "0.1.0"
