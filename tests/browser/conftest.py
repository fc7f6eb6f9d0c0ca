"""A headless Chromium: shows pages, and tells what they fetched, what they complained of and how they look."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

#: Names of the browser and of its driver; Debian's come as the packages chromium and chromium-driver.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Chromium as root, quiet: it asks its maker for nothing while it runs.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Addresses that need no network.
OWN_SCHEMES = ("file:", "data:", "blob:", "about:", "chrome:")


@dataclass
class Browser:
    """One tab of a headless Chromium.

    Attributes:
        driver: selenium's, for whatever a test wants to ask.
        requested: addresses that pages asked for since `forget`, in order.
        complaints: what was written to the console as a warning or an error since then.
    """

    driver: Any
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, page: str | Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show `page`, a file or an address, in a window of that size, once it has loaded."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        look = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [look]})
        self.driver.get(page.as_uri() if isinstance(page, Path) else page)

    def text(self) -> str:
        """What the page says, as a reader sees it."""
        return str(self.driver.find_element("tag name", "body").text)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        return self.driver.execute_script(f"return {expression}")

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        """Wait until the page says `text`; for pages that go on building themselves after they have loaded."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds).until(lambda driver: text in self.text())

    def listen(self) -> None:
        """Note what was requested and complained of since the last look."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
        for entry in self.driver.get_log("browser"):
            if entry["level"] in ("WARNING", "SEVERE"):
                self.complaints.append(entry["message"])

    def outside(self) -> list[str]:
        """Addresses that were asked for and need a network; a server on this machine is one too."""
        self.listen()
        return [url for url in self.requested if not url.startswith(OWN_SCHEMES)]

    def errors(self) -> list[str]:
        """Warnings and errors of the console."""
        self.listen()
        return self.complaints

    def picture(self, file: Path) -> Path:
        """Write the whole page, however long, as a PNG into `file`."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(shot["data"]))
        return file

    def forget(self) -> None:
        """Leave the page, and all that was noted."""
        self.driver.get("about:blank")
        self.listen()
        self.requested.clear()
        self.complaints.clear()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Selenium's driver of one headless Chromium for the whole session."""
    binary = next((path for path in map(shutil.which, BROWSERS) if path), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver here: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield started
    started.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    """A Chromium that has seen nothing yet."""
    page = Browser(chromium)
    page.forget()
    yield page
    page.forget()
