"""The supervised warm start: cross-entropy on demonstrated answers, on the same learners and with no engine."""

from __future__ import annotations

import json
import math
import random
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.learner_group import LearnerGroup
from actors.settings import WarmStartSettings
from data.errors import DataError
from data.reasoning.reasoning import demonstration
from data.sample import DrivingSample
from policies.batch import TrainingGroup

LOG = "warm_start.jsonl"
BEST = "warm_start_best"
LINES = 10
"""How often a warm start tells how it stands."""


@dataclass
class Best:
    """The lowest held-out loss so far, and how many measurements have passed since."""

    loss: float = math.inf
    step: int = 0
    since: int = 0


class WarmStart:
    """Demonstrations and where their endless shuffled passes stand, so that a warm start can be continued later."""

    def __init__(
        self,
        samples: Sequence[DrivingSample],
        held_out: Sequence[DrivingSample],
        settings: WarmStartSettings,
        seed: int,
        folder: Path,
    ) -> None:
        """Demonstrate on the samples of `settings.scenes` scenes (drawn from the seed); log each step in `folder`.

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
        shown = [sample for sample in held_out if demonstration(sample, settings.variant) is not None]
        self._held_out = random.Random(seed).sample(shown, min(len(shown), settings.evaluate_samples))
        self._settings, self._folder = settings, folder
        self._shuffle = random.Random(seed)
        self._queue: list[TrainingGroup] = []
        self._groups: list[TrainingGroup] = []
        self._tests: list[TrainingGroup] = []
        self._steps = 0

    async def steps(self, learners: LearnerGroup, count: int) -> None:
        """Take `count` supervised steps, or fewer where the loss on held-out answers stops falling.

        With `evaluate_every` the learners end with the weights of its lowest measurement.
        """
        began, every, best = time.time(), self._settings.evaluate_every if self._held_out else 0, Best()
        for done in range(1, count + 1):
            metrics = await self._step(learners, learning_rate(self._settings, done, count))
            if done % max(1, count // LINES) == 0:
                print(f"warm start {done}/{count}  loss {metrics['loss']:.3f}  {time.time() - began:.0f} s", flush=True)
            if every and (done % every == 0 or done == count):
                await self._measure(learners, done, best)
                if best.since == self._settings.patience:
                    print(f"warm start stops: no lower held-out loss since step {best.step}", flush=True)
                    break
        if best.since:
            await learners.load(self._folder / BEST)
        shutil.rmtree(self._folder / BEST, ignore_errors=True)

    async def for_seconds(self, learners: LearnerGroup, seconds: float) -> int:
        """Take supervised steps for about this long; returns how many."""
        began, count = time.time(), 0
        while time.time() - began < seconds:
            await self._step(learners, self._settings.lr)
            count += 1
        return count

    async def held_out_loss(self, learners: LearnerGroup) -> float:
        """Mean cross-entropy of a token of the held-out answers, in nats."""
        if not self._tests:
            self._tests = await learners.demonstrations(self._held_out, self._settings.variant)
        logprobs = [one for row in await learners.log_probs(self._tests, 1.0) for one in row]
        return -statistics.fmean(logprobs)

    async def _measure(self, learners: LearnerGroup, step: int, best: Best) -> None:
        loss = await self.held_out_loss(learners)
        self._write({"step": self._steps, "held_out_loss": loss})
        print(f"warm start {step}  held-out loss {loss:.4f}", flush=True)
        if loss >= best.loss:
            best.since += 1
            return
        best.loss, best.step, best.since = loss, step, 0
        shutil.rmtree(self._folder / BEST, ignore_errors=True)
        (self._folder / BEST).mkdir()
        await learners.save(self._folder / BEST)

    async def _step(self, learners: LearnerGroup, lr: float) -> dict[str, float]:
        if not self._groups:
            self._groups = await learners.demonstrations(self.samples, self._settings.variant)
        while len(self._queue) < self._settings.batch_size:
            self._queue += self._shuffle.sample(self._groups, len(self._groups))
        batch, self._queue = self._queue[: self._settings.batch_size], self._queue[self._settings.batch_size :]
        metrics = await learners.update(batch, "supervised", lr)
        self._steps += 1
        self._write({"step": self._steps, "lr": lr, **metrics})
        return metrics

    def _write(self, entry: dict[str, float]) -> None:
        with (self._folder / LOG).open("a") as file:
            file.write(json.dumps({"time": time.time(), **entry}) + "\n")


def learning_rate(settings: WarmStartSettings, step: int, steps: int) -> float:
    """The learning rate of step 1 to `steps`: rising linearly over the warm-up, then falling as the schedule says."""
    rising = min(1.0, step / (settings.warmup_steps + 1))
    gone = max(0.0, step - settings.warmup_steps) / max(1, steps + 1 - settings.warmup_steps)
    falling = {"constant": 1.0, "linear": 1.0 - gone, "cosine": (1.0 + math.cos(math.pi * gone)) / 2}
    return settings.lr * rising * falling[settings.schedule]
