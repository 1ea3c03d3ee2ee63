"""`Score`: what one answer is worth, and why. A failed part masks the rollout; it is never a zero."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Increment:
    """What one span of a response added to its score (A2C's reward along a caption); of either sign, unbounded."""

    gain: float
    """Points on the score's scale."""
    end: int
    """Index in the response, in characters, just behind the span."""


@dataclass(frozen=True, slots=True)
class Score:
    """The worth of one answer on a 0-100 scale.

    `parts` holds every component under its own name, so that two rewards can be distinguished in the logs.
    `increments` say where in the response some of it was earned (A2C); None where nobody can tell.
    `failure` names why no score could be given; the rollout is then masked out of its group.
    """

    value: float
    parts: dict[str, float] = field(default_factory=dict)
    increments: tuple[Increment, ...] | None = None
    failure: str | None = None

    def __post_init__(self) -> None:
        """Refuse a value outside [0, 100].

        Raises:
            ValueError: the value is not a number in [0, 100].
        """
        if not 0.0 <= self.value <= 100.0:  # also refuses NaN
            raise ValueError(f"a score must lie in [0, 100], got {self.value!r} (parts: {self.parts})")
