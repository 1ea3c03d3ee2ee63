"""What would make a recipe fit, or faster: one setting at a time, ranked by what the forecast says it gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.rollout.engine import engine_of
from cluster.errors import PlanError
from cluster.forecast import Change, Forecast


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting and what it is predicted to bring."""

    settings: str
    """As overrides, ready to be typed."""
    hours: float
    """Fewer hours of the run; negative where it costs time to fit."""
    gib: float
    """Less memory on a learner's GPU."""
    gpus: float
    """More GPUs than now."""


def faster(forecast: Forecast) -> list[Advice]:
    """Settings that save time, the most first; no activations are traced anew, since none of them changes a pass."""
    recipe = forecast.recipe
    rollout, learner, judge = recipe.rollout, recipe.learner, recipe.reward.judge
    options: Any = engine_of(recipe).options
    tried: list[list[Change]] = []
    if rollout.max_staleness == 0:
        tried.append([("rollout", "max_staleness", 1)])
    if rollout.gpus and getattr(options, "eager", lambda gpus: False)(rollout.gpus):
        tried.append([("rollout", "options", {"compile": True})])
    if rollout.gpus:
        tried.append([("rollout", "engines", rollout.engines * 2)])
    if learner.gpus:
        tried.append([("learner", "ranks", learner.ranks * 2)])
        if learner.gradient_checkpointing:
            tried.append([("learner", "gradient_checkpointing", False)])
    if judge is not None and judge.url is None:
        more = recipe.reward.judge.model_copy(update={"engines": judge.engines * 2}) if recipe.reward.judge else None
        tried.append([("reward", "judge", more)])
    found = [_advice(forecast, changes, memory=False) for changes in tried]
    return sorted((one for one in found if one is not None and one.hours > 0.01), key=lambda one: -one.hours)


def smaller(forecast: Forecast) -> list[Advice]:
    """Settings that save memory of a learner's GPU, the most first."""
    learner, gpu = forecast.recipe.learner, forecast.recipe.learner.gpus > 0
    tried: list[list[Change]] = []
    if not learner.gradient_checkpointing:
        tried.append([("learner", "gradient_checkpointing", True)])
    if (half := forecast.row_positions // 2) > forecast.work.prompt + forecast.recipe.rollout.max_tokens:
        tried.append([("learner", "micro_batch_tokens", half)])
    if gpu and not learner.offload_optimizer:
        tried.append([("learner", "offload_optimizer", True)])
    if learner.zero_stage < 3 and learner.ranks > 1:
        tried.append([("learner", "zero_stage", 3)])
    if gpu:
        tried.append([("learner", "ranks", learner.ranks * 2)])
    found = [_advice(forecast, changes, memory=True) for changes in tried]
    return sorted((one for one in found if one is not None and one.gib > 0.05), key=lambda one: -one.gib)


def _advice(forecast: Forecast, changes: list[Change], *, memory: bool) -> Advice | None:
    try:
        other = forecast.with_settings(*changes)
        gib = forecast.learner_memory().total - other.learner_memory().total if memory else 0.0
        gained = forecast.hours - other.hours if forecast.plan.gpus else 0.0
    except PlanError:
        return None
    named = " ".join(_override(*change) for change in changes)
    return Advice(named, gained, gib, other.plan.gpus - forecast.plan.gpus)


def _override(part: str, field: str, value: Any) -> str:
    if field == "options":
        return " ".join(f"{part}.options.{name}={str(inner).lower()}" for name, inner in value.items())
    if (part, field) == ("reward", "judge"):
        return f"reward.judge.engines={value.engines}"
    return f"{part}.{field}={str(value).lower() if isinstance(value, bool) else value}"
