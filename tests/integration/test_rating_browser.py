"""The scoring website in Debian's Chromium, by keyboard alone, in both themes and at a phone's width."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from benchmarks.loopback import on_loopback
from benchmarks.made_up_run import made_up_run
from evaluation.numbers import fixed
from evaluation.raters import compare, read_ratings, read_scores
from serve.database.page_tables import Annotator, Rating
from serve.pages.sample_index import SampleIndex
from serve.rating.answers import drawn, from_run
from serve.rating.sets import Made, make_set
from serve.tenants.keys import make_key, tenant_named
from tests.browsers import Pages, make_pages

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium")
WIDTHS = (1280, 390)


@dataclass
class Site:
    """A site with a set of thirty answers of a run."""

    pages: Pages
    url: str
    made: Made
    key: str

    def link(self, name: str) -> str:
        """An annotator's link."""
        return f"{self.url}/rate/join/{self.made.secrets[name]}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    pages = make_pages(tmp_path)
    made_up_run(pages.root / "grpo", scenes=3, steps=8)
    SampleIndex(pages.database).read_now(pages.root / "grpo")
    key = make_key(pages.database, "lab", "laptop")
    with pages.database.writing() as session:
        tenant_id = tenant_named(session, "lab").id
    answers = drawn(from_run(pages.root / "grpo", None), 30, seed=0)
    made = make_set(
        pages.database, tenant_id, "November", answers, ["ada", "bo", "cy"], seed=0, rubric="task", source="grpo",
        paths_from=tmp_path,
    )  # fmt: skip
    with on_loopback(pages.app) as url:
        yield Site(pages, url, made, key)


@pytest.fixture
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def watched(context: Any, url: str) -> tuple[Any, list[str]]:
    """A tab, and what it complains of: messages of its console, and addresses that are not the site's."""
    page, heard = context.new_page(), list[str]()
    page.on("console", lambda said: heard.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(url) else heard.append(asked.url))
    return page, heard


def opened(page: Any, url: str) -> None:
    """Go to a page and wait until something has the focus: a browser gives it after the page is loaded."""
    page.goto(url)
    page.wait_for_selector(":focus")


def rate_one(page: Any, points: list[int]) -> None:
    """Fill the sheet with digits and Enter alone."""
    before = page.title()
    for value in points:
        page.keyboard.type(str(value))
        page.keyboard.press("Enter")
    page.wait_for_function("before => document.title !== before", arg=before)


def bounds(page: Any) -> list[int]:
    return [int(text.rpartition(" ")[2]) for text in page.locator(".bounds").all_inner_texts()]


