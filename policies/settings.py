"""Settings of `policies/`: which model learns, and by which loss."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

TINY = "tiny"
"""The name of a model that is made on the spot, for whatever asks for one: policy, CLIP, judge."""


class LoraSettings(BaseModel):
    """Low-rank adapters (PEFT)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rank: int = Field(16, ge=1)
    """Rank r of each adapter."""
    alpha: float = 32.0
    """Scale: the update is multiplied by alpha / rank."""
    targets: tuple[Literal["attention", "mlp", "vision", "projector"], ...] = ("attention", "mlp")
    """Which matrices carry adapters: the language model's attention or MLP, the vision tower's, the projector's."""


class PolicySettings(BaseModel):
    """The vision-language model that learns."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str = TINY
    """A checkpoint folder, a Hugging Face hub name, or `tiny`: a small LLaVA-shaped model built locally."""
    revision: str | None = None
    """Hub revision (commit hash, tag or branch) to pin; None takes the newest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the learner's forward pass and of the engine."""
    attention: Literal["auto", "sdpa", "flex"] = "auto"
    """How the learner computes attention where responses share a prompt: `sdpa`, with a mask of L x L numbers, or
    `flex`, FlexAttention, which skips the blocks between two responses. `auto`: `flex` on GPUs where the model can
    (Qwen's text cannot), else `sdpa`."""
    lora: LoraSettings | None = None
    """Train adapters only; None trains all weights."""
    freeze_vision: bool = False
    """Keep the vision tower fixed."""
    freeze_projector: bool = False
    """With `freeze_vision`: keep what leads from the tower to the text fixed too. Where both are fixed, also by
    adapters, the features of a frame are computed once and kept."""
    image_size: tuple[int, int] | None = None
    """Width, height to which every frame is resized before the model's own processor; None: it gets the whole frame.
    With `views: stitched` it is the size of a tile, and must be set."""
    views: Literal["six", "stitched"] = "six"
    """`six`: each frame is an image of its own; `stitched`: the six cameras are one image of two rows and three columns
    (above: front left, front, front right; below: back right, back, back left). A camera that is missing leaves a black
    tile. Coordinates in questions and answers stay those of each camera's own 1600x900 frame."""
    lidar: bool = False
    """Show the LiDAR sweep of a sample that has one as a last image, drawn from above."""
    image_patches: int | None = Field(None, ge=1)
    """Cut each image into at most this many patches beside its overview, where the model does such a thing (InternVL,
    Idefics3, SmolVLM); 1 cuts none; None leaves it to the checkpoint's processor."""
    system_prompt: str | None = None
    """Text of the system turn; None sends none."""

    @property
    def images_per_prompt(self) -> int:
        """The most images that a prompt about six cameras holds."""
        return (1 if self.views == "stitched" else 6) + self.lidar

    @model_validator(mode="after")
    def _check_freezing(self) -> Self:
        if self.freeze_projector and not self.freeze_vision:
            raise ValueError("freeze_projector has no effect alone: set freeze_vision too")
        return self

    @model_validator(mode="after")
    def _check_tile_size(self) -> Self:
        if self.views == "stitched" and self.image_size is None:
            raise ValueError("views: stitched needs image_size, the width and height of a tile, such as [448, 252]")
        return self


AlgorithmName = Literal[
    "grpo", "dr_grpo", "dapo", "rloo", "reinforce_pp", "reinforce_pp_baseline", "gspo", "cispo", "ppo", "a2c"
]
PRESETS: dict[AlgorithmName, dict[str, Any]] = {
    "grpo": {},
    "dr_grpo": {"advantage": "centred", "aggregation": "token-sum-norm", "kl_beta": 0.0},
    "dapo": {
        "aggregation": "token-mean",
        "clip_high": 0.28,
        "kl_beta": 0.0,
        "refills": 8,
        "overlong_buffer": 0.2,
    },
    "rloo": {"advantage": "leave-one-out"},
    "reinforce_pp": {
        "advantage": "batch-normalised",
        "aggregation": "token-mean",
        "kl_in": "reward",
        "kl_estimator": "k1",
    },
    "reinforce_pp_baseline": {
        "advantage": "centred-batch-normalised",
        "aggregation": "token-mean",
        "kl_estimator": "k2",
    },
    "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "kl_beta": 0.0},
    "cispo": {
        "objective": "clipped-weight",
        "aggregation": "token-mean",
        "clip_low": 1.0,
        "clip_high": 4.0,
        "kl_beta": 0.0,
    },
    "ppo": {
        "advantage": "critic",
        "aggregation": "token-mean",
        "kl_in": "reward",
        "kl_estimator": "k1",
        "trace": 0.95,
        "whiten": True,
    },
    "a2c": {"advantage": "critic", "aggregation": "token-mean", "kl_in": "reward", "kl_estimator": "k1"},
}
"""What a name stands for, beside the defaults; every key can still be set apart.

GRPO: AutoDriveRL Eq. 2-3. Dr. GRPO: arXiv 2503.20783. DAPO: arXiv 2503.14476. RLOO: arXiv 2402.14740. REINFORCE++
and its form with the group's mean as a baseline: arXiv 2501.03262. GSPO: arXiv 2507.18071. CISPO: arXiv 2506.13585,
without a lower clip and with weights up to 5. PPO: arXiv 1707.06347 with the KL in the reward (arXiv 1909.08593). A2C:
the returns less the critic's values, of rewards that may come in increments along the response (BDD-OIA 2.2).
"""


