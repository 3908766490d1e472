"""Headless Chromium, for tests of the dashboard's page and for its pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from support.harness import PATIENCE_S

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
WIDE, NARROW = (1360, 1000), (360, 760)

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--force-device-scale-factor=1", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """A browser with one tab.

    Attributes:
        driver: selenium's own.
    """

    def __init__(self, folder: Path) -> None:
        options = ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in (*FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options, Service(DRIVER))
        self.driver.set_script_timeout(PATIENCE_S)

    def look(self, size: tuple[int, int] = WIDE, *, dark: bool = False) -> None:
        """Show the page in a size, light or dark."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == NARROW}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return the text of an element; empty if there is none, or it is hidden."""
        found: str = self.run(
            "const e = document.querySelector(arguments[0]); return e?.checkVisibility() ? e.innerText : ''",
            selector,
        )
        return found

    def rows(self, table: str) -> list[list[str]]:
        """Return the text of all cells of a table."""
        found: list[list[str]] = self.run(
            "return [...document.getElementById(arguments[0]).tBodies[0].rows]"
            ".map(row => [...row.cells].map(cell => cell.textContent))",
            table,
        )
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, check: Any, what: str) -> None:
        """Wait until a condition holds on the page."""
        wait: WebDriverWait[Chrome] = WebDriverWait(self.driver, PATIENCE_S, 0.05)
        wait.until(lambda _: check(), f"this did not happen in time: {what}")

    def complaints(self) -> list[str]:
        """Return what the browser wrote into its console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the URLs that the browser requested since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Yield a browser that keeps its data in a folder."""
    made = Browser(folder)
    try:
        yield made
    finally:
        made.driver.quit()
