"""`Probes`: whether engines act with the learner's weights, seen in log-probabilities of the same tokens on both sides.

Whatever goes wrong between a weight and a word shows here: a matrix packed wrongly, caches that hold old activations,
an adapter that was not applied.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.learning.group import LearnerGroup
from actors.rollout.pool import EnginePool
from actors.supervision.care import LOSSES
from actors.supervision.supervisor import Supervised
from data.errors import DataError
from data.rollout import Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from failures import SyncError
from policies.batch import TrainingGroup, TrainingResponse
from policies.views import views_of
from recipe import Recipe

TEMPERATURE = 2.0
"""Probes are sampled as hot as vLLM takes it: a policy that is sure of its words gives log-probabilities of 0 in engine
and learner alike, and would hide a gap."""
EXACT = "float32"
"""The dtype in which both sides agree to rounding on every token."""
SHARE, ENOUGH = 99.0, 256
"""In a coarser dtype single tokens stray far: this percentile is held against the limit where there are as many tokens,
and before it ends a run it is measured again on other tokens."""


@dataclass(frozen=True, slots=True)
class Gap:
    """|engine - learner| over the tokens of some probes."""

    judged: float
    """What is held against `sync.max_logprob_gap`: the largest, or in a coarse dtype the 99th percentile."""
    largest: float
    tokens: int


class Probes:
    """Some samples whose first tokens engines and learner are asked about."""

    def __init__(
        self, learners: LearnerGroup, pool: EnginePool, recipe: Recipe, samples: Sequence[DrivingSample]
    ) -> None:
        """Ask about these samples."""
        self._learners, self._pool, self._settings = learners, pool, recipe.sync
        self._samples, self._dtype, self._turn = list(samples), recipe.policy.dtype, 0

    async def show(self, members: Sequence[Supervised]) -> None:
        """Let engines see the images once, so that what they keep of them is found out after the next publish."""
        await self._answers(members, 0, self._samples)

    async def gap(
        self, members: Sequence[Supervised], version: int | None, *, every: bool = True, watched: bool = True
    ) -> Gap | None:
        """How far engines and learner are apart; None where no engine was there to be asked.

        Without `every`, float32's probes, each token of which is exact, are of one sample: of each in turn.

        Raises:
            SyncError: it is more than the recipe allows.
        """
        limit, strayed = self._settings.max_logprob_gap, 0.0
        for attempt in range(1 if self._dtype == EXACT else 2):
            found = await self._measured(members, attempt, every=every, watched=watched)
            if found is None or found.judged <= limit:
                return found
            strayed = found.judged
        raise SyncError(
            f"weight version {version}: engine and learner disagree on the probes' first tokens by {strayed:.3g} "
            f"in log-probability (sync.max_logprob_gap is {limit:g}); an engine holds stale or damaged weights or "
            "activations"
        )

    async def _measured(self, members: Sequence[Supervised], attempt: int, *, every: bool, watched: bool) -> Gap | None:
        asked = self._asked(every=every)
        while not (answers := await self._answers(members, attempt, asked, watched=watched)):
            if asked[0] in self._samples:
                return None  # it is an engine that lacks, not the sample
            asked = self._asked(every=every)
        groups, engine_rows = [], []
        for sample, rollouts in answers.items():
            responses = tuple(
                TrainingResponse(one.token_ids, one.logprobs, (0.0,) * len(one.token_ids)) for one in rollouts
            )
            groups.append(TrainingGroup(views_of(self._named(sample)), rollouts[0].prompt_ids, responses))
            engine_rows += [rollout.logprobs for rollout in rollouts]
        learner_rows = await self._learners.log_probs(groups, TEMPERATURE)
        ours, theirs = (np.concatenate([np.asarray(row) for row in rows]) for rows in (learner_rows, engine_rows))
        gaps = np.abs(ours - theirs)
        largest = float(np.max(gaps))  # NaN wherever one is NaN, unlike Python's own max
        coarse = self._dtype != EXACT and len(gaps) >= ENOUGH
        return Gap(float(np.percentile(gaps, SHARE)) if coarse else largest, largest, len(gaps))

    def _asked(self, *, every: bool) -> list[DrivingSample]:
        """The samples of a measurement."""
        if every or self._dtype != EXACT:
            return self._samples
        self._turn += 1
        return [self._samples[self._turn % len(self._samples)]]

    async def _answers(
        self, members: Sequence[Supervised], attempt: int, samples: Sequence[DrivingSample], *, watched: bool = True
    ) -> dict[str, list[Rollout]]:
        """First tokens from every engine, by sample; a watched one that is lost over them is left out."""
        sampling = SamplingSettings(
            TEMPERATURE, self._settings.probe_tokens, attempt if self._pool.takes_seeds else None
        )
        answers = await asyncio.gather(*(self._ask(one, samples, sampling, watched=watched) for one in members))
        found: dict[str, list[Rollout]] = {}
        for answer in (one for own in answers for one in own):
            if isinstance(answer, Refusal):
                self._leave_out(answer)
            else:
                found.setdefault(answer.sample_id, []).append(answer)
        return found

    async def _ask(
        self, member: Supervised, samples: Sequence[DrivingSample], sampling: SamplingSettings, *, watched: bool
    ) -> list[Rollout | Refusal]:
        requests, found = self._pool.requests(samples, 1, sampling), list[Rollout | Refusal]()
        with contextlib.suppress(*LOSSES) if watched else contextlib.nullcontext():
            async for answer in member.stream(self._settings.timeout_s, "generate", requests, watched=watched):
                found.append(answer)
        return found

    def _named(self, sample_id: str) -> DrivingSample:
        return next(sample for sample in self._samples if sample.id == sample_id)

    def _leave_out(self, refusal: Refusal) -> None:
        """Do without a probe that an engine refuses.

        Raises:
            DataError: it was the last one.
        """
        left = [sample for sample in self._samples if sample.id != refusal.sample_id]
        if not left:
            raise DataError(f"{refusal.why}; no probe is left to compare engine and learner with")
        self._samples = left
