"""Settings of `rewards/`: the gate, and which scorers an answer goes through by task and kind."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class GateSettings(BaseModel):
    """Rules that settle an answer at 0 before any other scorer sees it (AutoDriveRL's first stage)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    overlong: bool = True
    """A response cut off at the token cap (finish reason `length`) is worth 0."""
    ngram: int = Field(default=4, ge=1)
    """Length in words of the n-grams in which repetition is counted."""
    max_repeated_share: float = Field(default=0.5, gt=0.0, le=1.0)
    """More than this share of repeated n-grams makes an answer repetitive."""
    max_repeated_sentence: int = Field(default=3, ge=1)
    """The same sentence more than this often makes an answer repetitive."""
    min_words: int = Field(default=12, ge=0)
    """Shorter answers are never called repetitive by n-grams."""


class RouteSettings(BaseModel):
    """The scorers for the answers of some tasks and kinds; the first route that matches is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    task: Literal["perception", "prediction", "planning", "behavior", "any"] = "any"
    """The task this route is for."""
    kind: Literal["multiple_choice", "yes_no", "open_ended", "coordinates", "structured", "any"] = "any"
    """The kind of question this route is for."""
    scorers: dict[str, float]
    """Scorer name (`exact_match`, `option`, `yes_no`, `hybrid_coordinate_f1`, `drivelm_match_f1`, `bleu`, `rouge_l`)
    or the import path `package.module:function` of your own, with its weight; the value is the weighted mean. A
    scorer of weight 0 is logged and counts for nothing."""

    @field_validator("scorers")
    @classmethod
    def _weights_make_a_mean(cls, scorers: dict[str, float]) -> dict[str, float]:
        if any(not (math.isfinite(weight) and weight >= 0) for weight in scorers.values()):
            raise ValueError("scorer weights must be 0 or positive numbers")
        if sum(scorers.values()) == 0:
            raise ValueError("at least one scorer needs a weight above 0")
        return scorers


DEFAULT_ROUTES = (
    RouteSettings(kind="multiple_choice", scorers={"option": 1.0}),
    RouteSettings(kind="yes_no", scorers={"yes_no": 1.0}),
    RouteSettings(kind="coordinates", scorers={"hybrid_coordinate_f1": 1.0}),
    RouteSettings(kind="structured", scorers={"hybrid_coordinate_f1": 0.5, "rouge_l": 0.25, "bleu": 0.25}),
    RouteSettings(kind="open_ended", scorers={"exact_match": 0.5, "rouge_l": 0.25, "bleu": 0.25}),
)


class RewardSettings(BaseModel):
    """How an answer becomes a `Score`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    gate: GateSettings = GateSettings()
    """The rules that come first."""
    routes: tuple[RouteSettings, ...] = DEFAULT_ROUTES
    """Tried in order; a sample that no route matches is an error before the run starts."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Longest time one answer's scoring may take; beyond it the rollout is masked as `scoring_timeout`."""
    max_masked_share: float = Field(default=0.5, gt=0.0, le=1.0)
    """The run stops when more than this share of a batch's rollouts was masked."""
