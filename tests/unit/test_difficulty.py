from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.difficulty import (
    TaskDifficulty,
    draw_frames,
    frame_difficulty,
    frames_within,
    question_score,
    task_difficulty,
)
from data.errors import DataError
from data.sample import DrivingSample


def question(id_: str, frame: str) -> DrivingSample:
    return DrivingSample(id_, f"scene-{frame}", frame, "planning", "open_ended", "Q?", "A.", {})


def test_the_mean_is_over_answers_then_models_then_questions() -> None:
    samples = [question("a", "f"), question("b", "f"), question("c", "g")]
    scores = {
        "one": {"a": [0, 100], "b": [10, 20], "c": [40]},
        "two": {"a": [100, 100], "b": [30, 40, 50, 80], "c": [60]},
    }
    found = frame_difficulty(samples, scores, ["one", "two"], answers_per_model=1)
    # a: (50 + 100)/2 = 75; b: (15 + 50)/2 = 32.5; f: 53.75. c and g: 50.
    assert found.frames == {"f": 53.75, "g": 50.0}
    # one: f (50 + 15)/2, two: f (100 + 50)/2
    assert found.by_model == {"one": {"f": 32.5, "g": 40.0}, "two": {"f": 75.0, "g": 60.0}}
    assert question_score(scores, ["one"], "b") == 15.0
    assert frame_difficulty(samples, scores, ["two"], 1).frames == {"f": 75.0, "g": 60.0}


def test_unscored_questions_are_left_out_and_half_scored_ones_used_and_both_are_listed() -> None:
    samples = [question("a", "f"), question("b", "f"), question("c", "g")]
    found = frame_difficulty(samples, {"one": {"a": [30.0] * 8, "b": [50.0] * 7, "c": []}}, ["one"])
    assert found.frames == {"f": 40.0}
    assert (found.dropped, found.kept_with_fault) == ({"no_score": ["c"]}, {"fewer_scores": ["b"]})


@pytest.mark.parametrize("value", [-1.0, 100.5, float("nan")])
def test_a_score_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="one has the score .* for a"):
        frame_difficulty([question("a", "f")], {"one": {"a": [value]}}, ["one"])


def test_a_model_without_scores_is_refused() -> None:
    with pytest.raises(DataError, match="asked of two, but there are scores of one"):
        frame_difficulty([], {"one": {}}, ["one", "two"])
    with pytest.raises(DataError, match="asked of no model"):
        frame_difficulty([], {"one": {}}, [])


def test_a_tasks_difficulty_is_the_mean_over_its_questions_that_all_models_have_a_score_for() -> None:
    samples = [question("a", "f"), question("b", "f"), question("c", "g")]
    samples.append(DrivingSample("d", "s", "f", "behavior", "open_ended", "Q?", "A.", {}))
    scores = {"one": {"a": [0, 20], "b": [30], "c": [90], "d": [5]}, "two": {"a": [50], "b": [70, 90], "d": [15]}}
    found = task_difficulty(samples, scores, ["one", "two"])
    assert list(found) == ["planning", "behavior"]
    assert found["planning"] == TaskDifficulty(2, {"one": 20.0, "two": 65.0}, 42.5)
    assert found["behavior"].mean == 10.0


def test_a_band_includes_both_ends() -> None:
    frames = {"e": 45.01, "d": 45.0, "c": 30.0, "b": 25.0, "a": 24.99}
    assert frames_within(frames, (25.0, 45.0)) == ("b", "c", "d")
    with pytest.raises(DataError, match="lower end first"):
        frames_within(frames, (45.0, 25.0))
    with pytest.raises(DataError, match="both from 0 to 100"):
        frames_within(frames, (25.0, float("inf")))


@given(st.sets(st.text(), max_size=30), st.integers(0, 40), st.integers(0, 5))
def test_a_draw_depends_on_the_set_and_the_seed_only(frames: set[str], count: int, seed: int) -> None:
    drawn = draw_frames(frames, count, seed)
    assert drawn == draw_frames(sorted(frames, reverse=True), count, seed)
    assert len(drawn) == min(count, len(frames)) == len(set(drawn) & frames)


def test_another_seed_draws_others() -> None:
    frames = [str(number) for number in range(100)]
    assert draw_frames(frames, 20, seed=0) != draw_frames(frames, 20, seed=1)