def test_three_raters_rate_thirty_answers_by_keyboard_and_the_team_reads_its_figure(
    chromium: Any, site: Site, tmp_path: Path
) -> None:
    heard: list[str] = []
    for share, name in enumerate(site.made.secrets):
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        page, said = watched(context, site.url)
        opened(page, site.link(name))
        page.keyboard.press("Enter")
        for _ in range(30):
            page.wait_for_selector("#sheet")
            marks = zlib.crc32(page.locator(".answer-text").inner_text().encode()) + share
            rate_one(page, [marks % (most + 1) for most in bounds(page)])
        assert page.locator("h1").inner_text() == "All 30 answers are rated"
        heard += said
        context.close()
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page, said = watched(context, site.url)
    opened(page, f"{site.url}/pages/")
    page.keyboard.type(site.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/pages/runs")
    page.goto(f"{site.url}/pages/rating/{site.made.set_id}")
    page.wait_for_selector("text=Judges against people")
    for part in ("ratings", "scores"):
        with page.expect_download() as download:
            page.click(f"text={part}.jsonl >> nth=0")
        download.value.save_as(tmp_path / f"{part}.jsonl")
    report = compare(read_ratings(tmp_path / "ratings.jsonl"), read_scores(tmp_path / "scores.jsonl"))
    shown = page.locator("#figures").inner_text()
    for row in report.rows:
        assert fixed(row.pearson, 4) in shown
        assert fixed(row.alpha, 4) in shown
    assert any(row.pearson is not None for row in report.rows)
    assert heard + said == []
    context.close()


def test_undo_zoom_and_two_tabs_by_keyboard(chromium: Any, site: Site) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page, heard = watched(context, site.url)
    opened(page, site.link("ada"))
    page.keyboard.press("Enter")
    page.wait_for_selector("#sheet")
    other, _ = watched(context, site.url)
    other.goto(f"{site.url}/rate/")
    first = page.locator(".answer-text").inner_text()
    page.keyboard.press("z")
    page.wait_for_selector("dialog[open]")
    title = page.locator("#zoom-title").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#zoom-title").inner_text() != title
    page.keyboard.press("+")
    assert page.locator("#zoom-image").get_attribute("class") == "size-2"
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    rate_one(page, [1] * len(bounds(page)))
    page.keyboard.press("u")
    page.wait_for_function("() => document.title.includes('Answer 1 of')")
    assert page.locator(".answer-text").inner_text() == first
    assert page.locator("input.points").first.input_value() == "1"
    for _ in bounds(page):
        page.keyboard.press("2")
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.title.includes('Answer 2 of')")
    for field in other.locator("input.points").all():
        field.fill("0")
    other.locator("#sheet button").press("Enter")
    other.wait_for_selector("[role=alert]")
    assert "already rated in another tab" in other.locator("[role=alert]").inner_text()
    with site.pages.database.reading() as session:
        own = select(Rating).join(Annotator).where(Annotator.name == "ada", Rating.value.is_not(None))
        (kept,) = session.scalars(own).all()
        assert set(kept.points.values()) == {2}
    assert heard == []
    context.close()


def test_a_refused_rating_puts_the_focus_on_its_field(chromium: Any, site: Site) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page, _ = watched(context, site.url)
    opened(page, site.link("bo"))
    page.keyboard.press("Enter")
    page.wait_for_selector("#sheet")
    for _ in bounds(page):
        page.keyboard.type("9999")
        page.keyboard.press("Enter")
    page.wait_for_selector("[aria-invalid=true]")
    assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
    described = page.evaluate("document.activeElement.getAttribute('aria-describedby').split(' ')")
    assert any("out of range" in page.locator(f"#{one}").inner_text() for one in described)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_the_window_follow_the_theme_and_name_what_they_hold(
    chromium: Any, site: Site, scheme: str, width: int
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, heard = watched(context, site.url)
    page.goto(site.link("cy"))
    page.locator("button").first.press("Enter")
    page.wait_for_selector("#sheet")
    page.goto(f"{site.url}/pages/sign-in")
    page.fill("#key", site.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/pages/runs")
    paths = ("/rate/", "/pages/runs", "/pages/runs/grpo", "/pages/runs/grpo/samples", "/pages/runs/grpo/samples/1",
             "/pages/runs/grpo/diff", "/pages/playground?run=grpo&sample=1", "/pages/rating", "/pages/keys",
             f"/pages/rating/{site.made.set_id}")  # fmt: skip
    for path in paths:
        page.goto(f"{site.url}{path}")
        page.wait_for_load_state("networkidle")
        found = json.loads(page.evaluate(LOOK))
        assert found["wide"] <= width, path
        assert (found["light"] > 128) == (scheme == "light"), path
        assert found == {**found, "h1": 1, "main": 1, "unlabelled": [], "without_alt": 0, "lang": "en"}, path
    assert heard == []
    context.close()


LOOK = """() => {
  const named = (one) => one.labels?.length || one.getAttribute("aria-label") || one.type === "hidden";
  const shade = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  return JSON.stringify({
    wide: document.documentElement.scrollWidth, light: shade[0], lang: document.documentElement.lang,
    h1: document.querySelectorAll("h1").length, main: document.querySelectorAll("main").length,
    unlabelled: [...document.querySelectorAll("input, select, textarea")].filter((o) => !named(o)).map((o) => o.name),
    without_alt: document.querySelectorAll("img:not([alt])").length,
  });
}"""
