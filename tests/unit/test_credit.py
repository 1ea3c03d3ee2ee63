"""Credit over a whole batch: returns of tokens, less what they strayed from the reference, whitened together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from actors.credit import Credit
from actors.learning.group import LearnerGroup
from policies.batch import TrainingGroup, TrainingResponse
from policies.settings import AlgorithmSettings


class TwoPolicies(LearnerGroup):
    """Its own policy gives every token -1, its reference -1.5, its critic 0.25; a token writes one character."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def log_probs(
        self, groups: Sequence[TrainingGroup], temperature: float | None = None, *, reference: bool = False
    ) -> list[list[float]]:
        assert reference
        self.asked.append("reference")
        return [[-1.5] * len(r.token_ids) for group in groups for r in group.responses]

    async def assess(self, groups: Sequence[TrainingGroup]) -> list[tuple[list[float], list[float]]]:
        self.asked.append("own")
        lengths = [len(r.token_ids) for group in groups for r in group.responses]
        return [([-1.0] * length, [0.25] * length) for length in lengths]

    async def tokens_until(self, responses: Sequence[TrainingResponse]) -> list[list[int]]:
        return [list(response.gain_ends) for response in responses]


def groups() -> list[TrainingGroup]:
    def response(length: int, reward: float) -> TrainingResponse:
        return TrainingResponse((7,) * length, (0.0,) * length, (reward,) * length, reward=reward)

    return [TrainingGroup((), (1,), (response(3, 1.0), response(1, 0.0))), TrainingGroup((), (2,), (response(2, 0.5),))]


def flat(credited: Sequence[TrainingGroup], field: str) -> list[float]:
    return [value for group in credited for response in group.responses for value in getattr(response, field)]


async def test_every_token_gets_its_return_measured_by_the_whole_batch() -> None:
    learners = TwoPolicies()
    credit = Credit(AlgorithmSettings(name="reinforce_pp", kl_beta=0.1))
    credited, metrics = await credit.assign(groups(), learners)
    assert learners.asked == ["own", "reference"]
    price = 0.1 * 0.5  # beta k1: the policy gives the tokens half a nat more than the reference
    returns = [1.0 - 3 * price, 1.0 - 2 * price, 1.0 - price, -price, 0.5 - 2 * price, 0.5 - price]
    expected = (torch.tensor(returns) - torch.tensor(returns).mean()) / torch.tensor(returns).std()
    assert flat(credited, "advantages") == pytest.approx(expected.tolist(), abs=1e-5)
    assert metrics["kl"] == pytest.approx(0.5)


async def test_without_a_kl_no_reference_is_asked() -> None:
    learners = TwoPolicies()
    credited, _ = await Credit(AlgorithmSettings(name="reinforce_pp", kl_beta=0.0)).assign(groups(), learners)
    assert learners.asked == []
    first, second = credited[0].responses
    assert len(set(first.advantages)) == 1
    assert first.advantages[0] > 0 > second.advantages[0]


async def test_a_critic_is_what_returns_are_measured_by_and_learns_them() -> None:
    credited, metrics = await Credit(AlgorithmSettings(name="a2c", kl_beta=0.0)).assign(groups(), TwoPolicies())
    assert flat(credited, "returns") == pytest.approx([1.0, 1.0, 1.0, 0.0, 0.5, 0.5])
    assert flat(credited, "advantages") == pytest.approx([0.75, 0.75, 0.75, -0.25, 0.25, 0.25])
    assert flat(credited, "values") == pytest.approx([0.25] * 6)
    assert metrics["value_explained"] == pytest.approx(0.0, abs=1e-6)  # a constant foresees nothing


async def test_gains_are_credited_where_they_were_earned_and_the_rest_at_the_end() -> None:
    whole = groups()[0].responses[0]
    response = replace(whole, gains=(0.5, -0.25), gain_ends=(1, 2))
    group = TrainingGroup((), (1,), (response,))
    credited, _ = await Credit(AlgorithmSettings(name="a2c", kl_beta=0.0)).assign([group], TwoPolicies())
    assert flat(credited, "returns") == pytest.approx([1.0, 0.5, 0.75])


async def test_the_weight_of_the_kl_follows_its_target_and_later_updates_know_the_first_policy() -> None:
    algorithm = AlgorithmSettings(name="ppo", kl_beta=0.1, kl_target=0.01, kl_horizon=30, updates_per_batch=2)
    credit = Credit(algorithm)
    credited, metrics = await credit.assign(groups(), TwoPolicies())
    assert metrics["kl_beta"] == 0.1
    assert credit.kl.beta == pytest.approx(0.1 * (1 + 0.2 * 3 / 30))  # an error far above the clip of 20 %
    assert set(flat(credited, "old_logprobs")) == {-1.0}
    advantages = torch.tensor(flat(credited, "advantages"))
    assert float(advantages.mean()) == pytest.approx(0.0, abs=1e-6)  # whitened
    assert Credit(algorithm, kl_beta=0.3).kl.beta == 0.3
