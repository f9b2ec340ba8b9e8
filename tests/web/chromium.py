"""Runs Chromium without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver

_WORDS = (
    "--headless=new",
    "--no-sandbox",  # root may use no other
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--no-proxy-server",
)


@contextmanager
def chromium(folder: Path, width: int, height: int) -> Iterator[Any]:
    """Chromium with a window of this size. Its log tells what the page has complained about.

    Raises:
        FileNotFoundError: It is not installed, or its driver is not.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        raise FileNotFoundError("chromium is not installed; on Debian: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in (*_WORDS, f"--user-data-dir={folder}/profile", f"--window-size={width},{height}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options, webdriver.ChromeService(driver, log_output=str(folder / "driver.log")))
    try:
        yield running
    finally:
        running.quit()
