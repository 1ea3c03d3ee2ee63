"""What does the work behind the protocol: a `Trainer` with the learners, a `SamplePool` with the engines.

Two protocols, so that the service is tested and measured without a model too. The real ones stand on `LearnerGroup` and
`EnginePool`; a lost process is theirs to replace, and what it was asked is asked again by the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Protocol

from actors.learning.adapter_learner import AdapterLearner, DatumsSeen, merged_seen
from actors.learning.group import LearnerGroup
from actors.learning.learner import OptimizerSettings, Stepped
from actors.rollout.adapter_engine import AdapterEngine, TokenAnswer, TokenRequest
from actors.rollout.pool import EnginePool
from actors.rollout.talk import TalkPiece, TalkRequest
from actors.supervision.care import LOSSES
from policies.datums import Datum, shares_of
from policies.settings import LoraSettings
from policies.summed_losses import SummedLoss
from recipe import ActorOptions, Recipe

ABANDON_S = 10.0
"""Longest wait for an engine to stop an answer."""


class Trainer(Protocol):
    """Holds adapters on one base. Calls are made one after another.

    Any of them may raise `LearnerLost`: every adapter is gone then, until `restart` returned and they were made again.
    """

    async def start(self) -> None:
        """Load the base."""

    async def restart(self) -> None:
        """Start anew, with no adapter."""

    async def create(self, adapter: str, lora: LoraSettings, seed: int) -> None:
        """Make an adapter; its first weights depend on the seed alone."""

    async def remove(self, adapter: str) -> None:
        """Forget an adapter."""

    async def learn(self, adapter: str, datums: Sequence[Datum], loss: SummedLoss, *, gradient: bool) -> DatumsSeen:
        """Look at datums, and add their gradient to what the next step applies."""

    async def step(self, adapter: str, optimizer: OptimizerSettings) -> Stepped:
        """Apply the gradient."""

    async def save(self, adapter: str, folder: str, *, optimizer: bool) -> None:
        """Write an adapter."""

    async def load(self, adapter: str, folder: str, *, optimizer: bool) -> None:
        """Read what `save` wrote into an adapter of the same form."""

    async def stop(self) -> None:
        """End."""


class SamplePool(Protocol):
    """Answers sampling requests; loses none while a process can be had."""

    async def start(self) -> None:
        """Load the base."""

    def sample(self, requests: Sequence[TokenRequest]) -> AsyncIterator[TokenAnswer]:
        """One answer for each request, as they end. Several calls may be open at once.

        Raises:
            ActorLost, ActorTimeout: the engine was lost; what was not answered may be asked again.
        """

    def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        """One answer piece by piece; closing it stops the engine's work on it.

        Raises:
            ActorLost, ActorTimeout: the engine was lost.
            DataError: there can be no answer; says why.
        """

    @property
    def ready(self) -> bool:
        """Whether an engine could answer now."""

    async def stop(self) -> None:
        """End."""


class LearnerTrainer:
    """A `Trainer` of learner ranks."""

    def __init__(self, recipe: Recipe, folder: str, options: ActorOptions) -> None:
        """Use the base in `folder`; `options` places the ranks."""
        self._recipe, self._folder, self._options = recipe, folder, options
        self._group: Any = None

    @property
    def group(self) -> LearnerGroup:
        """The ranks."""
        group: LearnerGroup = self._group
        return group

    async def start(self) -> None:
        """See `Trainer`."""
        self._group = await LearnerGroup.start(self._recipe, self._folder, self._options, AdapterLearner)

    async def restart(self) -> None:
        """See `Trainer`."""
        await self.group.begin_life()

    async def create(self, adapter: str, lora: LoraSettings, seed: int) -> None:
        """See `Trainer`."""
        await self.group.all("create_adapter", adapter, lora, seed)

    async def remove(self, adapter: str) -> None:
        """See `Trainer`."""
        await self.group.all("remove_adapter", adapter)

    async def learn(self, adapter: str, datums: Sequence[Datum], loss: SummedLoss, *, gradient: bool) -> DatumsSeen:
        """See `Trainer`.

        Raises:
            BudgetError: a datum does not fit into `learner.micro_batch_tokens`.
        """
        group = self.group
        shares = shares_of(datums, len(group.ranks), group.limits)
        sequence = group.next_sequence() if gradient else None
        parts = await group.each("learn", [(adapter, share, loss, sequence) for share in shares])
        return merged_seen(parts)

    async def step(self, adapter: str, optimizer: OptimizerSettings) -> Stepped:
        """See `Trainer`."""
        return await self.group.step(optimizer, adapter)

    async def save(self, adapter: str, folder: str, *, optimizer: bool) -> None:
        """See `Trainer`."""
        await self.group.all("save_adapter", adapter, folder, optimizer)

    async def load(self, adapter: str, folder: str, *, optimizer: bool) -> None:
        """See `Trainer`."""
        await self.group.all("load_adapter", adapter, folder, optimizer)

    async def stop(self) -> None:
        """See `Trainer`."""
        if self._group is not None:
            self.group.stop()


class EngineSamplePool:
    """A `SamplePool` of engines."""

    def __init__(self, recipe: Recipe, folder: str, options: ActorOptions) -> None:
        """Launch the engines' processes, which import what they need meanwhile; `start` waits for them."""
        self._pool = EnginePool.launch(recipe, folder, options, AdapterEngine)
        self._start_timeout_s, self._timeout_s = recipe.rollout.start_timeout_s, recipe.rollout.timeout_s

    async def start(self) -> None:
        """See `SamplePool`."""
        await self._pool.started()

    @property
    def ready(self) -> bool:
        """See `SamplePool`."""
        return bool(self._pool.engines.healthy)

    async def sample(self, requests: Sequence[TokenRequest]) -> AsyncIterator[TokenAnswer]:
        """See `SamplePool`."""
        member = await self._pool.engines.choose(self._start_timeout_s)
        member.load += len(requests)
        try:
            async for answer in member.stream(self._timeout_s, "sample", list(requests)):
                yield answer
        finally:
            member.load -= len(requests)

    async def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        """See `SamplePool`."""
        member, whole = await self._pool.engines.choose(self._start_timeout_s), False
        member.load += 1
        try:
            async for piece in member.stream(self._timeout_s, "talk", request):
                whole = piece.finish_reason is not None
                yield piece
        finally:
            member.load -= 1
            if not whole:
                with contextlib.suppress(*WORKER_LOSSES):  # then nothing works on it any more
                    await member.call(ABANDON_S, "abandon", request.request_id)

    async def stop(self) -> None:
        """See `SamplePool`."""
        await self._pool.end()


async def started(trainer: Trainer, pool: SamplePool) -> None:
    """Start both at once."""
    await asyncio.gather(trainer.start(), pool.start())


WORKER_LOSSES = LOSSES
"""How a call fails that a lost process did not answer; `LearnerLost` is one of them."""
