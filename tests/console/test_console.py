"""The console in a real browser: what a newcomer sees, what they can do, and what the page never does."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import page_of
from exported_metrics import exported
from playwright.sync_api import Browser, Error, Page, expect
from processes import HOUSE, serving

pytestmark = pytest.mark.real("chromium")

POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
    "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'",
}  # fmt: skip


def opened(page: Page, url: str) -> Page:
    """The page, once it has ranked."""
    page.goto(url)
    expect(page.locator("#outcome")).to_contain_text("activities ranked")
    return page


def order(page: Page, variant: str) -> list[str]:
    places = page.get_by_role("region", name=variant, exact=True).locator("li.place")
    return [place.get_attribute("data-id") or "" for place in places.all()]


def ranked(url: str, body: dict[str, Any], variant: str) -> list[str]:
    headers = {"X-Visitor-Id": "ada", "X-Variant": variant}
    answer = httpx.post(f"{url}/v1/rank", json=body, headers=headers, trust_env=False).raise_for_status()
    return [one["id"] for one in answer.json()["ranking"]]


def example(url: str) -> dict[str, Any]:
    request: dict[str, Any] = httpx.get(f"{url}/console/example", trust_env=False).json()["request"]
    return request


def test_it_loads_without_an_error_and_asks_no_other_host(page: Page, url: str) -> None:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    opened(page, url)
    expect(page.locator("#state")).to_have_text("Ready")
    assert said == []
    assert [other for other in asked if not other.startswith((f"{url}/", "data:"))] == []


def test_every_part_comes_with_the_policy(url: str) -> None:
    page = httpx.get(url, trust_env=False).text
    parts = ["", *re.findall(r'(?:src|href)="(console/[^"]+)"', page), "console/exposition.js"]
    assert len(parts) == 4
    for part in parts:
        headers = httpx.get(f"{url}/{part}", trust_env=False).raise_for_status().headers
        assert set(headers["content-security-policy"].split("; ")) == POLICY
        assert headers["x-content-type-options"] == "nosniff"


def test_the_policy_lets_no_words_of_others_run(page: Page, url: str) -> None:
    opened(page, url)
    with pytest.raises(Error, match="Content Security Policy"):
        page.add_script_tag(content="document.title = 'taken over'")
    assert page.title() == "Frontrow"


def test_both_models_and_the_split_are_shown(page: Page, url: str) -> None:
    opened(page, url)
    for model in httpx.get(f"{url}/v1/models", trust_env=False).json()["models"]:
        card = page.get_by_role("article", name=f"Model of {model['variant']}")
        expect(card).to_contain_text(f"{model['name']}/{model['version']}")
        expect(card).to_contain_text(model["sha256"][:12])
    expect(page.locator("#split-words")).to_contain_text("gives 50 % of visitors treatment")


def test_the_playground_shows_both_rankings_side_by_side(page: Page, url: str) -> None:
    opened(page, url)
    body = example(url)
    assert len(body["candidates"]) > 10
    for variant in ("control", "treatment"):
        assert order(page, variant) == ranked(url, body, variant)
    widths = [bar.evaluate("bar => parseFloat(bar.style.width)") for bar in page.locator(".control .bar i").all()]
    assert widths == sorted(widths, reverse=True)
    assert (widths[0], widths[-1]) == (100, 4)


def test_another_context_ranks_again(page: Page, url: str) -> None:
    opened(page, url)
    body = example(url)
    for device in ("mobile", "desktop"):
        page.get_by_label("device").select_option(device)
        body["context"]["device"] = device
        ids = page.get_by_role("region", name="control", exact=True).locator("li.place .id")
        expect(ids).to_have_text(ranked(url, body, "control"))


def test_candidates_are_ids_or_bring_their_features(page: Page, url: str) -> None:
    opened(page, url)
    own = {"id": "mine", "features": {"price": 1.0, "rating": 5.0}}
    page.get_by_label("Candidates").fill(f"A1\nnobody\n{json.dumps(own)}")
    expect(page.locator("#outcome")).to_contain_text("3 activities ranked")
    body = example(url) | {"candidates": ["A1", "nobody", own]}
    assert order(page, "treatment") == ranked(url, body, "treatment")
    expect(page.locator(".control [data-id=nobody]")).to_contain_text("unknown")


def test_what_is_wrong_is_said(page: Page, url: str) -> None:
    opened(page, url)
    page.get_by_label("Candidates").fill("A1\nA1")
    alert = page.get_by_role("region", name="control", exact=True).get_by_role("alert")
    expect(alert).to_contain_text("A1")
    page.get_by_label("Candidates").fill('A1\n{"id": ')
    expect(page.locator("#outcome")).to_contain_text("A candidate is not JSON")


def test_an_id_is_never_markup(page: Page, url: str) -> None:
    opened(page, url)
    page.get_by_label("Candidates").fill("A1\n<img src=x onerror=alert(1)>")
    expect(page.locator(".control .place", has_text="<img src=x")).to_have_count(1)
    assert page.locator("#answers img").count() == 0


def test_it_moves_while_visitors_come(page: Page, url: str) -> None:
    opened(page, url)
    button = page.get_by_role("button", name="Send visitors")
    button.click()
    expect(page.get_by_role("button", name="Stop visitors")).to_have_attribute("aria-pressed", "true")
    latency = page.get_by_role("img", name="Latency")
    expect(latency.locator("path").first).to_be_attached()
    expect(latency).to_have_accessible_name(re.compile(r"Latency: \S+ ms p99\S* ?[\d.]+ ms p50"))
    expect(page.locator("#split-words")).to_contain_text(re.compile(r"So far \d+ rankings"))
    first = page.locator("#split-words").inner_text()
    expect(page.locator("#split-words")).not_to_have_text(first)
    expect(page.get_by_role("img", name="Requests in a batch")).to_have_accessible_name(re.compile(r": \d"))
    drawn = latency.locator("path").last.get_attribute("d")
    expect(latency.locator("path").last).not_to_have_attribute("d", drawn or "")


def test_everything_is_done_by_keyboard(page: Page, url: str) -> None:
    opened(page, url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the playground")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Visitor")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("grace")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.get_by_label("Candidates").evaluate("it => it === document.activeElement"):
            break
    page.keyboard.press("Control+A")
    page.keyboard.type("A3\nA4")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Rank")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#outcome")).to_contain_text("2 activities ranked")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, url: str, theme: Literal["light", "dark"]) -> None:
    with page_of(browser, theme) as page:
        with_drift(page)
        opened(page, url)
        expect(page.get_by_role("heading", name="Drift")).to_be_visible()
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_a_narrow_window_shows_everything_without_scrolling_sideways(browser: Browser, url: str) -> None:
    with page_of(browser, width=390) as page:
        opened(page, url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def with_drift(page: Page) -> None:
    """As if the service measured drift."""
    lines = [f'frontrow_feature_drift_psi{{variant="{v}",feature="{f}"}} {psi}' for v, f, psi in DRIFTS]
    lines.append('frontrow_feature_drift_alarm{variant="control",feature="price"} 2')

    def answer(route: Any) -> None:
        original = route.fetch()
        route.fulfill(response=original, body=original.text() + "\n".join(lines) + "\n")

    page.route("**/metrics", answer)


DRIFTS = (
    ("control", "price", 0.31),
    ("control", "rating", 0.02),
    ("treatment", "price", 0.3),
    ("treatment", "x", "NaN"),
)


def test_drift_is_shown_once_it_is_measured(page: Page, url: str) -> None:
    opened(page, url)
    expect(page.locator("#state")).to_have_text("Ready")
    expect(page.get_by_role("heading", name="Drift")).to_be_hidden()
    with_drift(page)
    lines = page.locator("#drift .control .drift-line")
    expect(lines).to_have_text([re.compile("price.*0.31 !"), re.compile("rating.*0.02$")])
    expect(lines.first).to_have_class("drift-line far")


def test_it_says_when_the_service_is_gone(page: Page, url: str) -> None:
    opened(page, url)
    page.route("**/metrics", lambda route: route.abort())
    expect(page.locator("#state")).to_have_text("The service does not answer")


def test_without_forcing_there_is_the_visitors_own_answer_and_the_setting_is_named(bundles: Path, page: Page) -> None:
    with serving(bundles, allow_forced_variant=False) as process:
        opened(page, process.url)
        expect(page.locator(".note")).to_contain_text("FRONTROW_ALLOW_FORCED_VARIANT=true")
        body, headers = example(process.url), {"X-Visitor-Id": "ada"}
        answer = httpx.post(f"{process.url}/v1/rank", json=body, headers=headers, trust_env=False).json()
        expect(page.locator(".answer")).to_have_count(1)
        expect(page.locator(".answer h3")).to_contain_text(answer["variant"])
        assert order(page, "answer") == [one["id"] for one in answer["ranking"]]


def test_it_is_off_by_a_setting(bundles: Path) -> None:
    with serving(bundles, console=False, treatment_model="") as process:
        start = httpx.get(process.url, trust_env=False)
        assert (start.status_code, start.headers["location"]) == (307, "docs")
        assert httpx.get(f"{process.url}/console/console.js", trust_env=False).status_code == 404
        assert httpx.get(f"{process.url}/console/example", trust_env=False).status_code == 404


def test_a_part_that_is_none_is_not_found(url: str) -> None:
    for name in ("nothing.js", "..%2fconsole.py", "%2e%2e/console.py", ""):
        assert httpx.get(f"{url}/console/{name}", trust_env=False).status_code == 404


def test_every_metric_that_the_page_asks_for_exists() -> None:
    page = "".join(path.read_text() for path in (HOUSE / "app/console").glob("*.js"))
    asked = set(re.findall(r'"(frontrow_[a-z_]+)"', page))
    known = exported() | {name.removesuffix("_bucket") for name in exported()}
    assert len(asked) > 5
    assert asked - known == set()


def test_a_click_counts_in_the_very_next_ranking(bundles: Path, page: Page) -> None:
    with serving(bundles, control_model=bundles / "pairs", treatment_model=bundles / "visitors") as process:
        opened(page, process.url)
        before = page.locator(".control .score").all_inner_texts()
        page.get_by_role("region", name="control", exact=True).get_by_role("button").nth(3).click()
        clicked = page.locator("#outcome")
        expect(clicked).to_contain_text(re.compile(r"ada clicked \S+\. \d+ activities ranked"))
        after = page.locator(".control .score").all_inner_texts()
        assert after != before
        page.get_by_role("button", name="Forget").click()
        expect(page.locator(".control .score")).to_have_text(before)
