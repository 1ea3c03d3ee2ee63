"""What a group's scores become for the learner: advantages or rewards, and which responses leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from actors.experience import Credit, ExperienceBatch
from data.rollout import Rollout
from data.sample import CAMERAS, DrivingSample
from policies.batch import TrainingResponse
from policies.prompt import PromptEncoder
from rewards.group import Group, ScoredRollout
from rewards.score import Increment, Score
from tests.algorithms import algorithm

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


class OneCharacterATokenEncoder:
    """Every token writes one character."""

    def tokens_until(self, token_ids: Sequence[int], ends: Sequence[int]) -> list[int]:
        return list(ends)


def credit(**keys: Any) -> Credit:
    return Credit(algorithm(**keys), CAP, cast(PromptEncoder, OneCharacterATokenEncoder()))


def learnt(*groups: Group, **keys: Any) -> list[TrainingResponse]:
    own = credit(**keys)
    batch = ExperienceBatch(1, tuple(own.assigned(one) for one in groups), 0, 0.0)
    return [response for one in batch.training_groups(own.algorithm) for response in one.responses]


def test_with_a_baseline_the_batch_is_credited_with_rewards_less_their_groups_mean() -> None:
    responses = learnt(group(100.0, 40.0, None, 10.0), group(50.0, 50.0), name="reinforce_pp_baseline")
    assert [response.credits[-1] for response in responses] == pytest.approx([0.5, -0.1, -0.4, 0.0, 0.0])


def test_without_one_the_batch_is_credited_with_the_rewards_themselves() -> None:
    responses = learnt(group(100.0, None, 10.0), name="reinforce_pp")
    assert [response.credits for response in responses] == [(0.0, 0.0, 1.0), (0.0, 0.0, 0.1)]


def test_gains_are_credited_where_they_were_earned_and_the_rest_at_the_end() -> None:
    one = group(75.0)
    score = Score(75.0, increments=(Increment(50.0, 1), Increment(-25.0, 2)))
    one = replace(one, rollouts=(replace(one.rollouts[0], score=score),))
    assert [response.credits for response in learnt(one, name="a2c")] == [(0.5, -0.25, 0.5)]


def test_only_advantages_are_kept_for_the_record_under_that_name() -> None:
    assert credit(name="ppo").assigned(group(75.0, 25.0)).advantages == ()
    first, masked, last = credit(name="dr_grpo").assigned(group(75.0, None, 25.0)).advantages
    assert (first, last) == pytest.approx((0.25, -0.25))
    assert masked is None


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "reinforce_pp_baseline"])
def test_a_group_with_fewer_than_two_scores_is_counted_as_flat_and_left_out(name: str) -> None:
    for flat in (group(70.0), group(70.0, None), group(None, None)):
        assert credit(name=name).assigned(flat).has_equal_rewards
        assert not learnt(flat, name=name, kl_beta=0.1)


def test_equal_rewards_are_left_out_unless_a_kl_or_the_batch_wants_them() -> None:
    assert not learnt(group(70.0, 70.0), name="grpo", kl_beta=0.0)
    for keys in ({"name": "grpo", "kl_beta": 0.1}, {"name": "reinforce_pp_baseline", "kl_beta": 0.0}):
        assert [set(response.credits) for response in learnt(group(70.0, 70.0), **keys)] == [{0.0}, {0.0}]


def test_a_response_longer_than_the_cap_loses_no_more_than_one_at_the_cap() -> None:
    shaped = credit(name="dapo").assigned(group(80.0, 80.0, 80.0, lengths=(8, 10, 13))).shaped_rewards
    assert shaped == pytest.approx([0.8, -0.2, -0.2])
