"""The learner group takes the same step whatever the ZeRO stage, the world size and the micro-batches."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from actors.checkpoint import RunState, load_checkpoint, save_checkpoint
from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.learning.group import LearnerGroup
from actors.warm_start import demonstrations
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from failures import LearnerError, TooManySkipped
from policies.batch import TrainingGroup, TrainingResponse
from policies.model import load_processor
from policies.prompt import PromptEncoder
from policies.source import policy_source
from recipe import Recipe, load_recipe
from tests.algorithms import algorithm
from tests.integration.conftest import ROOT, SMALL, MakeRecipe
from tests.integration.kept_ranks import KeptRanks
from tests.integration.steady import gradients, weights_may_differ_by
from tests.rounding import assert_same_gradient, assert_same_values

CORPUS = list(driving_text())
LR = 1e-3

Begin = Callable[..., AbstractAsyncContextManager[LearnerGroup]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learner")


def encoder(recipe: Recipe, cache: Path) -> PromptEncoder:
    source = policy_source(recipe.policy, cache, 0, CORPUS)
    return PromptEncoder(load_processor(source, recipe.policy), recipe.policy)


async def learn(
    learners: LearnerGroup, groups: list[TrainingGroup], lr: float = LR, **options: Any
) -> dict[str, float]:
    """One step by GRPO, without a KL where none is asked for."""
    (portion,) = learners.portions(groups)
    return await learners.update(portion, algorithm(**{"kl_beta": 0.0, **options}), lr)


@pytest.fixture(scope="module")
def begin(kept_ranks: KeptRanks, cache: Path) -> Begin:
    """New learners that hold the tiny policy, or the one in a folder."""

    def learners(recipe: Recipe, folder: str | None = None) -> AbstractAsyncContextManager[LearnerGroup]:
        return kept_ranks.learners(recipe, folder or policy_source(recipe.policy, cache, 0, CORPUS))

    return learners


def same_logprobs(ours: list[list[float]], theirs: list[list[float]]) -> None:
    for mine, expected in zip(ours, theirs, strict=True):
        assert_same_values(torch.tensor(mine), torch.tensor(expected))


def some_groups(recipe: Recipe, cache: Path) -> list[TrainingGroup]:
    """Three groups, so that two ranks get unequal shares; two responses each with opposite advantages."""
    samples = rendered_samples(cache / "scenes", 3, seed=0)[:3]
    groups = demonstrations(encoder(recipe, cache), samples)
    made = []
    for group in groups:
        answer = group.responses[0].token_ids
        good = TrainingResponse(answer, (-1.0,) * len(answer), credits=(1.0,) * len(answer))
        bad = TrainingResponse(answer[::-1], (-2.0,) * len(answer), credits=(-1.0,) * len(answer))
        made.append(TrainingGroup(group.images, group.prompt_ids, (good, bad)))
    return made


@dataclass(frozen=True)
class Training:
    """What two updates were and led to."""

    gradients: list[torch.Tensor]
    norms: list[float]
    weights: dict[str, torch.Tensor]


def two_steps(make: MakeRecipe, begin: Begin, cache: Path, out: Path, *overrides: str) -> Training:
    recipe = make("algorithm.kl_beta=0.05", *overrides)

    async def run() -> tuple[list[torch.Tensor], list[float]]:
        groups = some_groups(recipe, cache)
        async with begin(recipe) as learners:
            await learners.all("freeze_reference")
            first = await learners.log_probs(groups)
            norms = []
            for _ in range(2):
                metrics = await learn(learners, groups, kl_beta=0.05)
                norms.append(metrics["grad_norm"])
            assert metrics["kl"] > 0
            now, reference = await learners.log_probs(groups), await learners.log_probs(groups, reference=True)
            same_logprobs(reference, first)
            assert float((torch.tensor(sum(now, [])) - torch.tensor(sum(first, []))).abs().max()) > 1e-3
            assert not any(await learners.all("__ray_call__", shared_memory_files))
            await learners.export(out)
            return gradients(learners), norms

    found, norms = asyncio.run(run())
    return Training(found, norms, load_file(out / "model.safetensors"))


def shared_memory_files(learner: DeepSpeedLearner) -> list[str]:
    """What DeepSpeed keeps under a name in shared memory for this learner; it would outlive the processes."""
    return [file.name for file in Path("/dev/shm").glob(f"deepspeed_*_{os.environ['MASTER_PORT']}_*")]


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory, begin: Begin, cache: Path) -> Training:
    root = tmp_path_factory.mktemp("one_rank")

    def make(*overrides: str) -> Recipe:
        return load_recipe([str(ROOT / "recipes/tiny.yaml"), f"run.root={root}", *SMALL, *overrides])

    return two_steps(make, begin, cache, root / "policy", "learner.micro_batch_groups=3")


@pytest.mark.parametrize(
    "overrides",
    [
        ("learner.ranks=1", "learner.micro_batch_groups=1"),
        ("learner.ranks=2", "learner.zero_stage=0", "learner.micro_batch_groups=1"),
        ("learner.ranks=2", "learner.zero_stage=1", "learner.micro_batch_groups=1"),
        ("learner.ranks=2", "learner.zero_stage=2", "learner.micro_batch_groups=2"),
        ("learner.ranks=2", "learner.zero_stage=3", "learner.micro_batch_groups=1"),
        ("learner.ranks=1", "learner.zero_stage=3", "learner.micro_batch_groups=2"),
        (
            "learner.ranks=2",
            "learner.zero_stage=3",
            "learner.micro_batch_groups=1",
            "learner.gradient_checkpointing=true",
        ),
    ],
    ids=lambda overrides: " ".join(overrides).replace("learner.", ""),
)
def test_two_steps_have_the_same_gradients_and_lead_to_the_same_weights(
    small_recipe: MakeRecipe,
    begin: Begin,
    cache: Path,
    tmp_path: Path,
    one_rank: Training,
    overrides: tuple[str, ...],
) -> None:
    """The gradients are compared too: AdamW's first steps are the same with a gradient that is twice as large."""
    found = two_steps(small_recipe, begin, cache, tmp_path / "policy", *overrides)
    for ours, theirs in zip(found.gradients, one_rank.gradients, strict=True):
        assert_same_gradient(ours, theirs)
    # A norm sums a million squares in float32, some at a time: the square root of a million units of rounding.
    assert found.norms == pytest.approx([float(gradient.double().norm()) for gradient in found.gradients], rel=1e-4)
    assert found.weights.keys() == one_rank.weights.keys()
    largest = max(float(weight.abs().max()) for weight in one_rank.weights.values())
    bound = weights_may_differ_by(LR, one_rank.gradients, largest)
    for name, expected in one_rank.weights.items():
        assert float((found.weights[name] - expected).abs().max()) <= bound, name