class AlgorithmSettings(BaseModel):
    """The algorithm: how rewards become advantages, and advantages a loss (see `policies/losses.py`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: AlgorithmName = "grpo"
    """A published algorithm; it sets the keys below as in `PRESETS`, but for those that are given."""
    advantage: Literal[
        "normalised", "centred", "leave-one-out", "batch-normalised", "centred-batch-normalised", "critic"
    ] = "normalised"
    """What a reward is measured by: `normalised`: its group's mean and deviation; `centred`: the mean alone;
    `leave-one-out`: the mean of its siblings; `batch-normalised`: the tokens' returns, over the whole batch;
    `centred-batch-normalised`: the same, of rewards less their group's mean; `critic`: what a value head expected of
    each token (train_ppo.py)."""
    advantage_epsilon: float = Field(1e-6, ge=0)
    """Added to the group's standard deviation before dividing."""
    ratio: Literal["token", "sequence"] = "token"
    """The probability ratio to the old policy: each token's own, or the geometric mean over its response (GSPO)."""
    objective: Literal["clipped-ratio", "clipped-weight"] = "clipped-ratio"
    """`clipped-ratio`: PPO's pessimistic minimum; `clipped-weight`: the clipped ratio is a constant weight on the
    log-probability, so every token keeps its gradient (CISPO)."""
    clip_low: float = Field(0.2, ge=0)
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: float = Field(0.2, ge=0)
    """The ratio is clipped above at 1 + clip_high."""
    dual_clip: float | None = Field(None, gt=1)
    """Bound, in units of -advantage, on the loss of a token with a negative advantage; None sets none."""
    aggregation: Literal["seq-mean", "token-mean", "token-sum", "token-sum-norm"] = "seq-mean"
    """`seq-mean`: mean over responses of their tokens' mean (AutoDriveRL Eq. 2); `token-mean`: mean over all tokens;
    `token-sum`: sum over tokens / responses; `token-sum-norm`: sum over tokens / (responses x rollout.max_tokens), Dr.
    GRPO's."""
    kl_beta: float = Field(0.01, ge=0)
    """Weight of the KL term towards the reference policy; 0 loads no reference policy."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How the KL of one token is estimated from its two log-probabilities."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL counts: as a term of the loss, or off the reward of each token (where advantages are formed
    over a whole batch)."""
    kl_target: float | None = Field(None, gt=0)
    """With `kl_in: reward`: the mean KL of a response, in nats, towards which `kl_beta` is adapted; None keeps it."""
    kl_horizon: int = Field(10_000, ge=1)
    """Responses over which an adapted `kl_beta` answers to a lasting error."""
    discount: float = Field(1.0, gt=0, le=1)
    """Gamma: what a reward one token later is worth; read where advantages are formed over a whole batch."""
    trace: float = Field(1.0, ge=0, le=1)
    """Lambda of generalised advantage estimation; 1 is the return less the value. Read with a critic."""
    whiten: bool = False
    """Bring a critic's advantages to mean 0 and deviation 1 over the batch."""
    value_weight: float = Field(0.5, ge=0)
    """Weight of the critic's loss beside the policy's."""
    value_clip: float = Field(0.2, gt=0)
    """The critic's step is clipped to this distance from the values it gave before the first update on a batch."""
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

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        """What the name stands for, under what is given; an unknown name is left to the field's own check."""
        if not isinstance(given, dict):
            return given
        return PRESETS.get(given.get("name", "grpo"), {}) | given

    @model_validator(mode="after")
    def _check_kl(self) -> Self:
        if self.kl_in == "reward" and not self.credits_tokens:
            raise ValueError(
                "kl_in: reward needs advantage: batch-normalised, centred-batch-normalised or critic, whose rewards "
                "belong to tokens"
            )
        if self.kl_target is not None and (self.kl_in != "reward" or self.kl_beta == 0):
            raise ValueError("kl_target adapts the weight of a KL in the reward: set kl_in: reward and kl_beta above 0")
        return self

    @model_validator(mode="after")
    def _check_importance(self) -> Self:
        if self.importance in ("bound", "mask") and self.importance_floor > self.importance_cap:
            raise ValueError(
                f"importance: {self.importance} keeps no weight between importance_floor={self.importance_floor:g} and "
                f"importance_cap={self.importance_cap:g}: lower the floor or raise the cap"
            )
        return self

    @property
    def has_critic(self) -> bool:
        """Whether the policy carries a value head."""
        return self.advantage == "critic"

    @property
    def credits_tokens(self) -> bool:
        """Whether advantages are formed token by token over a whole batch, not within a group."""
        return self.advantage in ("batch-normalised", "centred-batch-normalised", "critic")

    @property
    def compares_group(self) -> bool:
        """Whether a response is measured by its siblings, so that a group needs two."""
        return self.advantage not in ("batch-normalised", "critic")
