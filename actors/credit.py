"""Credit: gives the tokens of a whole batch their advantages, where a group's own rewards do not settle them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from actors.learning.group import LearnerGroup
from policies.advantages import generalised_advantages, incremental_rewards, returns_to_go, token_rewards, whitened
from policies.batch import TrainingGroup, TrainingResponse
from policies.kl import AdaptiveKl, kl_estimate
from policies.settings import AlgorithmSettings


class Credit:
    """Credits tokens batch after batch; holds the weight of the KL, which may adapt."""

    def __init__(self, algorithm: AlgorithmSettings, kl_beta: float | None = None) -> None:
        """Begin with the recipe's weight of the KL, or with the one that an interrupted run had come to."""
        self._algorithm = algorithm
        beta = algorithm.kl_beta if kl_beta is None else kl_beta
        self.kl = AdaptiveKl(beta, algorithm.kl_target or 1.0, algorithm.kl_horizon)

    async def assign(
        self, groups: Sequence[TrainingGroup], learners: LearnerGroup
    ) -> tuple[list[TrainingGroup], dict[str, float]]:
        """The same groups with an advantage for each token, and the metrics of how it came about.

        A response's reward belongs to its last token, but for what spans of it gained (A2C); with `kl_in: reward`
        every token pays for its KL towards the reference policy. `batch-normalised`: the whitened return, what a token
        and the later ones earn (REINFORCE++, arXiv 2501.03262); with `centred-batch-normalised` the rewards come less
        their group's mean. `critic`: generalised advantages over the values of
        the policy's value head, and the returns it learns from (arXiv 1506.02438; with `trace: 1` A2C's).
        """
        algorithm, metrics = self._algorithm, dict[str, float]()
        responses = [response for group in groups for response in group.responses]
        mask_R_T = pad_sequence([torch.ones(len(response.token_ids)) for response in responses], batch_first=True)
        pays_kl = algorithm.kl_in == "reward" and algorithm.kl_beta > 0
        assessed = await learners.assess(groups) if pays_kl or algorithm.has_critic else []
        kl_R_T = torch.zeros_like(mask_R_T)
        if pays_kl:
            own_R_T = _padded([own for own, _ in assessed])
            reference_R_T = _padded(await learners.log_probs(groups, reference=True))
            kl_R_T = kl_estimate(own_R_T, reference_R_T, algorithm.kl_estimator, algorithm.log_ratio_clamp)
            metrics |= {"kl": float(kl_R_T.sum() / mask_R_T.sum()), "kl_beta": self.kl.beta}
        gains_R_T = await _gains(responses, learners)
        rest_R = torch.tensor([response.reward for response in responses]) - gains_R_T.sum(dim=1)
        rewards_R_T = token_rewards(rest_R, kl_R_T, mask_R_T, self.kl.beta if pays_kl else 0.0) + gains_R_T
        if pays_kl and algorithm.kl_target is not None:
            self.kl.update(float(kl_R_T.sum()) / len(responses), len(responses))

        credited = responses
        if algorithm.updates_per_batch > 1 and assessed:
            credited = [replace(r, old_logprobs=tuple(own)) for r, (own, _) in zip(credited, assessed, strict=True)]
        if algorithm.has_critic:
            values_R_T = _padded([values for _, values in assessed])
            advantages_R_T, returns_R_T = generalised_advantages(
                rewards_R_T, values_R_T, mask_R_T, algorithm.discount, algorithm.trace
            )
            metrics |= _explained(values_R_T, returns_R_T, mask_R_T)
            advantages_R_T = whitened(advantages_R_T, mask_R_T) if algorithm.whiten else advantages_R_T
            rows = zip(_rows(values_R_T, responses), _rows(returns_R_T, responses), strict=True)
            credited = [replace(r, values=own, returns=to_go) for r, (own, to_go) in zip(credited, rows, strict=True)]
        else:
            advantages_R_T = whitened(returns_to_go(rewards_R_T, mask_R_T, algorithm.discount), mask_R_T)
        advantages = _rows(advantages_R_T, responses)
        return _regrouped(
            groups, [replace(r, advantages=own) for r, own in zip(credited, advantages, strict=True)]
        ), metrics


async def _gains(responses: Sequence[TrainingResponse], learners: LearnerGroup) -> Tensor:
    """What the spans of each response gained, (R, T), at the tokens that end them."""
    rows: list[Sequence[float]] = [(0.0,) * len(response.token_ids) for response in responses]
    spans = [index for index, response in enumerate(responses) if response.gains]
    if not spans:
        return _padded(rows)
    for index, ends in zip(spans, await learners.tokens_until([responses[i] for i in spans]), strict=True):
        rows[index] = incremental_rewards(responses[index].gains, ends, len(responses[index].token_ids))
    return _padded(rows)


def _explained(values_R_T: Tensor, returns_R_T: Tensor, mask_R_T: Tensor) -> dict[str, float]:
    """How much of the returns' variance the critic foresaw: 1 all of it, 0 as much as a constant, below 0 less."""
    returns, errors = returns_R_T[mask_R_T > 0], (returns_R_T - values_R_T)[mask_R_T > 0]
    spread = float(returns.var(correction=0))
    explained = 1.0 - float(errors.var(correction=0)) / spread if spread > 0 else 0.0
    return {"value_explained": explained, "return_mean": float(returns.mean())}


def _padded(rows: Sequence[Sequence[float]]) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def _rows(values_R_T: Tensor, responses: Sequence[TrainingResponse]) -> list[tuple[float, ...]]:
    return [tuple(row[: len(response.token_ids)]) for row, response in zip(values_R_T.tolist(), responses, strict=True)]


def _regrouped(groups: Sequence[TrainingGroup], responses: Sequence[TrainingResponse]) -> list[TrainingGroup]:
    rest = iter(responses)
    return [replace(group, responses=tuple(next(rest) for _ in group.responses)) for group in groups]
