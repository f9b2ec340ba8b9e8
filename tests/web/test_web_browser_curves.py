"""Curves and the page for the wall, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.by import By

from tests.support.blackbox import until
from tests.web.pages import card, choose, errors, fits_a_phone, pixels, shows
from tests.web.support import CAMERA, Site

pytestmark = pytest.mark.xdist_group("web")


def button(element: Any, words: str) -> Any:
    return element.find_element(By.XPATH, f".//button[text()={words!r}]")


def test_curves_of_a_property(web: Site, browser: Any) -> None:
    errors(browser)
    for value in (21, 27000):  # more than any other test sends, as the range of an hour is shown
        assert web.set("Strange", "ANSWER", {"VALUE": value}).status == 200
    browser.get(f"http://127.0.0.1:{web.port}/")
    choose(browser, "Strange")
    numbers = card(browser, "ANSWER")
    button(numbers, "Curves").click()
    shows(browser, "27000", "figcaption output")
    assert web.set("Strange", "ANSWER", {"VALUE": 90000}).status == 200
    until(lambda: numbers.find_element(By.CSS_SELECTOR, "figcaption output").text.endswith("90000"),
          what="a value that has just arrived")  # fmt: skip
    until(lambda: len(set(pixels(browser, ".curves canvas"))) > 1, what="a line")
    button(numbers, "6 h").click()
    until(lambda: button(numbers, "6 h").get_attribute("aria-pressed") == "true", what="six hours")
    shows(browser, "90000", "figcaption output")
    button(numbers, "Curves").click()
    assert browser.find_elements(By.TAG_NAME, "canvas") == []
    labels = [each.text for each in card(browser, "DOOR").find_elements(By.CSS_SELECTOR, ".label")]
    assert labels == ["Level", "Passcode"]
    button(card(browser, "DOOR"), "Curves").click()
    shows(browser, "Level", "figcaption")
    assert len(browser.find_elements(By.TAG_NAME, "figure")) == 1, "none of what is secret"
    assert errors(browser) == []


def test_a_gap_is_no_line(web: Site, browser: Any) -> None:
    """A minute: a value for 20 s, nothing for 20 s, and the same value again."""
    browser.get(f"http://127.0.0.1:{web.port}/")
    draw = (
        "const [done] = arguments; const canvas = document.createElement('canvas'); canvas.className = 'drawn';"
        "document.body.append(canvas); import('/curves.js').then(({ Curves }) => { Curves.prototype.drawOne.call("
        "{ span: 60 }, canvas, canvas, [[0, 7, 7, 7], [20, null, null, null], [40, 7, 7, 7]], 0); done(); })"
    )
    browser.execute_async_script(draw)
    line = [value > 0 for value in pixels(browser, ".drawn")]
    third = len(line) // 3
    assert all(line[: third - 2]) and all(line[2 * third + 2 :])
    assert not any(line[third + 2 : 2 * third - 2])


def test_the_wall(camera: Site, browser: Any) -> None:
    errors(browser)
    assert camera.set("Strange", "ANSWER", {"VALUE": 13}).status == 409
    assert camera.set(CAMERA, "CCD_EXPOSURE", {"CCD_EXPOSURE_VALUE": 300}, wait=False).status == 200
    browser.get(f"http://127.0.0.1:{camera.port}/wall#red")
    shows(browser, "Temperature (C)", "#wall")
    shows(browser, "thirteen is <b>unlucky</b>", "#wall")
    shows(browser, "FanBusy", "#wall")

    def progress() -> tuple[float, float]:
        """Return the value and the maximum; the element may be another one each time."""
        value, most = browser.execute_script(
            "const bar = document.querySelector('progress'); return bar ? [bar.value, bar.max] : [0, 1]"
        )
        return value, most

    until(lambda: progress()[0] > 0, what="progress of an exposure")
    value, most = progress()
    assert 0 < value < most <= 300
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
    assert browser.find_elements(By.CSS_SELECTOR, "button, input, select") == []
    assert camera.set(CAMERA, "CCD_ABORT_EXPOSURE", {"ABORT": True}, wait=False).status == 200
    until(lambda: not browser.find_elements(By.TAG_NAME, "progress"), what="the exposure has ended")
    assert errors(browser) == []


def test_both_on_a_phone(web: Site, phone: Any) -> None:
    phone.get(f"http://127.0.0.1:{web.port}/")
    choose(phone, "Strange")
    button(card(phone, "ANSWER"), "Curves").click()
    until(lambda: phone.find_elements(By.TAG_NAME, "figure"), what="a curve")
    fits_a_phone(phone)
    phone.get(f"http://127.0.0.1:{web.port}/wall")
    shows(phone, "Strange", "#wall")
    fits_a_phone(phone)
