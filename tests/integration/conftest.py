"""One Ray session for the integration tests of a module, and recipes small enough to run in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.session import session
from recipe import Recipe, load_recipe
from tests.integration.kept_ranks import KeptRanks
from tests.integration.workers import make_pool as make_pool

ROOT = Path(__file__).parents[2]

SMALL = (
    "run.steps=1",
    "data.options.scenes=8",
    "rollout.prompts_per_step=4",
    "rollout.group_size=4",
    "rollout.max_tokens=24",
    "warm_start.steps=2",
    "warm_start.batch_size=8",
    "evaluation.samples_per_task=2",
    "learner.threads=1",  # other tests want the cores too
    "rollout.threads=1",
)
QUICK_ENGINE = "rollout.backend=transformers"
"""Starts in half the time: for runs whose point is not the engine."""
MakeRecipe = Callable[..., Recipe]


def any_node(role: str, index: int) -> dict[str, Any]:
    """Actor options without a placement group."""
    return {"num_cpus": 0}


@pytest.fixture
def small_recipe(tmp_path: Path) -> MakeRecipe:
    def make(*overrides: str, recipe: str = "tiny") -> Recipe:
        file = str(ROOT / f"recipes/{recipe}.yaml")
        rendered = load_recipe([file]).data.source == "rendered"
        small = [one for one in SMALL if rendered or not one.startswith("data.options")]
        return load_recipe([file, f"run.root={tmp_path}", *small, *overrides])

    return make


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with session(load_recipe([str(ROOT / "recipes/tiny.yaml")])):
        yield


@pytest.fixture(scope="module")
def kept_ranks(ray_session: None) -> KeptRanks:
    return KeptRanks()
