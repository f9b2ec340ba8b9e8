"""Live frames on the page, in a real browser: they move, and are zoomed and brightened as people do it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.support.blackbox import until
from tests.web.eye import number_of, take
from tests.web.pages import card, choose, errors, fits_a_phone, pixels, shows, text
from tests.web.programs.strange import HEIGHT, WIDTH
from tests.web.support import Site

pytestmark = pytest.mark.xdist_group("web")


def watch(web: Site, browser: Any) -> Any:
    """Open the live picture of the camera, wait until it shows a new frame, and return the canvas."""
    browser.get(f"http://127.0.0.1:{web.port}/")
    choose(browser, "Eye")
    card(browser, "PICTURE").find_element(By.XPATH, ".//button[starts-with(., 'Show')]").click()
    number = number_of(web, take(web, 1))  # the page begins with the frame that was there before, if there was one
    shows(browser, f"frame {number},", ".facts")
    return browser.find_element(By.CSS_SELECTOR, ".picture")


def slide(browser: Any, name: str, value: int) -> None:
    """Move a slider."""
    script = (
        "const slider = document.querySelector(`input[aria-label=${arguments[0]}]`); slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input'))"
    )
    browser.execute_script(script, name, value)


def test_frames_are_shown_as_they_come(web: Site, browser: Any) -> None:
    errors(browser)
    watch(web, browser)
    first = text(browser, ".facts")
    assert f"{WIDTH} \N{MULTIPLICATION SIGN} {HEIGHT}, 16 bit, RGGB" in first
    # The rate is that of the last two seconds, in which a busy machine may have shown nothing.
    until(lambda: take(web, 30) and "frames/s" in text(browser, ".facts"), what="the rate")
    shows(browser, f"frame {number_of(web, take(web, 1))},", ".facts")
    before = pixels(browser, ".picture")
    take(web, 1)
    until(lambda: pixels(browser, ".picture") != before, what="another picture")
    card(browser, "PICTURE").find_element(By.XPATH, ".//button[starts-with(., 'Show')]").click()
    assert not browser.find_element(By.CSS_SELECTOR, ".picture").is_displayed()
    assert errors(browser) == []


def test_brightness_is_set_by_hand_and_automatic_again(web: Site, browser: Any) -> None:
    watch(web, browser)
    automatic = pixels(browser, ".picture")
    slide(browser, "Middle", 800)
    until(lambda: max(pixels(browser, ".picture")) < max(automatic) // 2, what="a darker picture")
    slide(browser, "Black", 999)
    values = [float(each.text) for each in browser.find_elements(By.CSS_SELECTOR, ".slider output")]
    assert values == sorted(values) and values[0] < values[2], "the marks do not cross"
    browser.find_element(By.XPATH, "//button[text()='Automatic']").click()
    until(lambda: pixels(browser, ".picture") == automatic, what="the brightness of before")
    Select(browser.find_element(By.CSS_SELECTOR, "select[aria-label=Colors]")).select_by_value("off")
    until(lambda: "RGGB" not in text(browser, ".facts"), what="a gray picture")
    assert len(set(pixels(browser, "details canvas"))) > 1, "a histogram"


def test_keys_wheel_and_pointer_zoom_and_pan(web: Site, browser: Any) -> None:
    canvas = watch(web, browser)
    whole = pixels(browser, ".picture")

    def scale() -> str:
        return text(browser, ".facts").rpartition("\N{MIDDLE DOT} ")[2]

    def fits() -> bool:
        return canvas.get_attribute("class") == "picture" and scale() == at_first

    at_first = scale()
    assert at_first.endswith(" %") and fits()

    for _ in range(9):
        canvas.send_keys("+")
    until(lambda: "3200 %" in text(browser, ".facts"), what="single pixels")
    until(lambda: longest_run(pixels(browser, ".picture")) >= 30, what="pixels of 32 by 32")
    zoomed = pixels(browser, ".picture")
    ActionChains(browser).drag_and_drop_by_offset(canvas, 64, 32).perform()
    until(lambda: pixels(browser, ".picture") not in (whole, zoomed), what="another part")
    canvas.send_keys(Keys.ARROW_LEFT, "0")
    until(fits, what="the whole frame")
    ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -300).perform()
    until(lambda: canvas.get_attribute("class") == "picture zoomed", what="the wheel zooms")
    browser.find_element(By.XPATH, "//button[text()='Fit']").click()
    until(fits, what="the whole frame")


def longest_run(values: list[int]) -> int:
    """Return how many equal values there are in a row at most."""
    longest = run = 0
    for before, value in pairwise(values):
        run = run + 1 if value == before else 0
        longest = max(longest, run + 1)
    return longest


def test_a_phone(web: Site, phone: Any) -> None:
    watch(web, phone)
    phone.find_element(By.CSS_SELECTOR, ".card summary").click()
    until(lambda: phone.find_element(By.CSS_SELECTOR, ".card details canvas").is_displayed(), what="the histogram")
    fits_a_phone(phone)
    size = phone.find_element(By.CSS_SELECTOR, ".picture").size
    assert abs(size["width"] / size["height"] - WIDTH / HEIGHT) < 0.05
