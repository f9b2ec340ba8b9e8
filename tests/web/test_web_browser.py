"""The page in a real browser: Chromium, without a window, as people use it at a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.blackbox import free_port, until
from tests.support.commands import start
from tests.web.chromium import chromium
from tests.web.programs.strange import NASTY
from tests.web.support import CAMERA, Site, site

pytestmark = pytest.mark.xdist_group("web")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium."""
    with chromium(tmp_path_factory.mktemp("chromium"), 1100, 900) as running:
        yield running


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
    """Return what the browser has complained about, apart from answers that are failures, and advice."""
    said = [each["message"] for each in browser.get_log("browser") if each["level"] in ("WARNING", "SEVERE")]
    return [each for each in said if "status of 4" not in each]


def test_a_camera_is_connected_and_its_frame_is_shown(web: Site, browser: Any) -> None:
    browser.get(f"http://127.0.0.1:{web.port}/")
    shows(browser, "connected to localhost", "#link")
    choose(browser, CAMERA)
    button = card(browser, "CONNECTION").find_element(By.XPATH, ".//button[text()='Connect']")
    button.click()
    until(lambda: button.get_attribute("aria-pressed") == "true", what="the camera is connected")
    blob = card(browser, "CCD1")
    blob.find_element(By.XPATH, ".//button[starts-with(., 'Show')]").click()
    field = card(browser, "CCD_EXPOSURE").find_element(By.TAG_NAME, "input")
    field.send_keys("0.2", Keys.ENTER)
    picture = blob.find_element(By.TAG_NAME, "img")
    until(lambda: browser.execute_script("return arguments[0].naturalWidth", picture) > 100, what="the frame")
    until(lambda: "1280 \N{MULTIPLICATION SIGN} 1024, .fits" in blob.text, what="what is in the frame")
    until(lambda: state(browser, "CCD_EXPOSURE") == "Ok", what="the end of the exposure")
    assert errors(browser) == []


def test_an_alert_is_shown_with_the_drivers_message(web: Site, browser: Any) -> None:
    browser.get(f"http://127.0.0.1:{web.port}/")
    choose(browser, "Strange")
    answer = card(browser, "ANSWER")
    answer.find_element(By.TAG_NAME, "input").send_keys("13", Keys.ENTER)
    until(lambda: "thirteen is <b>unlucky</b>" in answer.text, what="the driver's message")
    assert state(browser, "ANSWER") == "Alert"
    login = card(browser, "LOGIN").find_element(By.TAG_NAME, "input")
    assert login.get_attribute("type") == "password"


def test_nothing_that_a_device_says_is_html(web: Site, browser: Any) -> None:
    browser.get(f"http://127.0.0.1:{web.port}/")
    shows(browser, NASTY, "#devices")
    choose(browser, NASTY)
    shows(browser, NASTY, "#properties")
    assert browser.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert browser.title != "HTML"
    assert errors(browser) == []


def test_a_phone_at_night(web: Site, browser: Any) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        browser.get(f"http://127.0.0.1:{web.port}/")
        browser.find_element(By.ID, "theme").click()
        for device in ("Strange", NASTY, CAMERA):
            choose(browser, device)
            until(lambda: browser.find_elements(By.CSS_SELECTOR, ".card"), what="cards")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        small = (
            "return [...document.querySelectorAll('button')].filter(e => e.offsetHeight && e.offsetHeight < 44).length"
        )
        assert browser.execute_script(small) == 0, "fingers need 44 pixels"
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
        browser.refresh()
        assert browser.execute_script("return document.documentElement.dataset.theme") == "red"
    finally:
        browser.execute_script("localStorage.clear()")
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_server_that_goes_and_comes_back(browser: Any, tmp_path: Path) -> None:
    port = free_port()
    words = ("serve", "-p", port, "--no-abstract", "indifast.cli.demo.drivers:ThermostatDriver")
    with site(tmp_path, f"localhost:{port}") as late:
        with start(tmp_path, *words):
            browser.get(f"http://127.0.0.1:{late.port}/")
            card(browser, "TEMPERATURE")
        shows(browser, "no connection to", "#link")
        assert "stale" in browser.find_element(By.ID, "properties").get_attribute("class")
        card(browser, "TEMPERATURE")
        with start(tmp_path, *words):
            shows(browser, "connected to", "#link")
            until(lambda: state(browser, "TEMPERATURE") == "Ok", what="the newest state")


def test_commands_that_wait_delay_no_other(web: Site, browser: Any) -> None:
    """Browsers open few connections, and an abort must not queue behind what it is to end."""
    browser.get(f"http://127.0.0.1:{web.port}/")
    choose(browser, "Strange")
    field = card(browser, "ANSWER").find_element(By.TAG_NAME, "input")
    for _ in range(8):
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys("7", Keys.ENTER)
    until(lambda: state(browser, "ANSWER") == "Busy", what="commands wait")
    slow, fast = card(browser, "MODE").find_elements(By.CSS_SELECTOR, ".buttons button")
    for button in (fast, slow):
        button.click()
        until(lambda button=button: button.get_attribute("aria-pressed") == "true", what="another command is obeyed")
    web.set("Strange", "ANSWER", {"VALUE": 1})


def test_the_device_that_is_shown_stays_when_the_server_comes_back_without_it(browser: Any, tmp_path: Path) -> None:
    """Nobody presses a button of another device because the page has changed under the finger."""
    port, drivers = free_port(), "indifast.cli.demo.drivers:"
    words = ("serve", "-p", port, "--no-abstract", f"{drivers}ThermostatDriver")
    current = "#devices button[aria-current=true]"
    with site(tmp_path, f"localhost:{port}") as late:
        with start(tmp_path, *words, "indi_simulator_ccd"):
            browser.get(f"http://127.0.0.1:{late.port}/")
            choose(browser, "Demo Thermostat")
            card(browser, "TEMPERATURE")
            choose(browser, CAMERA)
            card(browser, "CONNECTION")
        shows(browser, "no connection to", "#link")
        with start(tmp_path, *words):
            shows(browser, f"{CAMERA} is not there", "#properties")
            shows(browser, "Demo Thermostat", "#devices")
            assert text(browser, current) == ""
            choose(browser, "Demo Thermostat")
            card(browser, "TEMPERATURE")


def test_a_login_that_has_ended_is_asked_for_again(web: Site, server: int, browser: Any, tmp_path: Path) -> None:
    """Logins end with the program: who has the page open must not wait forever when it is started again."""
    tokens, port = tmp_path / "tokens", free_port()
    tokens.touch(0o600)
    tokens.write_text("operator 0123456789abcdef\n")
    words = (f"localhost:{server}", "--listen", port, "--token-file", tokens)
    for opened in (True, False):
        with site(tmp_path, *words):
            if opened:
                browser.get(f"http://127.0.0.1:{port}/")
            field = browser.find_element(By.NAME, "token")
            until(field.is_displayed, what="the page asks for a token")
            field.send_keys("0123456789abcdef", Keys.ENTER)
            shows(browser, "connected to localhost", "#link")
            shows(browser, "Strange", "#devices")
            assert not field.is_displayed()
        shows(browser, "trying again", "#link")
