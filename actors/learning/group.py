"""`LearnerGroup`: the learner ranks as the loop sees them: one call in, one answer out. Lives in the driver."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from actors.learning.deepspeed_learner import CHECKPOINT_TAG, DeepSpeedLearner
from actors.learning.learner import OWN, Gathered, Held, OptimizerSettings, Stepped
from actors.supervision.hosting import end_actor
from actors.supervision.stacks import Place, here, keep_stacks
from actors.supervision.waiting import now, one_line, within
from evaluation.run_record import learnt_path
from failures import ActorLost, ActorTimeout, CheckpointError, LearnerLost, TooManySkipped
from policies.algorithms.algorithm import Loss
from policies.algorithms.registry import make_algorithm
from policies.batch import TrainingGroup
from policies.losses import GlobalCounts
from policies.micro_batches import MicroBatchLimits, Share, share_out, sharing
from recipe import ActorOptions, Recipe

CONVERSION_TIMEOUT_S = 3600.0
HEALTH = "health"
"""Where a rank answers probes: a thread beside the one that computes."""
PROBED_EVERY_S = 10.0
STARTING_ANSWER_S = 30.0
"""How long a rank that starts is waited for, when another one failed to start."""


@dataclass(frozen=True)
class Portion:
    """The groups of one optimizer step, shared out over the ranks."""

    groups: Sequence[TrainingGroup]
    shares: list[Share]
    held: Held | None = None
    """Where the ranks keep it with what they found out about it; None: it was not assessed."""

    @property
    def counts(self) -> GlobalCounts:
        """What it holds over all ranks."""
        return self.shares[0].counts


class LearnerGroup:
    """All ranks of the learner."""

    def __init__(self, recipe: Recipe, make: Callable[[int], Any]) -> None:
        """Use `start` instead; `make` gives a new actor for a rank."""
        self.ranks, self.settings, self.response_cap = list[Any](), recipe.learner, recipe.rollout.max_tokens
        self.life, self.sequence, self._make, self._up = 0, 0, make, False
        copied = make_algorithm(recipe.algorithm).reference != "none" and recipe.policy.lora is None
        self.reference_in_first = copied and recipe.warm_start.steps > 0
        """Whether only the first checkpoint has the reference of a KL. Without a warm start new ranks hold it, and
        with adapters it is the model below them."""
        self._limits = MicroBatchLimits(recipe.learner.micro_batch_groups, recipe.learner.micro_batch_tokens)
        self._skipped = SkippedUpdates(recipe.run.folder / "skipped", recipe.learner.max_skipped)
        self._folder, self._places = recipe.run.folder, list[Place]()
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, recipe: Recipe, folder: str, options: ActorOptions, learner_class: type[Any] | None = None
    ) -> LearnerGroup:
        """Start every rank and wait until all hold the model.

        Raises:
            LearnerLost: a rank did not come up.
        """
        settings, algorithm = recipe.learner, make_algorithm(recipe.algorithm)
        threads = str(settings.threads or max(1, int(settings.cpus)))
        environment = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
        temperature, seed = recipe.rollout.temperature, recipe.run.seed

        def make(rank: int) -> Any:
            placed = options("learner", rank) | {"runtime_env": {"env_vars": environment}}
            watched = ray.remote(concurrency_groups={HEALTH: 1})(learner_class or DeepSpeedLearner)
            return watched.options(**placed).remote(rank, folder, recipe.policy, algorithm, settings, temperature, seed)

        group = cls(recipe, make)
        await group.begin_life()
        return group

    async def begin_life(self) -> None:
        """End the ranks that there are, and start new ones on the first weights; `load` brings them to where they were.

        Raises:
            LearnerLost: a rank did not come up.
        """
        self.stop()
        self.life, self.sequence, self._up = self.life + 1, 0, False
        self.ranks = [self._make(rank) for rank in range(self.settings.ranks)]
        host, port = await self.first("address")
        await self.all("start", host, port)
        shares_prefix, *_ = await self.all("shares_prefix")
        self._limits = replace(self._limits, shared_prefix=shares_prefix)
        self._places = await self.all("__ray_call__", here)
        self._up, self._reading = True, None

    async def first(self, method: str, *arguments: Any) -> Any:
        """Call a method on rank 0; its answer."""
        return await self._asked(0, method, *arguments)

    async def all(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method on every rank at once; the answers in rank order."""
        return await self.each(method, [arguments] * len(self.ranks))

    async def each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method on every rank at once, each with its own arguments."""
        return await asyncio.gather(*(self._asked(rank, method, *own) for rank, own in enumerate(arguments)))

    async def _asked(self, rank: int, method: str, *arguments: Any, **named: Any) -> Any:
        """A rank's answer; while it works it is asked now and then whether its process still goes on.

        Not while it starts, which has the call's own time limit: a process that imports answers nobody.

        Raises:
            LearnerLost: the rank died, or gave no answer in time; or it failed since another one was lost.
        """
        what = f"learner rank {rank} ({method})"
        call = getattr(self.ranks[rank], method).remote(*arguments, **named)
        working = asyncio.ensure_future(within(self.settings.timeout_s, what, call))
        try:
            while self._up and not (await asyncio.wait({working}, timeout=PROBED_EVERY_S))[0]:
                alive = self.ranks[rank].__ray_ready__.options(concurrency_group=HEALTH).remote()
                await within(self.settings.probe_timeout_s, f"{what}, probed,", alive)
            return await working
        except (ActorLost, ActorTimeout) as error:
            if isinstance(error, ActorTimeout) and self._up:  # once, whichever rank is asked first
                self._reading = self._reading or asyncio.create_task(
                    keep_stacks(self._folder, "learner rank", self._places)
                )
                await self._reading
            raise LearnerLost(str(error)) from error
        except RayTaskError as failed:  # a collective breaks where a rank is lost, and Ray reports its death later
            await self._others_live(rank, what, one_line(failed))
            raise
        finally:
            working.cancel()

    async def _others_live(self, failed: int, what: str, why: str) -> None:
        """Return where all other ranks live; one that still starts may be too busy to say so.

        Raises:
            LearnerLost: one does not.
        """
        others = [rank for rank in range(len(self.ranks)) if rank != failed]
        asked = [self.ranks[rank].__ray_ready__.options(concurrency_group=HEALTH).remote() for rank in others]
        names = [f"learner rank {rank}, probed since {what} failed," for rank in others]
        limit = self.settings.probe_timeout_s if self._up else STARTING_ANSWER_S
        try:
            await asyncio.gather(*map(partial(within, limit), names, asked))
        except (ActorLost, ActorTimeout) as error:
            if self._up or isinstance(error, ActorLost):
                raise LearnerLost(f"{error}; {what}: {why}") from error

    def portions(self, groups: Sequence[TrainingGroup], updates: int = 1) -> list[Portion]:
        """The groups of a batch as those of its updates, as many at most, each shared out over the ranks.

        Raises:
            BudgetError: a response does not fit into `learner.micro_batch_tokens`.
        """
        parts = [part for i in range(updates) if (part := groups[i::updates])]
        return [Portion(part, share_out(part, len(self.ranks), self._limits, self.response_cap)) for part in parts]

    async def assess(self, portions: Sequence[Portion], kl_beta: float) -> tuple[list[Portion], dict[str, float]]:
        """Let each rank find out about its shares what the algorithm wants to know; see `Learner.assess`.

        Returns:
            The same portions, which the ranks now hold, and the algorithm's metrics.
        """
        of_ranks = zip(*(portion.shares for portion in portions), strict=True)
        metrics, *_ = await self.each("assess", [(list(shares), kl_beta) for shares in of_ranks])
        return [replace(portion, held=Held(index)) for index, portion in enumerate(portions)], metrics

    @property
    def limits(self) -> MicroBatchLimits:
        """What one forward and backward pass may hold."""
        return self._limits

    def next_sequence(self) -> int:
        """The number of the next call that changes an adapter."""
        self.sequence += 1
        return self.sequence

    async def accumulate(self, portion: Portion, loss: Loss, adapter: str = OWN) -> list[Gathered]:
        """Add a portion's gradient to what the adapter's next step applies; each rank's sums."""
        sequence = self.next_sequence()
        batches = [portion.held or share for share in portion.shares]
        return await self.each("accumulate", [(adapter, batch, loss, sequence) for batch in batches])

    async def step(self, optimizer: OptimizerSettings, adapter: str = OWN) -> Stepped:
        """Apply what was accumulated."""
        stepped: Stepped = (await self.all("step", adapter, optimizer, self.next_sequence()))[0]
        return stepped

    async def update(self, portion: Portion, loss: Loss, lr: float) -> dict[str, float]:
        """Take one optimizer step on a portion over all ranks; metrics are means over the global batch.

        Raises:
            TooManySkipped: this was the last of several updates in a row whose gradients were not finite.
        """
        began = now()
        parts = await self.accumulate(portion, loss)
        accumulated = now()
        stepped = await self.step(OptimizerSettings(lr))
        took = {"accumulate_s": accumulated - began, "optimizer_s": now() - accumulated}
        took |= {f"{part}_s": max(one.seconds[part] for one in parts) for part in parts[0].seconds}
        metrics = _merge(parts, portion.counts) | {"grad_norm": stepped.grad_norm} | took
        self._skipped.record(self.sequence, stepped.applied, portion.groups, metrics["loss"])
        return metrics | {"skipped": float(not stepped.applied)} | sharing(portion.groups, self._limits)

    async def abandon_weights(self) -> None:
        """End a `send_weights` that waits for an engine which is gone.

        Raises:
            ActorLost, ActorTimeout: the first rank is gone too, or does not answer.
        """
        asked = self.ranks[0].abandon_weights.options(concurrency_group=HEALTH).remote()
        await within(self.settings.probe_timeout_s, "learner rank 0 (abandon_weights)", asked)

    async def record(self, folder: Path, step: int) -> None:
        """Let every rank write what a step's updates saw of its responses, for the ledger."""
        await self.each("record", [(str(learnt_path(folder, step, rank)),) for rank in range(len(self.ranks))])

    async def log_probs(
        self,
        groups: Sequence[TrainingGroup],
        temperature: float | None = None,
        *,
        reference: bool = False,
        adapter: str = OWN,
    ) -> list[list[float]]:
        """Log-probabilities of every response's tokens, in order; each rank computes its share."""
        (portion,) = self.portions(groups)
        calls = [
            self._asked(rank, "log_probs", share, temperature, reference=reference, adapter=adapter)
            for rank, share in enumerate(portion.shares)
        ]
        rows: dict[int, list[float]] = {}
        for share, found in zip(portion.shares, await asyncio.gather(*calls), strict=True):
            rows |= dict(zip(share.places, found, strict=True))
        return [rows[place] for place in sorted(rows)]

    async def model(self) -> str:
        """What is trained, in words; see `Learner.model`."""
        described: str = await self.first("model")
        return described

    async def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face layout."""
        await self.all("export", str(folder))

    async def save(self, folder: Path) -> None:
        """Write everything a resumed run needs of the learners."""
        await self.all("save", str(folder))

    def stop(self) -> None:
        """End the ranks' processes."""
        for actor in self.ranks:
            end_actor(actor)

    async def load(self, folder: Path, written_by: int | None = None) -> None:
        """Read what `save` of `written_by` ranks wrote; None: of as many as these.

        Raises:
            CheckpointError: it cannot be brought to this number of ranks.
        """
        converted = None
        if (
            written_by not in (None, len(self.ranks)) and self.settings.zero_stage > 0
        ):  # without ZeRO every rank holds everything
            print(f"{folder} was written by {written_by} learner rank(s): converting for {len(self.ranks)}", flush=True)
            converted = str(await asyncio.to_thread(universal, folder))
        self.sequence = (await self.all("load", str(folder), converted))[0]


