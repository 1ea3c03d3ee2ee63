"""`ModelKeeper`: brings a model to where its client believes it is, whatever the learner lost, and applies requests.

A model is its first weights or its newest snapshot, and then every request since that was acknowledged and learns, in
the order of their numbers. That is how a lost learner, a restarted server and a model that made room come back.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from actors.learning.adapter_learner import DatumsSeen
from actors.learning.learner import OptimizerSettings
from policies.datums import Datum
from policies.errors import BudgetError, PolicyError
from policies.settings import LoraSettings
from policies.summed_losses import SummedLoss, summed_loss
from serve.database.connection import Database
from serve.database.tables import Image, Model, Request
from serve.errors import UserError
from serve.operations.logs import tell
from serve.operations.metrics import ServiceMetrics
from serve.settings import TrainingServiceSettings
from serve.training.futures import Answer, Done, Work, succeeded
from serve.training.places import Places, check_whole, partial, remove, seal
from serve.training.prompts import PromptReader, StoredImage
from serve.training.weights import Checkpoint, find_weights, keep_weights, name_of
from serve.training.wire import MEDIA_TYPE, forward_backward_output, read_forward_backward
from serve.training.workers import Trainer


@dataclass
class Held:
    """A model that the learner holds."""

    adapter: str
    gradient: bool = False
    """Whether one waits for a step."""
    steps: int = 0
    """Optimizer steps since the newest snapshot."""
    used_at: float = 0.0


@dataclass(frozen=True)
class Prepared:
    """A forward_backward, checked and ready for the learner."""

    datums: list[Datum]
    flat: list[bool]
    """For each datum, whether its targets had one dimension."""
    loss: SummedLoss
    gradient: bool


class ModelKeeper:
    """The models in the learner; one request at a time."""

    def __init__(
        self,
        database: Database,
        trainer: Trainer,
        reader: PromptReader,
        places: Places,
        settings: TrainingServiceSettings,
        metrics: ServiceMetrics,
    ) -> None:
        """Hold none yet."""
        self._database, self._trainer, self._reader = database, trainer, reader
        self._places, self._settings, self._metrics = places, settings, metrics
        self.held: dict[int, Held] = {}

    async def restart(self) -> None:
        """Start the learner anew; models come back when they are asked for."""
        self.held.clear()
        self._metrics.resident.set(0)
        await self._trainer.restart()

    async def forget(self, number: int) -> None:
        """Take a model out of the learner; it comes back from disk when it is asked for."""
        held = self.held.pop(number, None)
        if held is not None:
            await self._trainer.remove(held.adapter)
        self._metrics.resident.set(len(self.held))

    async def bring(self, model: Model) -> Held:
        """Have a model in the learner, with every acknowledged request applied.

        Raises:
            LearnerLost: as `Trainer`.
        """
        held = self.held.get(model.number)
        if held is None:
            while len(self.held) >= self._settings.resident_models:
                await self.forget(min(self.held, key=lambda number: self.held[number].used_at))
            held = Held(f"model_{model.number}")
            await self._trainer.remove(held.adapter)  # what a failed attempt may have left
            await self._trainer.create(held.adapter, lora_of(model.settings), int(model.settings["seed"]))
            if model.snapshot_folder is not None:
                await self._trainer.load(held.adapter, model.snapshot_folder, optimizer=True)
            await self._redo(model, held)
            self.held[model.number] = held
            self._metrics.resident.set(len(self.held))
        held.used_at = time.monotonic()
        return held

    async def _redo(self, model: Model, held: Held) -> None:
        def since() -> list[tuple[str, bytes | None]]:
            with self._database.reading() as session:
                rows = session.execute(
                    select(Request.kind, Request.body)
                    .where(Request.subject == model.id, Request.learns, Request.state == "done")
                    .where(Request.seq > model.snapshot, Request.seq <= model.applied)
                    .order_by(Request.seq)
                )
                return [(kind, body) for kind, body in rows]

        for kind, body in await asyncio.to_thread(since):
            if body is None:
                raise RuntimeError(f"{model.id}: a request since its snapshot is no longer kept")
            await self.apply(model, held, kind, body)
            self._metrics.redone.inc()

    async def apply(self, model: Model, held: Held, kind: str, body: bytes) -> Done:
        """Do what a request asks for.

        Raises:
            UserError: it cannot be done, and nothing was changed.
            LearnerLost: as `Trainer`.
        """
        works: dict[str, Callable[[Model, Held, bytes], Any]] = {
            "create_model": self._create,
            "forward_backward": self._forward_backward,
            "optim_step": self._step,
            "save_weights": self._save,
            "save_weights_for_sampler": self._save,
            "load_weights": self._load,
        }
        done: Done = await works[kind](model, held, body)
        return done

    async def _create(self, model: Model, held: Held, body: bytes) -> Done:
        def ready(session: Session) -> None:
            session.execute(update(Model).where(Model.id == model.id).values(state="ready"))

        return Done(succeeded({"type": "create_model", "model_id": model.id}), ready)

    async def _forward_backward(self, model: Model, held: Held, body: bytes) -> Done:
        prepared = await asyncio.to_thread(self.prepared, body)
        try:
            seen = await self._trainer.learn(held.adapter, prepared.datums, prepared.loss, gradient=prepared.gradient)
        except BudgetError as error:
            raise UserError(str(error)) from None
        held.gradient |= prepared.gradient
        self._metrics.tokens.labels("trained").inc(sum(len(datum.token_ids) for datum in prepared.datums))
        self._metrics.images.inc(sum(len(datum.images) for datum in prepared.datums))
        rows = [seen.logprobs[place] for place in range(len(prepared.datums))]
        shaped = [row[:, 0] if flat else row for row, flat in zip(rows, prepared.flat, strict=True)]
        metrics = metrics_of(seen, len(rows))
        if "sampler_gap:max" in metrics and not math.isnan(metrics["sampler_gap:max"]):
            self._metrics.gap.set(metrics["sampler_gap:max"])
        return Done(Answer(MEDIA_TYPE, forward_backward_output(shaped, metrics)))

    def prepared(self, body: bytes) -> Prepared:
        """The datums of a stored forward_backward.

        Raises:
            UserError: what is wrong with them, in one sentence.
        """
        message = read_forward_backward(body)
        config = {key: value.number if value.WhichOneof("value") == "number" else value.text
                  for key, value in message.loss_fn_config_v2.items()} or dict(message.loss_fn_config)  # fmt: skip
        try:
            loss = summed_loss(message.loss_fn, config)
        except PolicyError as error:
            raise UserError(str(error)) from None
        chunks = (chunk for datum in message.data for chunk in datum.model_input)
        images = self.images({c.image.data.decode("ascii") for c in chunks if c.WhichOneof("chunk") == "image"})
        folder = str(self._places.images)
        datums, flat = list[Datum](), list[bool]()
        for place, datum in enumerate(message.data):
            datums.append(self._reader.datum(datum, loss.name, images, folder, f"data[{place}]"))
            flat.append(len(datum.loss_fn_inputs["target_tokens"].shape) < 2)
        if not datums:
            raise UserError("data is empty: send at least one datum")
        return Prepared(datums, flat, loss, not message.forward_only)

    def images(self, digests: set[str]) -> dict[str, StoredImage]:
        """Images by digest, each as a file too, for the processes that read it.

        Raises:
            RuntimeError: one is no longer kept.
        """
        if not digests:
            return {}
        with self._database.reading() as session:
            rows = session.execute(select(Image.digest, Image.width, Image.height).where(Image.digest.in_(digests)))
            found = {digest: StoredImage(digest, width, height) for digest, width, height in rows}
            absent = [digest for digest in found if not (self._places.images / digest).exists()]
            for digest, data in session.execute(select(Image.digest, Image.data).where(Image.digest.in_(absent))):
                self._places.keep_image(digest, data)
        if missing := digests - found.keys():
            raise RuntimeError(f"{len(missing)} images of a request are no longer kept")
        return found

    def image_path(self, digest: str) -> Path:
        """Where an image lies as a file."""
        return self._places.images / digest

    async def _step(self, model: Model, held: Held, body: bytes) -> Done:
        if not held.gradient:
            raise UserError("optim_step: no gradient waits for a step; call forward_backward first")
        stepped = await self._trainer.step(held.adapter, optimizer_of(json.loads(body)["adam_params"]))
        held.gradient, held.steps = False, held.steps + 1
        metrics = {"skipped:sum": float(not stepped.applied)}
        if math.isfinite(stepped.grad_norm):
            metrics["grad_norm:mean"] = stepped.grad_norm

        def counted(session: Session) -> None:
            session.execute(update(Model).where(Model.id == model.id).values(steps=Model.steps + 1))

        return Done(succeeded({"type": "optim_step", "metrics": metrics}), counted)

    async def _save(self, model: Model, held: Held, body: bytes) -> Done:
        asked = json.loads(body)
        training = asked["type"] == "save_weights"
        path = name_of(model.id, asked)
        folder = self._places.new_weights()
        await self._trainer.save(held.adapter, str(partial(folder)), optimizer=training)
        digests, size = await asyncio.to_thread(seal, folder)
        made = Checkpoint(path, "training" if training else "sampler", folder, digests, size)
        return await asyncio.to_thread(keep_weights, self._database, model, asked, made)

    async def _load(self, model: Model, held: Held, body: bytes) -> Done:
        asked = json.loads(body)
        found = await asyncio.to_thread(find_weights, self._database, model.tenant_id, asked["path"])
        if found.settings["rank"] != model.settings["rank"] or found.settings["targets"] != model.settings["targets"]:
            raise UserError(
                f"path: {asked['path']} is an adapter of another form than this model's (rank, or what it trains)"
            )
        if asked.get("optimizer") and found.kind != "training":
            raise UserError(f"optimizer: {asked['path']} was saved for samplers, without the optimizer's state")
        folder = Path(found.folder)
        await asyncio.to_thread(check_whole, folder, found.digests, asked["path"])
        await self._trainer.load(held.adapter, str(folder), optimizer=bool(asked.get("optimizer")))
        held.gradient = False
        seq = int(asked.get("seq_id") or 0)
        kept = await self._written(model, held, seq)  # the checkpoint may be deleted before it would be read again
        held.steps = 0

        def ready(session: Session) -> None:
            session.execute(update(Model).where(Model.id == model.id).values(state="ready"))
            kept(session)

        return Done(succeeded({"type": "load_weights", "path": asked["path"], "model_id": model.id}), ready)

    async def snapshot(self, model_id: str) -> None:
        """Write a snapshot of a model that the learner holds, unless a gradient waits; older ones go."""
        model = await asyncio.to_thread(self._model, model_id)
        held = self.held.get(model.number)
        if held is None or held.gradient or not held.steps:
            return
        kept = await self._written(model, held, model.applied)

        def write() -> None:
            with self._database.writing() as session:
                kept(session)

        await asyncio.to_thread(write)
        held.steps = 0
        if model.snapshot_folder is not None:
            await asyncio.to_thread(remove, Path(model.snapshot_folder))

    async def _written(self, model: Model, held: Held, seq: int) -> Work:
        folder = self._places.snapshot(model.number, seq)
        folder.parent.mkdir(exist_ok=True)
        await self._trainer.save(held.adapter, str(partial(folder)), optimizer=True)
        await asyncio.to_thread(seal, folder)
        self._metrics.snapshots.inc()

        def kept(session: Session) -> None:
            values = {"snapshot": seq, "snapshot_folder": str(folder)}
            session.execute(update(Model).where(Model.id == model.id).values(values))

        return kept

    @property
    def due_after(self) -> int:
        """Optimizer steps of a model after which a snapshot is due."""
        return self._settings.snapshot_steps

    async def snapshot_all(self) -> None:
        """Write a snapshot of every model that learnt since its last, before the server ends."""
        for number in list(self.held):
            model_id = await asyncio.to_thread(self._id_of, number)
            await self.snapshot(model_id)
        tell("snapshots written", models=len(self.held))

    def _model(self, model_id: str) -> Model:
        with self._database.reading() as session:
            model = session.scalars(select(Model).where(Model.id == model_id)).one()
            session.expunge(model)
            return model

    def _id_of(self, number: int) -> str:
        with self._database.reading() as session:
            return session.scalars(select(Model.id).where(Model.number == number)).one()


def lora_of(settings: dict[str, Any]) -> LoraSettings:
    """The form of a model's adapter."""
    return LoraSettings(rank=settings["rank"], alpha=32.0, targets=tuple(settings["targets"]))


def optimizer_of(adam: dict[str, Any]) -> OptimizerSettings:
    """The wire's AdamParams; a clip of 0 is none."""
    clip = float(adam["grad_clip_norm"])
    return OptimizerSettings(
        float(adam["learning_rate"]),
        (float(adam["beta1"]), float(adam["beta2"])),
        float(adam["eps"]),
        float(adam["weight_decay"]),
        clip if clip > 0 else math.inf,
    )


def metrics_of(seen: DatumsSeen, datums: int) -> dict[str, float]:
    """The figures of a pass under names that say how the client joins those of several chunks."""
    sums, taught = seen.gathered.token_sums, seen.gathered.token_sums.get("taught", 0.0)
    metrics = {"loss:sum": seen.gathered.loss, "datums:sum": float(datums), "targets:sum": taught}
    if "sampler_gap" in sums:
        metrics["sampler_gap:mean"] = float(np.float64(sums["sampler_gap"]) / max(taught, 1.0))
        metrics["sampler_gap:max"] = seen.gathered.maxima["sampler_gap"]
        metrics["clipped:mean"] = sums["clipped"] / max(taught, 1.0)
    return metrics
