"""Engines and learners with one fault each, to put into a run in place of the sound ones."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.learning.learner import Gathered, Held, OptimizerSettings, Stepped
from actors.rollout.transformers_engine import TransformersEngine
from actors.rollout.vllm_engine import VllmEngine
from actors.sync.receiver import WeightReceiver
from actors.sync.transport import Bucket, Receipt, Sent
from data.rollout import GenerationRequest, Refusal, Rollout
from policies.algorithms.algorithm import Loss
from policies.micro_batches import Share
from recipe import Recipe


class Flipping:
    """Put before a transport's class: flips one bit of what is sent, after its checksum was taken."""

    def send(self, tensors: Sequence[Tensor], dtype: str) -> None:
        first, *others = tensors
        damaged = first.clone()
        damaged.flatten().view(torch.uint8)[7] ^= 1
        super().send([damaged, *others], dtype)  # type: ignore[misc]


class FaultyLearner(DeepSpeedLearner):
    """Sound until `damage` is switched on: then a byte changes in transit."""

    def damage(self, on: bool) -> None:
        channel: Any = self.channel
        kind = type(channel)
        sound = kind.__bases__[1] if issubclass(kind, Flipping) else kind
        channel.__class__ = type("FlippingTransport", (Flipping, sound), {}) if on else sound


class LearnerWithFlippedByte(FaultyLearner):
    """A byte of the second sync is damaged in transit."""

    def send_weights(self) -> Sent:
        self.damage(self.applied > 0)
        return super().send_weights()


class FaultyReceiver(WeightReceiver):
    """Sound until one of its faults is switched on."""

    fault: str | None = None

    def switch(self, fault: str | None) -> None:
        self.fault = fault

    def receive_weights(self, buckets: list[dict[str, Any]], compare: bool) -> dict[str, Any]:
        kept = dict(self.model_runner.encoder_cache)
        receipt = super().receive_weights(buckets, compare)
        if self.fault == "stale images":  # vLLM's own reload would drop this worker's share of them
            self.model_runner.encoder_cache.update(kept)
        if self.fault == "perturbed weight":  # one packed matrix is not what arrived; no checksum can see it there
            with torch.no_grad():
                self._some_norm().mul_(1.1)
        return receipt

    def _some_norm(self) -> torch.nn.Parameter:
        parameters: Iterator[tuple[str, torch.nn.Parameter]] = self.model_runner.get_model().named_parameters()
        return next(p for name, p in parameters if "language_model" in name and "input_layernorm" in name)


class FaultyEngine(VllmEngine):
    """Sound until `switch` puts in a fault: `perturbed weight`, or `stale images` (keeps those of the old weights)."""

    worker_extension = "tests.integration.faults.FaultyReceiver"
    fault: str | None = None

    async def switch(self, fault: str | None) -> None:
        self.fault = fault
        await self._llm.collective_rpc("switch", timeout=300.0, args=(fault,))

    async def reset_caches(self) -> None:
        if self.fault == "stale images":
            await self._llm.reset_prefix_cache()
        else:
            await super().reset_caches()


def widen_biases() -> None:
    """Keep every bias in float32 from here on, as vLLM does with the layers that it packs for AMX."""
    from vllm.model_executor.layers import utils

    dispatch = utils.dispatch_cpu_unquantized_gemm

    def widening(layer: Any, remove_weight: bool) -> None:
        dispatch(layer, remove_weight)
        linear = layer.cpu_linear
        if getattr(layer, "bias", None) is not None:
            layer.bias.data = layer.bias.to(torch.float32)
            layer.cpu_linear = lambda x, weight, bias: linear(x, weight, None if bias is None else bias.to(x.dtype))

    utils.dispatch_cpu_unquantized_gemm = widening


class WideBiasReceiver(WeightReceiver):
    """No fault: what a processor with AMX does to a bfloat16 engine, on any processor."""

    def join_weight_channel(self, meeting: dict[str, Any], first_member: int) -> None:
        widen_biases()
        super().join_weight_channel(meeting, first_member)


class EngineWithWideBiases(VllmEngine):
    worker_extension = "tests.integration.faults.WideBiasReceiver"


class EngineThatDies(VllmEngine):
    """Its process is gone in the middle of a generation, as often as the recipe's folder has a file `deaths` to say."""

    def __init__(self, name: str, folder: str, recipe: Recipe, options: Any, seed: int) -> None:
        super().__init__(name, folder, recipe, options, seed)
        self.deaths = Path(recipe.run.root, "deaths")

    async def generate(self, requests: Any) -> Any:
        async for rollout in super().generate(requests):
            yield rollout
            if len(requests) > 5 and self.version > 0 and one_of(self.deaths):
                self.die()

    def die(self) -> None:
        os._exit(1)