def test_a_step_is_never_applied_twice(small_recipe: MakeRecipe, begin: Begin, cache: Path) -> None:
    recipe = small_recipe()

    async def run() -> None:
        groups = some_groups(recipe, cache)
        async with begin(recipe) as learners:
            await learn(learners, groups)
            learners.sequence -= 2
            with pytest.raises(LearnerError, match="call 1 was already applied"):
                await learn(learners, groups)

    asyncio.run(run())


@pytest.mark.parametrize("overrides", [("learner.ranks=1",), ("learner.ranks=2", "learner.zero_stage=2")], ids=str)
def test_a_gradient_that_is_not_finite_changes_no_weight_on_any_rank_and_its_batch_is_kept(
    small_recipe: MakeRecipe, begin: Begin, cache: Path, overrides: tuple[str, ...]
) -> None:
    recipe = small_recipe("learner.max_skipped=2", *overrides)

    async def run() -> None:
        good = some_groups(recipe, cache)
        token_ids = good[0].responses[0].token_ids
        poisoned = TrainingResponse(token_ids, (-1.0,) * len(token_ids), credits=(float("nan"),) * len(token_ids))
        groups = [TrainingGroup(good[0].images, good[0].prompt_ids, (poisoned,)), *good[1:]]
        async with begin(recipe) as learners:
            before = await learners.log_probs(good)
            metrics = await learn(learners, groups)
            assert metrics["skipped"] == 1.0
            assert await learners.log_probs(good) == before
            folder = Path(recipe.run.root) / recipe.run.name / "skipped"
            assert [path.name for path in folder.iterdir()] == ["update_000002.json"]
            await learn(learners, good)
            found = await learners.log_probs(good)
        async with begin(recipe) as clean:
            await learn(clean, good)
            same_logprobs(found, await clean.log_probs(good))
            await learn(clean, groups)
            with pytest.raises(TooManySkipped, match="2 updates in a row"):
                await learn(clean, groups)

    asyncio.run(run())


