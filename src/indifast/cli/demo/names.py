"""The names that the two processes of the demonstration share."""

from __future__ import annotations

CAMERA = "Demo Camera"
THERMOSTAT = "Demo Thermostat"