class EngineWhoseCoreDies(EngineThatDies):
    """vLLM's own process is killed; the actor lives on and says so."""

    def die(self) -> None:
        for child in psutil.Process().children(recursive=True):
            child.kill()


class EngineThatHangs(EngineThatDies):
    """Its process is stopped: it neither goes on nor ends."""

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class EngineThatDiesReceiving(TransformersEngine):
    """Is gone when it has taken the first bucket of the second version of the weights."""

    def __init__(self, name: str, folder: str, recipe: Recipe, options: Any, seed: int) -> None:
        super().__init__(name, folder, recipe, options, seed)
        self.deaths = Path(recipe.run.root, "deaths")

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        if version == 2 and one_of(self.deaths):
            await asyncio.to_thread(self._channel.receive, buckets[0])
            os._exit(1)
        return await super().receive_weights(version, buckets, timeout_s)


class LearnerThatDies(DeepSpeedLearner):
    """Is gone in the middle of a step, after it has accumulated, as often as `deaths` says; of two, the second."""

    def step(self, adapter: str, optimizer: OptimizerSettings, sequence: int) -> Stepped:
        if self.rank == self.settings.ranks - 1 and sequence > 6 and one_of(Path(self.folder).parent / "deaths"):
            os._exit(1)
        return super().step(adapter, optimizer, sequence)


class EngineThatFindsAnImageCut(TransformersEngine):
    """The files of the first question that it is asked in training are cut off before it opens them."""

    def __init__(self, name: str, folder: str, recipe: Recipe, options: Any, seed: int) -> None:
        super().__init__(name, folder, recipe, options, seed)
        self.deaths = Path(recipe.run.root, "deaths")

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout | Refusal]:
        if len(requests) > 5 and one_of(self.deaths):
            cut_images(requests[0].sample.images.values())
            self._encoder._drawn.clear()
        async for answer in super().generate(requests):
            yield answer


class LearnerThatFindsAnImageCut(DeepSpeedLearner):
    """The files of a group that it learns from are cut off after the engines have seen them."""

    def accumulate(self, adapter: str, batch: Share | Held, loss: Loss, sequence: int) -> Gathered:
        if isinstance(batch, Share) and self.rank == 0 and sequence > 4 and one_of(Path(self.folder).parent / "deaths"):
            cut_images(view.path for view in batch.micro_batches[0][0].images)
            self.encoder._tensors.clear()
            self.encoder._drawn.clear()
        return super().accumulate(adapter, batch, loss, sequence)


class LearnerThatHangs(DeepSpeedLearner):
    """Its process is stopped in the middle of a step; of two, the second, for which the first then waits."""

    def step(self, adapter: str, optimizer: OptimizerSettings, sequence: int) -> Stepped:
        if self.rank == self.settings.ranks - 1 and sequence > 6 and one_of(Path(self.folder).parent / "deaths"):
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().step(adapter, optimizer, sequence)


class LearnerThatDiesWarmingUp(DeepSpeedLearner):
    """Is gone in a step of the warm start; of two, the second."""

    def step(self, adapter: str, optimizer: OptimizerSettings, sequence: int) -> Stepped:
        if self.rank == self.settings.ranks - 1 and sequence == 4 and one_of(Path(self.folder).parent / "deaths"):
            os._exit(1)
        return super().step(adapter, optimizer, sequence)


class LearnerWithoutRoom(DeepSpeedLearner):
    """Has no room for the checkpoint of step 2; of two, the first: the kernel refuses what a file grows beyond."""

    def save(self, folder: str) -> None:
        due = self.rank == 0 and "step_000002" in folder and "supervised" not in folder
        full = due and one_of(Path(self.folder).parent / "deaths")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16 if full else soft, hard))
        try:
            super().save(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def cut_images(paths: Iterable[str]) -> None:
    """Cut files to half of their length, as a copy that was interrupted leaves them."""
    for path in paths:
        os.truncate(path, os.path.getsize(path) // 2)


def one_of(deaths: Path) -> bool:
    """Whether there was one left in the file; it is one fewer now."""
    left = int(deaths.read_text()) if deaths.is_file() else 0
    if left:
        deaths.write_text(str(left - 1))
    return left > 0