@pytest.mark.parametrize(
    "lora",
    ["null", "{rank: 4, alpha: 8}", "{rank: 4, alpha: 8, four_bit: true}"],
    ids=["all weights", "adapters", "adapters over 4 bits"],
)
def test_a_saved_learner_goes_on_as_if_nothing_had_happened(
    small_recipe: MakeRecipe, begin: Begin, cache: Path, tmp_path: Path, lora: str
) -> None:
    recipe = small_recipe("learner.ranks=2", "learner.zero_stage=2", f"policy.lora={lora}")

    async def run() -> None:
        groups = some_groups(recipe, cache)
        (tmp_path / "saved").mkdir()
        async with begin(recipe) as learners:
            await learn(learners, groups)
            await learners.save(tmp_path / "saved")
            await learn(learners, groups)
            expected = await learners.log_probs(groups)
        async with begin(recipe) as resumed:
            await resumed.load(tmp_path / "saved")
            await learn(resumed, groups)
            same_logprobs(await resumed.log_probs(groups), expected)

    asyncio.run(run())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_put_aside_between_two_steps_comes_back_as_it_was(
    small_recipe: MakeRecipe, begin: Begin, cache: Path, stage: int, dtype: str
) -> None:
    ranks = ("learner.ranks=2",) if stage else ()
    recipe = small_recipe(*ranks, f"learner.zero_stage={stage}", f"policy.dtype={dtype}")

    async def two_steps(*, aside: bool) -> list[list[float]]:
        groups = some_groups(recipe, cache)
        async with begin(recipe) as learners:
            await learners.all("freeze_reference")
            for _ in range(2):
                await learn(learners, groups, kl_beta=0.1)
                if aside:
                    await learners.all("offload")
                    await learners.all("offload")  # twice is once
                    await learners.log_probs(groups)  # the weights are where they were
                    await learners.all("reload")
            return await learners.log_probs(groups)

    assert asyncio.run(two_steps(aside=True)) == asyncio.run(two_steps(aside=False))


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_rank_without_images_keeps_step_with_one_that_has_some(
    small_recipe: MakeRecipe, begin: Begin, cache: Path, stage: int
) -> None:
    """Two groups for two ranks: one shows six frames, the other asks without any."""

    async def after_an_update(ranks: int) -> tuple[torch.Tensor, list[list[float]]]:
        recipe = small_recipe(f"learner.ranks={ranks}", f"learner.zero_stage={stage}")
        seeing = some_groups(recipe, cache)[0]
        (sample,) = rendered_samples(cache / "scenes", 3, seed=0)[:1]
        (blind,) = demonstrations(encoder(recipe, cache), [replace(sample, images={})])
        assert blind.images == ()
        groups = [seeing, replace(blind, responses=seeing.responses)]
        async with begin(recipe) as learners:
            await learn(learners, groups)
            return gradients(learners)[0], await learners.log_probs(groups)

    async def run() -> None:
        alone, together = await after_an_update(1), await after_an_update(2)
        assert_same_gradient(together[0], alone[0])
        same_logprobs(together[1], alone[1])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("stage", "wrote", "reads", "lora"),
    [
        (0, 2, 1, "null"),
        (2, 1, 2, "null"),
        (3, 2, 1, "null"),
        (3, 2, 1, "{rank: 4, alpha: 8}"),
        (2, 1, 2, "{rank: 4, alpha: 8, four_bit: true}"),
    ],
)
def test_a_checkpoint_goes_on_under_another_number_of_ranks(
    small_recipe: MakeRecipe, begin: Begin, cache: Path, tmp_path: Path, stage: int, wrote: int, reads: int, lora: str
) -> None:
    overrides = (f"learner.zero_stage={stage}", f"policy.lora={lora}")

    async def run() -> None:
        writers = small_recipe(f"learner.ranks={wrote}", *overrides)
        groups = some_groups(writers, cache)
        async with begin(writers) as learners:
            await learn(learners, groups)
            await save_checkpoint(tmp_path, RunState(1, 5, wrote), learners)
            await learn(learners, groups)
            expected = await learners.log_probs(groups)
        async with begin(small_recipe(f"learner.ranks={reads}", *overrides)) as resumed:
            assert await load_checkpoint(tmp_path, 1, resumed) == RunState(1, 5, reads)
            await learn(resumed, groups)
            same_logprobs(await resumed.log_probs(groups), expected)

    asyncio.run(run())


