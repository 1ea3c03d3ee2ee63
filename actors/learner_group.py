"""`LearnerGroup`: the learner ranks as the loop sees them: one call in, one answer out. Lives in the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from actors.learner import Learner, Objective, Step, StepMetrics
from actors.settings import LearnerSettings
from actors.waiting import ActorOptions, within
from data.reasoning import Variant
from data.sample import DrivingSample
from policies.batch import TrainingGroup
from policies.losses import GlobalCounts
from recipe import Recipe


class LearnerGroup:
    """All ranks of the learner."""

    def __init__(self, ranks: list[Any], settings: LearnerSettings, response_cap: int) -> None:
        """Use `start` instead."""
        self.ranks, self.settings, self.response_cap = ranks, settings, response_cap
        self.sequence = 0

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
        group = cls(ranks, settings, recipe.rollout.max_tokens)
        host, port = await within(settings.timeout_s, "learner rank 0 (finding an address)", ranks[0].address.remote())
        await group.all("start", host, port)
        await group.all("prepare_sync", recipe.sync.bucket_mib * 2**20)
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
        """Take one optimizer step on `groups` over all ranks; metrics are means over the global batch."""
        counts = GlobalCounts(
            responses=sum(len(group.responses) for group in groups),
            tokens=sum(group.tokens for group in groups),
            response_cap=self.response_cap,
        )
        self.sequence += 1
        shares = share_out(groups, len(self.ranks), self.settings.micro_batch_groups)
        steps = [(Step(self.sequence, objective, batches, counts, lr, filler),) for batches, filler in shares]
        return _merge(await self.each("update", steps), counts)

    async def log_probs(
        self, groups: Sequence[TrainingGroup], temperature: float | None = None, *, reference: bool = False
    ) -> list[list[float]]:
        """Log-probabilities of every response's tokens, in order; see `Learner.log_probs`."""
        size = self.settings.micro_batch_groups
        found: list[list[float]] = []
        for start in range(0, len(groups), size):
            answers = await self.all("log_probs", list(groups[start : start + size]), temperature, reference)
            found += answers[0]
        return found

    async def demonstrations(
        self, samples: Sequence[DrivingSample], variant: Variant = "simple"
    ) -> list[TrainingGroup]:
        """Samples with their true answers as groups of one response, for supervised steps."""
        answer = self.ranks[0].demonstrations.remote(list(samples), variant)
        return await within(self.settings.timeout_s, "learner rank 0 (demonstrations)", answer)

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

    async def load(self, folder: Path) -> None:
        """Read what `save` wrote, under the same number of ranks."""
        self.sequence = (await self.all("load", str(folder)))[0]


def share_out(
    groups: Sequence[TrainingGroup], ranks: int, micro_batch_groups: int
) -> list[tuple[list[list[TrainingGroup]], int]]:
    """Each rank's micro-batches and how many of them are filler.

    Every rank gets equally many micro-batches, because a collective that one rank skips hangs the others; a rank with
    fewer groups repeats one as filler, which is computed but adds no gradient.
    """
    shares = []
    for rank in range(ranks):
        mine = list(groups[rank::ranks])
        shares.append([mine[start : start + micro_batch_groups] for start in range(0, len(mine), micro_batch_groups)])
    longest = max(len(batches) for batches in shares)
    return [(batches + [[groups[0]]] * (longest - len(batches)), longest - len(batches)) for batches in shares]


def with_old_logprobs(groups: Sequence[TrainingGroup], logprobs: Sequence[list[float]]) -> list[TrainingGroup]:
    """The same groups, each response carrying the learner's log-probabilities from before the first update."""
    rows = iter(logprobs)
    return [
        replace(group, responses=tuple(replace(r, old_logprobs=tuple(next(rows))) for r in group.responses))
        for group in groups
    ]


def _merge(parts: list[StepMetrics], counts: GlobalCounts) -> dict[str, float]:
    merged = {"loss": sum(part.loss for part in parts), "grad_norm": parts[0].grad_norm}
    for name in parts[0].token_sums:
        merged[name] = sum(part.token_sums.get(name, 0.0) for part in parts) / max(counts.tokens, 1)
    for name in parts[0].maxima:
        merged[name] = max(part.maxima.get(name, 0.0) for part in parts)
    return merged
