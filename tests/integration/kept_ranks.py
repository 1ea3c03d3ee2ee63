"""Learner ranks whose processes are kept for a module: a start costs seconds of imports, loading a model hardly any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from actors.learning.group import LearnerGroup
from policies.algorithms.registry import make_algorithm
from recipe import Recipe
from tests.integration.steady import SteadyLearner


class RenewableLearner(SteadyLearner):
    """Begins anew in the process that it has, with its place among the ranks."""

    def start(self, host: str, port: int) -> float:
        self.met = host, port
        return super().start(host, port)

    def renew(self, *arguments: Any) -> None:
        """Become a new learner; all ranks must call it."""
        met = self.met
        self.__dict__.clear()
        self.__init__(*arguments)  # type: ignore[misc]
        self.start(*met)


class KeptRanks:
    """One set of processes for each number of ranks; it holds one group of learners at a time."""

    def __init__(self) -> None:
        self._kept: dict[int, LearnerGroup] = {}

    @asynccontextmanager
    async def learners(self, recipe: Recipe, source: str) -> AsyncIterator[LearnerGroup]:
        """Learners as they are after a start; where the block fails, their processes end."""
        kept = self._kept.pop(recipe.learner.ranks, None)
        group = await (_renewed(kept, recipe, source) if kept else _started(recipe, source))
        try:
            yield group
        except BaseException:
            group.stop()
            raise
        self._kept[recipe.learner.ranks] = group


async def _started(recipe: Recipe, source: str) -> LearnerGroup:
    return await LearnerGroup.start(recipe, source, lambda role, index: {"num_cpus": 0}, RenewableLearner)


async def _renewed(kept: LearnerGroup, recipe: Recipe, source: str) -> LearnerGroup:
    """As `LearnerGroup.start` does it, without new processes."""
    group = LearnerGroup(recipe, kept._make)
    group.ranks, group.life = kept.ranks, kept.life
    group._limits = replace(group._limits, shared_prefix=kept._limits.shared_prefix)
    algorithm, temperature = make_algorithm(recipe.algorithm), recipe.rollout.temperature
    given = (source, recipe.policy, algorithm, recipe.learner, temperature, recipe.run.seed)
    await group.each("renew", [(rank, *given) for rank in range(recipe.learner.ranks)])
    return group