@pytest.mark.parametrize(("stage", "recomputed"), [(2, False), (3, False), (3, True)])
def test_in_bfloat16_too_a_step_is_the_same_however_its_batch_is_cut(
    small_recipe: MakeRecipe, begin: Begin, cache: Path, stage: int, recomputed: bool
) -> None:
    """Each way is off by about 2 % of the gradient, bfloat16's rounding; a micro-batch too few would be 30 %.

    Where activations are recomputed in the backward pass, they are so in the second way alone.
    """

    async def update(micro_batch_groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        again = recomputed and micro_batch_groups == 1
        precision = ("policy.dtype=bfloat16", f"learner.zero_stage={stage}", f"learner.gradient_checkpointing={again}")
        recipe = small_recipe(f"learner.micro_batch_groups={micro_batch_groups}", *precision)
        groups = some_groups(recipe, cache)
        async with begin(recipe) as learners:
            before = torch.tensor(sum(await learners.log_probs(groups), []))
            await learn(learners, groups)
            after = torch.tensor(sum(await learners.log_probs(groups), []))
            (gradient,) = gradients(learners)
        return gradient, before, after

    async def run() -> None:
        (whole, before, after), (cut, _, after_cut) = await update(4), await update(1)
        assert float((cut - whole).norm() / whole.norm()) < 1 / 16
        assert float((after_cut - after).abs().max() / (after - before).abs().max()) < 1 / 10

    asyncio.run(run())


@pytest.mark.parametrize(("stage", "four_bit"), [(3, False), (0, True)], ids=["sharded", "over 4 bits"])
def test_adapters_learn_and_leave_merged(
    small_recipe: MakeRecipe, begin: Begin, cache: Path, tmp_path: Path, stage: int, four_bit: bool
) -> None:
    lora = f"policy.lora={{rank: 4, alpha: 8, four_bit: {str(four_bit).lower()}}}"
    recipe = small_recipe(lora, "algorithm.kl_beta=0.05", f"learner.zero_stage={stage}")
    source = policy_source(recipe.policy, cache, 0, CORPUS)

    async def run() -> tuple[list[list[float]], list[list[float]]]:
        groups = some_groups(recipe, cache)
        async with begin(recipe) as learners:
            await learners.all("freeze_reference")
            for _ in range(3):
                await learn(learners, groups, lr=1e-2, kl_beta=0.05)
            await learners.export(tmp_path / "merged")
            adapted = await learners.log_probs(groups)
        async with begin(small_recipe(), str(tmp_path / "merged")) as merged:
            return adapted, await merged.log_probs(groups)

    adapted, found = asyncio.run(run())
    same_logprobs(adapted, found)
    assert "quantization_config" not in json.loads((tmp_path / "merged/config.json").read_text())
    before, after = load_file(Path(source) / "model.safetensors"), load_file(tmp_path / "merged/model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("language_model" in name and "_proj" in name for name in changed)
