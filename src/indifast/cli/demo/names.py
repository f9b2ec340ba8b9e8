"""Device names shared by the processes of the demonstration."""

from __future__ import annotations

CAMERA = "Demo Camera"
THERMOSTAT = "Demo Thermostat"
