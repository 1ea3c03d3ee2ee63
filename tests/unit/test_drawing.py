"""What a resumed run draws: every question is asked, however far ahead of the learner the engines were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from actors import experience as module
from actors.experience import Credit, experience
from actors.rollout.pool import EnginePool
from actors.scoring.scorers import Scorers
from data.quarantine import Quarantine
from data.rollout import Rollout, SamplingSettings
from data.sample import DrivingSample
from data.split import TaskBalancedOrder
from policies.prompt import PromptEncoder
from recipe import load_recipe
from rewards.group import ScoredRollout
from rewards.score import Score
from tests.algorithms import algorithm

SAMPLES = [
    DrivingSample(f"q{number}", f"scene{number}", "f", "behavior", "open_ended", "What now?", "Go.", {})
    for number in range(64)
]
DRAWS = 4


def scored(value: float) -> ScoredRollout:
    rollout = Rollout("r", "s", (1,), (7,), (-0.5,), "Go.", "stop", 0, "engine", 0.0, 1.0)
    return ScoredRollout(rollout, Score(value), 1.0)


async def positions(monkeypatch: pytest.MonkeyPatch, staleness: int, *, flat: bool = False) -> Any:
    """For each of five batches: the questions it asked, and where a run that goes on from it draws."""
    asked: list[list[str]] = []

    async def collect(
        samples: Sequence[DrivingSample], count: int, sampling: SamplingSettings, *_: object, enough: int | None
    ) -> list[list[ScoredRollout]]:
        asked.append([sample.id for sample in samples])
        return [[scored(50.0), scored(50.0 if flat else 0.0)] for _ in samples]

    monkeypatch.setattr(module, "collect_groups", collect)
    name = "dapo" if flat else "grpo"
    keys = [f"rollout.max_staleness={staleness}", f"rollout.prompts_per_step={DRAWS}", f"algorithm.name={name}"]
    recipe = load_recipe(["recipes/tiny.yaml", *keys])
    order = TaskBalancedOrder(SAMPLES, {"behavior": 1.0}, seed=0, position=0)
    credit = Credit(algorithm(name), recipe.rollout.max_tokens, cast(PromptEncoder, None))
    nobody = Quarantine(Path("no folder"), len(SAMPLES), 1.0, print)
    batches = experience(order, cast(EnginePool, None), cast(Scorers, None), credit, recipe, nobody, steps=range(1, 6))
    return asked, [batch.position async for batch in batches]


@pytest.mark.parametrize("staleness", [0, 1, 2])
async def test_a_run_goes_on_with_the_question_after_the_last_it_learnt_from(
    monkeypatch: pytest.MonkeyPatch, staleness: int
) -> None:
    _, found = await positions(monkeypatch, staleness)
    assert found == [DRAWS, 2 * DRAWS, 3 * DRAWS, 4 * DRAWS, 5 * DRAWS]


async def test_refills_move_the_place_to_go_on_from_unless_a_later_batch_has_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, alone = await positions(monkeypatch, 0, flat=True)
    assert alone[-1] == sum(map(len, asked))
    _, ahead = await positions(monkeypatch, 1, flat=True)
    assert ahead[0] == DRAWS  # the second batch drew before the first one's refills: its questions come again
