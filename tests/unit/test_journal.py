"""The journal: what a recorded step leaves on disk, and what it says of masked, over-long and flat groups."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from actors.record.journal import Journal
from actors.record.run_folder import create_run_folder
from actors.record.terminal import LiveTable, trend
from data.errors import DataError
from data.rollout import FinishReason, Rollout
from data.sample import CAMERAS, DrivingSample, Task
from evaluation import run_record as names
from evaluation.held_out import EvaluationResult, Judged, summarize
from evaluation.rollout_rows import read_rollouts, write_rollouts
from evaluation.run_record import read_run
from evaluation.step_panels import step_panels
from recipe import Recipe
from rewards.group import Group, ScoredRollout
from rewards.score import Increment, Score


def sample(task: Task = "behavior", number: int = 0) -> DrivingSample:
    return DrivingSample(
        id=f"{task}-{number}",
        scene_id=f"scene-{number}",
        frame_id=f"frame-{number}",
        task=task,
        kind="multiple_choice",
        question="What is the ego vehicle doing? A. Stopped. B. Turn left.",
        answer="B",
        images={camera: f"/images/{camera}.jpg" for camera in CAMERAS},
        choices={"A": "Stopped.", "B": "Turn left."},
    )


def scored(
    text: str = "B",
    value: float = 100.0,
    failure: str | None = None,
    tokens: int = 2,
    finish: FinishReason = "stop",
    finished_at: float = 10.0,
    scoring_started_at: float = 10.1,
) -> ScoredRollout:
    rollout = Rollout(
        request_id="r",
        sample_id="s",
        prompt_ids=(1, 2, 3),
        token_ids=tuple(range(tokens)),
        logprobs=(-0.5,) * tokens,
        text=text,
        finish_reason=finish,
        weight_version=3,
        engine="engine-0",
        started_at=9.0,
        finished_at=finished_at,
    )
    return ScoredRollout(rollout, Score(value, {"option": value}, failure=failure), scoring_started_at)


def group(of: DrivingSample, *rollouts: ScoredRollout, advantages: Sequence[float | None] = ()) -> Group:
    shaped = tuple(None if one.score.failure else one.score.value / 100.0 for one in rollouts)
    return Group(of, rollouts, tuple(advantages), shaped)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe.model_validate({"run": {"name": "first", "root": str(tmp_path), "steps": 3}})


@pytest.fixture
def folder(recipe: Recipe) -> Path:
    return create_run_folder(recipe)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    curves = EventAccumulator(str(folder / "tensorboard"))
    curves.Reload()
    return [(point.step, point.value) for point in curves.Scalars(name)]


# --- panels -----------------------------------------------------------------------------------------------------------


def test_rewards_are_means_over_scored_rollouts_per_task() -> None:
    panels = step_panels(
        [
            group(sample("perception"), scored(value=100.0), scored(value=50.0), scored(value=0.0, failure="judge")),
            group(sample("behavior"), scored(value=0.0), scored(value=0.0)),
        ]
    )
    assert panels["reward/mean"] == pytest.approx(150 / 4)
    assert panels["reward/perception"] == pytest.approx(75.0)
    assert panels["reward/behavior"] == 0.0
    assert "reward/planning" not in panels


def test_every_part_of_the_score_has_its_mean() -> None:
    panels = step_panels([group(sample(), scored(value=100.0), scored(value=40.0))])
    assert panels["parts/option"] == pytest.approx(70.0)


def test_an_alarm_is_kept_with_its_step_and_what_was_measured(recipe: Recipe, folder: Path) -> None:
    with Journal(recipe, folder) as journal:
        for step in range(1, 31):
            pleased = {"parts/judge": 20.0 if step <= 15 else 60.0, "parts/rouge_l": 30.0}
            journal.record(step, [], pleased)
    (alarm, *_) = read_run(folder).alarms
    assert (alarm["kind"], alarm["step"] > 15) == ("judge_without_rule", True)
    assert "parts/judge went from 20.0 to" in alarm["message"]


def test_a_reward_between_0_and_1_is_reported_once(recipe: Recipe, folder: Path) -> None:
    scores = [replace(scored(), score=Score(value, {"mine:f": value})) for value in (0.2, 0.9)]
    fractions = [group(sample(number=1), *scores)]
    with Journal(recipe, folder) as journal:
        journal.record(1, fractions, {})
        journal.record(2, fractions, {})
    (said,) = [json.loads(line) for line in (folder / "alarms.jsonl").read_text().splitlines()]
    assert (said["step"], said["kind"]) == (1, "reward_scale")
    assert "mine:f lies between 0 and 1; rewards run from 0 to 100" in said["message"]


def test_masked_rollouts_are_counted_under_their_reason() -> None:
    panels = step_panels(
        [
            group(sample(), scored(failure="judge: timeout after 30 s"), scored(failure="judge: HTTP 500")),
            group(sample(number=1), scored(), scored(failure="scoring_timeout")),
        ]
    )
    assert panels["rollouts/masked"] == 3
    assert panels["rollouts/masked/judge"] == 2
    assert panels["rollouts/masked/scoring_timeout"] == 1
    assert (panels["rollouts/count"], panels["groups/count"], panels["groups/all_masked"]) == (4, 2, 1)


def test_a_group_of_equal_rewards_has_zero_variance_and_a_masked_one_has_not() -> None:
    panels = step_panels(
        [
            group(sample(), scored(value=50.0), scored(value=50.0), scored(value=0.0, failure="judge")),
            group(sample(number=1), scored(value=50.0), scored(value=40.0)),
            group(sample(number=2), scored(failure="judge"), scored(failure="judge")),
        ]
    )
    assert panels["groups/zero_std"] == 1


def test_lengths_format_and_overlong_cover_every_response() -> None:
    panels = step_panels(
        [group(sample(), scored("B", tokens=1), scored("what?", tokens=7, finish="length", value=0.0, failure="judge"))]
    )
    assert panels["response/length_mean"] == 4.0
    assert panels["response/overlong_share"] == 0.5
    assert panels["response/valid_format_share"] == 0.5
    assert panels["response/logprob_mean"] == -0.5


def test_overlap_is_scoring_begun_before_the_groups_last_token() -> None:
    early = group(sample(), scored(scoring_started_at=10.1), scored(finished_at=12.0, scoring_started_at=12.1))
    late = group(sample(number=1), scored(scoring_started_at=12.1), scored(finished_at=12.0, scoring_started_at=12.1))
    assert step_panels([early, late])["groups/scoring_overlapped_share"] == 0.5


def test_a_step_without_groups_has_counts_and_no_means() -> None:
    panels = step_panels([])
    assert panels["groups/count"] == 0
    assert "reward/mean" not in panels


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_step_is_one_line_of_metrics_with_the_loops_and_the_journals_own(recipe: Recipe, folder: Path) -> None:
    with Journal(recipe, folder) as journal:
        journal.record(1, [group(sample(), scored(), scored(value=0.0))], {"loss": 0.25, "weight_version": 1})
        journal.record(2, [group(sample(), scored(), scored())], {"loss": 0.5, "weight_version": 2})
    first, second = lines(folder)
    assert (first["step"], first["loss"], first["reward/mean"]) == (1, 0.25, 50.0)
    assert (second["step"], second["loss"], second["reward/mean"]) == (2, 0.5, 100.0)


def test_the_line_is_on_disk_before_the_journal_is_closed(recipe: Recipe, folder: Path) -> None:
    journal = Journal(recipe, folder)
    journal.record(1, [group(sample(), scored())], {})
    assert len(lines(folder)) == 1
    journal.close()
    journal.close()


def test_a_metric_that_is_not_finite_is_null_and_named(recipe: Recipe, folder: Path) -> None:
    with Journal(recipe, folder) as journal:
        journal.record(1, [group(sample(), scored())], {"loss": math.nan, "kl": math.inf, "lr": 1.0})
    [line] = lines(folder)
    assert (line["loss"], line["kl"], line["lr"]) == (None, None, 1.0)
    assert line["not_finite"] == ["kl", "loss"]


def test_a_metric_of_the_loop_must_not_hide_a_panel(recipe: Recipe, folder: Path) -> None:
    with Journal(recipe, folder) as journal, pytest.raises(ValueError, match="reward/mean"):
        journal.record(1, [group(sample(), scored())], {"reward/mean": 99.0})


def test_every_rollout_is_a_row_and_a_masked_one_has_no_value(tmp_path: Path) -> None:
    one = group(sample(), scored("B"), scored("??", value=0.0, failure="judge: late"), advantages=(1.0, None))
    path = tmp_path / "step_000123.parquet"
    write_rollouts(path, 123, [one, group(sample("planning", 5), scored("A", value=0.0))], {})
    assert pq.read_schema(path).names == names.ROLLOUT_SCHEMA.names
    rows = pq.read_table(path).to_pylist()
    assert [(row["task"], row["response"], row["value"], row["failure"]) for row in rows] == [
        ("behavior", "B", 100.0, None),
        ("behavior", "??", None, "judge: late"),
        ("planning", "A", 0.0, None),
    ]
    first = rows[0]
    assert json.loads(first["images"])["CAM_BACK"] == "/images/CAM_BACK.jpg"
    assert json.loads(first["choices"]) == {"A": "Stopped.", "B": "Turn left."}
    assert json.loads(first["parts"]) == {"option": 100.0}
    assert (first["token_count"], first["advantage"], first["weight_version"]) == (2, 1.0, 3)
    assert (first["finished_at"], first["scoring_started_at"], first["logprob_mean"]) == (10.0, 10.1, -0.5)
    assert [row["advantage"] for row in rows[1:]] == [None, None]


def test_rollouts_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path, of = tmp_path / "step_000001.parquet", [sample(), sample("planning", 5)]
    gains = Score(40.0, {"rule": 40.0}, (Increment(30.0, 1), Increment(10.0, 2)))
    masked = scored("??", value=0.0, failure="judge: late")
    groups = [
        group(of[0], scored("B", tokens=5), masked),
        group(of[1], replace(scored("A"), score=gains), scored(tokens=0)),
    ]
    write_rollouts(path, 1, groups, {"position": 7})
    read, about = read_rollouts(path, {one.id: one for one in of})
    assert about == {"position": 7}
    assert [replace(one, shaped_rewards=()) for one in groups] == [
        replace(one, rollouts=tuple(replace(r, rollout=replace(r.rollout, sample_id="s")) for r in one.rollouts))
        for one in read
    ]


def test_a_cut_file_of_rollouts_or_a_question_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "step_000001.parquet"
    write_rollouts(path, 1, [group(sample(), scored())], {})
    with pytest.raises(DataError, match="is about behavior-0, which the data does not hold any more"):
        read_rollouts(path, {})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is damaged, or of an earlier version"):
        read_rollouts(path, {sample().id: sample()})


def test_curves_hold_every_metric_at_its_step(recipe: Recipe, folder: Path) -> None:
    with Journal(recipe, folder) as journal:
        journal.record(1, [group(sample(), scored())], {"kl": 0.5})
        journal.record(2, [group(sample(), scored(value=0.0))], {"kl": 0.25})
    assert curve(folder, "kl") == [(1, 0.5), (2, 0.25)]
    assert curve(folder, "reward/mean") == [(1, 100.0), (2, 0.0)]


def test_an_evaluation_is_kept_whole_under_its_name(recipe: Recipe, folder: Path) -> None:
    result = summarize("before", 0, [Judged(sample(), "B", "stop", Score(100.0), 1)])
    with Journal(recipe, folder) as journal:
        journal.record_evaluation(result)
        with pytest.raises(ValueError, match="plain file name"):
            journal.record_evaluation(summarize("../before", 0, []))
    assert EvaluationResult.from_json((folder / "evaluation" / "before.json").read_text()) == result
    assert read_run(folder).evaluations == {"before": result}


def test_a_step_done_again_after_a_resume_replaces_the_first(recipe: Recipe, folder: Path) -> None:
    with Journal(recipe, folder) as journal:
        for step in (1, 2):
            journal.record(step, [group(sample(), scored("first", value=0.0))], {"loss": 1.0})
    with Journal(recipe, folder) as journal:
        journal.step = 1
        journal.record(2, [group(sample(), scored("again"))], {"loss": 2.0})
    run = read_run(folder)
    assert [(step["step"], step["loss"]) for step in run.steps] == [(1, 1.0), (2, 2.0)]
    assert curve(folder, "loss") == [(1, 1.0), (2, 2.0)]


def test_a_finished_run_that_is_resumed_keeps_the_curves_of_its_last_step(recipe: Recipe, folder: Path) -> None:
    with Journal(recipe, folder) as journal:
        for step in (1, 2):
            journal.record(step, [group(sample(), scored())], {"loss": float(step)})
    with Journal(recipe, folder) as journal:
        journal.step = 2
        journal.record_evaluation(summarize("after", 2, [Judged(sample(), "B", "stop", Score(100.0), 1)]))
    assert curve(folder, "loss") == [(1, 1.0), (2, 2.0)]


def test_a_line_cut_off_by_a_crash_costs_that_line_only_and_is_counted(recipe: Recipe, folder: Path) -> None:
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    with Journal(recipe, folder) as journal:
        journal.record(3, [group(sample(), scored())], {})
    run = read_run(folder)
    assert [step["step"] for step in run.steps] == [1, 3]
    assert run.dropped == {"unreadable lines of metrics.jsonl": 1}


def test_an_alarm_cut_off_by_a_crash_costs_that_alarm_only_and_is_counted(recipe: Recipe, folder: Path) -> None:
    (folder / "alarms.jsonl").write_text('{"step": 1, "kind": "k", "message": "first"}\n{"step": 2, "mess')
    with Journal(recipe, folder) as journal:
        journal.warn(3, "k", "third")
    run = read_run(folder)
    assert [alarm["message"] for alarm in run.alarms] == ["first", "third"]
    assert run.dropped == {"unreadable lines of alarms.jsonl": 1}


def test_an_alarm_that_says_nothing_is_counted(folder: Path) -> None:
    (folder / "alarms.jsonl").write_text('{"step": 1, "kind": "k"}\n')
    assert (read_run(folder).alarms, read_run(folder).dropped) == ((), {"unreadable lines of alarms.jsonl": 1})


@pytest.mark.parametrize(
    "odd", [b'{"loss": 1.0}', b'{"step": "two"}', b"[1]", b"3", b"\xff", b"[" * 100_000], ids=lambda odd: repr(odd[:9])
)
def test_a_line_that_is_no_record_of_a_step_is_counted(folder: Path, odd: bytes) -> None:
    sound = {"metrics.jsonl": b'{"step": 1}', "alarms.jsonl": b'{"step": 1, "kind": "k", "message": "m"}'}
    for name, line in sound.items():
        (folder / name).write_bytes(line + b"\n" + odd + b"\n")
    run = read_run(folder)
    assert ([step["step"] for step in run.steps], [alarm["step"] for alarm in run.alarms]) == ([1], [1])
    assert run.dropped == {"unreadable lines of metrics.jsonl": 1, "unreadable lines of alarms.jsonl": 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("recipe.yaml", b"run: {name: x\n", r"recipe\.yaml is not valid YAML: .*line 2, column 1"),
        ("recipe.yaml", b"- run\n", r"recipe\.yaml holds a list; a recipe is a mapping"),
        ("recipe.yaml", b"\xff\xfe\xff", r"recipe\.yaml is not valid YAML: .*can't decode byte 0xff"),
        ("recipe.yaml", b"run: \x07\n", r"recipe\.yaml is not valid YAML: .*special characters are not allowed"),
        ("provenance.json", b'{"commit": ', r"provenance\.json is not valid JSON: line 1 column 12"),
        ("provenance.json", b"[]", r"provenance\.json holds a list; needed is an object"),
    ],
)
def test_a_damaged_recipe_or_provenance_is_one_sentence(folder: Path, name: str, content: bytes, said: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        read_run(folder)
    assert "\n" not in str(raised.value)


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_without_a_terminal_a_step_is_one_plain_line() -> None:
    out = io.StringIO()
    table = LiveTable("first", 40, Console(file=out, width=40))
    table.update(
        7, {"reward/mean": 51.25, "rollout_gap_max": 3.1e-6, "clip_share": 0.015, "step_s": 2.0, "learn_s": 1.5}
    )
    table.update(8, {"reward/mean": math.nan, "step_s": 2.0})
    first, second = out.getvalue().splitlines()
    assert first == "step 7/40  reward 51.2  clip 1.5%  rollout gap 3.1e-06  took 2 s (learn 1.5)  eta 1 min 06 s"
    assert second == "step 8/40  reward nan  took 2 s  eta 1 min 04 s"


def test_in_a_terminal_the_table_shows_the_latest_value_and_its_change() -> None:
    out = io.StringIO()
    table = LiveTable("first", 40, Console(file=out, width=100, force_terminal=True, color_system=None))
    table.update(1, {"reward/mean": 20.0, "reward/behavior": 10.0})
    table.update(2, {"reward/mean": 30.0, "reward/behavior": math.nan})
    table.close()
    last = out.getvalue().rsplit("first", maxsplit=1)[-1]
    assert "step 2/40" in last
    assert any("reward" in line and "30.0" in line and "+10.0" in line for line in last.splitlines())


def test_a_trend_spans_its_own_range() -> None:
    assert trend([1.0, 2.0, 3.0]).plain == "▁▅█"
    assert trend([5.0, 5.0]).plain == "▁▁"
    assert trend([]).plain == ""
