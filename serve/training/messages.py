"""The JSON that Tinker's clients send, field by field. Unknown fields are left alone: newer clients send more.

What would change an answer and is not served is refused by name. No HTTP and no database here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Text = Annotated[str, Field(max_length=400)]
LONGEST = 2**63 - 1
HOUR, TEN_YEARS = 3600, 315_576_000


class Message(BaseModel):
    """A body."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class CreateSession(Message):
    """A client begins."""

    tags: list[Text] = Field(default=[], max_length=100)
    user_metadata: dict[str, Any] | None = None
    sdk_version: Text = ""
    display_name: Text | None = None


class OfSession(Message):
    """A sign of life."""

    session_id: Text


class LoraConfig(Message):
    """The form of an adapter. `train_unembed` is accepted and trains nothing: engines load no such adapter."""

    rank: int = Field(ge=1)
    seed: int | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True


class OptimizerConfig(Message):
    """The kind of optimizer."""

    type: Text = "adamw"


class CreateModel(Message):
    """A new adapter on a base."""

    session_id: Text
    model_seq_id: int = Field(ge=0, le=LONGEST)
    base_model: Annotated[str, Field(max_length=4096)]
    user_metadata: dict[str, Any] | None = None
    lora_config: LoraConfig | None = None
    optimizer_config: OptimizerConfig = OptimizerConfig()


class OfModel(Message):
    """About one model."""

    model_id: Text


class Numbered(OfModel):
    """A call that has its place in a model's order."""

    seq_id: int = Field(ge=1, le=LONGEST)


class AdamParams(Message):
    """One step of AdamW."""

    learning_rate: float = Field(0.0001, ge=0, le=1e3, allow_inf_nan=False)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-12, ge=0, le=1, allow_inf_nan=False)
    weight_decay: float = Field(0.0, ge=0, le=1e3, allow_inf_nan=False)
    grad_clip_norm: float = Field(0.0, ge=0, le=1e9, allow_inf_nan=False)


class OptimStep(Numbered):
    """Apply the gradient."""

    adam_params: AdamParams


class Ttl(Message):
    """How long a checkpoint is kept."""

    ttl_seconds: int | None = Field(None, ge=HOUR, le=TEN_YEARS)


class SaveWeights(Numbered, Ttl):
    """A checkpoint to train on from."""

    path: Text | None = None
    overwrite: bool = False
    user_metadata: dict[str, str] | None = None


class SaveWeightsForSampler(Numbered, Ttl):
    """A checkpoint to sample from: a named one, or one that becomes a sampler at once."""

    path: Text | None = None
    sampling_session_seq_id: int | None = Field(None, ge=0, le=LONGEST)
    kind: Literal["snapshot", "inflight"] = "snapshot"
    user_metadata: dict[str, str] | None = None


class LoadWeights(Message):
    """Go on from a checkpoint: in a model that is there, or in a new one."""

    path: Text
    optimizer: bool = False
    model_id: Text | None = None
    seq_id: int | None = Field(None, ge=1, le=LONGEST)
    session_id: Text | None = None
    model_seq_id: int | None = Field(None, ge=0, le=LONGEST)
    base_model: Annotated[str, Field(max_length=4096)] | None = None
    user_metadata: dict[str, Any] | None = None


class CreateSampler(Message):
    """A sampler of the base, or of a checkpoint."""

    session_id: Text
    sampling_session_seq_id: int = Field(ge=0, le=LONGEST)
    base_model: Annotated[str, Field(max_length=4096)] | None = None
    model_path: Text | None = None


class TextChunk(Message):
    """Tokens."""

    type: Literal["encoded_text"] = "encoded_text"
    tokens: list[int]


class ImageChunk(Message):
    """An image file in base64."""

    type: Literal["image"]
    data: str
    format: Text
    expected_tokens: int | None = None


class Prompt(Message):
    """Tokens and images in order."""

    chunks: list[Annotated[TextChunk | ImageChunk, Field(discriminator="type")]]


class SamplingParams(Message):
    """How to draw."""

    max_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-(2**63), le=LONGEST)
    stop: Text | list[Text] | list[int] | None = None
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_k: int = Field(-1, ge=-1)
    top_p: float = Field(1.0, gt=0, le=1)


class Sample(Message):
    """Some sequences after a prompt."""

    sampling_session_id: Text
    seq_id: int = Field(ge=0, le=LONGEST)
    num_samples: int = Field(1, ge=1)
    prompt: Prompt
    sampling_params: SamplingParams
    prompt_logprobs: bool | None = None
    prompt_logprobs_last_n: int | None = Field(None, ge=1)
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    target_prompt_logprobs: Any = None
    prompt_alt_tokens_k: int = 0

    @field_validator("topk_prompt_logprobs", "topk_sample_logprobs", "prompt_alt_tokens_k")
    @classmethod
    def _not_served(cls, given: int) -> int:
        if given:
            raise ValueError("this is not served here: leave it out")
        return given

    @field_validator("target_prompt_logprobs")
    @classmethod
    def _none_served(cls, given: Any) -> Any:
        if given is not None:
            raise ValueError("this is not served here: leave it out")
        return given


class Retrieve(Message):
    """Ask for a result."""

    request_id: Annotated[str, Field(max_length=300)]


class WeightsInfo(Message):
    """Ask about a checkpoint."""

    tinker_path: Text


def sentence(error: ValidationError) -> str:
    """What is wrong with a body: the field, and what to do."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "body"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{more}"
