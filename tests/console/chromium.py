"""A real Chromium, as Debian packages it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

BINARY = shutil.which("chromium")
WORDS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BINARY, args=WORDS)
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Browser, theme: Literal["light", "dark"] = "light", *, width: int = 1280) -> Iterator[Page]:
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900}, device_scale_factor=1)
    context.set_default_timeout(20_000)
    page = context.new_page()
    yield page
    page.unroute_all(behavior="ignoreErrors")  # what a test answers in the service's place may be on its way
    context.close()
