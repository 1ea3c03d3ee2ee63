"""`LearnerGroup`: the learner ranks as the loop sees them: one call in, one answer out. Lives in the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.learning.learner import Learner, Objective, Step, StepMetrics
from actors.learning.skipped_updates import SkippedUpdates
from actors.record.run_folder import run_folder
from actors.sync.transport import Bucket
from actors.waiting import ActorOptions, within
from data.reasoning.reasoning import Variant
from data.sample import DrivingSample
from policies.batch import TrainingGroup, TrainingResponse
from policies.losses import GlobalCounts
from policies.micro_batches import MicroBatchLimits, cut, fitted, share_out
from recipe import Recipe


class LearnerGroup:
    """All ranks of the learner."""

    def __init__(self, ranks: list[Any], recipe: Recipe) -> None:
        """Use `start` instead."""
        self.ranks, self.settings, self.response_cap = ranks, recipe.learner, recipe.rollout.max_tokens
        self.sequence = 0
        self._limits = MicroBatchLimits(recipe.learner.micro_batch_groups, recipe.learner.micro_batch_tokens)
        self._skipped = SkippedUpdates(run_folder(recipe) / "skipped", recipe.learner.max_skipped)

    @classmethod
    async def start(
        cls, recipe: Recipe, folder: str, options: ActorOptions, learner_class: type[Learner] = Learner
    ) -> LearnerGroup:
        """Start every rank and wait until all hold the model.

        Raises:
            ActorTimeout, ActorLost: a rank did not come up.
        """
        settings = recipe.learner
        threads = str(settings.threads or max(1, int(settings.cpus)))
        environment = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
        ranks = [
            ray.remote(learner_class)
            .options(**options("learner", rank), runtime_env={"env_vars": environment})
            .remote(
                rank, folder, recipe.policy, recipe.algorithm, settings, recipe.rollout.temperature, recipe.run.seed
            )
            for rank in range(settings.ranks)
        ]
        group = cls(ranks, recipe)
        host, port = await within(settings.timeout_s, "learner rank 0 (finding an address)", ranks[0].address.remote())
        await group.all("start", host, port)
        shares_prefix, *_ = await group.all("shares_prefix")
        group._limits = replace(group._limits, shared_prefix=shares_prefix)
        return group

    async def all(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method on every rank at once; the answers in rank order."""
        return await self.each(method, [arguments] * len(self.ranks))

    async def each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method on every rank at once, each with its own arguments."""
        waiting = [
            within(self.settings.timeout_s, f"learner rank {rank} ({method})", getattr(actor, method).remote(*own))
            for rank, (actor, own) in enumerate(zip(self.ranks, arguments, strict=True))
        ]
        return await asyncio.gather(*waiting)

    async def update(self, groups: Sequence[TrainingGroup], objective: Objective, lr: float) -> dict[str, float]:
        """Take one optimizer step on `groups` over all ranks; metrics are means over the global batch.

        Raises:
            BudgetError: a response does not fit into `learner.micro_batch_tokens`.
            TooManySkipped: this was the last of several updates in a row whose gradients were not finite.
        """
        counts = GlobalCounts(
            responses=sum(len(group.responses) for group in groups),
            tokens=sum(group.tokens for group in groups),
            response_cap=self.response_cap,
        )
        self.sequence += 1
        shares = share_out(groups, len(self.ranks), self._limits)
        steps = [(Step(self.sequence, objective, own.micro_batches, counts, lr, own.filler),) for own in shares]
        parts = await self.each("update", steps)
        metrics = _merge(parts, counts)
        self._skipped.record(self.sequence, parts[0].applied, groups, metrics["loss"])
        return metrics | {"skipped": float(not parts[0].applied)}

    async def log_probs(
        self, groups: Sequence[TrainingGroup], temperature: float | None = None, *, reference: bool = False
    ) -> list[list[float]]:
        """Log-probabilities of every response's tokens, in order; see `Learner.log_probs`."""
        found: list[list[float]] = []
        for batch in self._cut(groups):
            found += (await self.all("log_probs", batch, temperature, reference))[0]
        return found

    async def assess(self, groups: Sequence[TrainingGroup]) -> list[tuple[list[float], list[float]]]:
        """Log-probabilities and values of every response's tokens, in order; see `Learner.assess`."""
        found: list[tuple[list[float], list[float]]] = []
        for batch in self._cut(groups):
            found += (await self.all("assess", batch))[0]
        return found

    def _cut(self, groups: Sequence[TrainingGroup]) -> list[list[TrainingGroup]]:
        return cut([part for group in groups for part in fitted(group, self._limits)], self._limits)

    async def tokens_until(self, responses: Sequence[TrainingResponse]) -> list[list[int]]:
        """Where in its tokens each response's gains were earned; see `Learner.tokens_until`."""
        answer = self.ranks[0].tokens_until.remote(list(responses))
        return await within(self.settings.timeout_s, "learner rank 0 (tokens_until)", answer)

    async def demonstrations(
        self, samples: Sequence[DrivingSample], variant: Variant = "simple"
    ) -> list[TrainingGroup]:
        """Samples with their true answers as groups of one response, for supervised steps."""
        answer = self.ranks[0].demonstrations.remote(list(samples), variant)
        return await within(self.settings.timeout_s, "learner rank 0 (demonstrations)", answer)

    async def prepare_sync(self, bucket_bytes: float, *, adapters_only: bool) -> list[Bucket]:
        """What every sync will send; the same on every rank."""
        waiting = [rank.prepare_sync.remote(bucket_bytes, adapters_only=adapters_only) for rank in self.ranks]
        name = "learners (preparing the sync)"
        return (await asyncio.gather(*(within(self.settings.timeout_s, name, call) for call in waiting)))[0]

    async def model(self) -> str:
        """What is trained, in words; see `Learner.model`."""
        return await within(self.settings.timeout_s, "learner rank 0 (model)", self.ranks[0].model.remote())

    async def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face layout."""
        await self.all("export", str(folder))

    async def save(self, folder: Path) -> None:
        """Write everything a resumed run needs of the learners."""
        await self.all("save", str(folder))

    def stop(self) -> None:
        """End the ranks' processes."""
        for actor in self.ranks:
            ray.kill(actor)

    async def load(self, folder: Path, universal: Path | None = None) -> None:
        """Read what `save` wrote; `universal` as in `Learner.load`, when another number of ranks wrote it."""
        self.sequence = (await self.all("load", str(folder), universal and str(universal)))[0]


async def with_old_logprobs(groups: Sequence[TrainingGroup], learners: LearnerGroup) -> list[TrainingGroup]:
    """The same groups, each response carrying the learner's log-probabilities from before the first update."""
    if all(response.old_logprobs is not None for group in groups for response in group.responses):
        return list(groups)
    rows = iter(await learners.log_probs(groups))
    return [
        replace(group, responses=tuple(replace(r, old_logprobs=tuple(next(rows))) for r in group.responses))
        for group in groups
    ]


def _merge(parts: list[StepMetrics], counts: GlobalCounts) -> dict[str, float]:
    merged = {"loss": sum(part.loss for part in parts), "grad_norm": parts[0].grad_norm}
    for name in parts[0].token_sums:
        merged[name] = sum(part.token_sums.get(name, 0.0) for part in parts) / max(counts.tokens, 1)
    for name in parts[0].maxima:
        merged[name] = float(np.max([part.maxima.get(name, 0.0) for part in parts]))  # keeps NaN, unlike max
    return merged
