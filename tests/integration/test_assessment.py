"""What a batch is assessed by stays on the rank that owns it; how many ranks there are changes no gradient."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from actors.warm_start import demonstrations
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from policies.batch import TrainingGroup, TrainingResponse
from policies.model import load_processor
from policies.prompt import PromptEncoder
from policies.source import policy_source
from tests.algorithms import algorithm
from tests.integration.conftest import MakeRecipe
from tests.integration.kept_ranks import KeptRanks
from tests.integration.steady import gradients
from tests.rounding import assert_same_gradient

UPDATES = 2
KL_BETA = 0.05


def some_groups(encoder: PromptEncoder, cache: Path) -> list[TrainingGroup]:
    """Three groups of unequal length, so that two ranks get unequal shares and one repeats a group as filler."""
    made = []
    for number, group in enumerate(demonstrations(encoder, rendered_samples(cache / "scenes", 3, seed=0)[:3])):
        answer = group.responses[0].token_ids
        texts = [answer, answer[::-1], answer[: 1 + number]]
        credits = [(0.0,) * (len(text) - 1) + (0.3 * place + 0.1 * number,) for place, text in enumerate(texts)]
        responses = [TrainingResponse(text, (-1.0,) * len(text), own) for text, own in zip(texts, credits, strict=True)]
        made.append(TrainingGroup(group.images, group.prompt_ids, tuple(responses)))
    return made


def without_seconds(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("_s")}


def trained(
    make: MakeRecipe, kept: KeptRanks, cache: Path, *overrides: str
) -> tuple[list[torch.Tensor], list[dict[str, float]]]:
    """The gradient of each update of two batches by PPO, and each batch's metrics."""
    options = f"{{updates_per_batch: {UPDATES}, kl_beta: {KL_BETA}}}"
    recipe = make("algorithm.name=ppo", f"algorithm.options={options}", *overrides)
    source = policy_source(recipe.policy, cache, 0, list(driving_text()))
    groups = some_groups(PromptEncoder(load_processor(source, recipe.policy), recipe.policy), cache)
    ppo = algorithm("ppo", updates_per_batch=UPDATES, kl_beta=KL_BETA)

    async def run() -> tuple[list[torch.Tensor], list[dict[str, float]]]:
        async with kept.learners(recipe, source) as learners:
            await learners.all("freeze_reference")
            metrics = []
            for _ in range(2):
                portions, assessed = await learners.assess(learners.portions(groups, UPDATES), KL_BETA)
                updates = [await learners.update(portion, ppo, lr=1e-3) for portion in portions]
                metrics += [assessed, *map(without_seconds, updates)]
            return gradients(learners), metrics

    return asyncio.run(run())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("assessment")


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_ppo_on_two_ranks_has_the_gradients_and_figures_of_one(
    small_recipe: MakeRecipe, kept_ranks: KeptRanks, cache: Path, stage: int
) -> None:
    zero = f"learner.zero_stage={stage}"  # the same for both, since loading draws a fresh value head differently
    alone, figures_alone = trained(
        small_recipe, kept_ranks, cache, zero, "learner.ranks=1", "learner.micro_batch_groups=4"
    )
    together, figures = trained(
        small_recipe, kept_ranks, cache, zero, "learner.ranks=2", "learner.micro_batch_groups=1"
    )
    assert len(alone) == len(together) == 2 * UPDATES
    for ours, theirs in zip(together, alone, strict=True):
        assert_same_gradient(ours, theirs)
    assert abs(figures_alone[3]["kl"]) > 1e-3  # the second batch is no longer what the reference says
    for mine, expected in zip(figures, figures_alone, strict=True):
        assert mine == pytest.approx(expected, rel=1e-3, abs=1e-5)
