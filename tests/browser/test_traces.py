"""TensorBoard's own plugin for traces in a browser: every capture, and the timeline of every host."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cluster.tensorboard import Server
from tests.browser.conftest import Browser

pytestmark = pytest.mark.timeout(180)

RECORDED = Path(__file__).parents[1] / "data" / "traces"
TIME = "2026_11_23_10_00_00"


@dataclass
class Runs:
    """What TensorBoard serves."""

    folder: Path
    title: str = "captures"

    def refresh(self) -> None:
        """The folder does not change."""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[str]:
    """The address of a TensorBoard with two recorded captures."""
    if find_spec("xprof") is None:
        pytest.skip("xprof is not installed: pip install 'ray-tfcluster[profile]'")
    for case in ("straggler", "servers"):
        folder = tmp_path / case / "plugins" / "profile" / TIME
        folder.mkdir(parents=True)
        for path in RECORDED.joinpath(case).glob("*.gz"):
            folder.joinpath(path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    server = Server(Runs(tmp_path), "localhost", 0)
    yield server.address()
    server.end()


def test_the_timeline_of_every_host(browser: Browser, board: str) -> None:
    browser.open(f"{board}#profile")
    driver = browser.driver
    wait(driver, "Boolean(document.querySelector('iframe'))")
    driver.switch_to.frame(0)
    wait(driver, "Boolean(shown('mat-select', 'Overview Page'))")
    assert driver.execute_script("return document.querySelector('mat-select').innerText") in (
        f"straggler/{TIME}",
        f"servers/{TIME}",
    )
    wait(driver, "click('mat-select', 'Overview Page')")
    wait(driver, "click('mat-option', 'Trace Viewer')")
    address = wait(driver, "document.querySelector('iframe[src*=trace_viewer]')?.src")
    driver.switch_to.default_content()

    run = address.partition("run%3D")[2].partition("%2F")[0]
    both = address.partition("hosts%3D")[0].replace(f"run%3D{run}", "run%3Dstraggler") + "hosts%3Dworker-0%2Cworker-1"
    browser.open(both)
    text = wait(driver, "document.body?.innerText.includes('worker-1 /host:CPU') && document.body.innerText")
    assert "worker-0 /host:CPU" in text
    assert "collective_ops/" in text


#: Looks for an element by its tag and the beginning of its text, and clicks on it, before the page rebuilds it.
_TOOLS = """
const shown = (tag, text) => [...document.querySelectorAll(tag)].find(e => e.innerText.trim().startsWith(text));
const click = (tag, text) => { const found = shown(tag, text); if (found) found.click(); return Boolean(found); };
"""


def wait(driver: Any, expression: str) -> Any:
    """The value of a JavaScript expression, once it is something; until then the page is being built."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60).until(lambda _: driver.execute_script(f"{_TOOLS} return {expression}"))
