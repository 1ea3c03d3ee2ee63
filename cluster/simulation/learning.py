"""What stands in for a learner rank: it takes the time of its share, and hands on weights that are one number."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from actors.learning.learner import Gathered, Held, OptimizerSettings, Stepped
from actors.supervision.waiting import now
from actors.sync.transport import Bucket, Meeting, Sent
from cluster.simulation.serving import CHECKSUM, LOGPROB
from cluster.simulation.world import World
from policies.algorithms.algorithm import Loss
from policies.micro_batches import Share

LEARNING, SAVING = "learning", "saving"
WEIGHTS = Bucket(("weights",), ((1,),), "float32")
PORT = 1


class SimulatedRank:
    """One rank, as `actors.learning.learner.Learner` has it."""

    def __init__(self, world: World, rank: int) -> None:
        """Take the times of a world."""
        self.world, self.rank, self._held = world, rank, list[Share]()
        self.row = world.timeline.row(f"learner {rank}", LEARNING)

    def address(self) -> tuple[str, int]:
        """Where ranks meet: nowhere, since all are in this process."""
        return "", PORT

    async def start(self, host: str, port: int) -> float:
        """Load the model."""
        return await self.world.loaded("learner", self.rank, self.world.policy)

    def shares_prefix(self) -> bool:
        """Whether a group is one row."""
        return True

    def model(self) -> str:
        """What is trained, in words."""
        return "a simulated model"

    def freeze_reference(self) -> None:
        """Nothing changes here."""

    def forget_moments(self) -> None:
        """Nothing changes here either."""

    async def assess(self, shares: Sequence[Share], kl_beta: float) -> dict[str, float]:
        """A pass over every share, which is kept."""
        self._held = list(shares)
        await self._work(sum(map(self.world.pass_s, shares)))
        return {}

    async def accumulate(self, adapter: str, batch: Share | Held, loss: Loss, sequence: int) -> Gathered:
        """The passes of a share."""
        share = self._held[batch.index] if isinstance(batch, Held) else batch
        await self._work(self.world.learn_s(share))
        return Gathered()

    async def step(self, adapter: str, optimizer: OptimizerSettings, sequence: int) -> Stepped:
        """The optimizer, and what else of a step no pass accounts for."""
        await self._work(self.world.framework_s)
        return Stepped(1.0, True)

    def record(self, path: str) -> None:
        """Nothing was seen."""

    async def log_probs(
        self, share: Share, temperature: float | None = None, *, reference: bool = False, adapter: str = ""
    ) -> list[list[float]]:
        """Those of the engines."""
        kept = share.micro_batches[: len(share.micro_batches) - share.filler]
        responses = [one for groups in kept for group in groups for one in group.responses]
        await asyncio.sleep(self.world.pass_s(share))
        return [[LOGPROB] * len(one.token_ids) for one in responses]

    def prepare_sync(self, bucket_bytes: float, adapters_only: bool) -> list[Bucket]:
        """One bucket."""
        return [WEIGHTS]

    def join_weight_channel(self, meeting: Meeting) -> None:
        """Nothing travels."""

    async def send_weights(self) -> Sent:
        """The checksums of what was sent, after the time it takes."""
        await asyncio.sleep(self.world.publish_s)
        return Sent([CHECKSUM], send_s=self.world.publish_s)

    def abandon_weights(self) -> None:
        """Nothing waits."""

    async def offload(self) -> None:
        """Make room for the engine that lies beside."""
        await self.world.swapped(self.row)

    async def reload(self) -> None:
        """Take the room back."""
        await self.world.swapped(self.row)

    async def save(self, folder: str) -> None:
        """The time of a checkpoint, and a file to be sealed."""
        began = now()
        if self.rank == 0:
            (Path(folder) / "weights").write_text("simulated")
        await asyncio.sleep(self.world.save_s)
        self.row.did(SAVING, began, now())

    async def load(self, folder: str, converted: str | None) -> int:
        """As long as `save`; no update was counted since."""
        await asyncio.sleep(self.world.save_s)
        return 0

    async def _work(self, seconds: float) -> None:
        self.row.busy(now())
        await asyncio.sleep(seconds)
        self.row.idle(now())
