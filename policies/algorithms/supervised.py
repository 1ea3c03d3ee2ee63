"""Supervised steps: cross-entropy on demonstrated answers (the warm start, and `train_sft.py`)."""

from __future__ import annotations

from typing import Literal

from policies.losses import GlobalCounts, LossResult, PolicyLossInput, supervised_loss


class Supervised:
    """A loss beside those of the algorithms: answers are no samples, so no temperature shapes their distribution."""

    temperature: float | None = 1.0
    reference: Literal["none"] = "none"

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """-lp of each token, the mean over the tokens of the global batch."""
        return supervised_loss(seen.logprobs_R_T, seen.mask_R_T, counts)
