"""The report of a benchmark: one page that needs nothing else, says the figures, and lets no text become markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.errors import DataError
from data.sample import CAMERAS, TASKS
from evaluation.held_out import AnswerRecord
from evaluation.pages.gallery import thumbnails, worst_answers
from evaluation.pages.suite_report import write_suite_report
from evaluation.suites.record import NO_VALUE, SuiteRecord, spread, write_record
from evaluation.suites.suite import Bars, Table
from tests.page import Page
from tests.suite_runs import NO_COST, SETTINGS, answer, bdd_oia, drivebench, record

ATTACK = '<script>alert("six cameras")</script><img src="http://example.org/x.png" onerror="alert(1)">'
NUSCENES = Path(__file__).parents[2].parent / "shared" / "data" / "drivelm" / "nuscenes" / "samples"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("images")
    for camera in CAMERAS:
        Image.new("RGB", (320, 180), "steelblue").save(folder / f"{camera}.jpg")
    return {camera: str(folder / f"{camera}.jpg") for camera in CAMERAS}


def report(folder: Path, of: SuiteRecord, answers: list[AnswerRecord]) -> str:
    write_record(folder, of, answers)
    path = write_suite_report(folder)
    assert path == folder / "report.html"
    assert sorted(one.name for one in folder.iterdir()) == ["answers.jsonl", "report.html", "results.json"]
    return path.read_text(encoding="utf-8")


def text(folder: Path, answers: list[AnswerRecord] | None = None, **changes: Any) -> str:
    return Page(report(folder, record(**changes), answers or [])).text


@pytest.mark.parametrize("run", [drivebench, bdd_oia])
def test_the_page_needs_no_network_and_no_script(tmp_path: Path, images: dict[str, str], run: Any) -> None:
    html = report(tmp_path, *run(images))
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    loads = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in loads)
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_heading_says_what_was_measured_and_how_it_was_asked(tmp_path: Path, images: dict[str, str]) -> None:
    shown = Page(report(tmp_path, *drivebench(images))).text
    assert "DriveBench: driving questions with clean, corrupted and missing images" in shown
    assert "Measured on 272 questions in 17 settings, 544 answers." in shown
    assert "Temperature 0.6 Repeats 2 Max tokens 2,048 Judge Qwen/Qwen2.5-72B-Instruct Seed 0" in shown
    assert "Started 2026-11-20 09:30:00 UTC" in shown
    assert "The judge is not the one of the papers" in shown
    assert "corrupted /data/corruption" in shown


def test_a_tile_gives_the_mean_and_over_repeats_the_range(tmp_path: Path) -> None:
    figures = {
        "f1": spread([61.25]),
        "score/no_image": spread([10.0, 20.0, 24.0]),
        "partly": spread([1.0, None]),
        "none": None,
    }
    shown = text(tmp_path, figures=figures)
    assert "f1 61.25 score, no image 18.00 10.00 to 24.00 over 3 repeats" in shown
    assert "partly 1.00 1.00 to 1.00 over 1 of 2 repeats none – no value" in shown


def test_rows_of_papers_stand_apart_below_the_models_own(tmp_path: Path) -> None:
    table = Table(
        "Accuracy",
        ("clean", "Fog"),
        (("mine", (60.125, None)),),
        (("GPT-4o (DriveBench)", (55.04, 1.0)),),
        "Other judge.",
        1,
    )
    html = report(tmp_path, record(tables=(table,)), [])
    own, published = re.findall(r"<tbody class=\"(?:own|published)\">(.*?)</tbody>", html, re.DOTALL)
    assert Page(own).text == "mine 60.1 –"
    assert Page(published).text == "Published for other models, not measured here GPT-4o (DriveBench) 55.0 1.0"
    assert '<p class="note">Other judge.</p>' in html


def test_a_table_without_published_rows_says_nothing_of_papers(tmp_path: Path) -> None:
    shown = text(tmp_path)
    assert "this model 61.25 60.00 – 55.50" in shown
    assert "ublished for" not in shown


def test_every_table_and_chart_has_a_name_for_those_who_cannot_see_it(tmp_path: Path, images: dict[str, str]) -> None:
    html = report(tmp_path, *drivebench(images))
    page = Page(html)
    for tag in ("table", "svg"):
        assert page.tags.count(tag) == [one for one, name, _ in page.attributes if name == "aria-label"].count(tag)
    assert page.tags.count("table") == 4 + 2
    scrolled = re.findall(r'<div class="scroll"([^>]*)>', html)
    assert all('role="region"' in one and 'tabindex="0"' in one and "aria-label" in one for one in scrolled)
    assert all(value for tag, name, value in page.attributes if tag == "img" and name == "alt")


def test_a_chart_has_its_legend_and_its_figures_as_a_table(tmp_path: Path) -> None:
    bars = Bars("Shares", "% of frames", ("left", "right"), (("annotated", (30.0, 4.0)), ("answered", (21.5, None))))
    html = report(tmp_path, record(bars=(bars,)), [])
    assert html.count("<rect") == 3
    assert "Figures annotated answered left 30.00 21.50 right 4.00 –" in Page(html).text
    [legend] = re.findall(r'<span class="key">(.*?)</figcaption>', html)
    assert Page(legend).text == "annotated answered"


def test_the_cost_is_shown_and_what_was_not_measured_is_said(tmp_path: Path) -> None:
    shown = text(tmp_path / "all")
    assert "Response 214.6 tokens, mean Images 2,304 tokens a question, mean Time per question 1.84 s" in shown
    assert "Cut off 1.2% responses at the token cap" in shown
    assert "Nothing was measured of what the answers cost." in text(tmp_path / "none", cost=NO_COST)
    partly = NO_COST.model_copy(update={"response_tokens": 9.0})
    assert "Images – the model does not tell" in text(tmp_path / "partly", cost=partly)


def test_the_worst_answers_come_with_setting_repeat_and_images(tmp_path: Path, images: dict[str, str]) -> None:
    html = report(tmp_path, *drivebench(images))
    assert Page(html).tags.count("article") == 8
    meta = re.findall(r'<span class="meta">.*? · ([^·]+) · repeat ([12])</span>', html)
    assert len(meta) == 8
    assert {setting for setting, _ in meta} <= {setting.replace("_", " ") for setting in SETTINGS}
    assert html.count("data:image/jpeg") + 6 * html.count("asked without images") == 8 * 6


def test_an_answer_asked_without_images_says_so(tmp_path: Path, images: dict[str, str]) -> None:
    blind = text(tmp_path / "blind", [answer({}, setting="no_image")])
    assert "scene da41ecbc… · no image asked without images" in blind
    assert "asked without images" not in text(tmp_path / "seen", [answer(images)])


def test_images_that_are_gone_are_said_and_counted(tmp_path: Path, images: dict[str, str]) -> None:
    html = report(tmp_path, record(), [answer(images | {"CAM_BACK": str(tmp_path / "gone.jpg")})])
    assert "image not found" in html
    assert "images of this page that could not be read 1" in Page(html).text
    assert "named in the question" not in html


def test_what_is_in_no_figure_is_counted_by_its_reason(tmp_path: Path) -> None:
    answers = [
        answer({}, 1, failure="judge: TimeoutError: no reply"),
        answer({}, 2, failure="judge: ValueError: no score"),
        answer({}, 3, failure=NO_VALUE, response="  "),
        answer({}, 4, finish_reason="length"),
    ]
    shown = text(tmp_path, answers, faults={"malformed_entry": 1204})
    assert "left out, odd or not judged: malformed entry 1,204" in shown
    assert "answers without a value: judge 2 of 4" in shown
    assert "answers without a value: no value of its own 1 of 4" in shown
    assert "answers that are empty 1 of 4" in shown
    assert "answers cut off at the token cap 1 of 4" in shown


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([], "There are no answers."),
        ([{"value": 100.0}], "No answer scored below 100."),
        ([{"failure": NO_VALUE}], "This benchmark gives single answers no value of their own"),
        ([{"failure": NO_VALUE}, {"failure": "judge: gone"}], "No answer has a value."),
    ],
)
def test_where_no_answer_is_shown_the_page_says_why(tmp_path: Path, changes: list[dict[str, Any]], why: str) -> None:
    html = report(tmp_path, record(), [answer({}, number, **one) for number, one in enumerate(changes)])
    assert "<article" not in html
    assert why in Page(html).text


def test_an_empty_record_gives_a_page(tmp_path: Path) -> None:
    nothing = record(
        figures={}, tables=(), bars=(Bars("B", "%", (), ()),), sources={}, sampling={}, questions=0, settings=()
    )
    shown = Page(report(tmp_path, nothing, [])).text
    for said in ("Measured on 0 questions, 0 answers.", "no table", "no figures", "No files are named."):
        assert said in shown
    assert "Nothing was left out" in shown


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    cells = ((ATTACK, (1.0,)),)
    hostile = record(
        suite=ATTACK,
        title=ATTACK,
        model=ATTACK,
        sampling={ATTACK: ATTACK},
        sources={ATTACK: ATTACK},
        started_at=ATTACK,
        figures={ATTACK: None},
        tables=(Table(ATTACK, (ATTACK,), cells, cells, ATTACK),),
        bars=(Bars(ATTACK, ATTACK, (ATTACK,), cells),),
        faults={ATTACK: 1},
        notes=(ATTACK,),
    )
    said = answer(
        {ATTACK: "/gone.jpg"},
        scene_id=ATTACK,
        question=ATTACK,
        choices={ATTACK: ATTACK},
        ground_truth=ATTACK,
        response=ATTACK,
        parts={ATTACK: 1.0},
        setting=ATTACK,
    )
    html = report(tmp_path, hostile, [said, answer({}, 2, failure=ATTACK)])
    page = Page(html)
    assert "script" not in page.tags
    assert "onerror" not in {name for _, name, _ in page.attributes}
    assert "http://example.org/x.png" not in {value for _, _, value in page.attributes}
    assert page.text.count('<script>alert("six cameras")') > 25


def test_a_folder_that_is_no_benchmarks_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not the folder of a benchmark's run: it has no results\.json"):
        write_suite_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not NUSCENES.is_dir(), reason=f"the nuScenes images are not at {NUSCENES}")
def test_real_frames_are_shown_small(tmp_path: Path) -> None:
    frames: dict[str, str] = {camera: str(min((NUSCENES / camera).iterdir())) for camera in CAMERAS}
    html = report(tmp_path, record(), [answer(frames)])
    assert html.count("data:image/jpeg") == 6
    assert len(html) < 250_000


# --- which answers are the worst --------------------------------------------------------------------------------------


def test_the_worst_answers_take_turns_by_task_and_repeat_no_question() -> None:
    answers = [
        answer({}, 1, "behavior", value=10.0, setting="clean"),
        answer({}, 1, "behavior", value=0.0, setting="Fog"),
        answer({}, 2, "behavior", value=5.0, setting="Fog"),
        answer({}, 3, "planning", value=60.0, setting="clean"),
        answer({}, 4, "planning", value=100.0),
        answer({}, 5, "planning", value=0.0, failure="judge: gone"),
    ]
    cards = worst_answers(answers, 8)
    assert [(card.task, card.answers[0].value, card.answers[0].when) for card in cards] == [
        ("planning", 60.0, "clean"),
        ("behavior", 0.0, "Fog"),
        ("behavior", 5.0, "Fog"),
    ]
    assert len(worst_answers(answers, 1)) == 1


def test_no_setting_is_favoured_among_equal_answers_and_the_choice_stays_alike() -> None:
    answers = [
        answer({}, number, "planning", value=0.0, setting=setting) for setting in SETTINGS for number in range(20)
    ]
    cards = worst_answers(answers, 12)
    assert cards == worst_answers(answers, 12)
    assert len({card.answers[0].when for card in cards}) > 4


def test_a_repeat_is_named_where_there_are_several() -> None:
    once, twice = answer({}, 1), answer({}, 2, "planning", repeat=1)
    assert [card.answers[0].when for card in worst_answers([once], 8)] == [""]
    assert [card.answers[0].when for card in worst_answers([once, twice], 8)] == ["repeat 2", "repeat 1"]


def test_tags_in_fractions_are_marked_where_they_point(images: dict[str, str]) -> None:
    [back] = [view for view in thumbnails(images, {"asked": "<c1,CAM_BACK,0.25,0.5>"}) if view.camera == "CAM_BACK"]
    assert [(mark.left, mark.top) for mark in back.marks] == [(25.0, 50.0)]


def test_all_four_tasks_are_among_the_worst_of_a_benchmark(images: dict[str, str]) -> None:
    _, answers = drivebench(images)
    assert [card.task for card in worst_answers(answers, 8)] == [*TASKS, *TASKS]
