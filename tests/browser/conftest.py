"""A real browser, headless, for the tests of the demo page. Skipped, with the reason, where there is none."""

import base64
import io
import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from tests.machine import needs
from tests.server.demo_api import DemoApi

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
DEADLINE = 20
FLAGS = [
    "--headless",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    # Nothing but the page under test is asked for.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # The server of each test is another site, which would get a process of its own.
    "--renderer-process-limit=1",
    "--disable-site-isolation-trials",
]


def pytest_collection_modifyitems(items):
    """Mark what is here, and say what is missing."""
    browser = needs("chromium", "chromedriver")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(browser)


class Page:
    """The demo page in the browser, as its user sees it."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url, width=1280, height=1000):
        self.driver.set_window_size(width, height)
        self.driver.get(f"{url}/demo")
        self.wait(lambda: self.one("#run").is_enabled(), "the form")
        return self

    def wait(self, condition, what):
        """Wait until a condition holds; give its value."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        gone = (NoSuchElementException, StaleElementReferenceException)
        waiting = WebDriverWait(self.driver, DEADLINE, 0.02, ignored_exceptions=gone)
        return waiting.until(lambda _: condition(), f"{what}: did not happen")

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def field(self, label, within="#fields"):
        """The input, select or textarea with a label."""
        for element in self.all(f"{within} label"):
            if element.get_property("textContent").removesuffix(" *") == label:
                return self.one(f"[id='{element.get_attribute('for')}']")
        raise AssertionError(f"no field is labelled {label!r}")

    def fill(self, label, text):
        field = self.field(label)
        field.clear()
        field.send_keys(text)

    def error(self, label):
        """What a field says is wrong with it."""
        described = self.field(label).get_attribute("aria-describedby").split()
        return self.one(f"[id='{described[-1]}']").text

    def run(self):
        self.one("#run").click()

    def show_tab(self, label):
        """Open one of the result's tabs; its panel."""
        (tab,) = [tab for tab in self.all("[role=tab]") if tab.text == label]
        tab.click()
        return self.one("[role=tabpanel]:not([hidden])")

    def status(self):
        return self.one("#status").text

    def wait_status(self, text):
        self.wait(lambda: self.status() == text, f"status {text!r}")

    def natural_size(self, selector):
        """Width and height of a picture that has been loaded."""
        script = """const image = document.querySelector(arguments[0]);
            return image?.complete && image.naturalWidth ? [image.naturalWidth, image.naturalHeight] : null"""
        return tuple(self.wait(lambda: self.driver.execute_script(script, selector), f"{selector} to load"))

    def keys(self, *keys):
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains

        actions = ActionChains(self.driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def chord(self, *keys):
        """Press keys together, wherever the focus is."""
        self.focused().send_keys("".join(keys))

    def focused(self):
        return self.driver.switch_to.active_element

    def violations(self):
        """What the browser complained of: scripts' errors, refusals by the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def driver():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def page(driver):
    """The page; after each test nothing may have been refused by the policy, nor failed in a script."""
    page = Page(driver)
    driver.get_log("browser")
    yield page
    policy = [text for text in page.violations() if "Content Security Policy" in text or "Uncaught" in text]
    driver.get("about:blank")
    assert policy == []


@pytest.fixture
def serve(request):
    """Serves a model by its schemas; gives its API with `url`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def serve(*arguments, **named):
            api = DemoApi(*arguments, **named)
            api.url = stack.enter_context(api.serving())
            return api

        yield serve


def png(width, height, colour=(200, 90, 30), draw=None):
    """A PNG's bytes."""
    picture = Image.new("RGB", (width, height), colour)
    if draw:
        draw(picture)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def data_uri(data, media_type="image/png"):
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def from_data_uri(uri):
    """The picture in a data: URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
