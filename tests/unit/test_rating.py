"""The scoring website: what an organiser and three annotators do, and what may go wrong between them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import func, select

from evaluation.raters import compare, read_ratings, read_scores
from serve.database.page_tables import Annotator, Rating, RatingImage, RatingItem
from serve.errors import ServiceError
from serve.rating.answers import Answer, drawn, from_lines
from serve.rating.sets import RATERS
from tests.browsers import Browser, Pages, answer, data_uri, jsonl, make_pages, new_set


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    return make_pages(tmp_path)


def shown(page_text: str) -> str:
    """The answer that an annotator's page shows."""
    found = re.search(r'class="answer-text">(.*?)</p>', page_text, re.DOTALL)
    assert found is not None
    return found[1].strip()


def rate_all(browser: Browser, value: int = 50) -> int:
    """Rate everything; how much that was."""
    done = 0
    while 'id="sheet"' in (page := browser.get("/rate/")).text:
        number = int(re.sub(r"\D", "", shown(page.text)))
        browser.send(page, "/rate/", points_score=str((value + 3 * number) % 101))
        done += 1
    return done


def test_three_annotators_rate_and_the_export_is_what_the_reader_reads(pages: Pages, tmp_path: Path) -> None:
    organiser = pages.signed_in()
    set_id, links = new_set(organiser, jsonl([answer(number) for number in range(12)]))
    assert list(links) == ["ada", "bo", "cy"]
    raters = {name: pages.rater(link) for name, link in links.items()}
    refused = organiser.get(f"/pages/rating/{set_id}/ratings.jsonl")
    assert refused.status_code == 409
    assert "36 ratings of 36 are missing (ada 12, bo 12, cy 12)" in refused.text
    assert [rate_all(browser, 10 * place) for place, browser in enumerate(raters.values())] == [12, 12, 12]
    for part in ("ratings", "scores"):
        exported = organiser.get(f"/pages/rating/{set_id}/{part}.jsonl")
        assert exported.status_code == 200
        (tmp_path / f"{part}.jsonl").write_bytes(exported.content)
    ratings = read_ratings(tmp_path / "ratings.jsonl")
    assert len(ratings) == 12
    assert all(set(item.ratings) == set(links) for item in ratings.values())
    report = compare(ratings, read_scores(tmp_path / "scores.jsonl"))
    while "being computed" in (page := organiser.get(f"/pages/rating/{set_id}/figures").text):
        pass
    for row in report.rows:
        assert row.alpha is not None
        assert f"{row.alpha:.4f}".replace("-", "−") in page, "the live figures are those of the command"
    assert "10,000 resamples" in page


def test_the_set_is_drawn_by_seed_and_evenly_over_the_tasks() -> None:
    answers = [
        Answer(f"{task}-{number}", task, "open_ended", "q", {}, "", "a", {}, {})
        for task, many in (("perception", 50), ("planning", 50), ("behavior", 3))
        for number in range(many)
    ]
    chosen = drawn(answers, 23, seed=4)
    assert {task: sum(one.task == task for one in chosen) for task in ("perception", "planning", "behavior")} == {
        "perception": 10, "planning": 10, "behavior": 3,
    }  # fmt: skip
    assert drawn(list(reversed(answers)), 23, seed=4) == chosen
    assert drawn(answers, 23, seed=5) != chosen
    assert len({one.name for one in drawn(answers, 500, seed=0)}) == len(answers)


@pytest.mark.parametrize("people", [3, 5])
def test_every_item_has_exactly_three_ratings_and_every_annotator_an_order_of_their_own(
    pages: Pages, people: int
) -> None:
    names = [f"rater-{number}" for number in range(people)]
    new_set(pages.signed_in(), jsonl([answer(number) for number in range(11)]), annotators="\n".join(names))
    with pages.database.reading() as session:
        per_item = session.scalars(select(func.count(Rating.number)).group_by(Rating.item_number)).all()
        load = session.scalars(select(func.count(Rating.number)).group_by(Rating.annotator_number)).all()
        own = select(RatingItem.name).join(Rating).join(Annotator).order_by(Rating.place)
        orders = {name: tuple(session.scalars(own.where(Annotator.name == name))) for name in names}
    assert per_item == [RATERS] * 11
    assert max(load) - min(load) <= 1
    assert len(set(orders.values())) == people


def test_nothing_of_a_judge_or_of_other_people_is_on_an_annotators_page(pages: Pages) -> None:
    lines = jsonl([answer(0, scores={"qwen": 73.25}), answer(1, scores={"qwen": 73.25})])
    _, links = new_set(pages.signed_in(), lines)
    ada, bo = pages.rater(links["ada"]), pages.rater(links["bo"])
    ada.send(ada.get("/rate/"), "/rate/", points_score="91")
    for page in (bo.get("/rate/").text, bo.get(links["bo"]).text):
        assert "73.25" not in page
        assert "qwen" not in page
        assert "91" not in re.sub(r'value="[^"]{40,}"', "", page), "but for secrets, which are drawn"


