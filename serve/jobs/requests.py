"""What a client may ask of a fine-tuning job: OpenAI's fields, and ours under `x_`. Pure; nothing is started here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, field_validator, model_validator

from policies.settings import ALGORITHMS
from rewards.errors import RewardError
from rewards.graders import read_grader

Auto = Literal["auto"]
ALLOWED = (
    "algorithm.options.",
    "learner.lr",
    "learner.lr_floor",
    "learner.max_grad_norm",
    "learner.schedule",
    "learner.warmup_steps",
    "learner.weight_decay",
    "rollout.temperature",
    "rollout.top_k",
    "rollout.top_p",
    "warm_start.batch_size",
    "warm_start.lr",
    "warm_start.scenes",
    "warm_start.schedule",
    "warm_start.steps",
    "warm_start.variant",
    "evaluation.samples_per_task",
    "data.task_shares",
)
"""What `x_overrides` may set: how a model learns. Where things run, and what they read, is the operator's."""
WITHOUT_CRITIC = tuple(name for name in ALGORITHMS if name not in ("ppo", "a2c"))


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


class Hyperparameters(_Message):
    """Of both methods; `auto` is ours to choose."""

    n_epochs: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    x_steps: int | None = Field(None, ge=1)
    """In place of `n_epochs`."""
    x_rank: int | None = Field(None, ge=1)
    """Of the adapter."""
    x_checkpoint_steps: int | None = Field(None, ge=1)
    """Steps between checkpoints; else there are five, and the last."""
    x_held_out: float = Field(0.1, ge=0.0, le=0.9)
    """Share of the file's scenes that is measured and not trained on."""
    x_overrides: dict[str, Any] = Field(default={}, max_length=32)
    """Settings of the recipe, by their dotted names (`ALLOWED`)."""

    @field_validator("x_overrides")
    @classmethod
    def _only_learning(cls, given: dict[str, Any]) -> dict[str, Any]:
        for key in given:
            if not any(key == one or (one.endswith(".") and key.startswith(one)) or key.startswith(f"{one}.")
                       for one in ALLOWED):  # fmt: skip
                raise ValueError(f"{key[:80]} is the operator's: a job may set {', '.join(ALLOWED)}")
        return given


class ReinforcementHyperparameters(Hyperparameters):
    """Further ones of reinforcement."""

    compute_multiplier: Auto | Annotated[float, Field(gt=0, le=32)] = "auto"
    """Of the responses to a question, which are eight at 1."""
    eval_interval: Auto | Annotated[int, Field(ge=1)] = "auto"
    eval_samples: Auto | Annotated[int, Field(ge=1, le=1000)] = "auto"
    x_group_size: int | None = Field(None, ge=2, le=256)
    """Responses to a question; in place of `compute_multiplier`."""
    x_algorithm: str = "grpo"
    x_kl_beta: float | None = Field(None, ge=0)
    x_temperature: float | None = Field(None, ge=0.01, le=2)
    x_max_tokens: int | None = Field(None, ge=1)
    x_warm_start_steps: int = Field(0, ge=0)
    """Supervised steps on the file's answers before the first reward."""

    @field_validator("x_algorithm")
    @classmethod
    def _known(cls, given: str) -> str:
        if given not in WITHOUT_CRITIC:
            raise ValueError(f"{given[:40]!r} is not served, only {', '.join(WITHOUT_CRITIC)}")
        return given


class Supervised(_Message):
    """Cross-entropy on the answers."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Reinforcement(_Message):
    """Rewards of a grader."""

    grader: dict[str, Any]
    hyperparameters: ReinforcementHyperparameters = ReinforcementHyperparameters()

    @field_validator("grader")
    @classmethod
    def _is_one(cls, given: dict[str, Any]) -> dict[str, Any]:
        try:
            read_grader(given)
        except RewardError as error:
            raise ValueError(str(error)) from None
        return given


class SupervisedMethod(_Message):
    """`method` of a supervised job."""

    type: Literal["supervised"]
    supervised: Supervised = Supervised()


class ReinforcementMethod(_Message):
    """`method` of a reinforcement job."""

    type: Literal["reinforcement"]
    reinforcement: Reinforcement


class JobRequest(_Message):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model: str = Field(min_length=1, max_length=400)
    training_file: str = Field(min_length=1, max_length=100)
    method: Annotated[SupervisedMethod | ReinforcementMethod, Discriminator("type")] = SupervisedMethod(
        type="supervised"
    )
    hyperparameters: Hyperparameters | None = None
    """Where older clients put those of a supervised job."""
    seed: int = Field(0, ge=0, lt=2**31)
    suffix: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] = Field(
        default={}, max_length=16
    )
    validation_file: str | None = None
    integrations: list[Any] = []

    @field_validator("validation_file")
    @classmethod
    def _no_file(cls, given: str | None) -> str | None:
        if given is not None:
            raise ValueError("a second file is not served: a share of the first one's scenes is held out (x_held_out)")
        return given

    @field_validator("integrations")
    @classmethod
    def _no_integrations(cls, given: list[Any]) -> list[Any]:
        if given:
            raise ValueError("none is served: leave it out")
        return given

    @property
    def asked(self) -> Hyperparameters:
        """The hyperparameters, wherever they stand."""
        if isinstance(self.method, ReinforcementMethod):
            return self.method.reinforcement.hyperparameters
        return self.hyperparameters or self.method.supervised.hyperparameters

    @property
    def grader(self) -> dict[str, Any] | None:
        """That of a reinforcement job."""
        return self.method.reinforcement.grader if isinstance(self.method, ReinforcementMethod) else None
