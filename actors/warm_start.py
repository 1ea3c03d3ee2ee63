"""The supervised warm start: cross-entropy on demonstrated answers, on the same learners and with no engine."""

from __future__ import annotations

import json
import math
import random
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from actors.checkpoint import RunState, forget_checkpoints, load_checkpoint, newest_checkpoint, save_checkpoint
from actors.learning.group import LearnerGroup
from actors.settings import RunSettings
from data.reasoning.demonstrated import demonstrated, of_drawn_scenes
from data.reasoning.reasoning import Variant, demonstration
from data.sample import DrivingSample
from evaluation.run_record import SUPERVISED_FOLDER, read_lines
from failures import DiskFull, LearnerLost
from policies.algorithms.supervised import Supervised
from policies.batch import TrainingGroup, TrainingResponse
from policies.lr_schedule import fallen
from policies.prompt import PromptEncoder
from policies.views import views_of
from recipe import Recipe

LOG = "warm_start.jsonl"
BEST = "warm_start_best"
SAVED_AT = "saved_at_step"
DEMONSTRATIONS_KEPT = 4096
"""Encoded prompts and answers that are kept for the next pass; some ten thousand bytes each."""
LINES = 10
"""How many lines of progress a warm start prints."""


@dataclass
class Best:
    """The lowest held-out loss so far, and how many measurements have passed since."""

    loss: float = math.inf
    step: int = 0
    since: int = 0

    def measured(self, step: int, loss: float) -> bool:
        """Take in a measurement; whether it is the lowest."""
        if not loss < self.loss:  # also where it is NaN
            self.since += 1
            return False
        self.loss, self.step, self.since = loss, step, 0
        return True


@dataclass(frozen=True)
class Kept:
    """How supervised steps are kept while they last."""

    every: int = 0
    """Steps between checkpoints; 0: none by number."""
    resume: bool = False
    """Whether to go on from the newest checkpoint."""
    stopping: Callable[[], bool] = lambda: False
    """Whether to stop after this step, with a checkpoint."""
    minutes: float = 0.0
    """Also write a checkpoint after the first step that ends this many minutes after the last one; 0: never."""

    @classmethod
    def of(cls, run: RunSettings, stopping: Callable[[], bool]) -> Kept:
        """As a recipe's `run` says."""
        return cls(run.checkpoint_every, run.resume, stopping, run.checkpoint_minutes)

    def is_due(self, step: int, since_s: float) -> bool:
        """Whether a checkpoint is to be written after a step that ends `since_s` seconds after the last one."""
        by_time = self.minutes > 0 and since_s >= 60.0 * self.minutes
        return self.stopping() or by_time or (self.every > 0 and step % self.every == 0)


