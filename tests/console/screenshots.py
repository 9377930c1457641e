"""Pictures of the console with the demo's models in both themes.

Run by `make screenshots`; wants `tests` and its own folder on the path, and the demo's models.
"""

import sys
from pathlib import Path

from chromium import chromium, page_of
from playwright.sync_api import Page
from processes import HOUSE, Process

MINUTE_MS = 62_000
SETTLE_MS = 1_000
TRIES = 10


def take(folder: Path) -> None:
    process = Process(["--port", "0"], {"FRONTROW_ALLOW_FORCED_VARIANT": "true"}, HOUSE)
    try:
        process.wait_until_ready()
        with chromium() as browser, page_of(browser) as page:
            page.goto(process.url)
            page.get_by_role("button", name="Send visitors").click()
            page.wait_for_timeout(MINUTE_MS)  # until the charts are full
            rank(page)
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                page.screenshot(path=folder / f"console-{theme}.png", full_page=True)
    finally:
        process.kill()


def rank(page: Page) -> None:
    """Have both rankings on the page: a machine that is busy may have refused the first ones."""
    for _ in range(TRIES):
        with page.expect_response("**/v1/rank"):
            page.get_by_role("button", name="Rank").click()
        page.wait_for_timeout(SETTLE_MS)
        if all(page.locator(f".{variant} li.place").count() for variant in ("control", "treatment")):
            return
    raise SystemExit(f"{TRIES} times there was no ranking to take a picture of")


if __name__ == "__main__":
    take(Path(sys.argv[1]))
