"""Where episodes begin: scenario and seed, and the endless order in which training draws them. No torch, no ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data.sample import DrivingSample

TRAINING, MEASURING, SHOWN = 1_000_000, 2_000_000, 0
"""First seeds of the episodes that are trained on, of those that are measured, and of those that are demonstrated."""
RUNS_APART = 10_000
"""Between the seeds of two runs: none trains on, or measures, what another does."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where an episode begins."""

    scenario: str
    seed: int

    @property
    def id(self) -> str:
        """`scenario/seed`."""
        return f"{self.scenario}/{self.seed}"

    @classmethod
    def of(cls, sample: DrivingSample) -> Start:
        """The start that a sample of `StartOrder`, or of a turn, names."""
        scenario, _, seed = sample.scene_id.rpartition("/")
        return cls(scenario, int(seed))


class StartOrder:
    """An endless draw of starts: the scenarios in turn, a fresh seed for each round. Its state is `position` alone."""

    def __init__(self, scenarios: Sequence[str], seed: int, position: int = 0) -> None:
        """Go on where another stood after `position` draws; `seed` is the run's `data.seed`."""
        self._scenarios, self._first, self.position = tuple(scenarios), TRAINING + seed * RUNS_APART, position

    def draw(self) -> DrivingSample:
        """The next start, as the question that nobody has been shown yet."""
        turn, place = divmod(self.position, len(self._scenarios))
        self.position += 1
        start = Start(self._scenarios[place], self._first + turn)
        return DrivingSample(start.id, start.id, start.id, "behavior", "open_ended", "", "", {})

    def take(self, count: int) -> list[DrivingSample]:
        """The next `count` starts."""
        return [self.draw() for _ in range(count)]


def measured_starts(scenarios: Sequence[str], each: int, seed: int) -> list[Start]:
    """`each` starts of every scenario that no training draws."""
    first = MEASURING + seed * RUNS_APART
    return [Start(scenario, first + number) for scenario in scenarios for number in range(each)]
