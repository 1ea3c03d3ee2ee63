"""`WeightSync`: publishes the learner's weights to every engine and stops the run if they did not arrive intact.

After each publish three things must hold: the checksum of every bucket agrees on both sides; caches that hold old
activations were emptied; and engine and learner give the first tokens of probe responses, whose images the engine has
seen before, the same log-probabilities (`actors.weight_probes`). After the first publish, and every n-th
(`sync.compare_every`), what the engines installed must be what arrived, value by value.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError

from actors.learning.group import LearnerGroup
from actors.rollout.pool import EnginePool
from actors.supervision.care import LOSSES
from actors.supervision.supervisor import Supervised
from actors.supervision.waiting import now
from actors.sync.transport import Meeting, Receipt, Sent, transport_of
from actors.weight_probes import Gap, Probes
from data.sample import DrivingSample
from failures import LearnerError, LearnerLost, SyncError
from recipe import Recipe


@dataclass(frozen=True, slots=True)
class SyncReport:
    """One publish."""

    version: int
    seconds: float
    mebibytes: float
    engines: int
    """How many engines took it; one that is being started again gets it when it is back."""
    gap: Gap | None
    """On the probes' first tokens; None where no engine was there to ask."""
    compared: int
    """Weights whose installed values were compared with what arrived, in the engine worker with the fewest."""
    incomparable: int
    """The others, which that worker fuses, packs, shards or quantises; the probes alone vouch for these."""
    probe_s: float = 0.0
    """The part of `seconds` in which the probes were asked and compared."""
    holders: tuple[str, ...] = ()
    """The engines that took it."""
    checksums: tuple[int, ...] = ()
    """Of the bytes of every bucket; each engine's receipt has the same."""
    gather_s: float = 0.0
    send_s: float = 0.0
    """Of the first learner rank."""
    install_s: float = 0.0
    """Of the engine worker that took longest, beside what it waited for. Sending and installing overlap."""

    @property
    def record(self) -> dict[str, Any]:
        """For the run's ledger."""
        gap = None if self.gap is None else self.gap.largest
        vouching = {"gap": gap, "compared": self.compared, "incomparable": self.incomparable}
        return {"version": self.version, "engines": self.holders, "checksums": self.checksums, **vouching}

    @property
    def metrics(self) -> dict[str, float]:
        """For the journal; what was not measured is left out."""
        measured = dict[str, float]()
        if self.gap is not None:
            measured = {"probe_gap": self.gap.judged, "probe_gap_max": self.gap.largest, "probe_s": self.probe_s}
        if self.compared or self.incomparable:
            measured |= {"sync_compared": float(self.compared), "sync_incomparable": float(self.incomparable)}
        return measured | {
            "sync_s": self.seconds,
            "gather_s": self.gather_s,
            "send_s": self.send_s,
            "install_s": self.install_s,
            "sync_mib": self.mebibytes,
            "sync_engines": float(self.engines),
            "weight_version": float(self.version),
        }


