"""The pages of Prefect in a browser without a window, as an operator uses them."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.operations.processes import WAIT_SECONDS

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
CHOICES = ("files", "measurement", "preset")
"""Fields of the form that offer what may be chosen."""


class Pages:
    """A browser that has opened the pages of a server; pictures of them go into a folder."""

    def __init__(self, page: Any, url: str, folder: Path) -> None:
        self.page, self.url, self.folder = page, url, folder
        page.set_default_timeout(1000 * WAIT_SECONDS)

    def sign_in(self, password: str) -> None:
        """The first page asks for it, once."""
        self.page.goto(self.url)
        self.page.get_by_placeholder("admin:pass").fill(password)
        self.page.get_by_role("button", name="Login").click()
        self.page.wait_for_url("**/dashboard**")

    def open_deployment(self, name: str) -> None:
        """From the first page: Deployments, and the one of this name."""
        self.page.goto(self.url)
        self.page.get_by_role("link", name="Deployments", exact=True).click()
        self.page.get_by_role("link", name=name, exact=True).first.click()
        self.page.get_by_role("button", name="Run", exact=True).wait_for()

    def open_form(self, name: str) -> None:
        """Run, Custom run of a deployment."""
        self.open_deployment(name)
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.page.get_by_role("button", name="Submit").wait_for()

    def fill(self, **fields: str) -> None:
        """Fields of a form by their labels."""
        for label, value in fields.items():
            if label in CHOICES:
                self.page.get_by_label(label).click()
                self.page.get_by_role("option", name=value, exact=True).click()
            else:
                self.page.get_by_label(label).fill(value)

    def submit(self) -> str:
        """Press the button; the run, to whose page the message leads that appears."""
        self.page.get_by_role("button", name="Submit").click()
        self.page.get_by_role("button", name="View run").or_(self.page.get_by_text("View run")).last.click()
        self.page.wait_for_url("**/runs/flow-run/**")
        return str(self.page.url.rpartition("/")[2].partition("?")[0])

    def open_run(self, ident: str, tab: str = "Logs") -> None:
        """A run's page."""
        self.page.goto(f"{self.url}/v2/runs/flow-run/{ident}")
        self.show(tab)

    def show(self, tab: str) -> None:
        """One of the tabs of a run; what is there is asked for anew."""
        for name in ("Details", tab):
            self.page.get_by_role("tab", name=name, exact=True).click()
            time.sleep(1)

    def retry(self) -> None:
        """Retry in the menu of the run that is shown."""
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name="Retry").click()
        self.page.get_by_role("button", name="Retry", exact=True).last.click()

    def cancel(self) -> None:
        """Cancel in the menu of the run that is shown."""
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name="Cancel").click()
        self.page.get_by_role("button", name="Cancel Flow Run").click()

    def schedule(self, cron: str, **fields: str) -> None:
        """A schedule of the deployment that is shown, with fields of its own."""
        self.page.get_by_role("button", name="Schedule", exact=True).click()
        self.page.get_by_role("tab", name="Cron").click()
        self.page.get_by_label("Value").fill(cron)
        self.fill(**fields)
        self.picture("schedule")
        self.page.get_by_role("button", name="Save", exact=True).click()
        self.page.get_by_role("dialog").wait_for(state="hidden")

    def text(self) -> str:
        """All that the page says."""
        return str(self.page.inner_text("body"))

    def picture(self, name: str) -> None:
        """A picture of the whole page, to look at."""
        time.sleep(1)
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        print(f"picture: {path}")


@contextmanager
def browser() -> Iterator[Any]:
    """A block in which Chromium of this machine runs, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="there is no playwright: pip install playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("there is no chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=QUIET, timeout=1000 * WAIT_SECONDS)
        yield started
        started.close()