class WarmStart:
    """Demonstrations and where their endless shuffled passes stand, so that a warm start can be continued later."""

    def __init__(
        self,
        samples: Sequence[DrivingSample],
        held_out: Sequence[DrivingSample],
        recipe: Recipe,
    ) -> None:
        """Demonstrate on the samples of `warm_start.scenes` scenes (drawn from the seed); log each step.

        Raises:
            DataError: as `of_drawn_scenes` and `demonstrated`.
        """
        settings, seed = recipe.warm_start, recipe.run.seed
        asked = of_drawn_scenes(samples, recipe.warm_start.scenes, recipe.run.seed)
        self.samples = demonstrated(asked, recipe.warm_start.variant)
        if len(self.samples) < len(asked):
            print(f"warm start: {len(asked) - len(self.samples)} of {len(asked)} samples lack reasoning", flush=True)
        shown = [i for i, sample in enumerate(held_out) if demonstration(sample, settings.variant) is not None]
        drawn = random.Random(seed).sample(shown, min(len(shown), settings.evaluate_samples))
        self._held_out = [held_out[index] for index in drawn]
        self._recipe, self._settings, self._folder = recipe, settings, recipe.run.folder
        self._made: LRUCache[str, TrainingGroup] = LRUCache(DEMONSTRATIONS_KEPT)
        self._tests: list[TrainingGroup] = []
        self._rewind()

    def _rewind(self) -> None:
        self._shuffle, self._steps = random.Random(self._recipe.run.seed), 0
        self._queue: list[int] = []

    async def steps(
        self,
        learners: LearnerGroup,
        encoder: PromptEncoder,
        count: int,
        kept: Kept = Kept(),  # noqa: B008  (frozen)
    ) -> bool:
        """Take `count` supervised steps, or fewer where the loss on held-out answers stops falling.

        With `evaluate_every` the learners end with the weights of its lowest measurement. When a rank is lost, new ones
        go on from the newest checkpoint. The checkpoints stay until `forget` is called, which is when what the steps
        led to is kept elsewhere.

        Returns:
            Whether all were taken; False where they were interrupted, with a checkpoint.

        Raises:
            CheckpointError: as `load_checkpoint`.
            LearnerLost: a rank was lost more often than `learner.restarts` allows.
        """
        lost = 0
        while True:
            try:
                if lost:
                    await learners.begin_life()
                    self._rewind()
                return await self._steps_from(learners, encoder, count, kept, resume=kept.resume or lost > 0)
            except LearnerLost as loss:
                if lost == self._recipe.learner.restarts:
                    raise
                lost += 1
                print(f"{loss}: starting the learner anew", flush=True)

    def forget(self) -> None:
        """Remove the checkpoints of the steps."""
        for folder in (BEST, SUPERVISED_FOLDER):
            shutil.rmtree(self._folder / folder, ignore_errors=True)

    async def _steps_from(
        self, learners: LearnerGroup, encoder: PromptEncoder, count: int, kept: Kept, resume: bool
    ) -> bool:
        """The steps from where the newest checkpoint stands, or from the beginning."""
        began, every, best = time.time(), self._settings.evaluate_every if self._held_out else 0, Best()
        if resume:
            best = await self._go_on(learners)
        saved = began
        for done in range(self._steps + 1, count + 1):
            metrics = await self._step(learners, encoder, learning_rate(self._recipe, done, count))
            if done % max(1, count // LINES) == 0:
                print(f"warm start {done}/{count}  loss {metrics['loss']:.3f}  {time.time() - began:.0f} s", flush=True)
            if every and (done % every == 0 or done == count):
                await self._measure(learners, encoder, done, best)
                if best.since == self._settings.patience:
                    print(f"warm start stops: no lower held-out loss since step {best.step}", flush=True)
                    break
            if kept.is_due(done, time.time() - saved):
                last = kept.stopping()
                await self._save(learners, done, last=last)
                saved = time.time()
                if last:
                    return False
        if best.since:
            await learners.load(self._folder / BEST)
        return True

    async def _save(self, learners: LearnerGroup, step: int, *, last: bool) -> None:
        """Write a checkpoint; where there is no room, and it is not the last one, go on without it.

        Raises:
            DiskFull: there is no room for the last one.
            LearnerLost: the ranks could not save together.
        """
        folder = self._folder / SUPERVISED_FOLDER
        try:
            await save_checkpoint(folder, RunState(step, 0, len(learners.ranks)), learners)
            forget_checkpoints(folder, keep=1)
        except DiskFull as error:
            if last:
                raise
            print(f"no checkpoint of step {step}: {error}; trying again when the next is due", flush=True)
            if len(learners.ranks) > 1:  # a rank that could write may wait for one that could not
                raise LearnerLost("the ranks could not save together") from error

    async def _go_on(self, learners: LearnerGroup) -> Best:
        """Bring the learners and the order to the newest checkpoint; the best measurement up to there."""
        newest = newest_checkpoint(self._folder / SUPERVISED_FOLDER)
        if newest is None:
            (self._folder / LOG).unlink(missing_ok=True)  # of steps that are taken again
            return Best()
        await load_checkpoint(self._folder / SUPERVISED_FOLDER, newest, learners)
        print(f"going on from step {newest}", flush=True)
        for _ in range(newest):
            self._draw()
        self._steps, best = newest, Best()
        log = self._folder / LOG
        lines, broken = read_lines(log)
        if broken:
            print(f"{log}: {broken} line(s) were cut off and are left out", flush=True)
        lines = [line for line in lines if line["step"] <= newest]
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for line in lines:
            if "held_out_loss" in line:
                best.measured(line["step"], line["held_out_loss"])
        saved = self._folder / BEST / SAVED_AT
        if best.step and saved.is_file() and int(saved.read_text()) == best.step:
            return best
        shutil.rmtree(self._folder / BEST, ignore_errors=True)  # of a step that is lost
        return Best()

    async def for_seconds(self, learners: LearnerGroup, encoder: PromptEncoder, seconds: float) -> int:
        """Take supervised steps for about this long; returns how many."""
        began, count = time.time(), 0
        while time.time() - began < seconds:
            await self._step(learners, encoder, self._settings.lr)
            count += 1
        return count

    async def held_out_loss(self, learners: LearnerGroup, encoder: PromptEncoder) -> float:
        """Mean cross-entropy of a token of the held-out answers, in nats."""
        if not self._tests:
            self._tests = demonstrations(encoder, self._held_out, self._settings.variant)
        logprobs = [one for row in await learners.log_probs(self._tests, 1.0) for one in row]
        return -statistics.fmean(logprobs)

    async def _measure(self, learners: LearnerGroup, encoder: PromptEncoder, step: int, best: Best) -> None:
        loss = await self.held_out_loss(learners, encoder)
        self._write({"step": self._steps, "held_out_loss": loss})
        print(f"warm start {step}  held-out loss {loss:.4f}", flush=True)
        if best.measured(step, loss):
            shutil.rmtree(self._folder / BEST, ignore_errors=True)
            (self._folder / BEST).mkdir()
            await learners.save(self._folder / BEST)
            (self._folder / BEST / SAVED_AT).write_text(str(step))

    async def _step(self, learners: LearnerGroup, encoder: PromptEncoder, lr: float) -> dict[str, float]:
        drawn = self._draw()
        absent = [sample for sample in {sample.id: sample for sample in drawn}.values() if sample.id not in self._made]
        encoded = demonstrations(encoder, absent, self._settings.variant)
        made = dict(zip((sample.id for sample in absent), encoded, strict=True))
        known = made | {sample.id: self._made[sample.id] for sample in drawn if sample.id not in made}
        batch = [known[sample.id] for sample in drawn]
        self._made.update(made)
        (portion,) = learners.portions(batch)
        metrics = await learners.update(portion, Supervised(), lr)
        self._steps += 1
        self._write({"step": self._steps, "lr": lr, **metrics})
        return metrics

    def _draw(self) -> list[DrivingSample]:
        """The samples of the next step, from endless shuffled passes."""
        size = self._settings.batch_size
        while len(self._queue) < size:
            self._queue += self._shuffle.sample(range(len(self.samples)), len(self.samples))
        drawn, self._queue = self._queue[:size], self._queue[size:]
        return [self.samples[index] for index in drawn]

    def _write(self, entry: dict[str, float]) -> None:
        with (self._folder / LOG).open("a") as file:
            file.write(json.dumps({"time": time.time(), **entry}) + "\n")


def demonstrations(
    encoder: PromptEncoder, samples: Sequence[DrivingSample], variant: Variant = "simple"
) -> list[TrainingGroup]:
    """Samples with their true answers as groups of one response; no engine sampled them, so ids are made here.

    A sample without the reasoning that the variant demonstrates gives no group.
    """
    groups = []
    for sample in samples:
        if (text := demonstration(sample, variant)) is None:
            continue
        answer = encoder.answer_ids(text)
        response = TrainingResponse(answer, rollout_logprobs=(0.0,) * len(answer), credits=(1.0,) * len(answer))
        groups.append(TrainingGroup(views_of(sample), encoder.prompt_ids(sample), (response,)))
    return groups


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of step 1 to `steps`: rising linearly over the warm-up, then falling as the schedule says."""
    settings = recipe.warm_start
    rising = min(1.0, step / (settings.warmup_steps + 1))
    gone = max(0.0, step - settings.warmup_steps) / max(1, steps + 1 - settings.warmup_steps)
    return settings.lr * rising * fallen(settings.schedule, gone)
