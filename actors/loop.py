"""The training loop. Reads like the algorithm: sample, score, learn, sync, record."""

from __future__ import annotations

import time
from pathlib import Path

from actors.checkpoint import RunState, save_checkpoint
from actors.crew import Crew
from actors.experience import Credit, ExperienceBatch, experience
from actors.interruption import Interruption
from actors.measuring.in_loop import InLoop
from actors.record.journal import Journal
from data.split import TaskBalancedOrder
from policies.algorithms.algorithm import Algorithm
from policies.algorithms.registry import make_algorithm


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
    algorithm = make_algorithm(crew.recipe.algorithm)
    credit = Credit(algorithm, crew.recipe.rollout.max_tokens, crew.encoder)
    kl_beta = algorithm.kl_beta if start.kl_beta is None else start.kl_beta
    steps = range(start.step + 1, run.steps + 1)
    async for batch in experience(order, crew.engines, crew.scorers, credit, crew.recipe, steps=steps):
        staleness = crew.sync.version - batch.oldest_version
        learning = time.time()
        metrics, kl_beta = await learn(crew, batch, algorithm, kl_beta)
        learn_s = time.time() - learning
        report = await crew.sync.publish(version=batch.step)
        step_s = time.time() - began
        metrics |= batch.metrics | report.metrics | crew.scorers.metrics
        metrics |= {"learn_s": learn_s, "step_s": step_s, "staleness": float(staleness)}
        metrics["tokens_per_s"] = batch.tokens / max(step_s, 1e-9)
        journal.record(batch.step, batch.groups, metrics)

        state, began = RunState(batch.step, batch.position, start.ranks, kl_beta), time.time()
        due = run.checkpoint_every and batch.step % run.checkpoint_every == 0
        if due or interruption.requested or batch.step == run.steps:
            await save_checkpoint(folder, state, crew.learners)
        if interruption.requested:
            break
        await in_loop.begin(batch.step, crew.learners.export)
    return state


async def learn(
    crew: Crew, batch: ExperienceBatch, algorithm: Algorithm, kl_beta: float
) -> tuple[dict[str, float], float]:
    """Update the policy on one batch: `updates_per_batch` steps, each on an equal share of its groups.

    Returns:
        The metrics, and the weight of a KL in the reward for the next batch.
    """
    learners, settings = crew.learners, crew.recipe.learner
    lr = settings.lr * min(1.0, batch.step / max(1, settings.warmup_steps))
    groups = batch.training_groups(algorithm)
    if not groups:  # every group's rewards are equal: nothing to learn, and the journal counts them
        return {"loss": 0.0, "grad_norm": 0.0, "lr": lr, "updates": 0.0, "skipped": 0.0}, kl_beta
    portions, assessed = learners.portions(groups, algorithm.updates_per_batch), dict[str, float]()
    if algorithm.over_batch or len(portions) > 1:
        portions, assessed = await learners.assess(portions, kl_beta)
    updates = [await learners.update(portion, algorithm, lr) for portion in portions]
    means = {name: sum(update[name] for update in updates) / len(updates) for name in updates[0]}
    means |= {name: max(update[name] for update in updates) for name in means if name.endswith("_max")}
    applied = sum(1.0 - update["skipped"] for update in updates)
    metrics = means | assessed | {"lr": lr, "updates": applied, "skipped": len(updates) - applied}
    responses = sum(portion.counts.responses for portion in portions)
    strayed = metrics.get("kl", 0.0) * sum(portion.counts.tokens for portion in portions) / responses
    return metrics, algorithm.next_kl_beta(kl_beta, strayed, responses)