def test_a_rater_goes_on_where_they_stopped_and_can_take_the_last_rating_back(pages: Pages) -> None:
    _, links = new_set(pages.signed_in(), jsonl([answer(number) for number in range(4)]))
    ada = pages.rater(links["ada"])
    first = ada.get("/rate/")
    second = ada.send(first, "/rate/", points_score="40")
    again = pages.rater(links["ada"]).get("/rate/")  # another browser, days later
    assert shown(again.text) == shown(second.text) != shown(first.text)
    assert "1 of 4 rated" in again.text
    undone = ada.send(second, "/rate/undo")
    assert shown(undone.text) == shown(first.text)
    assert 'value="40"' in undone.text, "what was given is what one begins from"
    assert "0 of 4 rated" in undone.text


def test_the_time_of_a_rating_is_kept(pages: Pages) -> None:
    _, links = new_set(pages.signed_in(), jsonl([answer(0)]))
    ada = pages.rater(links["ada"])
    ada.send(ada.get("/rate/"), "/rate/", points_score="40")
    with pages.database.reading() as session:
        rating = session.scalar(select(Rating).where(Rating.value.is_not(None)))
        assert rating is not None
        assert rating.seconds is not None
        assert 0 <= rating.seconds < 60


def test_a_stale_form_of_another_tab_changes_nothing_and_says_so(pages: Pages) -> None:
    _, links = new_set(pages.signed_in(), jsonl([answer(number) for number in range(3)]))
    ada = pages.rater(links["ada"])
    left, right = ada.get("/rate/"), ada.get("/rate/")
    ada.send(left, "/rate/", points_score="40")
    stale = ada.send(right, "/rate/", points_score="70")
    assert stale.status_code == 409
    assert "already rated in another tab, with 40 of 100: the 70 just sent was not saved" in stale.text
    assert "1 of 3 rated" in stale.text
    assert ada.send(right, "/rate/", points_score="40").status_code == 200, "the same once more is one rating"
    one, other = ada.get("/rate/"), ada.get("/rate/")
    ada.send(one, "/rate/undo")
    twice = ada.send(other, "/rate/undo")
    assert twice.status_code == 409
    assert "nothing was undone" in twice.text
    late = ada.send(left, "/rate/", points_score="40")
    assert "taken back in another tab" in late.text
    with pages.database.reading() as session:
        assert session.scalar(select(func.count(Rating.value))) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("101", "Score is 101 and out of range: give a whole number from 0 to 100."),
        ("-1", "Score is -1 and out of range"),
        ("", "Score is empty: give a whole number from 0 to 100."),
        ("4.5", "Score is &#39;4.5&#39;: give a whole number"),
        ("٤", "give a whole number"),
        ("9" * 19, "give a whole number"),
        ("nan", "give a whole number"),
    ],
)
def test_a_rating_that_is_none_is_refused_with_a_sentence_and_the_field_is_marked(
    pages: Pages, given: str, said: str
) -> None:
    _, links = new_set(pages.signed_in(), jsonl([answer(0)]))
    ada = pages.rater(links["ada"])
    page = ada.send(ada.get("/rate/"), "/rate/", points_score=given)
    assert page.status_code == 400
    assert said in page.text
    assert 'aria-invalid="true"' in page.text
    assert "0 of 1 rated" in page.text


def test_the_sheet_is_the_rubrics_and_its_value_the_judges(pages: Pages) -> None:
    set_id, links = new_set(pages.signed_in(), jsonl([answer(2)]), rubric="task")
    ada = pages.rater(links["ada"])
    page = ada.get("/rate/")
    for name, points in (("action", 40), ("reasoning", 20), ("concise", 10)):
        assert f'id="bounds-{name}">0 to {points}<' in page.text
    assert "contradicts the description is wrong" in " ".join(page.text.split())
    sheet = {"action": "30", "reasoning": "10", "probability": "15", "context_safety": "5", "concise": "10"}
    fields = {f"points-{name}": value for name, value in sheet.items()}
    ada.client.post("/rate/", data={**ada.form(page, "/rate/"), **fields})
    with pages.database.reading() as session:
        assert session.scalar(select(Rating.value).where(Rating.value.is_not(None))) == 70.0
    partial = pages.signed_in().get(f"/pages/rating/{set_id}/ratings.jsonl?partial=1")
    (row,) = [json.loads(line) for line in partial.text.splitlines()]
    assert row["points"] == {name: int(value) for name, value in sheet.items()}


