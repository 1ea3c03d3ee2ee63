"""The training loop. Reads like the algorithm: sample, score, learn, sync, record."""

from __future__ import annotations

import time
from pathlib import Path

from actors.checkpoint import RunState, save_checkpoint
from actors.credit import Credit
from actors.crew import Crew
from actors.experience import ExperienceBatch, experience
from actors.interruption import Interruption
from actors.learning.group import LearnerGroup, with_old_logprobs
from actors.measuring.in_loop import InLoop
from actors.record.journal import Journal
from actors.weight_sync import SyncReport
from data.split import TaskBalancedOrder
from recipe import Recipe


async def reinforce(
    crew: Crew,
    order: TaskBalancedOrder,
    journal: Journal,
    folder: Path,
    start: RunState,
    interruption: Interruption,
    in_loop: InLoop,
) -> RunState:
    """Train from `start` to `run.steps`, or until an interruption; returns where the run then stands.

    Raises:
        SyncError, TooManyMasked, ActorLost, ActorTimeout: the run cannot go on; what was recorded stays.
    """
    run = crew.recipe.run
    state, began = start, time.time()
    credit = Credit(crew.recipe.algorithm, start.kl_beta)
    async for batch in experience(
        order,
        crew.engines,
        crew.scorers,
        crew.recipe,
        steps=range(start.step + 1, run.steps + 1),
    ):
        staleness = crew.sync.version - batch.oldest_version
        learning = time.time()
        metrics = await learn(crew.learners, batch, crew.recipe, credit)
        learn_s = time.time() - learning
        report = await crew.sync.publish(version=batch.step)
        metrics |= _timings(batch, report, learn_s, time.time() - began, staleness) | crew.scorers.metrics
        journal.record(batch.step, batch.groups, metrics)

        state, began = RunState(batch.step, batch.position, start.ranks, credit.kl.beta), time.time()
        due = run.checkpoint_every and batch.step % run.checkpoint_every == 0
        if due or interruption.requested or batch.step == run.steps:
            await save_checkpoint(folder, state, crew.learners)
        if interruption.requested:
            break
        await in_loop.begin(batch.step, crew.learners)
    return state


async def learn(learners: LearnerGroup, batch: ExperienceBatch, recipe: Recipe, credit: Credit) -> dict[str, float]:
    """Update the policy on one batch: `algorithm.updates_per_batch` steps, each on an equal share of its groups."""
    algorithm, settings = recipe.algorithm, recipe.learner
    lr = settings.lr * min(1.0, batch.step / max(1, settings.warmup_steps))
    groups = batch.training_groups(keep_equal=algorithm.credits_tokens or algorithm.kl_beta > 0)
    if not groups:  # every group's rewards are equal: nothing to learn, and the journal counts them
        return {"loss": 0.0, "grad_norm": 0.0, "lr": lr, "updates": 0.0, "skipped": 0.0}
    credited: dict[str, float] = {}
    if algorithm.credits_tokens:
        groups, credited = await credit.assign(groups, learners)
    if algorithm.updates_per_batch > 1:
        groups = await with_old_logprobs(groups, learners)
    shares = [groups[i :: algorithm.updates_per_batch] for i in range(algorithm.updates_per_batch)]
    updates = [await learners.update(share, "policy", lr) for share in shares if share]
    means = {name: sum(update[name] for update in updates) / len(updates) for name in updates[0]}
    means["logprob_gap_max"] = max(update["logprob_gap_max"] for update in updates)
    applied = sum(1.0 - update["skipped"] for update in updates)
    return means | credited | {"lr": lr, "updates": applied, "skipped": len(updates) - applied}


def _timings(
    batch: ExperienceBatch, report: SyncReport, learn_s: float, step_s: float, staleness: int
) -> dict[str, float]:
    return {
        "generate_s": batch.generate_s,
        "groups/replaced": float(batch.replaced),
        "learn_s": learn_s,
        "sync_s": report.seconds,
        "sync_mib": report.mebibytes,
        "sync_gap": report.gap,
        "sync_compared": float(report.compared),
        "sync_incomparable": float(report.incomparable),
        "step_s": step_s,
        "tokens_per_s": batch.tokens / max(step_s, 1e-9),
        "staleness": float(staleness),
        "weight_version": float(report.version),
    }
