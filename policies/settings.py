"""Settings of `policies/`: which model learns, and by which loss."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LoraSettings(BaseModel):
    """Low-rank adapters (PEFT) on the language model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rank: int = Field(16, ge=1)
    """Rank r of each adapter."""
    alpha: float = 32.0
    """Scale: the update is multiplied by alpha / rank."""
    targets: tuple[Literal["attention", "mlp"], ...] = ("attention", "mlp")
    """Which language-model matrices carry adapters."""


class PolicySettings(BaseModel):
    """The vision-language model that learns."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str = "tiny"
    """A checkpoint folder, a Hugging Face hub name, or `tiny`: a small LLaVA-shaped model built locally."""
    revision: str | None = None
    """Hub revision (commit hash, tag or branch) to pin; None takes the newest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the learner's forward pass and of the engine."""
    lora: LoraSettings | None = None
    """Train adapters only; None trains all weights."""
    freeze_vision: bool = False
    """Keep the vision tower fixed."""
    image_size: tuple[int, int] | None = None
    """Width, height to which every frame is resized before the model's own processor; None: it gets the whole frame."""
    system_prompt: str | None = None
    """Text of the system turn; None sends none."""


class AlgorithmSettings(BaseModel):
    """The loss: GRPO and its settings (AutoDriveRL Eq. 2-3; see `policies/losses.py`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    advantage_epsilon: float = 1e-6
    """Added to the group's standard deviation before dividing."""
    clip_low: float = 0.2
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: float = 0.2
    """The ratio is clipped above at 1 + clip_high."""
    aggregation: Literal["seq-mean", "token-mean"] = "seq-mean"
    """`seq-mean`: mean over responses of their tokens' mean (AutoDriveRL Eq. 2); `token-mean`: mean over all tokens."""
    kl_beta: float = 0.01
    """Weight of the KL term (k3 estimator) towards the reference policy; 0 loads no reference policy."""
    log_ratio_clamp: float = 20.0
    """Log-ratios are clamped to +- this before they are exponentiated."""
    importance_cap: float | None = 2.0
    """Cap of the truncated importance weight between rollout engine and learner; None turns it off."""
    updates_per_batch: int = Field(1, ge=1)
    """Optimizer steps per batch of rollouts; each takes an equal share of the groups."""
