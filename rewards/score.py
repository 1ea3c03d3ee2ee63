"""`Score`: what one answer is worth, and why. A failed part masks the rollout; it is never a zero."""

from __future__ import annotations

import runpy
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Score:
    """The worth of one answer on a 0-100 scale.

    `parts` holds every component under its own name, so that two rewards can be told apart in the logs.
    `increments` are per-token-span values (A2C); they are unbounded and travel beside the value.
    `failure` names why no score could be given; the rollout is then masked out of its group.
    """

    value: float
    parts: dict[str, float] = field(default_factory=dict)
    increments: tuple[float, ...] | None = None
    failure: str | None = None

    def __post_init__(self) -> None:
        """Refuse a value outside [0, 100].

        Raises:
            ValueError: the value is not a number in [0, 100].
        """
        if not 0.0 <= self.value <= 100.0:  # also refuses NaN
            raise ValueError(f"a score must lie in [0, 100], got {self.value!r} (parts: {self.parts})")


if __name__ == "__main__":  # `python -m rewards.score`: the command needs the judge's actors, which no scorer may know
    runpy.run_module("score_answer", run_name="__main__")
