"""What every learner keeps to: gradients are accumulated and applied apart, and adapters never touch each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.learning.group import LearnerGroup, Portion
from actors.learning.learner import OptimizerSettings
from actors.warm_start import demonstrations
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from failures import LearnerError
from policies.algorithms.supervised import Supervised
from policies.batch import TrainingGroup
from policies.model import load_processor
from policies.prompt import PromptEncoder
from policies.settings import LoraSettings
from policies.source import policy_source
from recipe import Recipe
from tests.integration.conftest import MakeRecipe
from tests.integration.kept_ranks import KeptRanks
from tests.integration.steady import gradients
from tests.rounding import assert_same_gradient, assert_same_values

WithLearners = Callable[[Recipe, Callable[..., Awaitable[Any]]], Any]
STEP = OptimizerSettings(lr=1e-2, epsilon=1e-4)
OTHER = LoraSettings(rank=2, alpha=4, targets=("mlp",))
LORA = "policy.lora={rank: 4, alpha: 8}"
WAYS = [
    ("learner.ranks=1",),
    ("learner.ranks=2",),
    ("learner.ranks=2", "learner.zero_stage=1"),
    ("learner.ranks=2", "learner.zero_stage=2"),
    ("learner.ranks=2", "learner.zero_stage=3"),
]

every_learner = pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way).replace("learner.", ""))
one_and_two_ranks = pytest.mark.parametrize("way", WAYS[:2], ids=lambda way: " ".join(way).replace("learner.", ""))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contract")


@pytest.fixture
def with_learners(kept_ranks: KeptRanks, cache: Path) -> WithLearners:
    """Use new learners with some demonstrations."""

    def use_them(recipe: Recipe, use: Callable[..., Awaitable[Any]]) -> Any:
        source = policy_source(recipe.policy, cache, 0, list(driving_text()))
        encoder = PromptEncoder(load_processor(source, recipe.policy), recipe.policy)
        groups = demonstrations(encoder, rendered_samples(cache / "scenes", 3, seed=0)[:6])

        async def run() -> Any:
            async with kept_ranks.learners(recipe, source) as learners:
                return await use(learners, groups)

        return asyncio.run(run())

    return use_them


def halves(learners: LearnerGroup, groups: list[TrainingGroup]) -> list[Portion]:
    """Two portions whose losses are parts of one, divided by what both hold."""
    (whole,) = learners.portions(groups)
    parts = [learners.portions(half)[0] for half in (groups[:2], groups[2:])]
    return [replace(part, shares=[replace(share, counts=whole.counts) for share in part.shares]) for part in parts]


async def step(learners: LearnerGroup, groups: list[TrainingGroup], adapter: str = "default") -> None:
    (portion,) = learners.portions(groups)
    await learners.accumulate(portion, Supervised(), adapter)
    assert (await learners.step(STEP, adapter)).applied


async def seen_by(learners: LearnerGroup, groups: list[TrainingGroup], adapter: str = "default") -> torch.Tensor:
    return torch.tensor(sum(await learners.log_probs(groups, 1.0, adapter=adapter), []))


@every_learner
def test_what_is_accumulated_in_parts_is_what_is_accumulated_at_once(
    small_recipe: MakeRecipe, with_learners: WithLearners, way: tuple[str, ...]
) -> None:
    recipe = small_recipe("learner.micro_batch_groups=2", *way)

    async def gradient(parts: bool, learners: LearnerGroup, groups: list[TrainingGroup]) -> torch.Tensor:
        for portion in halves(learners, groups) if parts else learners.portions(groups):
            await learners.accumulate(portion, Supervised())
        assert (await learners.step(STEP)).applied
        return gradients(learners)[0]

    whole = with_learners(recipe, lambda learners, groups: gradient(False, learners, groups))
    in_parts = with_learners(recipe, lambda learners, groups: gradient(True, learners, groups))
    assert_same_gradient(in_parts, whole)


@every_learner
def test_a_step_without_a_gradient_and_a_number_seen_before_are_refused(
    small_recipe: MakeRecipe, with_learners: WithLearners, way: tuple[str, ...]
) -> None:
    async def use(learners: LearnerGroup, groups: list[TrainingGroup]) -> None:
        with pytest.raises(LearnerError, match="step 1 of adapter default"):
            await learners.step(STEP)
        (portion,) = learners.portions(groups)
        await learners.accumulate(portion, Supervised())
        learners.sequence -= 1
        with pytest.raises(LearnerError, match="call 2 was already applied"):
            await learners.accumulate(portion, Supervised())
        await learners.step(STEP)
        before = await seen_by(learners, groups)
        learners.sequence -= 1
        with pytest.raises(LearnerError, match="call 3 was already applied"):
            await learners.step(STEP)
        with pytest.raises(LearnerError, match="has no gradient"):
            await learners.step(STEP)
        assert torch.equal(await seen_by(learners, groups), before)

    with_learners(small_recipe(*way), use)


@every_learner
def test_an_optimizer_that_forgot_its_moments_steps_as_a_new_one_does(
    small_recipe: MakeRecipe, with_learners: WithLearners, way: tuple[str, ...]
) -> None:
    async def use(learners: LearnerGroup, groups: list[TrainingGroup], *, before: int, forget: bool) -> torch.Tensor:
        for _ in range(before):  # gathers moments, and leaves the weights as they are
            await learners.accumulate(learners.portions(groups[:3])[0], Supervised())
            await learners.step(replace(STEP, lr=0.0))
        if forget:
            await learners.all("forget_moments")
        await step(learners, groups[3:])
        return await seen_by(learners, groups)

    def seen(before: int, *, forget: bool) -> torch.Tensor:
        found: torch.Tensor = with_learners(
            small_recipe(*way), lambda learners, groups: use(learners, groups, before=before, forget=forget)
        )
        return found

    new = seen(0, forget=False)
    assert_same_values(seen(3, forget=True), new)
    assert float((seen(3, forget=False) - new).abs().max()) > 1e-3


@one_and_two_ranks
def test_two_adapters_trained_in_turn_are_each_what_they_are_alone(
    small_recipe: MakeRecipe, with_learners: WithLearners, way: tuple[str, ...]
) -> None:
    """Their calls are mixed: both gradients wait at once, and each step takes its own."""
    recipe = small_recipe(LORA, *way)

    async def mixed(learners: LearnerGroup, groups: list[TrainingGroup]) -> list[torch.Tensor]:
        await learners.all("add_adapter", "other", OTHER)
        base = await seen_by(learners, groups, "other")
        for _ in range(2):
            (first,), (last,) = learners.portions(groups[:3]), learners.portions(groups[3:])
            await learners.accumulate(first, Supervised())
            await learners.accumulate(last, Supervised(), "other")
            await learners.step(STEP)
            await learners.step(STEP, "other")
        found = [await seen_by(learners, groups), await seen_by(learners, groups, "other")]
        assert all(float((one - base).abs().max()) > 1e-3 for one in found)
        return found

    async def own(learners: LearnerGroup, groups: list[TrainingGroup]) -> torch.Tensor:
        for _ in range(2):
            await step(learners, groups[:3])
        return await seen_by(learners, groups)

    async def other(learners: LearnerGroup, groups: list[TrainingGroup]) -> torch.Tensor:
        await learners.all("add_adapter", "other", OTHER)
        for _ in range(2):
            await step(learners, groups[3:], "other")
        return await seen_by(learners, groups, "other")

    for together, alone in zip(
        with_learners(recipe, mixed),
        [with_learners(recipe, own), with_learners(recipe, other)],
        strict=True,
    ):
        assert_same_values(together, alone)


@one_and_two_ranks
def test_both_adapters_and_their_optimizers_come_back(
    small_recipe: MakeRecipe, with_learners: WithLearners, tmp_path: Path, way: tuple[str, ...]
) -> None:
    recipe = small_recipe(LORA, *way)

    async def both(learners: LearnerGroup, groups: list[TrainingGroup]) -> list[torch.Tensor]:
        await step(learners, groups)
        await step(learners, groups, "other")
        return [await seen_by(learners, groups), await seen_by(learners, groups, "other")]

    async def saved(learners: LearnerGroup, groups: list[TrainingGroup]) -> list[torch.Tensor]:
        await learners.all("add_adapter", "other", OTHER)
        await both(learners, groups)
        (portion,) = learners.portions(groups)
        await learners.accumulate(portion, Supervised(), "other")
        with pytest.raises(LearnerError, match="gradients of adapter other"):
            await learners.save(tmp_path)
        await learners.step(STEP, "other")
        await learners.save(tmp_path)
        return await both(learners, groups)

    async def resumed(learners: LearnerGroup, groups: list[TrainingGroup]) -> list[torch.Tensor]:
        await learners.load(tmp_path)
        return await both(learners, groups)

    expected = with_learners(recipe, saved)
    for ours, theirs in zip(with_learners(recipe, resumed), expected, strict=True):
        assert_same_values(ours, theirs)


def test_an_adapter_that_cannot_be_is_refused_in_one_sentence(
    small_recipe: MakeRecipe, with_learners: WithLearners
) -> None:
    async def refused(learners: LearnerGroup, groups: list[TrainingGroup]) -> str:
        with pytest.raises(LearnerError) as caught:
            await learners.all("add_adapter", "other", OTHER)
        return str(caught.value)

    async def unknown(learners: LearnerGroup, groups: list[TrainingGroup]) -> str:
        await learners.all("add_adapter", "other", OTHER)
        with pytest.raises(LearnerError, match="'other' is taken"):
            await learners.all("add_adapter", "other", OTHER)
        with pytest.raises(LearnerError) as caught:
            await learners.step(STEP, "othr")
        return str(caught.value)

    assert "zero_stage=2 has room for one adapter" in with_learners(small_recipe(LORA, "learner.zero_stage=2"), refused)
    assert "all weights learn: set policy.lora" in with_learners(small_recipe(), refused)
    assert "value head belongs to the own" in with_learners(small_recipe(LORA, "algorithm.name=ppo"), refused)
    assert with_learners(small_recipe(LORA), unknown) == "there is no adapter othr (did you mean other?)"
