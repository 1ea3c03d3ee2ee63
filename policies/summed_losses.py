"""`SummedLoss`: the losses that a client of the training service names; sums over all targets, never means.

The formulas are those of `policies.losses`. What differs is said by the wire: the ratio is taken to the sampler's
log-probabilities, which the client sends, the clip's bounds are ratios, and how to normalise is left to the advantages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from policies.errors import PolicyError
from policies.losses import (
    GlobalCounts,
    LossResult,
    PolicyLossInput,
    clipped_surrogate,
    sequence_ratio,
    token_ratio,
    weighted_surrogate,
)

if TYPE_CHECKING:
    from torch import Tensor

CLAMP = 20.0
"""Bound of the exponent of a ratio."""
RATIO_LOSSES = ("importance_sampling", "ppo", "cispo", "gspo")
"""Losses that read `logprobs` and `advantages`."""
LOSSES = ("cross_entropy", *RATIO_LOSSES)
"""The names that are served."""
OPTIONS = {
    "cross_entropy": ("temperature",),
    "importance_sampling": ("temperature",),
    **dict.fromkeys(("ppo", "cispo", "gspo"), ("clip_low_threshold", "clip_high_threshold", "temperature")),
}


@dataclass(frozen=True)
class SummedLoss:
    """A `Loss` of the learner."""

    name: str
    low: float = 0.8
    """The ratio below which a clip holds back."""
    high: float = 1.2
    """The ratio above which it does."""
    temperature: float | None = 1.0
    """That of the distribution whose log-probabilities are seen: the one that the client sampled at."""

    @property
    def reference(self) -> Literal["none"]:
        """A client that wants a KL puts it into its advantages."""
        return "none"

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """The sum over the micro-batch; its figures count the targets that teach."""
        credits_R_T = seen.advantages_R_T
        taught_R_T = seen.mask_R_T * (credits_R_T != 0)
        if self.name == "cross_entropy":
            loss_R_T = -seen.logprobs_R_T * credits_R_T
            return LossResult(loss_R_T.where(taught_R_T > 0, 0.0).sum(), {"taught": float(taught_R_T.sum())}, {})
        own = replace(seen, old_logprobs_R_T=seen.rollout_logprobs_R_T, mask_R_T=taught_R_T)
        ratio_R_T = sequence_ratio(own, CLAMP) if self.name == "gspo" else token_ratio(own, CLAMP)
        loss_R_T = self._surrogate(ratio_R_T, own)
        gap_R_T = (seen.logprobs_R_T.detach() - seen.rollout_logprobs_R_T).abs().where(taught_R_T > 0, 0.0)
        clipped_R_T = ((ratio_R_T < self.low) | (ratio_R_T > self.high)).where(taught_R_T > 0, False)
        sums = {"taught": taught_R_T, "sampler_gap": gap_R_T, "clipped": clipped_R_T}
        return LossResult(
            loss_R_T.where(taught_R_T > 0, 0.0).sum(),
            {name: float(value.detach().float().sum()) for name, value in sums.items()},
            {"sampler_gap": float(gap_R_T.max())},
        )

    def _surrogate(self, ratio_R_T: Tensor, seen: PolicyLossInput) -> Tensor:
        advantages_R_T, low, high = seen.advantages_R_T, 1.0 - self.low, self.high - 1.0
        if self.name == "importance_sampling":
            return -ratio_R_T * advantages_R_T
        if self.name == "cispo":
            return weighted_surrogate(ratio_R_T, advantages_R_T, seen.logprobs_R_T, low, high)
        return clipped_surrogate(ratio_R_T, advantages_R_T, low, high)


def summed_loss(name: str, config: Mapping[str, float | str]) -> SummedLoss:
    """The loss of a name with the options that a client gave.

    Raises:
        PolicyError: the name is not served, or an option is unknown or out of bounds.
    """
    if name not in LOSSES:
        raise PolicyError(f"loss_fn {name!r} is not served here; served are {', '.join(LOSSES)}")
    given: dict[str, float] = {}
    for key, value in config.items():
        if key not in OPTIONS[name]:
            raise PolicyError(f"loss_fn_config: {name} has no option {key!r}; it has {', '.join(OPTIONS[name])}")
        if not isinstance(value, int | float) or not 0 < value < 1e6:
            raise PolicyError(f"loss_fn_config: {key} must be a number above 0, got {value!r}")
        given[key] = float(value)
    low, high = given.get("clip_low_threshold", 0.8), given.get("clip_high_threshold", 1.2)
    if not low <= 1.0 <= high:
        raise PolicyError(f"loss_fn_config: the clip must hold 1 between its thresholds, got {low:g} and {high:g}")
    options: dict[str, Any] = {"low": low, "high": high, "temperature": given.get("temperature", 1.0)}
    return SummedLoss(name, **options)
