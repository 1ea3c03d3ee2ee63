"""Credit: gives the tokens of a whole batch their advantages, where a group's own rewards do not settle them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.utils.rnn import pad_sequence

from actors.learner_group import LearnerGroup
from policies.advantages import returns_to_go, token_rewards, whitened
from policies.batch import TrainingGroup
from policies.kl import kl_estimate
from policies.settings import AlgorithmSettings


async def credit_tokens(
    groups: Sequence[TrainingGroup], learners: LearnerGroup, algorithm: AlgorithmSettings
) -> list[TrainingGroup]:
    """The same groups, each token with its whitened return over the batch (REINFORCE++, arXiv 2501.03262).

    A response's reward belongs to its last token; with `kl_in: reward` every token pays for its KL towards the
    reference policy. A token's return is what it and the later ones earn.
    """
    responses = [response for group in groups for response in group.responses]
    mask_R_T = pad_sequence([torch.ones(len(response.token_ids)) for response in responses], batch_first=True)
    rewards_R = torch.tensor([response.reward for response in responses])
    kl_R_T, beta = torch.zeros_like(mask_R_T), 0.0
    if algorithm.kl_in == "reward" and algorithm.kl_beta > 0:
        own, reference = await learners.log_probs(groups), await learners.log_probs(groups, reference=True)
        own_R_T, reference_R_T = (
            pad_sequence(list(map(torch.tensor, one)), batch_first=True) for one in (own, reference)
        )
        kl_R_T = kl_estimate(own_R_T, reference_R_T, algorithm.kl_estimator, algorithm.log_ratio_clamp)
        beta = algorithm.kl_beta
    returns_R_T = returns_to_go(token_rewards(rewards_R, kl_R_T, mask_R_T, beta), mask_R_T)
    rows = iter(whitened(returns_R_T, mask_R_T).tolist())
    return [
        replace(
            group,
            responses=tuple(replace(r, advantages=tuple(next(rows)[: len(r.token_ids)])) for r in group.responses),
        )
        for group in groups
    ]
