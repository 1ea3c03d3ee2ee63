"""`Updates`: learns from batch after batch, and comes back to where it was whatever was lost.

A batch is on disk before it is learnt from. When a rank of the learner is lost, or the whole run, new ranks load the
newest checkpoint, whose sums are checked, and learn again from the batches since: none is applied twice to the same
weights, and none is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.checkpoint import (
    Draft,
    RunState,
    best_checkpoints,
    draft_checkpoint,
    first_and_newest,
    forget_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from actors.crew import Crew
from actors.driving.credit import EpisodeCredit
from actors.driving.episodes import frames_of
from actors.experience import Credit, ExperienceBatch, experience
from actors.supervision.waiting import now
from data.errors import DataError
from data.images import faulty_images
from data.rollout import Refusal
from data.sample import DrivingSample
from data.sample_store import ById
from data.split import Order
from evaluation.rollout_rows import read_rollouts, write_rollouts
from evaluation.run_record import SYNCS_FILE, samples_path
from failures import CheckpointError, DiskFull, LearnerLost
from policies.algorithms.registry import make_algorithm
from policies.lr_schedule import scheduled
from recipe import Recipe


class Updates:
    """The updates of a run, and where it stands."""

    def __init__(self, crew: Crew, folder: Path, start: RunState) -> None:
        """Use `begin` instead; `start` is what the newest checkpoint in the run's `folder` holds."""
        self.crew, self.state, self.replayed, self.unsaved = crew, start, 0, 0
        self.algorithm = make_algorithm(crew.recipe.algorithm)
        self._folder, cap, environment = folder, crew.recipe.rollout.max_tokens, crew.recipe.environment
        self._credit: Credit | EpisodeCredit = Credit(self.algorithm, cap, crew.encoder)
        if environment is not None:
            self._credit = EpisodeCredit(self.algorithm, environment, cap)
        self._kl_beta = self._weight_of_kl(start)
        self._questions: Mapping[str, DrivingSample] = {}
        self._restarts, self._in_a_row, self._saved = 0, 0, now()
        self._recording: asyncio.Task[None] | None = None
        self._sealing: asyncio.Task[Any] | None = None
        self._sealed_step = start.step

    @classmethod
    async def begin(cls, crew: Crew, folder: Path, warm_up: Callable[[], Awaitable[bool]]) -> Updates | None:
        """Bring learners and engines to where the run starts or goes on, with weights published as its step.

        The reference of the KL term is the policy that RL began with, also in a resumed run; with adapters, the model
        below them.

        Returns:
            The updates; None where the warm start was interrupted.

        Raises:
            CheckpointError: checkpoints exist, and none can be used.
        """
        async with crew.turns.learning():
            state = await first_and_newest(folder, crew.learners) if crew.recipe.run.resume else None
        if state is None:
            state = RunState(0, 0, crew.recipe.learner.ranks)
            async with crew.turns.learning():
                if not await warm_up():
                    return None
                await save_checkpoint(folder, state, crew.learners)
                await crew.learners.all("freeze_reference")
        await crew.sync.publish(state.step)
        return cls(crew, folder, state)

    async def batches(
        self, samples: Sequence[DrivingSample], order: Callable[[int], Order]
    ) -> AsyncGenerator[ExperienceBatch]:
        """The batches to learn from: those that were written and not learnt from before a stop, then new ones.

        Args:
            samples: the training questions, for what was written about them.
            order: from a position to the training order from there on.
        """
        crew, recipe = self.crew, self.crew.recipe
        step, position = self.state.step + 1, self.state.position
        self._questions = ById(samples)
        while step <= recipe.run.steps and (batch := await asyncio.to_thread(self._written, step)) is not None:
            self.replayed += 1
            step, position = step + 1, batch.position
            yield batch
        for later in range(step, recipe.run.steps + 1):  # of weights that this run will not have
            samples_path(self._folder, later).unlink(missing_ok=True)
        steps = range(step, recipe.run.steps + 1)
        drawn = order(position)
        fresh = experience(
            drawn, crew.engines, crew.scorers, self._credit, recipe, crew.quarantine, steps=steps, driver=crew.driver
        )
        async for batch in fresh:
            path = samples_path(self._folder, batch.step)
            about: dict[str, Any] = {"recipe": _decisive(recipe), "driven": dict(batch.driven)}
            about |= {"position": batch.position, "generate_s": batch.generate_s}
            about |= {"replaced": batch.replaced, "dropped": batch.dropped}
            await asyncio.to_thread(write_rollouts, path, batch.step, batch.groups, about)
            yield batch

    async def take(self, batch: ExperienceBatch) -> dict[str, float]:
        """Learn from a batch and publish the weights; the metrics of both.

        Raises:
            LearnerLost: a rank was lost more often than `learner.restarts` allows.
            SyncError: as `WeightSync.publish`.
        """
        while True:
            try:
                handing_over = self.crew.turns.seconds
                async with self.crew.turns.learning():
                    metrics = await self._learn(batch)
                if self.crew.turns.shared:
                    metrics["turns_s"] = self.crew.turns.seconds - handing_over
                report = await self.crew.sync.publish(batch.step)
            except LearnerLost as loss:
                await self._come_back(loss)
            else:
                with (self._folder / SYNCS_FILE).open("a") as file:
                    file.write(json.dumps({"step": batch.step, **report.record}) + "\n")
                self.state = RunState(batch.step, batch.position, self.state.ranks, self._kl_beta)
                counts = {"learner/restarts": self._restarts, "learner/replayed": self.replayed}
                counts |= {"learner/unsaved": self.unsaved}
                return metrics | report.metrics | {name: float(count) for name, count in counts.items()}

    @property
    def complete(self) -> bool:
        """Whether all steps were taken."""
        return self.state.step >= self.crew.recipe.run.steps

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due: by number of steps, by time, to be measured, or because the run is complete."""
        run, step = self.crew.recipe.run, self.state.step
        by_count = run.checkpoint_every > 0 and step % run.checkpoint_every == 0
        by_time = run.checkpoint_minutes > 0 and now() - self._saved >= 60.0 * run.checkpoint_minutes
        measured = self.crew.recipe.evaluation
        to_compare = run.keep_best is not None and any(
            every > 0 and step % every == 0 for every in (measured.every, measured.held_out_every)
        )
        return by_count or by_time or to_compare or self.complete

    async def save(self, *, last: bool) -> None:
        """Write a checkpoint, and remove those that need not be kept any more.

        The learners go on as soon as they have written it; it is sealed meanwhile. Where there is no room for it the
        run goes on, and tries again when the next one is due; unless it is the `last`, without which what was learnt
        since the one before would have to be learnt again.

        Raises:
            DiskFull: there is no room for the last one.
        """
        await self._recorded()
        await self._sealed()
        while True:
            try:
                async with self.crew.turns.learning():
                    draft = await draft_checkpoint(self._folder, self.state, self.crew.learners)
            except LearnerLost as loss:
                await self._come_back(loss)
            except DiskFull as error:
                if last:
                    raise
                self._go_on_without(error)
                if len(self.crew.learners.ranks) > 1:  # a rank that could write may wait for one that could not
                    await self._come_back(LearnerLost("the ranks could not save together"))
                break
            else:
                self._sealing = asyncio.create_task(self._seal(draft, self.state.step))
                break
        self._saved = now()
        if last:
            await self._sealed(needed=True)

    async def _seal(self, draft: Draft, step: int) -> None:
        await asyncio.to_thread(draft.seal)
        if self.crew.driver is not None:  # those since the checkpoint before stay, should this one be damaged
            self.crew.driver.forget_steps(self._sealed_step)
        self._sealed_step = step
        run, first = self.crew.recipe.run, self._first_is_needed
        also = best_checkpoints(self._folder, run.keep_best) if run.keep_best else set[int]()
        forget_checkpoints(self._folder, keep=run.keep_last, also=also | ({0} if first else set()))
        self._in_a_row = 0

    async def _sealed(self, *, needed: bool = False) -> None:
        """Wait until the newest checkpoint is sealed; without room for it the run goes on, unless it is `needed`."""
        sealing, self._sealing = self._sealing, None
        if sealing is None:
            return
        try:
            await sealing
        except DiskFull as error:
            if needed:
                raise
            self._go_on_without(error)

    def _go_on_without(self, error: DiskFull) -> None:
        print(f"no checkpoint for now: {error}; trying again when the next is due", flush=True)
        self.unsaved += 1

    @property
    def _first_is_needed(self) -> bool:
        """Whether something is read from the checkpoint of step 0 later: a KL's reference, or the control's start."""
        return self.crew.learners.reference_in_first or self.crew.recipe.evaluation.control

    async def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face layout."""
        while True:
            try:
                return await self.crew.learners.export(folder)
            except LearnerLost as loss:
                await self._come_back(loss)

    async def back_to_start(self) -> None:
        """Load the policy that the run began with, to take supervised steps from there."""
        self.crew.sync.learnt = None
        await load_checkpoint(self._folder, 0, self.crew.learners)

    async def _come_back(self, loss: LearnerLost) -> None:
        """Start all ranks anew, at the newest checkpoint, and learn again from the batches since."""
        await self._sealed()
        while self._in_a_row < self.crew.recipe.learner.restarts:
            self._restarts, self._in_a_row = self._restarts + 1, self._in_a_row + 1
            print(f"{loss}: starting the learner anew", flush=True)
            try:
                async with self.crew.turns.learning(anew=True):
                    await self._begin_again()
            except LearnerLost as again:
                loss = again
            else:
                print(f"the learner is back at step {self.state.step}", flush=True)
                return
        raise loss

    async def _begin_again(self) -> None:
        """New ranks, at the newest checkpoint, learn again from the batches since."""
        learners, sync = self.crew.learners, self.crew.sync
        async with sync.steady:
            await learners.begin_life()
            state = await first_and_newest(self._folder, learners)
            if state is None:
                raise CheckpointError(f"{self._folder} has lost its checkpoints: nothing to go on from")
            sync.learnt, self._kl_beta = state.step, self._weight_of_kl(state)
        for step in range(state.step + 1, self.state.step + 1):
            if (batch := await asyncio.to_thread(self._written, step)) is None:
                raise CheckpointError(f"what step {step} learnt from cannot be read from {self._folder} any more")
            await self._learn(batch)
            self.replayed += 1

    def _written(self, step: int) -> ExperienceBatch | None:
        """A step's batch from before a stop; None where there is none, and with a line where it cannot be used."""
        path = samples_path(self._folder, step)
        if not path.is_file():
            return None
        try:
            driver = self.crew.driver  # where there is one, the questions are in the file alone
            groups, about = read_rollouts(path, self._questions if driver is None else None)
            if about["recipe"] != _decisive(self.crew.recipe):
                raise DataError(f"{path} is of another recipe")
            if driver is not None and not driver.folder_of(frames_of(step)).is_dir():
                raise DataError(f"the images of {path} are gone")
        except DataError as error:
            print(f"what was generated before the run stopped is not learnt from: {error}", flush=True)
            return None
        assigned, driven = self._credit.of_batch(groups), about.get("driven", {})
        counts = (about["replaced"], about.get("dropped", 0))  # which files of before have not
        return ExperienceBatch(step, assigned, about["position"], about["generate_s"], *counts, driven)

    def _weight_of_kl(self, state: RunState) -> float:
        return self.algorithm.kl_beta if state.kl_beta is None else state.kl_beta

    async def _learn(self, batch: ExperienceBatch) -> dict[str, float]:
        """Update the policy: `updates_per_batch` steps, each on an equal share of the batch's groups."""
        learners, settings, algorithm = self.crew.learners, self.crew.recipe.learner, self.algorithm
        steps = self.crew.recipe.run.steps
        lr = settings.lr * scheduled(settings.schedule, batch.step, steps, settings.warmup_steps, settings.lr_floor)
        if batch.step == 1 and not self.crew.recipe.warm_start.keep_moments:  # also where nothing is learnt from it
            await learners.all("forget_moments")
        refused = self.crew.quarantine.ids
        groups = batch.training_groups(algorithm, refused)
        left_out = {"groups/refused": float(sum(group.sample.id in refused for group in batch.groups))}
        if not groups:  # every group's rewards are equal: nothing to learn, and the journal counts them
            return left_out | {"loss": 0.0, "grad_norm": 0.0, "lr": lr, "updates": 0.0, "skipped": 0.0}
        portions, assessed = learners.portions(groups, algorithm.updates_per_batch), dict[str, float]()
        async with self.crew.sync.steady:
            try:
                if algorithm.over_batch or len(portions) > 1:
                    began = now()
                    portions, assessed = await learners.assess(portions, self._kl_beta)
                    assessed |= {"assess_s": now() - began}
                updates = [await learners.update(portion, algorithm, lr) for portion in portions]
            except DataError as error:  # a rank could not read an image; the others wait for it
                await self._leave_out_unreadable(batch, error)
                raise LearnerLost(str(error)) from error
            self.crew.sync.learnt = batch.step
        await self._recorded()
        self._recording = asyncio.create_task(learners.record(self._folder, batch.step))
        means = {name: sum(update[name] for update in updates) / len(updates) for name in updates[0]}
        means |= {name: max(update[name] for update in updates) for name in means if name.endswith("_max")}
        means |= {name: sum(update[name] for update in updates) for name in means if name.endswith("_s")}
        applied = sum(1.0 - update["skipped"] for update in updates)
        metrics = means | assessed | left_out | {"lr": lr, "updates": applied, "skipped": len(updates) - applied}
        responses = sum(portion.counts.responses for portion in portions)
        strayed = metrics.get("kl", 0.0) * sum(portion.counts.tokens for portion in portions) / responses
        self._kl_beta = algorithm.next_kl_beta(self._kl_beta, strayed, responses)
        return metrics

    async def _recorded(self) -> None:
        """Wait for what the ranks write of the step before; a ledger without it is no reason to end a run."""
        recording, self._recording = self._recording, None
        if recording is None:
            return
        with contextlib.suppress(LearnerLost):  # the next call says so too
            try:
                await recording
            except DiskFull as error:
                print(f"the ledger lacks what the learner saw of a step: {error}", flush=True)

    async def _leave_out_unreadable(self, batch: ExperienceBatch, error: DataError) -> None:
        """Do without the questions of a batch whose images cannot be read any more.

        Raises:
            DataError: there are none; `error` has another reason.
            TooManyRefused: there are too many.
        """
        samples = [group.sample for group in batch.groups]
        faults = await asyncio.to_thread(faulty_images, {path for one in samples for path in one.images.values()})
        if not faults:
            raise error
        for sample in samples:
            if found := [faults[path] for path in sample.images.values() if path in faults]:
                self.crew.quarantine.take(Refusal("", sample.id, f"sample {sample.id}: {found[0]}"))


def _decisive(recipe: Recipe) -> str:
    """What decides, beside the weights, which batch comes and what it teaches."""
    parts = recipe.model_dump_json(include={"data", "environment", "policy", "algorithm", "reward", "learner"})
    return hashlib.sha256(f"{recipe.run.seed} {parts}".encode()).hexdigest()
