"""Finds things on the page in a browser, and waits for them."""

from __future__ import annotations

from typing import Any

from selenium.webdriver.common.by import By

from tests.support.blackbox import until


def text(browser: Any, selector: str) -> str:
    """Return what is written in an element, as it is now."""
    return str(browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))


def shows(browser: Any, words: str, selector: str = "body") -> None:
    """Wait until words are written somewhere on the page."""
    until(lambda: words in text(browser, selector), what=f"{words!r} on the page")


def card(browser: Any, name: str) -> Any:
    """Wait for the card of a property, and return it."""
    xpath = f"//form[.//h3[@title={name!r}]]"
    until(lambda: browser.find_elements(By.XPATH, xpath), what=f"the card of {name}")
    return browser.find_element(By.XPATH, xpath)


def choose(browser: Any, device: str) -> None:
    """Choose a device."""
    script = (
        "const found = [...document.querySelectorAll('#devices button')].find(e => e.textContent === arguments[0]);"
        "found?.click(); return found !== undefined"
    )
    until(lambda: browser.execute_script(script, device), what=f"a button for {device}")


def state(browser: Any, name: str) -> str:
    """Return the state on a card."""
    return str(card(browser, name).find_element(By.CSS_SELECTOR, ".top .state").text)


def errors(browser: Any) -> list[str]:
    """Return what the browser has complained about since the last call, apart from answers that are failures."""
    said = [each["message"] for each in browser.get_log("browser") if each["level"] in ("WARNING", "SEVERE")]
    return [each for each in said if "status of 4" not in each]


def pixels(browser: Any, canvas: str) -> list[int]:
    """Return how bright the pixels of a canvas are in the middle row."""
    script = (
        "const canvas = document.querySelector(arguments[0]); const copy = document.createElement('canvas');"
        "copy.width = canvas.width; copy.height = 1; const context = copy.getContext('2d', {willReadFrequently: true});"
        "context.drawImage(canvas, 0, -(canvas.height >> 1)); const {data} = context.getImageData(0, 0, copy.width, 1);"
        "return [...data].filter((_, at) => at % 4 === 1)"
    )
    return list(browser.execute_script(script, canvas))


def fits_a_phone(browser: Any) -> None:
    """Check that nothing is wider than the window, and that what is to be pressed is not too small."""
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    low = (
        "return [...document.querySelectorAll('button, select, summary')]"
        ".filter(each => each.offsetHeight && each.offsetHeight < 44).map(each => each.textContent)"
    )
    assert browser.execute_script(low) == [], "fingers need 44 pixels"