class SkippedUpdates:
    """Counts updates in a row whose gradients were not finite, and keeps what they were to learn from."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Keep batches as JSON under `folder`, which is made when the first one comes."""
        self._folder, self._limit = folder, limit
        self._in_a_row = 0

    def record(self, sequence: int, applied: bool, groups: Sequence[TrainingGroup], loss: float) -> None:
        """Take note of an update.

        Raises:
            TooManySkipped: it is the last of as many in a row as the limit allows.
        """
        if applied:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"update_{sequence:06d}.json"
        path.write_text(json.dumps({"loss": loss, "groups": [asdict(group) for group in groups]}))
        print(
            f"update {sequence} skipped: its gradient is not finite (loss {loss:g}); batch kept in {path}", flush=True
        )
        if self._in_a_row >= self._limit:
            raise TooManySkipped(
                f"{self._in_a_row} updates in a row had gradients that are not finite; their batches are in "
                f"{self._folder}: look for values that are not numbers there, or lower learner.lr"
            )


def universal(folder: Path) -> Path:
    """A checkpoint of DeepSpeed in its universal layout, beside it; converted anew, since no seal covers an older one.

    Raises:
        CheckpointError: it cannot be converted.
    """
    target = folder.with_name("universal")
    partial = target.with_name("universal.part")
    for leftover in (target, partial):
        shutil.rmtree(leftover, ignore_errors=True)
    source, result = folder / CHECKPOINT_TAG, partial / CHECKPOINT_TAG
    # Its own process: the converter forks workers and changes global state. The loader asks for state that other
    # frameworks on top of DeepSpeed write; here it is injected empty.
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state",
               "--input_folder", str(source), "--output_folder", str(result)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERSION_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{source} was not converted within {CONVERSION_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CheckpointError(f"{source} could not be converted for another number of learner ranks: {last}")
    partial.rename(target)
    return target


def _merge(parts: Sequence[Gathered], counts: GlobalCounts) -> dict[str, float]:
    merged = {"loss": sum(part.loss for part in parts)}
    for name in parts[0].token_sums:
        merged[name] = sum(part.token_sums.get(name, 0.0) for part in parts) / max(counts.tokens, 1)
    for name in parts[0].maxima:
        merged[name] = float(np.max([part.maxima.get(name, 0.0) for part in parts]))  # keeps NaN, unlike max
    return merged