def test_a_new_link_replaces_the_old_one_and_keeps_the_ratings(pages: Pages) -> None:
    organiser = pages.signed_in()
    set_id, links = new_set(organiser, jsonl([answer(number) for number in range(2)]))
    ada = pages.rater(links["ada"])
    ada.send(ada.get("/rate/"), "/rate/", points_score="40")
    page = organiser.send(organiser.get(f"/pages/rating/{set_id}"), f"/pages/rating/{set_id}/links", annotator="ada")
    link = re.search(r"http://testserver(/rate/join/[\w-]+)", page.text)
    assert link is not None
    assert ada.get(links["ada"]).status_code == 404
    assert ada.get("/rate/").status_code == 401
    assert "1 of 2 rated" in pages.rater(link[1]).get("/rate/").text


def test_the_largest_disagreement_comes_first(pages: Pages) -> None:
    organiser = pages.signed_in()
    set_id, links = new_set(organiser, jsonl([answer(number) for number in range(3)]))
    for name, link in links.items():
        browser = pages.rater(link)
        for _ in range(3):
            page = browser.get("/rate/")
            far = shown(page.text) == "Answer 1" and name == "cy"
            browser.send(page, "/rate/", points_score="90" if far else "30")
    text = organiser.get(f"/pages/rating/{set_id}/disagreements").text
    assert re.findall(r"([\d.]+) points apart", text) == ["60.0", "0.0", "0.0"]
    assert text.index("Answer 1") < min(text.index("Answer 0"), text.index("Answer 2"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"task": "planning", "question": "q"}, "line 1: answer: Field required"),
        ({**answer(0), "task": "../x"}, "line 1: task"),
        ({**answer(0), "scores": {"qwen": 101}}, "line 1: scores.qwen"),
        ({**answer(0), "images": {"CAM_FRONT": "/etc/passwd"}}, "no file is opened for an upload"),
        ({**answer(0), "images": {"CAM_FRONT": "http://169.254.169.254/x.png"}}, "no file is opened for an upload"),
        ({**answer(0), "images": {"CAM_FRONT": "data:image/png;base64,AAAA"}}, "is no readable PNG image"),
        ({**answer(0), "images": {"CAM_FRONT": "data:image/svg+xml;base64,AAAA"}}, "must be a data URI of image/jpeg"),
    ],
)
def test_a_file_of_answers_that_is_none_is_refused_by_line_and_field(
    pages: Pages, line: dict[str, object], said: str
) -> None:
    organiser = pages.signed_in()
    page = organiser.send(
        organiser.get("/pages/rating"), "/pages/rating/sets", file=("a.jsonl", jsonl([line])), name="n",
        annotators="a\nb\nc",
    )  # fmt: skip
    assert page.status_code == 400
    assert said in page.text
    with pages.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(RatingItem)) == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"annotators": "ada\nbo"}, "name 3 to 50 annotators, not 2"),
        ({"annotators": "ada\nbo\nAda"}, "two annotators have the same name"),
        ({"count": "0"}, "count must be a whole number from 1 to 2000"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"rubric": "nobody"}, "There is no rubric"),
        ({"rubric": "/etc/own.md"}, "There is no rubric &#39;/etc/own.md&#39;"),
        ({"name": " "}, "name must have 1 to 200 letters"),
    ],
)
def test_a_set_that_cannot_be_made_is_refused_with_a_sentence(pages: Pages, fields: dict[str, str], said: str) -> None:
    organiser = pages.signed_in()
    given = {"name": "n", "annotators": "a\nb\nc", **fields}
    page = organiser.send(
        organiser.get("/pages/rating"), "/pages/rating/sets", file=("a.jsonl", jsonl([answer(0)])), **given
    )
    assert page.status_code == 400
    assert said.lower() in page.text.lower()


def test_a_benchmarks_answers_are_taken_as_they_are_and_names_are_made_unlike() -> None:
    record = {
        "sample_id": "s1", "scene_id": "x", "task": "planning", "kind": "open_ended", "question": "q", "choices": {},
        "images": {}, "ground_truth": "t", "response": "r", "value": 60.0, "parts": {"judge": 55.0, "judge/x": 3.0},
        "failure": None, "setting": "Fog", "repeat": 1,
    }  # fmt: skip
    failed = {**record, "failure": "timeout"}
    first, second = from_lines(jsonl([record, failed, record]), "answers.jsonl")
    assert first.name == "s1 Fog repeat-1"
    assert second.name == "s1 Fog repeat-1 #2"
    assert first.scores == {"reward": 60.0, "judge": 55.0}
    with pytest.raises(ServiceError, match="holds no answer with a score"):
        from_lines(jsonl([failed]), "answers.jsonl")


def test_images_are_kept_once(pages: Pages) -> None:
    new_set(pages.signed_in(), jsonl([answer(number) for number in range(3)]))
    new_set(pages.signed_in(), jsonl([answer(0, images={"CAM_FRONT": data_uri("red")})]))
    with pages.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(RatingImage)) == 2
