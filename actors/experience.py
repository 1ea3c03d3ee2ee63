"""Experience: samples become rollouts, rollouts are scored as they end, and whole groups become batches.

`experience` is the left half of the training loop. Generation of a later batch may run ahead of learning by at most
`rollout.max_staleness` weight versions; at 0 it waits for the weight sync.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from actors.driving.credit import EpisodeCredit
from actors.driving.episodes import EpisodeDriver, frames_of
from actors.groups import collect_groups
from actors.rollout.pool import EnginePool
from actors.scoring.scorers import Scorers
from actors.settings import RolloutSettings
from actors.supervision.waiting import now
from data.episode import Start
from data.quarantine import Quarantine
from data.rollout import SamplingSettings
from data.sample import DrivingSample
from data.split import Order
from evaluation.held_out import failure_name
from failures import TooManyMasked
from policies.algorithms.algorithm import Algorithm, Scored
from policies.batch import TrainingGroup, TrainingResponse
from policies.prompt import PromptEncoder
from policies.views import views_of
from recipe import Recipe
from rewards.group import Group, ScoredRollout


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
    dropped: int = 0
    """Groups that were begun and dropped, because enough others were complete (`rollout.over_provision`)."""
    driven: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the episodes, where the policy acts in an environment."""

    @property
    def oldest_version(self) -> int:
        """The oldest weight version that produced a response."""
        return min(scored.rollout.weight_version for group in self.groups for scored in group.rollouts)

    @property
    def tokens(self) -> int:
        """Generated tokens."""
        return sum(len(scored.rollout.token_ids) for group in self.groups for scored in group.rollouts)

    @property
    def metrics(self) -> dict[str, float]:
        """For the journal."""
        rollouts = [scored.rollout for group in self.groups for scored in group.rollouts]
        counts = {
            "groups/replaced": self.replaced,
            "groups/dropped": self.dropped,
            "rollouts/of_several_versions": sum(bool(one.weight_spans) for one in rollouts),
            "rollouts/begun_again": sum(one.dropped for one in rollouts),
        }
        return {"generate_s": self.generate_s, **{name: float(count) for name, count in counts.items()}, **self.driven}

    def training_groups(self, algorithm: Algorithm, without: Collection[str] = ()) -> list[TrainingGroup]:
        """What the learner sees: the groups that the algorithm keeps, without the responses that teach nothing.

        `without` holds ids of samples that it does not see.
        """
        kept = []
        for group in self.groups:
            if group.sample.id in without:
                continue
            responses = tuple(
                TrainingResponse(scored.rollout.token_ids, scored.rollout.logprobs, credits, scored.rollout.request_id)
                for scored, credits in zip(group.rollouts, group.credits, strict=True)
                if credits is not None
            )
            if responses and algorithm.keeps(group.shaped_rewards):
                prompt_ids = group.rollouts[0].rollout.prompt_ids
                kept.append(TrainingGroup(views_of(group.sample), prompt_ids, responses))
        return kept


