"""Credit of episodes: turns are compared with those of siblings from the same start, failed episodes teach nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.driving.credit import EpisodeCredit
from actors.driving.episodes import busy_seconds, figures
from data.episode import Start
from data.rollout import Rollout
from data.settings import EnvironmentSettings
from evaluation.driving import driving_result, paired_gain, read_driving
from evaluation.rollout_rows import read_rollouts, write_rollouts
from policies.algorithms.registry import make_algorithm
from policies.settings import AlgorithmSettings
from rewards.episode import Episode, Turn, discounted
from rewards.group import Group


def episode(
    number: int, points: list[float], failure: str | None = None, seed: int = 0, costs: dict[int, float] | None = None
) -> Episode:
    """Progress of each turn, and points that some turns cost."""
    one = Episode(Start("bend", seed), number, failure=failure)
    for turn, gained in enumerate(points):
        sample = one.sample("?", {})
        rollout = Rollout(sample.id, sample.id, (1,), (2,), (-0.5,), "Hold, straight.", "stop", 3, "e", 1.0, 2.0)
        one.turns.append(Turn(sample, rollout, {"progress": gained, "collision": (costs or {}).get(turn, 0.0)}))
    return one


def credit(name: str = "grpo", **given: object) -> EpisodeCredit:
    settings = EnvironmentSettings.model_validate({"discount": 0.5, **given})
    return EpisodeCredit(make_algorithm(AlgorithmSettings(name=name)), settings, cap=1)


def turns_of(*episodes: Episode) -> list[Group]:
    return [group for one in episodes for group in one.groups]


def test_returns_are_discounted_from_the_end() -> None:
    assert discounted([1.0, 0.0, 4.0], 0.5) == [2.0, 2.0, 4.0]


def test_a_score_is_kept_within_its_scale() -> None:
    assert episode(0, [40.0, -90.0]).score == 0.0
    assert episode(0, [90.0, 60.0]).score == 100.0


def test_each_turn_is_compared_with_the_siblings_that_still_drive() -> None:
    groups = credit().of_batch(turns_of(episode(0, [10.0, 10.0]), episode(1, [10.0, -50.0]), episode(2, [20.0])))
    first, second = [groups[0], groups[2], groups[4]], [groups[1], groups[3]]
    assert [one.shaped_rewards for one in first] == [pytest.approx((0.15, -0.15, 0.2))] * 3
    assert first[0].advantages[0] is not None
    assert [one.shaped_rewards for one in second] == [pytest.approx((0.1, -0.5))] * 2
    advantages = [one.advantages[0] for one in second]
    assert advantages[0] == pytest.approx(-(advantages[1] or 0.0))
    assert (advantages[0] or 0.0) > 0


def test_by_place_a_slow_drive_is_compared_from_where_the_others_had_come_as_far() -> None:
    slow, fast = episode(0, [10.0, 10.0, 0.0, 20.0]), episode(1, [20.0, 20.0], costs={1: -50.0})
    by_place = credit("dr_grpo", credit="place", discount=1.0).of_batch(turns_of(slow, fast))
    rewards = [one.shaped_rewards for one in by_place]
    assert rewards[0] == pytest.approx((0.4, -0.1))  # both from the start on
    assert rewards[1] == pytest.approx((0.3, -0.3))  # at 10 the fast one was past it in its second turn, at 20
    assert rewards[2] == rewards[3] == pytest.approx((0.2, -0.3))  # standing at 20, the slow one has two turns there
    assert rewards[5] == pytest.approx((0.2, -0.3))  # of its turns at that place the first
    advantages = [one.advantages[0] for one in by_place]
    assert advantages == pytest.approx([0.25, 0.3, 0.25, 0.25, -0.25, -0.25])


def test_by_place_nobody_is_compared_with_one_who_never_came_so_far() -> None:
    by_place = credit("dr_grpo", credit="place").of_batch(turns_of(episode(0, [30.0, 5.0]), episode(1, [10.0])))
    assert by_place[1].shaped_rewards == pytest.approx((0.05,))
    assert by_place[1].advantages == (None,)  # alone, it teaches nothing


def test_drives_that_differ_in_pace_alone_have_equal_advantages_by_place_and_not_by_turn() -> None:
    drives = turns_of(episode(0, [10.0] * 4), episode(1, [20.0, 20.0]))
    by_place = credit("dr_grpo", credit="place", discount=1.0).of_batch(drives)
    assert [one.advantages[0] for one in by_place if one.sample.frame_id.endswith("#1")] == [0.0, 0.0]
    by_turn = credit("dr_grpo", credit="turn", discount=1.0).of_batch(drives)
    assert [one.advantages[0] for one in by_turn if one.sample.frame_id.endswith("#1")] == pytest.approx([0.0, -0.05])


def test_a_place_that_earns_nothing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"place=distance.*progress"):
        EnvironmentSettings(credit="place", place="distance")
    with pytest.raises(ValueError, match=r"place=collision.*progress"):
        EnvironmentSettings(credit="place", place="collision")


def test_the_whole_episode_is_credited_where_the_recipe_says_so() -> None:
    groups = credit(credit="episode").of_batch(turns_of(episode(0, [10.0, 30.0]), episode(1, [5.0])))
    assert groups[0].shaped_rewards == groups[2].shaped_rewards == pytest.approx((0.4, 0.05))
    assert groups[0].advantages == groups[0].advantages


def test_a_failed_episode_has_no_credit_and_moves_no_siblings() -> None:
    with_failure = credit().of_batch(
        turns_of(episode(0, [10.0]), episode(1, [30.0]), episode(2, [99.0], failure="environment_lost: gone"))
    )
    without = credit().of_batch(turns_of(episode(0, [10.0]), episode(1, [30.0])))
    assert with_failure[2].credits == (None,)
    assert [one.advantages for one in with_failure[:2]] == [one.advantages for one in without]


def test_starts_are_not_compared_with_each_other() -> None:
    groups = credit().of_batch(turns_of(episode(0, [10.0]), episode(1, [20.0]), episode(0, [90.0], seed=1)))
    assert groups[0].shaped_rewards == pytest.approx((0.1, 0.2))
    assert groups[2].shaped_rewards == pytest.approx((0.9,))


def test_a_critic_is_given_the_return_of_each_turn() -> None:
    groups = credit("ppo").of_batch(turns_of(episode(0, [10.0, 30.0]), episode(1, [0.0])))
    assert [one.credits[0] for one in groups] == [pytest.approx((0.25,)), pytest.approx((0.3,)), pytest.approx((0.0,))]


@pytest.mark.parametrize("way", ["turn", "place", "episode"])
def test_credit_is_the_same_after_the_batch_was_on_disk(tmp_path: Path, way: str) -> None:
    fresh = credit(credit=way).of_batch(
        turns_of(
            episode(0, [10.0, 10.0]), episode(1, [10.0, -50.0]), episode(2, [9.0], failure="environment_raised: x")
        )
    )
    write_rollouts(tmp_path / "step.parquet", 1, fresh, {})
    groups, _ = read_rollouts(tmp_path / "step.parquet")
    again = credit(credit=way).of_batch(groups)
    assert [one.credits for one in again] == [one.credits for one in fresh]
    assert [one.sample.id for one in again] == [one.sample.id for one in fresh]


def test_time_that_spans_cover_is_counted_once() -> None:
    assert busy_seconds([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)]) == 4.0
    found = figures([episode(0, [1.0])], began=0.0, ended=4.0)
    assert found["episodes/engine_wait_s"] == 3.0
    assert found["episodes/turns"] == 1.0


def test_a_measurement_without_records_has_scores_alone_and_is_read_back(tmp_path: Path) -> None:
    result = driving_result("after", 3, {"scenarios": [episode(0, [40.0]), episode(1, [9.0], "environment_lost: x")]})
    assert result.parts["scenarios"].driving_score == 40.0
    assert result.parts["scenarios"].failed == 1
    result.write(tmp_path)
    assert read_driving(tmp_path, "after") == result
    assert read_driving(tmp_path, "before") is None


def test_a_paired_gain_is_that_of_the_same_scenarios() -> None:
    found = paired_gain([10.0, 20.0, 30.0, 40.0], [15.0, 26.0, 36.0, 45.0])
    assert found["gain"] == 5.5
    assert found["low"] is not None
    assert found["low"] > 0
