"""Supervised steps: their learning rate, and when they stop early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.learner_group import LearnerGroup
from actors.settings import WarmStartSettings
from actors.warm_start import WarmStart, learning_rate
from data.reasoning.reasoning import Variant
from data.sample import DrivingSample
from policies.batch import TrainingGroup, TrainingResponse

SAMPLE = DrivingSample("a", "scene", "frame", "behavior", "open_ended", "What?", "Go.", {})


class Learning(LearnerGroup):
    """Its held-out loss at each measurement is given; remembers what was saved and loaded, by number of updates."""

    def __init__(self, losses: Sequence[float]) -> None:
        self.losses, self.rates, self.saved, self.loaded = list(losses), list[float](), list[int](), list[int]()

    async def demonstrations(
        self, samples: Sequence[DrivingSample], variant: Variant = "simple"
    ) -> list[TrainingGroup]:
        return [TrainingGroup((), (1,), (TrainingResponse((2,), (0.0,), (1.0,)),)) for _ in samples]

    async def update(self, groups: Sequence[TrainingGroup], objective: str, lr: float) -> dict[str, float]:
        self.rates.append(lr)
        return {"loss": 1.0}

    async def log_probs(
        self, groups: Sequence[TrainingGroup], temperature: float | None = None, *, reference: bool = False
    ) -> list[list[float]]:
        assert temperature == 1.0
        return [[-self.losses.pop(0)]]

    async def save(self, folder: Path) -> None:
        self.saved.append(len(self.rates))

    async def load(self, folder: Path, universal: Path | None = None) -> None:
        assert folder.is_dir()
        self.loaded.append(self.saved[-1])


async def trained(losses: Sequence[float], folder: Path, steps: int = 20) -> Learning:
    settings = WarmStartSettings(batch_size=1, evaluate_every=2, patience=2)
    learners = Learning(losses)
    await WarmStart([SAMPLE], [SAMPLE], settings, 0, folder).steps(learners, steps)
    return learners


async def test_it_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best(tmp_path: Path) -> None:
    learners = await trained([3.0, 2.0, 2.5, 2.0], tmp_path)
    assert len(learners.rates) == 8
    assert learners.saved == [2, 4]
    assert learners.loaded == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["warm_start.jsonl"]


async def test_a_loss_that_keeps_falling_takes_all_steps_and_loads_nothing(tmp_path: Path) -> None:
    learners = await trained([4.0, 3.0, 2.0], tmp_path, steps=5)
    assert len(learners.rates) == 5  # and the last step is measured too
    assert learners.loaded == []


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", [0.5, 0.904508, 0.654508, 0.345492, 0.095492]),
    ],
)
def test_the_learning_rate_rises_over_the_warm_up_and_falls_by_its_schedule(
    schedule: str, expected: list[float]
) -> None:
    settings = WarmStartSettings.model_validate({"lr": 1.0, "schedule": schedule, "warmup_steps": 1})
    assert [learning_rate(settings, step, 5) for step in range(1, 6)] == pytest.approx(expected, abs=1e-6)
