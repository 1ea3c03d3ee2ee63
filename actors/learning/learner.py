"""The `Learner` protocol: one rank that holds a policy and its adapters, and learns what it is given.

It knows losses and log-probabilities; how groups came to be and what they were scored with is not its business. The
implementation is `actors.learning.deepspeed_learner`. All ranks of a group get the same calls in the same order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from policies.algorithms.algorithm import Loss
from policies.losses import LossResult
from policies.micro_batches import Share
from policies.settings import LoraSettings

OWN = "default"
"""The adapter of `policy.lora`; without it, all weights of the model. Every learner has it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that `assess` left with each rank: the groups, and what was found out about them."""

    index: int
    """Its place in that call."""


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """One step of AdamW; what is None is as `learner` in the recipe says."""

    lr: float
    betas: tuple[float, float] | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None

    def given(self) -> dict[str, Any]:
        """What it sets in a group of torch's AdamW."""
        named = {"lr": self.lr, "betas": self.betas, "eps": self.epsilon, "weight_decay": self.weight_decay}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(slots=True)
class Gathered:
    """Sums over one rank's share of a batch; the caller divides by the global counts."""

    loss: float = 0.0
    token_sums: dict[str, float] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by part. On a GPU a call returns before its kernels have run: what waits for them has their time."""

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the block's time to a part."""
        began = time.monotonic()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - began

    def add(self, result: LossResult) -> None:
        """Add one micro-batch."""
        self.loss += float(result.loss.detach())
        for name, value in result.token_sums.items():
            self.token_sums[name] = self.token_sums.get(name, 0.0) + value
        for name, value in result.maxima.items():
            self.maxima[name] = float(np.maximum(self.maxima.get(name, 0.0), value))  # keeps NaN, unlike max


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step did, the same on every rank."""

    grad_norm: float
    """Before clipping, over all ranks; infinite where nothing was applied."""
    applied: bool
    """False: the gradient was not finite, and no weight was changed on any rank."""


class Learner(Protocol):
    """One rank. Made with the settings of the recipe; `start` loads the model.

    `accumulate` and `step` carry a number that rises from call to call of an adapter, whichever of the two it is. One
    that was seen already is refused, so that a call which is sent again cannot learn twice.
    """

    def start(self, host: str, port: int) -> float:
        """Meet the other ranks there and load the model; returns the seconds it took."""

    def add_adapter(self, adapter: str, lora: LoraSettings) -> None:
        """Put a fresh adapter on the same base, with an optimizer of its own; it acts as the base does.

        Raises:
            LearnerError: this learner can hold no more than its own, or has one of that name.
        """

    def assess(self, shares: Sequence[Share], kl_beta: float) -> dict[str, float]:
        """Find out about batches, before the first update of its own adapter, what the algorithm wants to know.

        Log-probabilities, values and the reference's stay here as tensors, with the advantages that come of them, for
        `accumulate(Held(index))`; until the next call.

        Args:
            shares: this rank's part of each batch.
            kl_beta: the weight of a KL in the reward.

        Returns:
            The algorithm's metrics of all batches together, the same on every rank.
        """

    def accumulate(self, adapter: str, batch: Share | Held, loss: Loss, sequence: int) -> Gathered:
        """Add the gradient of a batch to what the adapter's next step applies; others' gradients stay untouched.

        Raises:
            LearnerError: the number was already seen, or there is no such adapter.
        """

    def step(self, adapter: str, optimizer: OptimizerSettings, sequence: int) -> Stepped:
        """Apply the gathered gradient, unless it is not finite, and forget it.

        Raises:
            LearnerError: as `accumulate`, or nothing was accumulated since the last step.
        """

    def record(self, path: str) -> None:
        """Write what the updates since the last call saw of this rank's responses (`policies.learnt.SCHEMA`).

        Raises:
            DiskFull: there is no room.
        """

    def log_probs(
        self, share: Share, temperature: float | None = None, *, reference: bool = False, adapter: str = OWN
    ) -> list[list[float]]:
        """Log-probabilities of this rank's responses, in the order of `share.places`.

        Args:
            share: prompts with their responses.
            adapter: the one that acts.
            temperature: that of the distribution; None: the rollouts'.
            reference: under the reference policy instead, at the rollouts' temperature.
        """

    def freeze_reference(self) -> None:
        """Take the policy as it is now for the reference; with adapters that is the model below them."""

    def forget_moments(self) -> None:
        """Begin the optimizer of the policy's own weights anew: what it gathered of gradients before counts no more."""

    def offload(self) -> None:
        """Move to host memory what only learning needs, until `reload`; weights stay, since they are sent.

        Optimizer, gradients and the copied reference go. Done twice it does nothing more.
        """

    def reload(self) -> None:
        """Bring back what `offload` moved; where nothing was moved it does nothing."""

    def save(self, folder: str) -> None:
        """Write weights, optimizers, numbers and random state of all adapters for `load`.

        Raises:
            LearnerError: gradients wait for a step; they would be lost.
        """

    def load(self, folder: str, universal: str | None = None) -> int:
        """Read what `save` wrote, adding the adapters that it holds; returns the largest number that any has seen."""

    def export(self, folder: str) -> None:
        """Write the policy in Hugging Face layout, its own adapter merged."""