@dataclass(frozen=True)
class Credit:
    """Values groups as one algorithm does."""

    algorithm: Algorithm
    cap: int
    """Most tokens a response may have."""
    encoder: PromptEncoder
    """Says at which token a sentence ends, where a score came sentence by sentence."""

    def of_batch(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        """The groups of a batch with what their responses are worth."""
        return tuple(map(self.assigned, groups))

    def assigned(self, group: Group) -> Group:
        """The group with what its responses are worth."""
        scored = [self._scored(one) for one in group.rollouts]
        credits = self.algorithm.credits(scored)
        advantages = (
            () if self.algorithm.over_batch else tuple(statistics.fmean(own) if own else None for own in credits)
        )
        rewards = tuple(one.reward for one in scored)
        return replace(group, shaped_rewards=rewards, credits=tuple(credits), advantages=advantages)

    def _scored(self, one: ScoredRollout) -> Scored:
        token_ids, score = one.rollout.token_ids, one.score
        if score.failure is not None:
            return Scored(None, len(token_ids))
        reward = self.algorithm.reward(score.value / 100.0, len(token_ids), self.cap)
        if not score.increments:
            return Scored(reward, len(token_ids))
        ends = self.encoder.tokens_until(token_ids, [part.end for part in score.increments])
        return Scored(reward, len(token_ids), tuple(part.gain / 100.0 for part in score.increments), tuple(ends))


async def experience(
    order: Order,
    engines: EnginePool,
    scorers: Scorers,
    credit: Credit | EpisodeCredit,
    recipe: Recipe,
    quarantine: Quarantine,
    *,
    steps: Sequence[int],
    driver: EpisodeDriver | None = None,
) -> AsyncIterator[ExperienceBatch]:
    """Yield one batch per step, in order: of answers to the questions drawn, or of episodes from the starts drawn.

    Raises:
        TooManyRefused: as `Quarantine.take`.
        TooManyMasked: more than `reward.max_masked_share` of a batch could not be scored.
        ActorTimeout, ActorLost: an engine stopped answering.
    """
    waiting = deque(steps)
    ahead: deque[asyncio.Task[ExperienceBatch]] = deque()
    try:
        while waiting or ahead:
            while waiting and len(ahead) <= recipe.rollout.max_staleness:
                step, rollout = waiting.popleft(), recipe.rollout
                wanted = rollout.prompts_per_step
                samples = quarantine.draw(order, wanted if driver is not None else begun(wanted, rollout))
                if driver is not None:
                    work = _driven(step, samples, order.position, driver, credit, recipe)
                else:
                    work = _batch(step, samples, order.position, order, engines, scorers, credit, recipe, quarantine)
                ahead.append(asyncio.create_task(work))
            batch = await ahead.popleft()
            _check_masked(batch, recipe.reward.max_masked_share)
            yield batch
    finally:
        for task in ahead:
            task.cancel()


def begun(wanted: int, settings: RolloutSettings) -> int:
    """How many samples are begun for as many complete groups."""
    return math.ceil(round(wanted * settings.over_provision, 6))


async def _batch(
    step: int,
    samples: list[DrivingSample],
    position: int,
    order: Order,
    engines: EnginePool,
    scorers: Scorers,
    credit: Credit | EpisodeCredit,
    recipe: Recipe,
    quarantine: Quarantine,
) -> ExperienceBatch:
    """The groups of `samples`; those that the algorithm wants refilled, or an engine refuses, give way to the next.

    A run that goes on from this batch draws from `position` on. Where later batches have drawn already, refills do not
    move it: their questions may then be asked again, but none is passed over.
    """
    began, rollout, algorithm = now(), recipe.rollout, credit.algorithm
    sampling = SamplingSettings(rollout.temperature, rollout.max_tokens, top_p=rollout.top_p, top_k=rollout.top_k)
    kept, replaced, dropped, refills = list[Group](), 0, 0, algorithm.refills
    wanted = rollout.prompts_per_step
    for turn in itertools.count():
        draw = f"step {step}, turn {turn}"
        scored = await collect_groups(
            samples, rollout.group_size, sampling, engines, scorers, draw, quarantine.take, enough=wanted
        )
        answered = zip(samples, scored, strict=True)
        dropped += sum(group is None for group in scored)
        fresh = credit.of_batch(Group(sample, tuple(group)) for sample, group in answered if group)
        useful = [group for group in fresh if not (refills and algorithm.wants_refill(group.shaped_rewards))]
        kept, replaced = kept + useful, replaced + len(fresh) - len(useful)
        if (wanted := wanted - len(useful)) == 0:
            break
        refills -= len(useful) < len(fresh)
        nobody_drew = order.position == position
        samples = quarantine.draw(order, begun(wanted, rollout))
        position = order.position if nobody_drew else position
    return ExperienceBatch(step, tuple(kept), position, now() - began, replaced, dropped)


async def _driven(
    step: int,
    samples: Sequence[DrivingSample],
    position: int,
    driver: EpisodeDriver,
    credit: Credit | EpisodeCredit,
    recipe: Recipe,
) -> ExperienceBatch:
    """The turns of `rollout.group_size` episodes from each start, each turn a group of its own."""
    began, rollout = now(), recipe.rollout
    sampling = SamplingSettings(rollout.temperature, rollout.max_tokens)
    starts = [Start.of(sample) for sample in samples]
    episodes, driven = await driver.drive(starts, rollout.group_size, sampling, frames_of(step))
    groups = credit.of_batch(group for episode in episodes for group in episode.groups)
    if not groups:
        why = next((episode.failure for episode in episodes if episode.failure), "none")
        raise TooManyMasked(f"step {step}: not one episode had a turn ({why}); mend the environment and resume the run")
    return ExperienceBatch(step, groups, position, now() - began, driven=driven)


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
