"""The options that several algorithms share, each documented once. An algorithm's own defaults stand in its file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Aggregation = Literal["seq-mean", "token-mean", "token-sum", "token-sum-norm"]


class PolicyOptions(BaseModel):
    """What every policy loss here reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    clip_low: float = Field(0.2, ge=0)
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: float = Field(0.2, ge=0)
    """The ratio is clipped above at 1 + clip_high."""
    aggregation: Aggregation = "seq-mean"
    """`seq-mean`: mean over responses of their tokens' mean (AutoDriveRL Eq. 2); `token-mean`: mean over all tokens;
    `token-sum`: sum over tokens / responses; `token-sum-norm`: sum over tokens / (responses x rollout.max_tokens), Dr.
    GRPO's."""
    kl_beta: float = Field(0.01, ge=0)
    """Weight of the KL term towards the reference policy; 0 loads no reference policy."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How the KL of one token is estimated from its two log-probabilities."""
    log_ratio_clamp: float = Field(20.0, gt=0)
    """Log-ratios are clamped to +- this before they are exponentiated."""
    importance: Literal["none", "truncate", "bound", "mask"] = "truncate"
    """Correction for what rollout engine and learner compute differently: each token's weight is cut at the cap
    (`truncate`) or brought inside [floor, cap] (`bound`), or tokens whose weight lies outside it are left out (`mask`,
    IcePop)."""
    importance_cap: float = Field(2.0, gt=0)
    """The largest importance weight between rollout engine and learner."""
    importance_floor: float = Field(0.5, ge=0)
    """The smallest one; read with `importance: bound` and `mask`."""
    refills: int = Field(0, ge=0)
    """Dynamic sampling (DAPO): how often, at most, groups with equal rewards are replaced by those of fresh
    questions before a batch is learnt from; 0 learns from what there is."""
    overlong_buffer: float = Field(0.0, ge=0, lt=1)
    """Soft punishment of long responses (DAPO Eq. 13): over the last share of `rollout.max_tokens` the reward falls
    by up to 100 points; 0 has none."""
    updates_per_batch: int = Field(1, ge=1)
    """Optimizer steps per batch of rollouts; each takes an equal share of the groups."""

    @model_validator(mode="after")
    def _check_importance(self) -> Self:
        if self.importance in ("bound", "mask") and self.importance_floor > self.importance_cap:
            raise ValueError(
                f"importance: {self.importance} keeps no weight between importance_floor={self.importance_floor:g} and "
                f"importance_cap={self.importance_cap:g}: lower the floor or raise the cap"
            )
        return self


class ClippedRatioOptions(PolicyOptions):
    """Those of PPO's clipped ratio."""

    dual_clip: float | None = Field(None, gt=1)
    """Bound, in units of -advantage, on the loss of a token with a negative advantage; None sets none."""


class NormalisedOptions(PolicyOptions):
    """Those of advantages that are divided by their group's deviation."""

    advantage_epsilon: float = Field(1e-6, ge=0)
    """Added to the group's standard deviation before dividing."""


class OverBatchOptions(ClippedRatioOptions):
    """Those of advantages that are formed token by token over a whole batch."""

    kl_in: Literal["loss", "reward"] = "reward"
    """Where the KL counts: as a term of the loss, or off the reward of each token."""
    kl_target: float | None = Field(None, gt=0)
    """With `kl_in: reward`: the mean KL of a response, in nats, towards which `kl_beta` is adapted; None keeps it."""
    kl_horizon: int = Field(10_000, ge=1)
    """Responses over which an adapted `kl_beta` answers to a lasting error."""
    discount: float = Field(1.0, gt=0, le=1)
    """Gamma: what a reward one token later is worth."""

    @model_validator(mode="after")
    def _check_kl_target(self) -> Self:
        if self.kl_target is not None and (self.kl_in != "reward" or self.kl_beta == 0):
            raise ValueError("kl_target adapts the weight of a KL in the reward: set kl_in: reward and kl_beta above 0")
        return self


class CriticOptions(OverBatchOptions):
    """Those of a value head beside the policy."""

    trace: float = Field(1.0, ge=0, le=1)
    """Lambda of generalised advantage estimation; 1 is the return less the value."""
    whiten: bool = False
    """Bring the advantages to mean 0 and deviation 1 over the batch."""
    value_weight: float = Field(0.5, ge=0)
    """Weight of the critic's loss beside the policy's."""
    value_clip: float = Field(0.2, gt=0)
    """The critic's step is clipped to this distance from the values it gave before the first update on a batch."""
