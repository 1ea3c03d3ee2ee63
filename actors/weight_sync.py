"""`WeightSync`: publishes the learner's weights to every engine and stops the run if they did not arrive intact.

After each publish four things must hold: the checksum of every bucket agrees on both sides; what the engines installed
is what arrived; caches that hold old activations were emptied; and engine and learner give the first tokens of probe
responses, whose images the engine has seen before, the same log-probabilities.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.learning.group import LearnerGroup
from actors.rollout.pool import EnginePool
from actors.sync.transport import Meeting, Receipt, transport_of
from actors.waiting import stream, within
from data.rollout import Rollout, SamplingSettings
from data.sample import DrivingSample
from failures import SyncError
from policies.batch import TrainingGroup, TrainingResponse
from policies.views import views_of
from recipe import Recipe

PROBE_TEMPERATURE = 2.0
"""Probes are sampled as hot as vLLM takes it: a policy that is sure of its words gives log-probabilities of 0 in engine
and learner alike, and would hide a gap."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """One publish."""

    version: int
    seconds: float
    mebibytes: float
    gap: float
    """Largest |engine - learner| log-probability on the probes' first tokens."""
    compared: int
    """Weights whose installed values were compared with what arrived, in the engine worker with the fewest."""
    incomparable: int
    """The others, which that worker fuses, packs, shards or quantises; the probes alone vouch for these."""

    @property
    def metrics(self) -> dict[str, float]:
        """For the journal."""
        return {
            "sync_s": self.seconds,
            "sync_mib": self.mebibytes,
            "sync_gap": self.gap,
            "sync_compared": float(self.compared),
            "sync_incomparable": float(self.incomparable),
            "weight_version": float(self.version),
        }


class WeightSync:
    """The coordinator; the transport's members live in the learner and engine processes."""

    def __init__(
        self,
        learners: LearnerGroup,
        engines: EnginePool,
        recipe: Recipe,
        probes: Sequence[DrivingSample],
    ) -> None:
        """Join the given learners and engines; `probes` are the samples whose first tokens are compared."""
        self._learners, self._engines, self._settings = learners, engines, recipe.sync
        self._probes = list(probes)
        self._workers = recipe.rollout.tensor_parallel
        self._adapters_only = recipe.rollout.adapters == "apart"
        self._transport = transport_of(recipe)
        self.version = -1

    async def connect(self) -> None:
        """Let learner and engines meet, and show every engine the probes' images once."""
        timeout = self._settings.timeout_s
        sender = self._learners.ranks[0]
        host, port = await within(timeout, "learner rank 0 (finding an address)", sender.address.remote())
        members = 1 + self._workers * len(self._engines.engines)
        meeting = Meeting(self._transport, host, port, members, timeout, self._settings.options)
        joining = [within(timeout, "learner rank 0 (joining the sync)", sender.join_weight_channel.remote(meeting))]
        for i, (name, engine) in enumerate(self._engines.engines.items()):
            call = engine.join_weight_channel.remote(meeting, 1 + i * self._workers)
            joining.append(within(timeout, f"{name} (joining the sync)", call))
        await asyncio.gather(*joining)
        bucket_bytes = self._settings.bucket_mib * 2**20
        self._buckets, *_ = await self._learners.all("prepare_sync", bucket_bytes, self._adapters_only)
        await self._probe_rollouts()

    async def publish(self, version: int) -> SyncReport:
        """Install the learner's weights as `version` in every engine.

        Raises:
            SyncError: a checksum, an installed weight or the probes' log-probabilities differ.
            ActorTimeout, ActorLost: a learner or engine stopped answering.
        """
        began = time.time()
        timeout = self._settings.timeout_s
        async with self._engines.busy:
            sending = self._learners.all("send_weights")
            receiving = self._engines.all("receive_weights", version, self._buckets, timeout, timeout_s=timeout)
            sent, received = await asyncio.gather(sending, receiving)
        for name, receipts in zip(self._engines.engines, received, strict=True):
            for receipt in receipts:
                check_receipt(name, version, sent[0], receipt)
        self.version = version
        gap = await self._gap()
        if not gap <= self._settings.max_logprob_gap:  # also stops on NaN
            raise SyncError(
                f"weight version {version}: engine and learner disagree on the probes' first tokens by {gap:.3g} in "
                f"log-probability (sync.max_logprob_gap is {self._settings.max_logprob_gap:g}); an engine holds stale "
                "or damaged weights or activations"
            )
        size = sum(bucket.bytes for bucket in self._buckets)
        least = min((receipt for receipts in received for receipt in receipts), key=lambda receipt: receipt.compared)
        return SyncReport(version, time.time() - began, size / 2**20, gap, least.compared, least.incomparable)

    async def _gap(self) -> float:
        groups, engine_rows = [], []
        for sample, rollout in await self._probe_rollouts():
            response = TrainingResponse(rollout.token_ids, rollout.logprobs, (0.0,) * len(rollout.token_ids))
            groups.append(TrainingGroup(views_of(sample), rollout.prompt_ids, (response,)))
            engine_rows.append(rollout.logprobs)
        learner_rows = await self._learners.log_probs(groups, PROBE_TEMPERATURE)
        ours, theirs = (np.concatenate([np.asarray(row) for row in rows]) for rows in (learner_rows, engine_rows))
        return float(np.max(np.abs(ours - theirs)))  # NaN wherever one is NaN, unlike Python's own max

    async def _probe_rollouts(self) -> list[tuple[DrivingSample, Rollout]]:
        """Each probe's first tokens from every engine."""
        seed = 0 if self._engines.takes_seeds else None
        sampling = SamplingSettings(PROBE_TEMPERATURE, self._settings.probe_tokens, seed)
        by_id = {sample.id: sample for sample in self._probes}
        found: list[tuple[DrivingSample, Rollout]] = []
        async with self._engines.busy:
            for name, engine in self._engines.engines.items():
                requests = self._engines.requests(self._probes, 1, sampling)
                generator = engine.generate.options(num_returns="streaming").remote(requests)
                async for rollout in stream(self._settings.timeout_s, f"{name} (generating the probes)", generator):
                    found.append((by_id[rollout.sample_id], rollout))
        return found


def check_receipt(engine: str, version: int, sent: list[int], receipt: Receipt) -> None:
    """Compare what an engine worker received and installed with what was sent.

    Raises:
        SyncError: a bucket arrived changed, an installed weight differs, or none could be compared.
    """
    if list(receipt.checksums) != sent:
        wrong = [i for i, (a, b) in enumerate(zip(sent, receipt.checksums, strict=False)) if a != b]
        raise SyncError(
            f"weight version {version}: {engine} received bucket(s) {wrong} of {len(sent)} changed in transit"
        )
    if receipt.differing:
        raise SyncError(
            f"weight version {version}: {engine} installed other values than it received: {receipt.differing}"
        )
    if receipt.compared == 0:
        raise SyncError(
            f"weight version {version}: {engine} holds no parameter that could be compared with what it received"
        )
