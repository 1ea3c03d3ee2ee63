"""Experience: samples become rollouts, rollouts are scored as they end, and whole groups become batches.

`experience` is the left half of the training loop. Generation of a later batch may run ahead of learning by at most
`rollout.max_staleness` weight versions; at 0 it waits for the weight sync.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from actors.errors import TooManyMasked
from actors.rollout.pool import EnginePool
from actors.rollout.rollout import Group, Rollout, SamplingSettings, ScoredRollout
from actors.scoring.scorers import Scorers
from data.sample import DrivingSample
from data.split import TaskBalancedOrder
from evaluation.held_out import failure_name
from policies.advantages import group_advantages, overlong_share
from policies.batch import TrainingGroup, TrainingResponse
from policies.settings import AlgorithmSettings
from policies.views import views_of
from recipe import Recipe


@dataclass(frozen=True, slots=True)
class ExperienceBatch:
    """The groups of one step, complete and scored."""

    step: int
    groups: tuple[Group, ...]
    position: int
    """Where the training order stood after drawing this batch; a resumed run goes on from there."""
    generate_s: float
    """Seconds from the first request to the last score."""
    replaced: int = 0
    """Groups that gave way to those of fresh questions, because their rewards were all equal."""

    @property
    def oldest_version(self) -> int:
        """The oldest weight version that produced a response."""
        return min(scored.rollout.weight_version for group in self.groups for scored in group.rollouts)

    @property
    def tokens(self) -> int:
        """Generated tokens."""
        return sum(len(scored.rollout.token_ids) for group in self.groups for scored in group.rollouts)

    def training_groups(self, *, keep_equal: bool) -> list[TrainingGroup]:
        """What the learner sees: masked responses left out, groups with nothing to compare too.

        Args:
            keep_equal: keep groups whose rewards are all equal; their own responses say nothing, but a KL term or a
                comparison over the whole batch wants them.
        """
        kept = []
        for group in self.groups:
            if group.has_equal_rewards and not keep_equal:
                continue
            responses = tuple(
                TrainingResponse(
                    scored.rollout.token_ids,
                    scored.rollout.logprobs,
                    (advantage,) * len(scored.rollout.token_ids),
                    reward=advantage,
                    gains=tuple(one.gain / 100.0 for one in scored.score.increments or ()),
                    gain_ends=tuple(one.end for one in scored.score.increments or ()),
                )
                for scored, advantage in zip(group.rollouts, group.advantages, strict=True)
                if advantage is not None
            )
            if not responses:
                continue
            prompt_ids = group.rollouts[0].rollout.prompt_ids
            kept.append(TrainingGroup(views_of(group.sample), prompt_ids, responses))
        return kept


async def experience(
    order: TaskBalancedOrder, engines: EnginePool, scorers: Scorers, recipe: Recipe, *, steps: Sequence[int]
) -> AsyncIterator[ExperienceBatch]:
    """Yield one batch per step, in order.

    Raises:
        TooManyMasked: more than `reward.max_masked_share` of a batch could not be scored.
        ActorTimeout, ActorLost: an engine stopped answering.
    """
    waiting = deque(steps)
    ahead: deque[asyncio.Task[ExperienceBatch]] = deque()
    try:
        while waiting or ahead:
            while waiting and len(ahead) <= recipe.rollout.max_staleness:
                samples = order.take(recipe.rollout.prompts_per_step)
                work = _batch(waiting.popleft(), samples, order.position, order, engines, scorers, recipe)
                ahead.append(asyncio.create_task(work))
            batch = await ahead.popleft()
            _check_masked(batch, recipe.reward.max_masked_share)
            yield batch
    finally:
        for task in ahead:
            task.cancel()


async def collect_groups(
    samples: Sequence[DrivingSample], count: int, sampling: SamplingSettings, engines: EnginePool, scorers: Scorers
) -> list[list[ScoredRollout]]:
    """`count` scored rollouts for each sample; each is scored as soon as it ends, whatever its siblings do."""
    requests = engines.requests(samples, count, sampling)
    by_request = {request.request_id: request.sample for request in requests}
    scoring: dict[str, asyncio.Task[ScoredRollout]] = {}

    def begin_scoring(rollout: Rollout) -> None:
        work = scorers.score(by_request[rollout.request_id], rollout)
        scoring[rollout.request_id] = asyncio.create_task(work)

    await engines.generate(requests, begin_scoring)
    scored = [await scoring[request.request_id] for request in requests]
    groups = [scored[start : start + count] for start in range(0, len(scored), count)]
    return [scorers.complete(sample, group) for sample, group in zip(samples, groups, strict=True)]


async def _batch(
    step: int,
    samples: list[DrivingSample],
    position: int,
    order: TaskBalancedOrder,
    engines: EnginePool,
    scorers: Scorers,
    recipe: Recipe,
) -> ExperienceBatch:
    """The groups of `samples`; with `algorithm.refills`, those with equal rewards give way to groups of the next.

    A run that goes on from this batch draws from `position` on. Where later batches have drawn already, refills do not
    move it: their questions may then be asked again, but none is passed over.
    """
    began, rollout, algorithm = time.time(), recipe.rollout, recipe.algorithm
    sampling = SamplingSettings(rollout.temperature, rollout.max_tokens)
    kept, replaced = list[Group](), 0
    for refill in range(algorithm.refills + 1):
        scored = await collect_groups(samples, rollout.group_size, sampling, engines, scorers)
        fresh = [
            valued(Group(sample, tuple(group)), algorithm, rollout.max_tokens)
            for sample, group in zip(samples, scored, strict=True)
        ]
        # A group with a failed score stays whatever it teaches: failures are counted, and too many stop the run.
        useful = [group for group in fresh if not group.has_equal_rewards or None in group.shaped_rewards]
        if refill == algorithm.refills or len(useful) == len(fresh):
            kept += fresh
            break
        kept, replaced = kept + useful, replaced + len(fresh) - len(useful)
        nobody_drew = order.position == position
        samples = order.take(len(fresh) - len(useful))
        position = order.position if nobody_drew else position
    return ExperienceBatch(step, tuple(kept), position, time.time() - began, replaced)


def valued(group: Group, algorithm: AlgorithmSettings, cap: int) -> Group:
    """The group with what its responses are worth to the algorithm."""
    shaped = [
        None
        if scored.score.failure is not None
        else scored.score.value / 100.0 - overlong_share(len(scored.rollout.token_ids), cap, algorithm.overlong_buffer)
        for scored in group.rollouts
    ]
    how = algorithm.advantage
    if how == "batch-normalised" or how == "critic":
        return replace(group, shaped_rewards=tuple(shaped), advantages=tuple(shaped))
    within = "centred" if how == "centred-batch-normalised" else how
    advantages = group_advantages(shaped, within, algorithm.advantage_epsilon)
    return replace(group, shaped_rewards=tuple(shaped), advantages=tuple(advantages))


def _check_masked(batch: ExperienceBatch, limit: float) -> None:
    failures = [s.score.failure for g in batch.groups for s in g.rollouts if s.score.failure is not None]
    total = sum(len(group.rollouts) for group in batch.groups)
    if len(failures) > limit * total:
        counted = Counter(map(failure_name, failures))
        reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(counted.items()))
        raise TooManyMasked(
            f"step {batch.step}: {len(failures)} of {total} rollouts could not be scored ({reasons}), more than "
            f"reward.max_masked_share={limit:g}; one of them: {failures[0][:300]}; mend the scorer and resume the run"
        )
