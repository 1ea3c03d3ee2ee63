"""Credit over a whole batch: returns of tokens, less what they strayed from the reference, whitened together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from actors.credit import credit_tokens
from actors.learner_group import LearnerGroup
from policies.batch import TrainingGroup, TrainingResponse
from policies.settings import AlgorithmSettings


class TwoPolicies(LearnerGroup):
    """Its own policy gives every token -1, its reference -1.5."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def log_probs(
        self, groups: Sequence[TrainingGroup], temperature: float | None = None, *, reference: bool = False
    ) -> list[list[float]]:
        self.asked.append(reference)
        value = -1.5 if reference else -1.0
        return [[value] * len(r.token_ids) for group in groups for r in group.responses]


def groups() -> list[TrainingGroup]:
    def response(length: int, reward: float) -> TrainingResponse:
        return TrainingResponse((7,) * length, (0.0,) * length, (reward,) * length, reward=reward)

    return [TrainingGroup((), (1,), (response(3, 1.0), response(1, 0.0))), TrainingGroup((), (2,), (response(2, 0.5),))]


async def test_every_token_gets_its_return_measured_by_the_whole_batch() -> None:
    learners = TwoPolicies()
    credited = await credit_tokens(groups(), learners, AlgorithmSettings(name="reinforce_pp", kl_beta=0.1))
    assert learners.asked == [False, True]
    price = 0.1 * 0.5  # beta k1: the policy gives the tokens half a nat more than the reference
    returns = [1.0 - 3 * price, 1.0 - 2 * price, 1.0 - price, -price, 0.5 - 2 * price, 0.5 - price]
    expected = (torch.tensor(returns) - torch.tensor(returns).mean()) / torch.tensor(returns).std()
    found = [advantage for group in credited for response in group.responses for advantage in response.advantages]
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


async def test_without_a_kl_no_reference_is_asked() -> None:
    learners = TwoPolicies()
    credited = await credit_tokens(groups(), learners, AlgorithmSettings(name="reinforce_pp", kl_beta=0.0))
    assert learners.asked == []
    first, second = credited[0].responses
    assert len(set(first.advantages)) == 1
    assert first.advantages[0] > 0 > second.advantages[0]