class WeightSync:
    """The coordinator; the transport's members live in the learner and engine processes.

    An engine that is lost ends nothing: learner and the other engines meet anew. One that was started again gets the
    learner's weights, and shows that it holds them, before it takes a request.
    """

    def __init__(
        self,
        learners: LearnerGroup,
        engines: EnginePool,
        recipe: Recipe,
        probes: Sequence[DrivingSample],
    ) -> None:
        """Join the given learners and engines; `probes` are the samples whose first tokens are compared."""
        self._learners, self._pool, self._settings = learners, engines, recipe.sync
        self._probes = Probes(learners, engines, recipe, probes)
        self._workers = recipe.rollout.tensor_parallel
        self._adapters_only = recipe.rollout.adapters == "apart"
        self._transport = transport_of(recipe)
        self.steady = asyncio.Lock()
        """Held while the learner's weights change, and while they are sent."""
        self._learnt: int | None = None
        self._changed = asyncio.Event()
        self._met: object = None
        """The lives of learner and engines that share a meeting."""
        self._prepared = -1
        """The learner's life that knows what to send."""
        self.version, self._published = -1, 0
        """The version published last, and how many were."""

    async def connect(self) -> None:
        """Let learner and engines meet, and show every engine the probes' images once."""
        async with self.steady:
            await self._meet(self._pool.engines.healthy)
        await self._probes.show(self._pool.engines.healthy)
        self._pool.engines.on_restart, self._pool.engines.may_return = self._bring_back, self._caught_up

    @property
    def learnt(self) -> int | None:
        """Version of the learner's weights, for an engine that comes back; set by who holds `steady`.

        None: they change without one, in supervised steps; nothing is asked of engines before the next publish, which
        reaches all.
        """
        return self._learnt

    @learnt.setter
    def learnt(self, version: int | None) -> None:
        self._learnt = version
        self._changed.set()

    async def _caught_up(self) -> None:
        """Return when the learner's weights are no older than those that the other engines hold.

        A learner that came back from a checkpoint first learns again what came since. An engine that took its weights
        meanwhile would generate with older ones than `rollout.max_staleness` allows. The learner's own time limits and
        restarts bound the wait.
        """
        while True:
            async with self.steady:  # which a learner that comes back holds until it has loaded
                if self._learnt is None or self._learnt >= self.version:
                    return
                self._changed.clear()
            await self._changed.wait()

    async def publish(self, version: int) -> SyncReport:
        """Install the learner's weights as `version` in every healthy engine; one that comes back later gets them then.

        Raises:
            SyncError: a checksum, an installed weight or the probes' log-probabilities differ.
            LearnerLost: a rank of the learner stopped answering.
        """
        began, sending, receipts, took = now(), Sent([]), list[Receipt](), list[str]()
        async with self._pool.settled():
            async with self.steady:
                self.learnt = version
                while members := self._pool.engines.healthy:
                    try:
                        sending, receipts = await self._send(members, version)
                        took = [member.name for member in members]
                        break
                    except LearnerLost:
                        raise
                    except LOSSES as loss:  # the engine's, which is being started again; the others meet without it
                        print(f"weights {version} did not reach every engine: {loss}{_beside(loss)}", flush=True)
                        self._met = None
            self.version, sent = version, now()
            every = self._published % self._settings.compare_every == 0
            self._published += 1
            gap = await self._probes.gap(self._pool.engines.healthy, version, every=every)
            ended = now()
        size = sum(bucket.bytes for bucket in self._buckets)
        least = min(receipts, key=lambda receipt: receipt.compared, default=Receipt((), 0, 0, ()))
        return SyncReport(
            version,
            ended - began,
            size / 2**20,
            len(took),
            gap,
            least.compared,
            least.incomparable,
            probe_s=ended - sent,
            holders=tuple(took),
            checksums=least.checksums,
            gather_s=sending.gather_s,
            send_s=sending.send_s,
            install_s=max((receipt.install_s for receipt in receipts), default=0.0),
        )

    async def _bring_back(self, member: Supervised) -> None:
        """Give an engine that was started again the learner's weights, and compare its log-probabilities."""
        while True:
            await self._caught_up()
            async with self.steady:
                if self._learnt is None:
                    return
                if self._learnt >= self.version:  # else the learner was lost just now
                    await self._send([member], self._learnt, watched=False)
                    await self._probes.gap([member], self._learnt, watched=False)
                    return

    async def _meet(self, members: Sequence[Supervised], *, watched: bool = True) -> None:
        """Let the learner and some engines join one meeting, unless they have."""
        lives = (self._learners.life, frozenset((member.index, member.generation) for member in members))
        if lives == self._met:
            return
        self._met, timeout = None, self._settings.timeout_s
        host, port = await self._learners.first("address")
        total = 1 + self._workers * len(members)
        meeting = Meeting(self._transport, host, port, total, timeout, self._settings.options)
        joining = [
            member.call(timeout, "join_weight_channel", meeting, 1 + i * self._workers, watched=watched)
            for i, member in enumerate(members)
        ]
        await together(self._learners.first("join_weight_channel", meeting), *joining)
        if self._prepared != self._learners.life:
            bucket_bytes = self._settings.bucket_mib * 2**20
            self._buckets, *_ = await self._learners.all("prepare_sync", bucket_bytes, self._adapters_only)
            self._prepared = self._learners.life
        self._met = lives

    async def _send(
        self, members: Sequence[Supervised], version: int, *, watched: bool = True
    ) -> tuple[Sent, list[Receipt]]:
        """Send the learner's weights to some engines, which install them as `version`; every worker has a receipt.

        Raises:
            SyncError: what arrived or what is installed is not what was sent.
            ActorLost, ActorTimeout: an engine was lost; the others may hold half of the weights.
        """
        await self._meet(members, watched=watched)
        timeout, buckets = self._settings.timeout_s, self._buckets
        receiving = [
            member.call(timeout, "receive_weights", version, buckets, timeout, watched=watched) for member in members
        ]
        sending = self._learners.all("send_weights")
        (sent, *_), *received = await together(sending, *receiving, abandon=self._learners.abandon_weights)
        for member, receipts in zip(members, received, strict=True):
            for receipt in receipts:
                check_receipt(member.name, version, sent.checksums, receipt)
        return sent, [receipt for receipts in received for receipt in receipts]


async def together(
    sender: Awaitable[Any], *receivers: Awaitable[Any], abandon: Callable[[], Awaitable[None]] | None = None
) -> list[Any]:
    """All results, the sender's first; none is left behind when another fails.

    Args:
        sender: the learner's side.
        receivers: the engines' sides.
        abandon: what to do as soon as one of them fails, so that the others do not wait for it until their time limit.

    Raises:
        LearnerLost: a rank of the learner was lost.
        ActorLost, ActorTimeout: a receiver was; its cause is the sender's error, where the sender failed too.
        LearnerError: the sender failed though all receivers are there.
    """
    work = [asyncio.ensure_future(one) for one in (sender, *receivers)]
    try:
        _, waiting = await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
        if waiting and abandon is not None:
            with contextlib.suppress(*LOSSES, RayError):  # the sender's own call says so
                await abandon()
        results = await asyncio.gather(*work, return_exceptions=True)
    finally:
        for one in work:
            one.cancel()
    failed = [result for result in results if isinstance(result, BaseException)]
    for kind in (LearnerLost, *LOSSES, BaseException):
        for error in failed:
            if isinstance(error, kind):
                beside = results[0] if isinstance(results[0], BaseException) and results[0] is not error else None
                raise error from (beside or error.__cause__)
    return results


def _beside(loss: BaseException) -> str:
    """What else failed, where that is no loss of an actor but may be why: the sender's own error."""
    return f"; {loss.__cause__}" if isinstance(loss.__cause__, LearnerError) else ""


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
    if receipt.compared == 0 and receipt.incomparable > 0:
        raise SyncError(
            f"weight version {version}: {engine} holds no parameter that could be compared with what it received"
        )
