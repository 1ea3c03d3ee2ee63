"""What a group's scores become for the learner: advantages or rewards, and which responses leave."""

from __future__ import annotations

from typing import Any

import pytest

from actors.experience import ExperienceBatch, valued
from actors.rollout.rollout import Group, Rollout, ScoredRollout
from data.sample import CAMERAS, DrivingSample
from policies.batch import TrainingResponse
from policies.settings import AlgorithmSettings
from rewards.score import Score

CAP = 10


def group(*values: float | None, lengths: tuple[int, ...] = ()) -> Group:
    """Responses with these scores (None: it failed), of three tokens where no lengths are given."""
    sample = DrivingSample(
        id="s",
        scene_id="scene",
        frame_id="frame",
        task="behavior",
        kind="open_ended",
        question="What now?",
        answer="Stop.",
        images={camera: f"/images/{camera}.jpg" for camera in CAMERAS},
    )
    rollouts = []
    for value, length in zip(values, lengths or (3,) * len(values), strict=True):
        rollout = Rollout("r", "s", (1, 2), (7,) * length, (-0.5,) * length, "Stop.", "stop", 3, "engine-0", 9.0, 10.0)
        score = Score(0.0, failure="judge") if value is None else Score(value)
        rollouts.append(ScoredRollout(rollout, score, 10.1))
    return Group(sample, tuple(rollouts))


def learnt(*groups: Group, keep_equal: bool = False, **keys: Any) -> list[TrainingResponse]:
    algorithm = AlgorithmSettings(**keys)
    batch = ExperienceBatch(1, tuple(valued(one, algorithm, CAP) for one in groups), 0, 0.0)
    return [response for one in batch.training_groups(keep_equal=keep_equal) for response in one.responses]


def test_with_a_baseline_the_batch_is_credited_with_rewards_less_their_groups_mean() -> None:
    responses = learnt(group(100.0, 40.0, None, 10.0), group(50.0, 50.0), name="reinforce_pp_baseline", keep_equal=True)
    assert [response.reward for response in responses] == pytest.approx([0.5, -0.1, -0.4, 0.0, 0.0])


def test_without_one_the_batch_is_credited_with_the_rewards_themselves() -> None:
    responses = learnt(group(100.0, None, 10.0), name="reinforce_pp", keep_equal=True)
    assert [response.reward for response in responses] == [1.0, 0.1]


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "reinforce_pp_baseline"])
def test_a_group_with_fewer_than_two_scores_is_counted_as_flat_and_left_out(name: str) -> None:
    for flat in (group(70.0), group(70.0, None), group(None, None)):
        assert valued(flat, AlgorithmSettings(name=name), CAP).has_equal_rewards
        assert not learnt(flat, name=name, keep_equal=True)


def test_equal_rewards_are_left_out_unless_a_kl_or_the_batch_wants_them() -> None:
    assert not learnt(group(70.0, 70.0), name="grpo")
    kept = learnt(group(70.0, 70.0), name="grpo", keep_equal=True)
    assert [set(response.advantages) for response in kept] == [{0.0}, {0.0}]


def test_a_response_longer_than_the_cap_loses_no_more_than_one_at_the_cap() -> None:
    shaped = valued(group(80.0, 80.0, 80.0, lengths=(8, 10, 13)), AlgorithmSettings(name="dapo"), CAP).shaped_rewards
    assert shaped == pytest.approx([0.8, -0.2, -0.2])
