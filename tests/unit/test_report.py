"""The report: one page that needs nothing else, says the run's numbers, and lets no answer become markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data.sample import CAMERAS, TASKS, DrivingSample, Task
from evaluation.comparison.before_after import compare
from evaluation.comparison.differences import difference
from evaluation.comparison.paired import pair_answers
from evaluation.held_out import EvaluationResult, Judged, summarize
from evaluation.numbers import duration, short, signed
from evaluation.pages.gallery import best_and_worst, gains_and_losses, thumbnails
from evaluation.pages.line_chart import Axis, Series, line_chart, smooth, ticks
from evaluation.pages.opening import opening
from evaluation.pages.run_report import write_report
from evaluation.run_record import ROLLOUT_SCHEMA, evaluation_path, samples_path
from rewards.score import Score
from tests.page import Page

ATTACK = '<script>alert("six cameras")</script><img src="http://example.org/x.png" onerror="alert(1)">'


@pytest.fixture
def images(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "images"
    folder.mkdir()
    for camera in CAMERAS:
        Image.new("RGB", (800, 450), "steelblue").save(folder / f"{camera}.jpg")
    return {camera: str(folder / f"{camera}.jpg") for camera in CAMERAS}


def question(images: dict[str, str], task: Task, number: int, scene: str = "held-out") -> DrivingSample:
    return DrivingSample(
        id=f"{task}-{number}",
        scene_id=f"{scene}-{number}",
        frame_id=f"frame-{number}",
        task=task,
        kind="multiple_choice",
        question="What is <c1,CAM_BACK,400.0,450.0> doing? A. Stopped. B. Turn left.",
        answer="B",
        images=images,
        choices={"A": "Stopped.", "B": "Turn left."},
    )


def evaluation(
    name: str, images: dict[str, str], value: Callable[[int], float], text: str | None = None, scene: str = "held-out"
) -> EvaluationResult:
    """Answers of the values given; without a text, the right option where the value is full."""

    def judged(task: Task, number: int) -> Judged:
        said = text or ("B" if value(number) == 100.0 else "A")
        score = Score(value(number), {"option": value(number)})
        return Judged(question(images, task, number, scene), said, "stop", score, 3)

    answers = [judged(task, number) for task in TASKS for number in range(4)]
    return summarize(name, 0, answers)


def row(images: dict[str, str], step: int, **changes: Any) -> dict[str, Any]:
    sample = question(images, "behavior", step, scene="train")
    plain = {
        **dict.fromkeys(ROLLOUT_SCHEMA.names),
        "step": step,
        "sample_id": sample.id,
        "scene_id": sample.scene_id,
        "task": sample.task,
        "kind": sample.kind,
        "question": sample.question,
        "choices": json.dumps(sample.choices),
        "images": json.dumps(images),
        "ground_truth": "B",
        "response": "B",
        "token_count": 3,
        "finish_reason": "stop",
        "value": 100.0,
        "parts": '{"option": 100.0}',
    }
    return {**plain, **changes}


def write_run(
    folder: Path, steps: list[dict[str, Any]], rows: list[dict[str, Any]], *results: EvaluationResult
) -> Path:
    for name in ("samples", "evaluation"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    for step in {row["step"] for row in rows}:
        of_step = [row for row in rows if row["step"] == step]
        pq.write_table(pa.Table.from_pylist(of_step, schema=ROLLOUT_SCHEMA), samples_path(folder, step))
    for result in results:
        evaluation_path(folder, result.name).write_text(result.to_json())
    return folder


def metrics(step: int, **more: float) -> dict[str, float]:
    rewards = {"reward/mean": 40.0 + step, "reward/behavior": 41.0 + step, "reward/planning": 39.0 + step}
    counts = {"rollouts/count": 8, "groups/count": 2, "groups/zero_std": 1, "groups/scoring_overlapped_share": 0.5}
    return {"step": step, **rewards, "response/length_mean": 9.5, "response/overlong_share": 0.25, **counts, **more}


def report(folder: Path) -> str:
    return write_report(folder).read_text()


def test_the_page_needs_no_network_and_no_script(tmp_path: Path, images: dict[str, str]) -> None:
    steps = [metrics(step, rollout_gap_max=1e-6) for step in range(1, 30)]
    html = report(write_run(tmp_path / "run", steps, [row(images, 29)], evaluation("after", images, lambda _: 50.0)))
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    loads = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert len(loads) == len(CAMERAS)
    assert all(value.startswith("data:image/jpeg;base64,") for value in loads)
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_page_says_the_numbers(tmp_path: Path, images: dict[str, str]) -> None:
    before = evaluation("before", images, lambda number: 100.0 if number == 0 else 0.0)
    after = evaluation("after", images, lambda number: 0.0 if number == 0 else 100.0)
    swapped = evaluation("swapped", images, lambda number: 100.0 if number == 3 else 0.0)
    warm = evaluation("continued_warm_start", images, lambda number: 100.0 if number < 2 else 0.0)
    folder = write_run(tmp_path / "run", [metrics(1), metrics(2)], [row(images, 2)], before, after, swapped, warm)
    page = Page(report(folder))
    mean = difference(pair_answers(before.answers, after.answers).pairs, 10_000, seed=0)
    interval = f"95 % interval {signed(mean.low)} to {signed(mean.high)}"
    assert f"Mean held-out reward rose from 25.0 to 75.0 (+50.0; {interval})" in page.text
    assert "Measured on 16 held-out questions (4 perception, 4 prediction, 4 planning, 4 behavior) about 4" in page.text
    assert "25% → 75%" in page.text
    assert "majority answer 100%, images swapped 25%" in page.text
    assert "No training rollout was about any of these scenes." in page.text
    assert "Behavior 4 25.0 75.0 +50.0 ± 50.0" in page.text
    assert "groups without variance (no gradient) 2 of 4" in page.text
    for panel in ("Mean reward", "Reward per task", "Mean response length", "Over-long responses"):
        assert panel in page.text


def test_the_page_opens_with_the_first_answer_that_became_right_and_what_to_do_next(
    tmp_path: Path, images: dict[str, str]
) -> None:
    before = evaluation("before", images, lambda number: 100.0 if number == 0 else 40.0)
    after = evaluation("after", images, lambda number: 0.0 if number == 0 else 100.0)
    folder = write_run(tmp_path / "run", [metrics(1), metrics(2)], [], before, after)
    (folder / "recipe.yaml").write_text(json.dumps({"run": {"name": "mine", "root": "runs", "steps": 2}}))
    found = opening(before, after)
    assert found is not None
    assert found.first is not None
    assert (found.became_right, found.became_wrong) == (12, 4)
    assert (found.first.task, found.first.scene_id) == ("behavior", "held-out-1"), "behavior-1 is the first id"
    assert [answer.value for answer in found.first.answers] == [40.0, 100.0]
    assert len(found.first.thumbnails) == len(CAMERAS)
    start = Page(report(folder)).text.partition("Before and after")[0]
    assert "12 of 16 held-out questions were answered wrong before and right after; 4 the other way round" in start
    for command in ("serve.app runs/mine", "evaluate.py compare runs/mine", "runs/mine/recipe.yaml run.resume=true"):
        assert command in start
    assert "run.steps=4" in start


def test_without_an_answer_that_became_right_none_is_shown(images: dict[str, str]) -> None:
    same = opening(evaluation("before", images, lambda _: 40.0), evaluation("after", images, lambda _: 60.0))
    assert same is not None
    assert (same.became_right, same.became_wrong, same.first) == (0, 0, None)
    assert opening(None, evaluation("after", images, lambda _: 60.0)) is None


def test_an_answer_never_becomes_markup(tmp_path: Path, images: dict[str, str]) -> None:
    rows = [row(images, 1, response=ATTACK, question=ATTACK, ground_truth=ATTACK, parts=json.dumps({ATTACK: 1.0}))]
    before = evaluation("before", images, lambda _: 10.0, text=ATTACK)
    after = evaluation("after", images, lambda _: 90.0, text=ATTACK)
    folder = write_run(tmp_path / "run", [metrics(1, **{f"rollouts/masked/{ATTACK}": 1.0})], rows, before, after)
    (folder / "recipe.yaml").write_text(json.dumps({"run": {"name": ATTACK}, "policy": {"model": ATTACK}}))
    html = report(folder)
    page = Page(html)
    assert "script" not in page.tags
    assert "onerror" not in {name for _, name, _ in page.attributes}
    assert page.text.count('<script>alert("six cameras")</script>') >= 8
    assert "&lt;script&gt;" in html


def test_scenes_that_were_trained_on_are_called_out(tmp_path: Path, images: dict[str, str]) -> None:
    results = [evaluation(name, images, lambda _: 50.0, scene="train") for name in ("before", "after")]
    text = Page(report(write_run(tmp_path / "run", [metrics(1)], [row(images, 1)], *results))).text
    assert "Not held out: 1 of the scenes measured on also appear in training rollouts" in text
    assert "No training rollout" not in text


def test_an_empty_run_folder_gives_a_page(tmp_path: Path) -> None:
    text = Page(report(tmp_path)).text
    assert "This run was not measured on held-out questions." in text
    assert text.count("no steps yet") == 4
    assert "No step has been trained yet." in text


def test_a_run_with_one_evaluation_and_no_step_shows_it(tmp_path: Path, images: dict[str, str]) -> None:
    text = Page(report(write_run(tmp_path / "run", [], [], evaluation("before", images, lambda _: 37.5)))).text
    assert "37.5" in text
    assert "rose from" not in text


def test_missing_and_damaged_images_are_said_and_counted(tmp_path: Path, images: dict[str, str]) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(Path(images["CAM_BACK"]).read_bytes()[:300])
    broken = images | {"CAM_FRONT": str(tmp_path / "gone.jpg"), "CAM_BACK": str(damaged)}
    html = report(write_run(tmp_path / "run", [metrics(1)], [row(broken, 1)]))
    text = Page(html).text
    assert "image not found" in text
    assert "image unreadable" in text
    assert "images of this page that could not be read 2" in text
    assert html.count("data:image/jpeg") == 4


def test_the_recipe_says_how_many_answers_are_shown(tmp_path: Path, images: dict[str, str]) -> None:
    rows = [row(images, 1, sample_id=str(number), value=float(number)) for number in range(9)]
    folder = write_run(tmp_path / "run", [metrics(1)], rows)
    assert Page(report(folder)).tags.count("article") == 8
    (folder / "recipe.yaml").write_text("evaluation: {answers_shown: 1}")
    assert Page(report(folder)).tags.count("article") == 2


def test_a_missing_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        write_report(tmp_path / "gone")


DAMAGE: dict[str, tuple[str, bytes, str]] = {
    "cut rollouts": ("samples/step_000002.parquet", b"PAR1 cut", "unreadable file samples/step_000002.parquet"),
    "no evaluation": ("evaluation/odd.json", b"{}", "odd.json is not an evaluation"),
    "a metric that is text": ("metrics.jsonl", b'{"step": 1, "reward/mean": "high", "kl": [1]}\n', "are no numbers 2"),
    "a recipe that is no YAML": ("recipe.yaml", b"run: {name: x\n", "recipe.yaml is not valid YAML"),
    "a recipe of odd parts": (
        "recipe.yaml",
        b"run: 7\npolicy: []\nevaluation: no\n",
        "the run's name could not be shown",
    ),
    "provenance without its parts": ("provenance.json", b'{"data": 3, "code": {}}', "the facts could not be shown"),
    "cut provenance": ("provenance.json", b'{"data": ', "provenance.json is not valid JSON"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_whatever_is_damaged_the_page_is_written_and_says_so(
    tmp_path: Path, images: dict[str, str], damage: tuple[str, bytes, str]
) -> None:
    name, content, said = damage
    after = evaluation("after", images, lambda _: 50.0)
    folder = write_run(tmp_path / "run", [metrics(1), metrics(2)], [row(images, 1), row(images, 2)], after)
    (folder / name).write_bytes(content)
    page = Page(report(folder))
    assert said in page.text
    assert "held-out questions" in page.text, "what is sound is shown"


# --- the gallery ------------------------------------------------------------------------------------------------------


def test_best_and_worst_take_turns_by_task_and_repeat_no_question(images: dict[str, str]) -> None:
    rows = [
        row(images, 1, sample_id="a", task="behavior", value=100.0, response="old"),
        row(images, 2, sample_id="a", task="behavior", value=100.0, response="new"),
        row(images, 2, sample_id="b", task="behavior", value=90.0),
        row(images, 2, sample_id="c", task="planning", value=10.0),
        row(images, 2, sample_id="d", task="planning", value=0.0),
        row(images, 2, sample_id="e", task="planning", value=None, failure="judge"),
    ]
    best, worst = best_and_worst(rows, 2)
    assert [(card.task, card.answers[0].value, card.answers[0].response) for card in best] == [
        ("planning", 10.0, "B"),
        ("behavior", 100.0, "new"),
    ]
    assert [(card.task, card.answers[0].value) for card in worst] == [("planning", 0.0), ("behavior", 90.0)]


def test_a_full_score_is_never_among_the_worst_nor_a_zero_among_the_best(images: dict[str, str]) -> None:
    best, worst = best_and_worst([row(images, 1, value=100.0), row(images, 1, sample_id="x", value=0.0)], 4)
    assert [card.answers[0].value for card in best] == [100.0]
    assert [card.answers[0].value for card in worst] == [0.0]


def test_gains_and_losses_pair_the_same_questions(images: dict[str, str]) -> None:
    before = evaluation("before", images, lambda number: 50.0)
    after = evaluation("after", images, lambda number: [100.0, 0.0, 50.0, 60.0][number])
    gains, losses = gains_and_losses(before, after, 4)
    assert [[answer.value for answer in card.answers] for card in gains] == [[50.0, 100.0]] * 4
    assert {card.task for card in gains} == set(TASKS)
    assert [[answer.value for answer in card.answers] for card in losses] == [[50.0, 0.0]] * 4


def test_images_lie_as_on_the_car_and_tags_are_marked_in_their_camera(images: dict[str, str]) -> None:
    backwards = dict(reversed(images.items()))
    tags = "<c2,CAM_FRONT,1600.0,900.0> <c9,CAM_FRONT,5000.0,1.0> <c1,CAM_BACK,400.0,450.0>"
    views = thumbnails(backwards, {"asked": "What is <c1,CAM_BACK,400.0,450.0>?", "truth": tags})
    assert [view.camera for view in views] == list(CAMERAS)
    marks = {view.camera: [(mark.role, mark.left, mark.top) for mark in view.marks] for view in views}
    assert marks["CAM_BACK"] == [("asked", 25.0, 50.0)]
    assert marks["CAM_FRONT"] == [("truth", 100.0, 100.0)]


def test_options_listed_in_a_question_are_split_from_it(images: dict[str, str]) -> None:
    [card], _ = best_and_worst([row(images, 1)], 1)
    assert card.stem == "What is <c1,CAM_BACK,400.0,450.0> doing?"
    [bare], _ = best_and_worst([row(images, 1, question="What now?")], 1)
    assert bare.stem == "What now?"


# --- table, charts, numbers -------------------------------------------------------------------------------------------


def test_the_change_has_the_standard_error_of_paired_differences(images: dict[str, str]) -> None:
    before = evaluation("before", images, lambda number: 10.0 * number)
    after = evaluation("after", images, lambda number: 10.0 * number + 5.0)
    comparison = compare({"after": after, "before": before})
    assert comparison is not None
    change = comparison.overall.reward_change
    assert change is not None
    assert change.value == pytest.approx(5.0)
    assert change.stderr == pytest.approx(0.0)
    assert comparison.columns == ("before", "after")
    assert compare({}) is None


def test_a_chart_draws_what_is_finite_and_says_each_value() -> None:
    points = ((1.0, 10.0), (2.0, float("nan")), (3.0, 30.0))
    svg = line_chart([Series("a<b", "planning", points), Series("c", "behavior", points)], Axis(str), "Reward & more")
    assert svg.count("<title>") == 4
    assert "a&lt;b, step 3: 30.0" in svg
    assert 'aria-label="Reward &amp; more"' in svg
    assert "nan" not in svg


def test_end_labels_of_equal_lines_do_not_overlap() -> None:
    same = [Series(task, task, ((1.0, 5.0), (2.0, 5.0))) for task in TASKS]
    svg = line_chart(same, Axis(str, floor=0.0), "Reward")
    places = [float(y) for y in re.findall(r'class="end \w+" x="[\d.]+" y="([\d.]+)"', svg)]
    assert len(places) == 4
    assert min(second - first for first, second in zip(places, places[1:], strict=False)) >= 12


@pytest.mark.parametrize("points", [((5.0, 0.0),), ((1.0, 3.0), (2.0, 3.0)), ((1.0, -2.0), (2.0, 1e9))])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_odd_series_are_drawn_or_said_to_be_empty(points: tuple[tuple[float, float], ...], logarithmic: bool) -> None:
    svg = line_chart([Series("", "single-line", points)], Axis(short, logarithmic=logarithmic), "Odd")
    assert "nan" not in svg
    assert ("no steps yet" in svg) == (logarithmic and points == ((5.0, 0.0),))


def test_a_long_series_is_thinned_and_ends_at_its_last_step() -> None:
    svg = line_chart([Series("", "single-line", tuple((float(n), float(n)) for n in range(5000)))], Axis(str), "Long")
    assert svg.count("<circle") <= 240
    assert "step 4999" in svg


def test_smoothing_keeps_a_constant_and_the_steps() -> None:
    points = tuple((float(step), 4.0) for step in range(40))
    assert smooth(points) == points


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 100.0), (37.2, 41.9), (0.0, 1e-5), (5.0, 5.0), (-3.0, 8.0), (0.0, 0.0)]
)
def test_ticks_are_few_round_and_cover_the_data(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert 2 <= len(marks) <= 7
    assert marks[0] <= low
    assert high <= marks[-1]


def test_numbers_are_written_for_people() -> None:
    assert [short(value) for value in (4.8e-6, 1e-4, 0.0128, 620.4, 12400.0, 0.0)] == [
        "4.8e−6",
        "1e−4",
        "0.0128",
        "620",
        "12,400",
        "0",
    ]
    assert [signed(value) for value in (1.26, -1.26, -0.01, None)] == ["+1.3", "−1.3", "+0.0", "–"]
    assert [duration(seconds) for seconds in (41.2, 372.0, 7500.0)] == ["41 s", "6 min", "2 h 05 min"]


def test_what_was_predicted_of_a_step_stands_beside_what_was_measured(tmp_path: Path, images: dict[str, str]) -> None:
    folder = write_run(tmp_path / "run", [metrics(1, learn_s=90.0), metrics(2, learn_s=110.0)], [])
    (folder / "plan.json").write_text(json.dumps({"learn_s": 95.2, "sync_s": 0.6}))
    text = Page(report(folder)).text
    assert "95.2 s predicted, 100 s measured" in text
    (folder / "plan.json").write_text("{")
    assert "what was predicted could not be shown" in Page(report(folder)).text
