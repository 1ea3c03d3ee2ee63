"""`Environment`: what a policy acts in, turn by turn, until an episode ends; and which class a recipe names.

An episode is one object in a worker's process (`actors/driving/worker.py`), which makes hundreds of them, steps them in
batches, looks at all they return, and is started again when one of them takes it down. No torch, no ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from data.errors import DataError
from data.settings import EnvironmentSettings
from extension import made

Pixels = NDArray[np.uint8]

ENVIRONMENTS: Mapping[str, str] = {"driving": "data.driving.environment:Driving"}
"""What `environment.name` may name beside `module:Class`."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the policy is shown before it acts."""

    question: str
    """The text of the turn."""
    images: Mapping[str, Pixels] = field(default_factory=dict)
    """Name to pixels (H, W, 3); the same names and sizes in every turn of an episode. Empty: a text task."""
    state: Mapping[str, float] = field(default_factory=dict)
    """Numbers that are kept with the turn, such as the speed; the policy does not see them."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one action led to."""

    observation: Observation | None
    """What comes next; None: the episode is over."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What happened in this turn, by name. `environment.weights` says what one unit of each is worth in points."""
    events: tuple[str, ...] = ()
    """In words, for the log."""
    complete: bool = False
    """The response said all it had to: where it ended at `rollout.max_tokens`, it was not cut off there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is kept of an episode that ended."""

    record: Mapping[str, Any] | None = None
    """A record as Bench2Drive's leaderboard writes it, without `score_composed`; None: the task has none."""
    trace: Mapping[str, Any] = field(default_factory=dict)
    """What a report draws; JSON. Empty: nothing is drawn."""


class Environment(Protocol):
    """One episode at a time. `environment.name: my_package.my_task:MyTask` names a class of yours; derive from nothing.

    What a method raises ends the episode: it is counted under its name, and never scored. So is an observation that
    differs in images from the first, or holds a number that is not finite. A method that takes longer than
    `environment.timeout_s` costs the worker and all its episodes; the worker is started again.
    """

    Settings: ClassVar[type[BaseModel]]
    """A pydantic model of `environment.options`. Forbid extra keys."""
    measures: ClassVar[tuple[str, ...]]
    """The names that `Step.measures` may hold; a weight for any other is refused before a run."""

    def __init__(self, settings: Any) -> None:
        """Take the options; nothing is begun."""
        ...

    def scenarios(self, *, held_out: bool) -> tuple[str, ...]:
        """The names of what can be begun: those that are trained on, or those that are only measured."""
        ...

    def reset(self, scenario: str, seed: int) -> Observation:
        """Begin an episode, the same for the same arguments.

        Raises:
            DataError: the scenario is unknown.
        """
        ...

    def step(self, response: str, seconds: float) -> Step:
        """Take the policy's response to the last observation.

        Args:
            response: its text, whatever it says; what cannot be understood is an event, no error.
            seconds: how long the answer took; 0 unless `environment.seconds_per_token` charges for it.
        """
        ...

    def outcome(self) -> Outcome:
        """What is to be kept of the episode, once it is over."""
        ...


def environment_of(settings: EnvironmentSettings) -> Environment:
    """An environment of a recipe's class with its options.

    Raises:
        ExtensionError: the class or an option is unknown, or does not fit.
        DataError: a weight is for something that the environment does not measure.
    """
    found: Environment = made(
        settings.name, settings.options, ENVIRONMENTS, Environment, "environment.name", "environment.options"
    )
    if unknown := [name for name in settings.weights if name not in found.measures]:
        raise DataError(
            f"environment.weights.{unknown[0]}: {settings.name} measures {', '.join(found.measures)}; take it out"
        )
    return found


def fault_of(observation: Observation, first: Observation) -> str | None:
    """What is wrong with an observation, in a few words that begin with a name to count it under; None: nothing."""
    for name, value in observation.state.items():
        if not math.isfinite(value):
            return f"not_finite: its state holds {name}={value}"
    if list(observation.images) != list(first.images):
        return f"other_images: it shows {', '.join(observation.images) or 'none'}, at first {', '.join(first.images)}"
    for name, image in observation.images.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            return f"other_images: {name} is {image.dtype} of {image.shape}, not uint8 of (height, width, 3)"
        if image.shape != first.images[name].shape:
            return f"other_images: {name} is {image.shape}, at first {first.images[name].shape}"
    return None
