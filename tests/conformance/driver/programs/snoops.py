"""A driver that snoops on devices of others."""

from __future__ import annotations

import common
import indipydriver as ipd
from common import step

dev = ipd.Device("Dev", [ipd.TextVector("tx", "T", "G", "rw", "Idle", [ipd.TextMember("t")])])


@step
async def watch_vector(driver):
    await driver.send_getProperties("Far", "watched")


@step
async def watch_device(driver):
    await driver.send_getProperties("Whole")


@step
async def what_is_watched(driver):
    vectors = sorted(driver.snoopvectors)
    return [driver.snoopall, sorted(driver.snoopdevices), vectors]


if __name__ == "__main__":
    common.main(common.make(dev))
