"""The supervised warm start: cross-entropy on demonstrated answers, on the same learners and with no engine."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

from actors.learner_group import LearnerGroup
from actors.settings import WarmStartSettings
from data.errors import DataError
from data.reasoning import demonstration
from data.sample import DrivingSample
from policies.batch import TrainingGroup

LINES = 10
"""How often a warm start tells how it stands."""


class WarmStart:
    """Demonstrations and where their endless shuffled passes stand, so that a warm start can be continued later."""

    def __init__(self, samples: Sequence[DrivingSample], settings: WarmStartSettings, seed: int, log: Path) -> None:
        """Demonstrate on the samples of `settings.scenes` scenes (drawn from the seed); log each step to `log`.

        Raises:
            DataError: no sample has the reasoning that `settings.variant` demonstrates.
        """
        scenes = sorted({sample.scene_id for sample in samples})
        chosen = set(scenes if settings.scenes is None else random.Random(seed).sample(scenes, settings.scenes))
        asked = [sample for sample in samples if sample.scene_id in chosen]
        self.samples = [sample for sample in asked if demonstration(sample, settings.variant) is not None]
        if not self.samples:
            raise DataError(
                f"warm_start.variant={settings.variant} needs reasoning, and none of the {len(asked)} training samples "
                "has any: name a file of it in data.reasoning (prepare_data.py distil makes one), or set "
                "warm_start.variant=simple"
            )
        if len(self.samples) < len(asked):
            print(f"warm start: {len(asked) - len(self.samples)} of {len(asked)} samples lack reasoning", flush=True)
        self._settings, self._log = settings, log
        self._shuffle = random.Random(seed)
        self._queue: list[TrainingGroup] = []
        self._groups: list[TrainingGroup] = []
        self._steps = 0

    async def steps(self, learners: LearnerGroup, count: int) -> None:
        """Take `count` supervised steps."""
        began = time.time()
        for done in range(1, count + 1):
            metrics = await self._step(learners)
            if done % max(1, count // LINES) == 0:
                print(f"warm start {done}/{count}  loss {metrics['loss']:.3f}  {time.time() - began:.0f} s", flush=True)

    async def for_seconds(self, learners: LearnerGroup, seconds: float) -> int:
        """Take supervised steps for about this long; returns how many."""
        began, count = time.time(), 0
        while time.time() - began < seconds:
            await self._step(learners)
            count += 1
        return count

    async def _step(self, learners: LearnerGroup) -> dict[str, float]:
        if not self._groups:
            self._groups = await learners.demonstrations(self.samples, self._settings.variant)
        while len(self._queue) < self._settings.batch_size:
            self._queue += self._shuffle.sample(self._groups, len(self._groups))
        batch, self._queue = self._queue[: self._settings.batch_size], self._queue[self._settings.batch_size :]
        metrics = await learners.update(batch, "supervised", self._settings.lr)
        self._steps += 1
        with self._log.open("a") as file:
            file.write(json.dumps({"step": self._steps, "time": time.time(), **metrics}) + "\n")
        return metrics
