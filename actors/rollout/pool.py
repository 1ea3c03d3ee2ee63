"""`EnginePool`: all rollout engines as the loop sees them. Spreads requests, merges streams. Lives in the driver."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import ray

from actors.rollout.engine import Ability, engine_of
from actors.waiting import stream, within
from data.formats.format import images_per_prompt
from data.rollout import GenerationRequest, Rollout, SamplingSettings
from data.sample import DrivingSample
from failures import ActorLost, ActorTimeout
from recipe import ActorOptions, Recipe

SEEDS_APART = 1000
"""Between the engines' seeds of two runs, so that no engine of one draws like an engine of the other."""


class EnginePool:
    """All rollout engines.

    `busy` is held while requests are in flight and while weights are installed, so a weight version never changes
    under a response.
    """

    def __init__(self, engines: dict[str, Any], timeout_s: float, abilities: frozenset[Ability] = frozenset()) -> None:
        """Use `start` instead."""
        self.engines, self.timeout_s = engines, timeout_s
        self.takes_seeds = "seeds" in abilities
        """Whether a request may name a seed."""
        self.busy = asyncio.Lock()
        self._numbers = itertools.count()

    @classmethod
    async def start(
        cls,
        recipe: Recipe,
        folder: str,
        options: ActorOptions,
        engine_class: type[Any] | None = None,
        role: str = "rollout",
    ) -> EnginePool:
        """Start every engine and wait until all hold the model; the arguments are those of `launch`.

        Raises:
            ExtensionError: as `engine_of`.
            ActorTimeout, ActorLost: an engine did not come up.
        """
        return await cls.launch(recipe, folder, options, engine_class, role).load(recipe)

    @classmethod
    def launch(
        cls,
        recipe: Recipe,
        folder: str,
        options: ActorOptions,
        engine_class: type[Any] | None = None,
        role: str = "rollout",
    ) -> EnginePool:
        """Start the engines' processes, which import what they need while the caller does something else.

        Args:
            recipe: whose engines, at the policy's prompts.
            folder: checkpoint folder or hub name; the model need not be there before `load`.
            options: places each actor.
            engine_class: a `RolloutEngine` that takes the same options, in place of the recipe's own.
            role: that of the engines' places.

        Raises:
            ExtensionError: as `engine_of`.
        """
        # Also what is measured beside the training may show six cameras.
        most = max(images_per_prompt(recipe.data) or 0, recipe.policy.images_per_prompt)
        settings = recipe.rollout.model_copy(update={"max_images": recipe.rollout.max_images or most})
        recipe = recipe.model_copy(update={"rollout": settings})
        chosen, own, abilities = engine_of(recipe)
        chosen = engine_class or chosen
        environment = {"env_vars": chosen.environment(recipe, own)}
        engines = {
            f"{role} engine {i}": ray.remote(chosen)
            .options(**options(role, i), runtime_env=environment, max_concurrency=16)
            .remote(f"{role} engine {i}", folder, recipe, own, recipe.run.seed * SEEDS_APART + i)
            for i in range(settings.engines)
        }
        return cls(engines, recipe.rollout.timeout_s, abilities)

    async def load(self, recipe: Recipe) -> EnginePool:
        """Wait until every engine holds the model; the pool itself.

        Raises:
            ActorTimeout, ActorLost: an engine did not come up.
        """
        try:
            await self.all("start", timeout_s=recipe.rollout.start_timeout_s)
        except BaseException:  # those that came up must not keep their places
            await self.end(recipe.sync.timeout_s)
            raise
        return self

    async def all(self, method: str, *arguments: Any, timeout_s: float) -> list[Any]:
        """Call a method on every engine at once; the answers in engine order."""
        calls = [
            within(timeout_s, f"{name} ({method})", getattr(engine, method).remote(*arguments))
            for name, engine in self.engines.items()
        ]
        return await asyncio.gather(*calls)

    async def end(self, timeout_s: float) -> None:
        """Shut every engine's own processes down, then end its actor, so that its place is free again.

        An engine that is lost, or does not answer in time, is ended all the same.
        """
        await asyncio.gather(*(self._end(name, timeout_s) for name in self.engines))

    async def _end(self, name: str, timeout_s: float) -> None:
        try:
            with contextlib.suppress(ActorLost, ActorTimeout):
                await within(timeout_s, f"{name} (stop)", self.engines[name].stop.remote())
        finally:
            ray.kill(self.engines[name])

    def requests(
        self, samples: Sequence[DrivingSample], count: int, sampling: SamplingSettings
    ) -> list[GenerationRequest]:
        """`count` requests for each sample, the requests of one sample side by side."""
        return [
            GenerationRequest(f"r{next(self._numbers)}", sample, sampling) for sample in samples for _ in range(count)
        ]

    async def generate(self, requests: Sequence[GenerationRequest], finished: Callable[[Rollout], None]) -> None:
        """Hand every request's rollout to `finished` as it ends; return when all have.

        A sample's requests stay on one engine, which has its images.

        Raises:
            ActorTimeout, ActorLost: an engine stopped answering.
            DataError: an engine refuses a request.
        """
        names = list(self.engines)
        placed = {sample_id: names[i % len(names)] for i, sample_id in enumerate({r.sample.id: None for r in requests})}
        shares: dict[str, list[GenerationRequest]] = {}
        for request in requests:
            shares.setdefault(placed[request.sample.id], []).append(request)
        async with self.busy:
            await asyncio.gather(*(self._drain(name, share, finished) for name, share in shares.items()))

    async def _drain(self, name: str, share: list[GenerationRequest], finished: Callable[[Rollout], None]) -> None:
        generator = self.engines[name].generate.options(num_returns="streaming").remote(share)
        async for rollout in stream(self.timeout_s, f"{name} (generating {len(share)} responses)", generator):
            finished(rollout)
