"""The training loop. Reads like the algorithm: sample and score, learn and publish, record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing

from actors.measuring.in_loop import InLoop
from actors.record.journal import Journal
from actors.supervision.waiting import now
from actors.updates import Updates
from data.sample import DrivingSample
from data.split import Order


async def reinforce(
    updates: Updates,
    samples: Sequence[DrivingSample],
    order: Callable[[int], Order],
    journal: Journal,
    stopping: Callable[[], bool],
    in_loop: InLoop,
) -> None:
    """Train to `run.steps`, or until `stopping` says so after a step; `updates.state` is where the run then stands.

    Raises:
        SyncError, TooManyMasked, ActorLost, ActorTimeout: the run cannot go on; what was recorded stays.
    """
    crew, began = updates.crew, now()
    async with aclosing(updates.batches(samples, order)) as batches:
        async for batch in batches:
            staleness, learning = crew.sync.version - batch.oldest_version, now()
            metrics = await updates.take(batch)
            step_s, learn_s = now() - began, now() - learning - metrics["sync_s"]
            metrics |= batch.metrics | crew.metrics
            metrics |= {"learn_s": learn_s, "step_s": step_s, "staleness": float(staleness)}
            metrics["tokens_per_s"] = batch.tokens / max(step_s, 1e-9)
            journal.record(batch.step, batch.groups, metrics)

            began = now()
            last = stopping()
            if updates.due or last:
                await updates.save(last=last or updates.complete)
            if last:
                break
            await in_loop.begin(batch.step, crew.learners.export)
