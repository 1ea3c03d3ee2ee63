"""A learner and an engine without a model, which take a fixed time: for measuring and testing the service around them.

The learner's model is one number, so that a step taken twice, or left out, shows in every later answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from actors.learning.adapter_learner import DatumsSeen
from actors.learning.learner import OptimizerSettings, Stepped
from actors.rollout.adapter_engine import TokenAnswer, TokenRequest, TokenSequence
from actors.rollout.talk import TalkPiece, TalkRequest
from failures import ActorLost, LearnerLost
from policies.datums import Datum
from policies.settings import LoraSettings
from policies.summed_losses import SummedLoss

TINY_IMAGE = 4
"""Positions that the tiny policy makes of an image."""


@dataclass
class OneNumber:
    """A model: `value` falls by lr x gradient with every step."""

    value: float = 1.0
    gradient: float = 0.0
    steps: int = 0


@dataclass
class StubTrainer:
    """A `Trainer`."""

    seconds: float = 0.0
    """That every learn and step takes."""
    losses: int = 0
    """How many calls to come find the learner lost, after they did their work."""
    adapters: dict[str, OneNumber] = field(default_factory=dict)
    restarts: int = 0

    async def start(self) -> None:
        """Nothing to load."""

    async def restart(self) -> None:
        """Forget everything."""
        self.adapters.clear()
        self.restarts += 1

    async def create(self, adapter: str, lora: LoraSettings, seed: int) -> None:
        """A fresh number."""
        self.adapters[adapter] = OneNumber()

    async def remove(self, adapter: str) -> None:
        """Forget one."""
        self.adapters.pop(adapter, None)

    async def learn(self, adapter: str, datums: Sequence[Datum], loss: SummedLoss, *, gradient: bool) -> DatumsSeen:
        """Every log-probability is minus the number; the gradient is the sum of the credits."""
        model, seen = self.adapters[adapter], DatumsSeen()
        for place, datum in enumerate(datums):
            seen.logprobs[place] = np.full(datum.targets_N_K.shape, -model.value, np.float32)
            credited = float(datum.credits_N_K.sum())
            seen.gathered.loss += model.value * credited
            model.gradient += credited if gradient else 0.0
        await self._worked()
        return seen

    async def step(self, adapter: str, optimizer: OptimizerSettings) -> Stepped:
        """Move the number."""
        model = self.adapters[adapter]
        norm = abs(model.gradient)
        model.value -= optimizer.lr * model.gradient
        model.gradient, model.steps = 0.0, model.steps + 1
        await self._worked()
        return Stepped(norm, applied=True)

    async def save(self, adapter: str, folder: str, *, optimizer: bool) -> None:
        """Write the number."""
        model, place = self.adapters[adapter], Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / "number.json").write_text(json.dumps({"value": model.value, "steps": model.steps if optimizer else 0}))

    async def load(self, adapter: str, folder: str, *, optimizer: bool) -> None:
        """Read it."""
        held = json.loads(Path(folder, "number.json").read_text())
        self.adapters[adapter] = OneNumber(held["value"], 0.0, held["steps"] if optimizer else 0)

    async def stop(self) -> None:
        """Nothing to end."""

    async def _worked(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.losses:
            self.losses -= 1
            raise LearnerLost("the stub was asked to be lost")


@dataclass
class StubPool:
    """A `SamplePool`: each request gives the tokens that its seed says; one batch at a time."""

    seconds: float = 0.0
    """That a batch takes."""
    losses: int = 0
    ready: bool = True
    asked: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self) -> None:
        """Nothing to load."""

    async def sample(self, requests: Sequence[TokenRequest]) -> AsyncIterator[TokenAnswer]:
        """See `SamplePool`."""
        self.asked += len(requests)
        async with self._turn:
            await asyncio.sleep(self.seconds)
        if self.losses:
            self.losses -= 1
            raise ActorLost("the stub was asked to be lost")
        for request in requests:
            yield answered(request)

    async def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        """Made-up words, one a token."""
        shown = request.token_ids + (0,) * (TINY_IMAGE - 1) * len(request.images)
        count = min(request.max_tokens, 8)
        for place in range(count):
            await asyncio.sleep(self.seconds)
            last = place == count - 1
            yield TalkPiece(f"w{place} ", (10 + place,), "length" if last else None, shown if place == 0 else ())

    async def stop(self) -> None:
        """Nothing to end."""


def answered(request: TokenRequest) -> TokenAnswer:
    """Made-up tokens that depend on the seed alone."""
    sequences = []
    for number in range(request.count):
        draw = np.random.default_rng([request.seed or 0, number])
        tokens = tuple(int(token) for token in draw.integers(10, 200, min(request.max_tokens, 8)))
        sequences.append(TokenSequence(tokens, (-1.0,) * len(tokens), stopped=False))
    length = len(request.token_ids) + (TINY_IMAGE - 1) * len(request.images)
    scored = (float("nan"), *(-2.0,) * (length - 1)) if request.prompt_logprobs else None
    return TokenAnswer(request.request_id, tuple(sequences), scored)
