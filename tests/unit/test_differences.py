"""Differences of two runs: hand-computed figures, scipy's intervals and tests, and what swapping the runs does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from data.sample import TASKS, Task
from evaluation.bootstrap import draws, interval
from evaluation.comparison.differences import difference, differences
from evaluation.comparison.paired import Pair, pair_answers
from evaluation.held_out import AnswerRecord
from tests.answered import answered


def pairs_of(
    values: Sequence[tuple[float, float]], task: Task = "planning", scenes: int | None = None, setting: str = ""
) -> tuple[Pair, ...]:
    """One pair for each couple of values; with `scenes`, they are dealt to that number of scenes."""

    def side(which: int) -> list[AnswerRecord]:
        return [
            answered(
                f"{task}-{number}",
                both[which],
                task=task,
                setting=setting,
                scene_id=f"scene {number if scenes is None else number % scenes}",
            )
            for number, both in enumerate(values)
        ]

    return pair_answers(side(0), side(1)).pairs


def test_the_figures_of_a_task_are_as_computed_by_hand() -> None:
    row = difference(pairs_of([(0.0, 100.0), (40.0, 60.0), (60.0, 40.0), (20.0, 20.0005)]), 100, 0)
    assert (row.questions, row.a) == (4, 30.0)
    assert row.b == pytest.approx(55.000125)
    assert row.difference == pytest.approx(25.000125)
    assert (row.better, row.worse, row.same) == (2, 1, 1)
    assert row.flips == 3  # 0 to 100, 40 to 60, 60 to 40
    assert row.p is None


def test_over_several_tasks_each_counts_the_same() -> None:
    pairs = [*pairs_of([(0.0, 10.0)] * 9), *pairs_of([(50.0, 20.0)], "behavior")]
    found = differences(pairs, 100, 0)
    assert list(found.tasks) == ["planning", "behavior"]
    assert (found.overall.a, found.overall.b, found.overall.difference) == (25.0, 15.0, -10.0)
    assert (found.overall.questions, found.overall.p) == (10, None)
    assert found.settings == {}


def test_settings_are_distinguished_where_there_are_several() -> None:
    pairs = [*pairs_of([(0.0, 10.0)] * 3, setting="clean"), *pairs_of([(0.0, 30.0)] * 3, setting="Fog")]
    found = differences(pairs, 100, 0)
    assert {name: row.difference for name, row in found.settings.items()} == {"clean": 10.0, "Fog": 30.0}
    assert found.overall.difference == 20.0
    assert (found.overall.questions, found.overall.resampled, found.overall.units) == (6, "questions", 3)


def test_the_interval_is_that_of_scipys_percentile_bootstrap() -> None:
    random = np.random.default_rng(5)
    before, changes = random.uniform(0, 80, 60), random.normal(3, 9, 60)
    values = [(float(value), float(value + change)) for value, change in zip(before, changes, strict=True)]
    row = difference(pairs_of(values), 20_000, 0)
    found = stats.bootstrap((changes,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    assert row.resampled == "scenes"
    assert row.low is not None
    assert row.high is not None
    assert row.low == pytest.approx(found.confidence_interval.low, abs=0.1)
    assert row.high == pytest.approx(found.confidence_interval.high, abs=0.1)
    # 1.96 standard errors of the mean, where the changes are normal.
    assert (row.high - row.low) / 2 == pytest.approx(1.96 * changes.std() / math.sqrt(60), rel=0.05)


def test_questions_that_repeat_within_their_scene_do_not_narrow_the_interval() -> None:
    """Ten scenes of twenty equal questions each say no more than ten questions do."""
    once = [(0.0, float(10 * number)) for number in range(10)]
    alone = difference(pairs_of(once), 5000, 0)
    clustered = difference(pairs_of(once * 20, scenes=10), 5000, 0)
    assert (alone.units, clustered.units, clustered.questions) == (10, 10, 200)
    assert clustered.low == pytest.approx(alone.low)
    assert clustered.high == pytest.approx(alone.high)


def test_below_ten_scenes_questions_are_drawn() -> None:
    values = [(0.0, float(number)) for number in range(18)]
    nine, ten = (difference(pairs_of(values, scenes=scenes), 200, 0) for scenes in (9, 10))
    assert (nine.resampled, nine.units) == ("questions", 18)
    assert (ten.resampled, ten.units) == ("scenes", 10)


def test_one_question_has_no_interval() -> None:
    row = difference(pairs_of([(0.0, 100.0)]), 100, 0)
    assert (row.low, row.high, row.difference) == (None, None, 100.0)


def test_resamples_without_a_question_of_a_task_are_counted() -> None:
    pairs = [*pairs_of([(0.0, 10.0)] * 12), *pairs_of([(0.0, 20.0)], "behavior")]
    row = difference(pairs, 2000, 0)
    # One scene in twelve has the behavior question: (11/12)^12 of the resamples miss it.
    assert row.undefined_resamples / 2000 == pytest.approx((11 / 12) ** 12, abs=0.04)
    assert (row.low, row.high) == (15.0, 15.0)


def test_right_and_wrong_answers_have_mcnemars_exact_p() -> None:
    values = [(0.0, 100.0)] * 9 + [(100.0, 0.0)] * 2 + [(100.0, 100.0)] * 30 + [(0.0, 0.0)] * 5
    row = difference(pairs_of(values), 100, 0)
    # 2 * P(at most 2 heads of 11) = 2 * (1 + 11 + 55) / 2^11
    assert row.p == pytest.approx(134 / 2048)
    assert (row.better, row.worse, row.flips) == (9, 2, 11)
    assert difference(pairs_of([(100.0, 100.0)] * 3), 100, 0).p == 1.0
    assert difference(pairs_of([*values, (0.0, 50.0)]), 100, 0).p is None


def test_a_question_under_several_settings_is_tested_setting_by_setting_only() -> None:
    """One question of twelve that changes in each of 17 settings is one question, and no 17 independent ones."""
    values = [(0.0, 100.0), *[(0.0, 0.0)] * 11]
    found = differences([pair for n in range(17) for pair in pairs_of(values, setting=f"setting {n}")], 100, 0)
    assert found.overall.p is None
    assert found.tasks["planning"].p is None
    assert {row.p for row in found.settings.values()} == {1.0}


couples = st.lists(
    st.tuples(st.sampled_from(TASKS), st.floats(0, 100), st.floats(0, 100), st.integers(0, 14)), min_size=1, max_size=40
)


@given(couples)
def test_swapping_the_runs_negates_the_differences(found: list[tuple[Task, float, float, int]]) -> None:
    a = [answered(str(n), x, task=task, scene_id=str(scene)) for n, (task, x, _, scene) in enumerate(found)]
    b = [answered(str(n), y, task=task, scene_id=str(scene)) for n, (task, _, y, scene) in enumerate(found)]
    forth, back = (differences(pair_answers(*sides).pairs, 200, 3) for sides in ((a, b), (b, a)))
    assert list(forth.tasks) == list(back.tasks)
    for one, other in [*zip(forth.tasks.values(), back.tasks.values(), strict=True), (forth.overall, back.overall)]:
        assert (one.a, one.b, one.difference) == (other.b, other.a, -other.difference)
        assert (one.better, one.worse, one.same, one.flips) == (other.worse, other.better, other.same, other.flips)
        assert (one.low is None) == (other.low is None)
        if one.low is not None and one.high is not None and other.low is not None and other.high is not None:
            assert one.low == pytest.approx(-other.high)
            assert one.high == pytest.approx(-other.low)
            assert one.low <= one.high


@given(couples, st.randoms(use_true_random=False))
def test_the_figures_do_not_depend_on_the_order_of_the_answers(
    found: list[tuple[Task, float, float, int]], random: Random
) -> None:
    a = [answered(str(n), x, task=task, scene_id=str(scene)) for n, (task, x, _, scene) in enumerate(found)]
    b = [answered(str(n), y, task=task, scene_id=str(scene)) for n, (task, _, y, scene) in enumerate(found)]
    straight = differences(pair_answers(a, b).pairs, 100, 0).overall
    random.shuffle(a)
    shuffled = differences(pair_answers(a, b).pairs, 100, 0).overall
    assert shuffled.difference == pytest.approx(straight.difference)
    assert shuffled.low == pytest.approx(straight.low)


def test_draws_come_in_stretches_and_depend_on_the_seed_only() -> None:
    stretches = list(draws(300_000, 7, 0))
    assert [stretch.shape for stretch in stretches] == [(3, 300_000), (3, 300_000), (1, 300_000)]
    assert np.array_equal(next(draws(50, 10, 4)), next(draws(50, 10, 4)))
    assert not np.array_equal(next(draws(50, 10, 4)), next(draws(50, 10, 5)))


def test_an_interval_leaves_out_what_is_undefined() -> None:
    low, high, undefined = interval(np.array([math.nan, *range(101)], dtype=np.float64))
    assert low == pytest.approx(2.5)
    assert high == pytest.approx(97.5)
    assert undefined == 1
    assert interval(np.array([math.nan] * 3)) == (None, None, 3)
