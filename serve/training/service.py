"""`TrainingService`: everything behind the routes, put together; starts, drains and ends it.

One server works on a database at a time (`serve.operations.lease`). It takes up what an earlier one left, whether that
ended in good order or was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import OperationalError

from recipe import Recipe
from serve.database.connection import Database
from serve.errors import ServiceError
from serve.operations.lease import LeaseHolder, LeaseLost
from serve.operations.logs import tell
from serve.operations.metrics import ServiceMetrics
from serve.tenants.keys import KeyRing
from serve.tenants.rates import RateLimiter
from serve.training.collection import Collector
from serve.training.futures import Futures
from serve.training.keeper import ModelKeeper
from serve.training.places import Places
from serve.training.prompts import PromptReader
from serve.training.sampling_queue import SamplingQueue
from serve.training.training_queue import TrainingQueue
from serve.training.workers import SamplePool, Trainer, started

RENEWALS = 4
"""How often a lease is renewed in the time that it lasts."""


class Part(Protocol):
    """A further part of the service: it begins once learners and engines work, and ends before them."""

    async def start(self) -> None:
        """Take up what an earlier server left, and take on more."""

    async def stop(self) -> None:
        """Take nothing new on, and let go."""


P = TypeVar("P")


@dataclass
class Health:
    """What the service says of itself."""

    ready: bool = False
    draining: bool = False
    why: str = "starting"


class TrainingService:
    """The service of one base model."""

    def __init__(
        self,
        recipe: Recipe,
        base: str,
        database: Database,
        trainer: Trainer,
        pool: SamplePool,
        reader: PromptReader | None = None,
    ) -> None:
        """Plan it; `start` does the work.

        Args:
            recipe: `serve` and `policy` are read here.
            base: folder or hub name of the base model.
            database: where every promise is kept.
            trainer, pool: what does the work.
            reader: of prompts; None: that of the base.
        """
        self.recipe, self.settings, self.base = recipe, recipe.serve, base
        self.base_name = recipe.serve.training.model_name or base
        own = recipe.serve.training
        self.database, self.metrics, self.health = database, ServiceMetrics(), Health()
        self.lease = LeaseHolder(database, own.lease_s)
        self.keys, self.rates = KeyRing(database), RateLimiter()
        self.places = Places(Path(recipe.run.folder))
        self.futures = Futures(database, self.lease)
        self.reader = reader or PromptReader(
            base, recipe.policy, recipe.rollout.max_model_len, recipe.rollout.max_images or recipe.serve.max_images
        )
        self.pool, self.trainer = pool, trainer
        self.keeper = ModelKeeper(database, trainer, self.reader, self.places, own, self.metrics)
        self.training = TrainingQueue(database, self.futures, self.keeper, own, self.metrics)
        self.sampling = SamplingQueue(database, self.futures, pool, self.keeper, self.reader, own, self.metrics)
        self.collector = Collector(database, self.places, own, self.metrics, self.training.forget)
        self._tasks: list[asyncio.Task[Any]] = []
        self._parts: dict[type[Any], Part] = {}

    def add(self, part: Part) -> None:
        """Add a part, before `start`."""
        self._parts[type(part)] = part

    def part(self, kind: type[P]) -> P:
        """The part of that class.

        Raises:
            ServiceError: 404, this server has none.
        """
        found = self._parts.get(kind)
        if not isinstance(found, kind):
            raise ServiceError(404, "this server does not serve that", "not_served")
        return found

    @property
    def max_length(self) -> int:
        """Most positions of prompt and response together."""
        return self.reader.max_length

    async def open(self) -> None:
        """Bring the database up to date and take the lease: from now on results can be asked for."""
        await asyncio.to_thread(self.database.upgrade)
        await self._lease_taken()
        self._tasks.append(asyncio.create_task(self._hold_lease()))

    async def start(self) -> None:
        """Start learners and engines, take up what is on disk without a result, and take on more."""
        self.health.why = "the learner and the engines are starting"
        await started(self.trainer, self.pool)
        await self.training.restore()
        await self.sampling.restore()
        for work in (self.training.run(), self.sampling.run()):
            self._tasks.append(asyncio.create_task(self._vital(work)))
        self._tasks.append(asyncio.create_task(self._collect()))
        for part in self._parts.values():
            await part.start()
        self.health.ready, self.health.why = True, ""
        tell("ready", queued=len(self.training) + self.sampling.open, epoch=self.lease.epoch)

    async def drain(self) -> None:
        """Take nothing new on, end what is under way, write snapshots; what waits is on disk for the next server."""
        self.health.draining, self.health.why = True, "the server is ending"
        tell("draining", queued=len(self.training) + self.sampling.open)
        self.training.drain()
        self.sampling.drain()
        for part in self._parts.values():
            await part.stop()
        while self.health.ready and not self.training.idle:
            await asyncio.sleep(0.05)
        if self.health.ready:
            await self.keeper.snapshot_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.trainer.stop()
        await self.pool.stop()
        await asyncio.to_thread(self.lease.release)
        self.database.close()

    async def _lease_taken(self) -> None:
        said = None
        while (holder := await asyncio.to_thread(self.lease.take)) is not None:
            if holder != said:
                tell("waiting for the server that holds this database", holder=holder)
                self.health.why, said = "another server holds this database", holder
            await asyncio.sleep(0.5)

    async def _hold_lease(self) -> None:
        while True:
            await asyncio.sleep(self.lease.seconds / RENEWALS)
            await self._vital(self._renewed())

    async def _renewed(self) -> None:
        """Renew the lease; a database that is away may come back before it ends."""
        until = time.monotonic() + self.lease.seconds
        while True:
            try:
                return await asyncio.to_thread(self.lease.renew)
            except OperationalError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.5)

    async def _vital(self, work: Any) -> None:
        """Do what the service cannot do without; where that fails, end the process, so that another takes over."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except LeaseLost as error:
            tell("the lease was lost", level=50, why=str(error))
            os.kill(os.getpid(), signal.SIGKILL)  # nothing of ours may be written any more
        except Exception as error:
            tell("the service cannot go on", level=50, error=repr(error))
            os.kill(os.getpid(), signal.SIGKILL)

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(60.0 * self.settings.training.collect_minutes)
            try:
                await asyncio.to_thread(self.collector.collect)
            except Exception as error:  # the next one tries again
                tell("nothing could be collected", level=40, error=repr(error))
