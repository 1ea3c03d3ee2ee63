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
from data.rollout import Rollout, SamplingSettings
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


def test_what_is_not_wanted_any_more_is_ended_in_the_engine_which_answers_on(
    small_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = small_recipe("rollout.max_tokens=400", "rollout.max_model_len=1024")
    samples = rendered_samples(tmp_path / "scenes", 1, seed=0)[:4]

    async def ask() -> tuple[int, int, int]:
        source = policy_source(recipe.policy, tmp_path, 0, CORPUS)
        engines = await EnginePool.launch(recipe, source, any_node).started()
        try:
            first, found = asyncio.Event(), list[Rollout]()

            def take(rollout: Rollout) -> None:
                found.append(rollout)
                first.set()

            short = engines.requests(samples[:1], 1, SamplingSettings(1.0, 2))
            endless = engines.requests(samples[1:], 8, SamplingSettings(1.0, 400))
            asking = asyncio.create_task(engines.generate([*short, *endless], take))
            await first.wait()
            (member,) = engines.engines.members
            before = (await member.call(60.0, "health")).running
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            async with asyncio.timeout(120):
                while (left := (await member.call(60.0, "health")).running) > 0:
                    await asyncio.sleep(0.1)
            answered = list[Rollout]()
            await engines.generate(engines.requests(samples, 2, SamplingSettings(1.0, 4)), answered.append)
            assert member.load == 0
            return before, left, len(answered)
        finally:
            await engines.end()

    before, left, answered = asyncio.run(ask())
    assert before > 8, "most were under way"
    assert (left, answered) == (0, 8)
