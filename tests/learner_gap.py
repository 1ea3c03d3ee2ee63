"""How far an engine's log-probabilities lie from the learner's, on the engine's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from data.rollout import Rollout
from data.sample import DrivingSample
from policies.batch import TrainingGroup, TrainingResponse, pack
from policies.model import Policy, load_processor
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings
from policies.views import views_of


def largest_gap(
    policy: Policy, folder: Path, settings: PolicySettings, samples: Sequence[DrivingSample], found: Sequence[Rollout]
) -> float:
    """Over all tokens; `found[i]` answers `samples[i]`."""
    return max(max(row) for row in token_gaps(policy, folder, settings, samples, found))


def token_gaps(
    policy: Policy, folder: Path, settings: PolicySettings, samples: Sequence[DrivingSample], found: Sequence[Rollout]
) -> list[list[float]]:
    """|engine - learner| of every token, response by response."""
    encoder = PromptEncoder(load_processor(folder, settings), settings)
    groups = []
    for sample, rollout in zip(samples, found, strict=True):
        response = TrainingResponse(rollout.token_ids, rollout.logprobs, (0.0,) * len(rollout.token_ids))
        groups.append(TrainingGroup(views_of(sample), rollout.prompt_ids, (response,)))
    batch = pack(
        groups,
        encoder.image_tensors,
        pad_id=0,
        shared_prefix=policy.shares_prefix,
        prompt_positions=policy.prompt_positions,
    )
    with torch.no_grad():
        logprobs_R_T, _ = policy(batch)
    gaps_R_T = (logprobs_R_T - batch.rollout_logprobs_R_T).abs()
    return [gaps_T[mask_T.bool()].tolist() for gaps_T, mask_T in zip(gaps_R_T, batch.mask_R_T, strict=True)]
