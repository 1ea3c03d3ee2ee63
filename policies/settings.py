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
    four_bit: bool = False
    """QLoRA: hold the language model's matrices in 4 bits (NF4, bitsandbytes), a quarter of what they take in bfloat16.
    Engines get them as they are rounded, with the adapters merged, so that both sides act alike. Not with ZeRO-3, nor
    with `rollout.adapters: apart`. Run by us on CPU alone."""


class HeadSettings(BaseModel):
    """Driving tokens that are added to the model: waypoints in bins, motions in a codebook (docs/driving.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    trajectory: str | None = None
    """File of bins for waypoints, as `python -m commands.driving_tokens trajectory` writes it."""
    actions: str | None = None
    """File of a codebook of motions, as `python -m commands.driving_tokens actions` writes it; `driving`: that of the
    embedded world's expert."""
    start: Literal["mean", "numerals"] = "mean"
    """How a new token's rows begin: as the mean of all other tokens, or of those that write its number."""
    answer: Literal["tokens", "think", "free"] = "tokens"
    """What an answer may be. `tokens`: one plan and nothing else; `think`: text before and after a plan, which is whole
    once it has begun; `free`: anything. Tokens that are not due have no probability, in the engine and in the loss."""

    @model_validator(mode="after")
    def _check_named(self) -> Self:
        if self.trajectory is None and self.actions is None:
            raise ValueError("policy.heads names no tokens: give trajectory, actions or both")
        return self


class TinySettings(BaseModel):
    """The shape of the policy that is built on the spot."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    image_size: int = Field(32, ge=16)
    """Every image is resized whole to a square of this many pixels."""
    patch_size: int = Field(16, ge=4)
    """The tower makes one token of each square of this many pixels; must divide `image_size`."""
    width: int = Field(192, ge=32, multiple_of=32)
    """Numbers in a token of the language model; an attention head has 32 of them."""
    layers: int = Field(2, ge=1)
    """Of the language model."""

    @model_validator(mode="after")
    def _check_patches(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} must divide image_size={self.image_size}")
        return self


class PolicySettings(BaseModel):
    """The vision-language model that learns."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str = TINY
    """A checkpoint folder, a Hugging Face hub name, or `tiny`: a small LLaVA-shaped model built locally."""
    tiny: TinySettings = TinySettings()
    """The shape of `tiny`."""
    revision: str | None = None
    """Hub revision (commit hash, tag or branch) to pin; None takes the newest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the learner's forward pass and of the engine."""
    attention: Literal["auto", "sdpa", "flex"] = "auto"
    """How the learner computes attention where responses share a prompt; neither makes a mask of L x L numbers. `sdpa`:
    the prompt, then each response over the prompt and itself. `flex`: FlexAttention, which skips the blocks between two
    responses, where the model can (Qwen's text cannot). `auto`: `sdpa`."""
    lora: LoraSettings | None = None
    """Train adapters only; None trains all weights."""
    heads: HeadSettings | None = None
    """Driving tokens to add to the model; None: it keeps the vocabulary that it has. With `lora` their rows are learnt
    beside the adapters."""
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


ALGORITHMS = {
    "grpo": "policies.algorithms.grpo:Grpo",
    "dr_grpo": "policies.algorithms.dr_grpo:DrGrpo",
    "dapo": "policies.algorithms.dapo:Dapo",
    "rloo": "policies.algorithms.rloo:Rloo",
    "reinforce_pp": "policies.algorithms.reinforce_pp:ReinforcePp",
    "reinforce_pp_baseline": "policies.algorithms.reinforce_pp:ReinforcePpBaseline",
    "gspo": "policies.algorithms.gspo:Gspo",
    "cispo": "policies.algorithms.cispo:Cispo",
    "ppo": "policies.algorithms.ppo:Ppo",
    "a2c": "policies.algorithms.a2c:A2c",
}
"""The built-in algorithms. Their modules bring no torch, so that a recipe is checked at once."""
ALGORITHM = "policies.algorithms.algorithm:Algorithm"
"""The protocol that every algorithm follows."""

FORMERLY_SET = {
    "advantage": {
        "normalised": ("grpo", "dapo", "gspo", "cispo"),
        "centred": ("dr_grpo",),
        "leave-one-out": ("rloo",),
        "batch-normalised": ("reinforce_pp",),
        "centred-batch-normalised": ("reinforce_pp_baseline",),
        "critic": ("ppo", "a2c"),
    },
    "ratio": {"sequence": ("gspo",), "token": tuple(name for name in ALGORITHMS if name != "gspo")},
    "objective": {"clipped-weight": ("cispo",), "clipped-ratio": tuple(name for name in ALGORITHMS if name != "cispo")},
}
"""Keys of earlier recipes that the name alone decides now: for each value, the names that stand for it."""

_OVER_BATCH = ("reinforce_pp", "reinforce_pp_baseline", "ppo", "a2c")
FORMERLY_EVERYWHERE: dict[str, tuple[Any, tuple[str, ...]]] = {
    "advantage_epsilon": (1e-6, ("grpo", "dapo", "gspo", "cispo")),
    "dual_clip": (None, tuple(name for name in ALGORITHMS if name != "cispo")),
    "kl_in": ("loss", _OVER_BATCH),
    "kl_target": (None, _OVER_BATCH),
    "kl_horizon": (10_000, _OVER_BATCH),
    "discount": (1.0, _OVER_BATCH),
    "trace": (1.0, ("ppo", "a2c")),
    "whiten": (False, ("ppo", "a2c")),
    "value_weight": (0.5, ("ppo", "a2c")),
    "value_clip": (0.2, ("ppo", "a2c")),
}
"""Options that every algorithm used to list, with their default there, and the names that read them."""


class AlgorithmSettings(BaseModel):
    """The algorithm: how rewards become advantages, and advantages a loss (`policies/algorithms/`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = "grpo"
    """A published algorithm (`grpo`, `dr_grpo`, `dapo`, `rloo`, `reinforce_pp`, `reinforce_pp_baseline`, `gspo`,
    `cispo`, `ppo`, `a2c`), or `module:Class` of your own."""
    options: dict[str, Any] = {}
    """What the algorithm takes of its own; each is documented in the `Settings` of its class."""

    @model_validator(mode="before")
    @classmethod
    def _move_into_options(cls, given: Any) -> Any:
        """Recipes of before held the options beside the name; a key given so has the last word.

        Raises:
            ValueError: such a key contradicts what the name stands for.
        """
        if not isinstance(given, dict):
            return given
        name, options = given.get("name", "grpo"), dict(given.get("options") or {})
        for key, value in given.items():
            if key in ("name", "options"):
                continue
            if key in FORMERLY_SET and name in ALGORITHMS:
                names = FORMERLY_SET[key].get(str(value), ())
                if name not in names:
                    instead = f"set algorithm.name to {' or '.join(names)}" if names else "leave it out"
                    raise ValueError(f"algorithm.{key}={value} is not what {name} does: {instead}")
            elif key in FORMERLY_EVERYWHERE and name in ALGORITHMS:
                default, readers = FORMERLY_EVERYWHERE[key]
                if name in readers or value != default:
                    options[key] = value
            else:
                options[key] = value
        return {"name": name, "options": options}
