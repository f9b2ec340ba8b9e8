"""The page in a real browser: Chromium, without a window, as people use it at a desk and on a phone."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from indifast.web.users import Password
from tests.serve.support import TOY
from tests.support.blackbox import free_port, until
from tests.support.commands import start
from tests.support.programs import python_program
from tests.web.pages import card, choose, errors, fits_a_phone, pixels, shows, state, text
from tests.web.programs.strange import NASTY
from tests.web.support import CAMERA, Site, secret_file, serving, site, token_file

pytestmark = pytest.mark.xdist_group("web")


def test_a_camera_is_connected_and_its_frame_is_shown(web: Site, browser: Any) -> None:
    errors(browser)
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
    until(lambda: "1280 \N{MULTIPLICATION SIGN} 1024, 16 bit" in blob.text, what="the frame")
    assert len(set(pixels(browser, ".picture"))) > 10
    until(lambda: state(browser, "CCD_EXPOSURE") == "Ok", what="the end of the exposure")
    assert errors(browser) == []


def test_an_alert_is_shown_with_the_drivers_message(web: Site, browser: Any) -> None:
    browser.get(f"http://127.0.0.1:{web.port}/")
    choose(browser, "Strange")
    answer, login = card(browser, "ANSWER"), card(browser, "LOGIN").find_element(By.TAG_NAME, "input")
    browser.execute_script("window.requestAnimationFrame = () => {}")  # the news of the property is drawn later
    answer.find_element(By.TAG_NAME, "input").send_keys("13", Keys.ENTER)
    until(lambda: "thirteen is <b>unlucky</b>" in answer.text, what="the driver's message")
    assert state(browser, "ANSWER") == "Alert"
    assert login.get_attribute("type") == "password"


def test_a_file_is_sent(web: Site, browser: Any, tmp_path: Path) -> None:
    browser.get(f"http://127.0.0.1:{web.port}/")
    choose(browser, "Strange")
    store = card(browser, "STORE")
    field, button = store.find_element(By.TAG_NAME, "input"), store.find_element(By.XPATH, ".//button")
    (tmp_path / "nameless").write_bytes(b"x")
    field.send_keys(str(tmp_path / "nameless"))
    button.click()
    until(lambda: "must say what it is" in store.text, what="that a suffix is needed")
    content = bytes(range(256)) * 300
    (tmp_path / "M 31.2026.fits.fz").write_bytes(content)
    field.send_keys(str(tmp_path / "M 31.2026.fits.fz"))
    button.click()
    until(lambda: f"{sha256(content).hexdigest()} {len(content)} .fits.fz" in store.text, what="the driver's answer")


def test_the_page_reaches_devices_whose_names_look_like_steps_in_a_path(web: Site, browser: Any) -> None:
    browser.get(f"http://127.0.0.1:{web.port}/")
    script = (
        "const [name, done] = arguments; import('/interface.js')"
        ".then(({ get, pathOf }) => get(pathOf(name, 'P'))).catch((failure) => done(failure.message))"
    )
    for name in (".", "..", "%2E", "%252e%2E", "a/b", "a%2Fb"):
        assert browser.execute_async_script(script, name).startswith(f"no device {name!r} on this server")


def test_nothing_that_a_device_says_is_html(web: Site, browser: Any) -> None:
    errors(browser)
    browser.get(f"http://127.0.0.1:{web.port}/")
    shows(browser, NASTY, "#devices")
    choose(browser, NASTY)
    shows(browser, NASTY, "#properties")
    assert browser.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert browser.title != "HTML"
    assert errors(browser) == []


def test_a_phone_at_night(web: Site, phone: Any) -> None:
    phone.get(f"http://127.0.0.1:{web.port}/")
    phone.find_element(By.ID, "theme").click()
    for device in ("Strange", NASTY, CAMERA):
        choose(phone, device)
        until(lambda: phone.find_elements(By.CSS_SELECTOR, ".card"), what="cards")
        fits_a_phone(phone)
    assert phone.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
    phone.refresh()
    assert phone.execute_script("return document.documentElement.dataset.theme") == "red"


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
    tokens, port = token_file(tmp_path, "operator 0123456789abcdef\n"), free_port()
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


def test_a_user_starts_a_driver_and_commands_only_what_they_may(browser: Any, tmp_path: Path) -> None:
    toy = python_program(tmp_path / "toy", f"import sys; print('here I am', file=sys.stderr)\n{TOY}")
    listed = tmp_path / "drivers.toml"
    listed.write_text(f"[[drivers]]\nname = 'Bear'\nprogram = '{toy}'\n")
    listed.chmod(0o644)
    rights = {"anna": "operator = true", "bert": 'viewer = true\noperator = ["Toy"]'}
    users = secret_file(tmp_path, "users", "".join(f'[{name}]\npassword = "{Password.of(name, (4, 8, 1))}"\n{each}\n'
                             for name, each in rights.items()))  # fmt: skip
    with serving(tmp_path, "--web-users", users, "--web-drivers", listed, "strange:make") as web:

        def log_in(name: str) -> None:
            browser.get(f"http://127.0.0.1:{web.port}/")
            field = browser.find_element(By.NAME, "user")
            until(field.is_displayed, what="the page asks for a name")
            field.send_keys(name)
            browser.find_element(By.NAME, "token").send_keys(name, Keys.ENTER)
            shows(browser, "Strange", "#devices")
            until(lambda: browser.find_element(By.ID, "drivers").is_displayed(), what="the list of drivers")
            browser.find_element(By.CSS_SELECTOR, "#drivers summary").click()
            shows(browser, "Bear", "#drivers")

        def log_out() -> None:
            browser.find_element(By.ID, "logout").click()
            until(lambda: text(browser, "#devices") == "", what="that nothing is shown")

        log_in("anna")
        browser.find_element(By.XPATH, "//div[@id='driver-list']//button[text()='Start']").click()
        shows(browser, "here I am", "#drivers")
        choose(browser, "Toy")
        assert card(browser, "T").find_elements(By.TAG_NAME, "input")
        log_out()
        log_in("bert")
        assert not browser.find_element(By.CSS_SELECTOR, "#driver-list button").is_displayed()
        assert "here I am" not in text(browser, "#drivers")
        choose(browser, "Toy")
        assert card(browser, "T").find_elements(By.TAG_NAME, "input")
        choose(browser, "Strange")
        assert not card(browser, "ANSWER").find_elements(By.TAG_NAME, "input")
        log_out()
        log_in("anna")
        browser.find_element(By.XPATH, "//div[@id='driver-list']//button[text()='Stop']").click()
        shows(browser, "stopped", "#drivers")
        assert errors(browser) == []
