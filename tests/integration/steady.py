"""A learner for tests that compare two trainings: what is rounding stays rounding, and its gradients can be read.

AdamW divides every entry of the gradient by that entry's own size. An entry that is nothing but rounding then moves its
weight as far as any other, and where to depends on the processor. `EPSILON`, which AdamW adds below the fraction, ends
that: it is far above the rounding of the gradients here, and far below their larger entries.
"""

from __future__ import annotations

from typing import Any

import ray
import torch
from deepspeed.utils import safe_get_full_grad
from torch import Tensor

from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.learning.group import LearnerGroup
from tests.rounding import GRADIENT_SHARE, UNIT

EPSILON = 1e-4


class SteadyLearner(DeepSpeedLearner):
    """Keeps the whole gradient of every update as one vector, before it is clipped, whatever the ranks share out."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gradients: list[Tensor] = []

    def start(self, host: str, port: int) -> float:
        seconds = super().start(host, port)
        for group in self.engine.optimizer.param_groups:
            group["eps"] = EPSILON
        return seconds

    def _step(self) -> float:
        parts = [safe_get_full_grad(p) for p in self.policy.parameters() if p.requires_grad]
        self.gradients.append(torch.cat([part.detach().flatten().float() for part in parts]))
        return super()._step()


def gradients(learners: LearnerGroup) -> list[Tensor]:
    """The gradient of every update so far."""
    return ray.get(learners.ranks[0].__ray_call__.remote(lambda learner: learner.gradients), timeout=300)


def weights_may_differ_by(lr: float, updates: list[Tensor], largest_weight: float) -> float:
    """How far the weights may lie apart after updates whose gradients agree as far as `assert_same_gradient` asks.

    AdamW moves a weight by lr * m / (sqrt(v) + EPSILON). Where the gradients are off by d or less, so are m and
    sqrt(v); and in the first two updates m is at most a little larger than sqrt(v). So a move is off by at most
    2 * lr * d / EPSILON. Each update also rounds the weight itself.
    """
    off = [GRADIENT_SHARE * float(gradient.abs().max()) for gradient in updates]
    return sum(2 * lr * d / EPSILON + UNIT * largest_weight for d in off)
