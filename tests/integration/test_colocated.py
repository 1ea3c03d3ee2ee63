"""Runs whose engines lie beside learner ranks (`rollout.on_learners`): taking turns changes nothing that is learnt."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from actors.training import prepare, run_reinforcement
from recipe import Recipe
from tests.integration import faults
from tests.integration.conftest import QUICK_ENGINE, MakeRecipe, any_node
from tests.integration.varied import VARIED

pytestmark = pytest.mark.usefixtures("ray_session")

PLAIN = ("evaluation.before_and_after=false", *VARIED)


def run(recipe: Recipe, **classes: Any) -> list[dict[str, Any]]:
    prepared = prepare(recipe)
    assert asyncio.run(run_reinforcement(prepared, any_node, **classes))
    return [json.loads(line) for line in (prepared.folder / "metrics.jsonl").read_text().splitlines()]


def learnt(step: dict[str, Any]) -> dict[str, Any]:
    """The figures of a step that do not say how long something took."""
    return {name: value for name, value in step.items() if not name.endswith(("_s", "time"))}


def test_a_colocated_run_learns_what_one_with_engines_of_its_own_does(small_recipe: MakeRecipe) -> None:
    given = ("run.steps=3", "run.checkpoint_every=1", "learner.lr=3e-3", QUICK_ENGINE, *PLAIN)
    apart = run(small_recipe(*given, "run.name=apart"))
    colocated = run(small_recipe(*given, "run.name=colocated", "rollout.on_learners=1"))
    assert [learnt(step) for step in colocated] == [learnt(step) for step in apart]
    assert any(step["grad_norm"] > 0 for step in colocated)
    assert all(step["turns_s"] > 0 for step in colocated)
    assert all("turns_s" not in step for step in apart)


def test_vllm_has_its_weights_and_the_adapter_after_waking(small_recipe: MakeRecipe) -> None:
    """Probes compare engine and learner at every publish, the rollouts themselves from the first on."""
    adapters = ("policy.lora={rank: 4, alpha: 32}", "rollout.adapters=apart", "warm_start.lr=1e-2", "learner.lr=1e-2")
    steps = run(small_recipe("run.steps=2", "rollout.on_learners=1", *adapters, *PLAIN))
    assert all(step["probe_gap"] < 1e-4 and step["rollout_gap_max"] < 1e-4 for step in steps)


@pytest.mark.fault
def test_devices_are_lent_while_another_engine_runs_ahead(small_recipe: MakeRecipe) -> None:
    lent = ("rollout.engines=2", "rollout.on_learners=1", "rollout.max_staleness=1")
    steps = run(small_recipe("run.steps=4", *lent, *PLAIN))
    assert max(step["staleness"] for step in steps) == 1
    assert all(step["probe_gap"] < 1e-4 and step["turns_s"] > 0 for step in steps)


@pytest.mark.fault
def test_a_colocated_learner_that_dies_comes_back_in_its_turn(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=4", "run.checkpoint_every=2", "rollout.on_learners=1", QUICK_ENGINE, *PLAIN)
    Path(recipe.run.root, "deaths").write_text("1")
    steps = run(recipe, learner_class=faults.LearnerThatDies)
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert steps[-1]["learner/restarts"] == 1
    assert all(step["probe_gap"] < 1e-4 for step in steps)
