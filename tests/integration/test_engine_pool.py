"""The pool of real engines: what one refuses is one sentence, and those that do not come up keep no place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.rollout.pool import EnginePool
from actors.rollout.vllm_engine import VllmEngine
from data.errors import DataError
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from data.rollout import SamplingSettings
from policies.source import policy_source
from tests.integration.conftest import MakeRecipe, any_node

CORPUS = list(driving_text())

pytestmark = pytest.mark.usefixtures("ray_session")


class EngineThatCannotStart(VllmEngine):
    """As one whose checkpoint is damaged."""

    async def start(self) -> float:
        raise DataError("no weights here")


def test_a_prompt_that_is_too_long_is_refused_in_one_sentence(small_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = small_recipe("rollout.max_model_len=32")
    samples = rendered_samples(tmp_path / "scenes", 1, seed=0)[:1]

    async def ask() -> None:
        source = policy_source(recipe.policy, tmp_path, 0, CORPUS)
        engines = await EnginePool.launch(recipe, source, any_node).started()
        try:
            await engines.generate(engines.requests(samples, 1, SamplingSettings(1.0, 4)), lambda _: None)
        finally:
            await engines.end()

    with pytest.raises(DataError, match=r"^rollout engine 0 refuses sample .* see rollout\.max_model_len: .*longer"):
        asyncio.run(ask())


def test_engines_that_cannot_start_tell_their_own_reason(small_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = small_recipe("rollout.engines=2")
    source = policy_source(recipe.policy, tmp_path, 0, CORPUS)
    engine_class: Any = EngineThatCannotStart

    async def started() -> None:
        await EnginePool.launch(recipe, source, any_node, engine_class).started()

    with pytest.raises(DataError, match="^no weights here$"):
        asyncio.run(started())
