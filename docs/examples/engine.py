"""A rollout engine of one's own, from the protocol alone: token by token, no cache. `rollout.backend` names it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from actors.rollout.engine import Ability, Health, State, refusal, refuse_mixed
from actors.sync.receiver import Arrival
from actors.sync.transport import Bucket, Meeting, Receipt, join
from data.errors import DataError
from data.rollout import GenerationRequest, Refusal, Rollout
from policies.checkpoint import disk_name
from policies.model import end_ids, load_policy, load_processor
from policies.prompt import PromptEncoder
from recipe import Recipe


class OwnSettings(BaseModel):
    """`rollout.options` of this engine."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    threads: int = Field(1, ge=1)
    """Compute threads."""


class OwnEngine:
    """A `RolloutEngine` that can be read in a minute. Pauses between two tokens."""

    Settings = OwnSettings

    @staticmethod
    def abilities(recipe: Recipe) -> frozenset[Ability]:
        """It draws a request by its seed, and does no more."""
        return frozenset({"seeds"})

    @staticmethod
    def environment(recipe: Recipe, options: OwnSettings) -> dict[str, str]:
        """Read before the process imports torch."""
        return {"OMP_NUM_THREADS": str(options.threads)}

    def __init__(self, name: str, folder: str, recipe: Recipe, options: OwnSettings, seed: int) -> None:
        self.name, self.folder, self.policy_settings, self.settings = name, folder, recipe.policy, recipe.rollout
        self.state: State = "new"
        self.version, self.running = -1, 0
        self._draws = torch.Generator().manual_seed(seed)
        self._step = asyncio.Lock()
        """Held by a token that is computed, and by a pause."""

    async def start(self) -> float:
        """Load model and processor."""
        began = time.time()
        policy = load_policy(self.folder, self.policy_settings, self.settings.temperature).eval()
        self._body, self._forbidden = policy.body, list(policy.forbidden_ids)
        self._encoder = PromptEncoder(load_processor(self.folder, self.policy_settings), self.policy_settings)
        self._ends = end_ids(self._body, self._encoder.processor.tokenizer)
        parameters = self._body.named_parameters()
        self._names = {disk_name(name, policy.model_type): name for name, _ in parameters}
        self.state = "generating"
        return time.time() - began

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout | Refusal]:
        """One request after another."""
        unfinished = len(requests)
        self.running += unfinished
        try:
            for request in requests:
                answer = await self._answer(request)
                unfinished, self.running = unfinished - 1, self.running - 1
                yield answer
        finally:
            self.running -= unfinished

    async def _answer(self, request: GenerationRequest) -> Rollout | Refusal:
        began, sampling, tokenizer = time.time(), request.sampling, self._encoder.processor.tokenizer
        try:
            inputs = dict(self._encoder.inputs(request.sample))
        except DataError as error:  # an image that is missing or damaged
            return refusal(self.name, request, error)
        ids = inputs.pop("input_ids")
        prompt = ids.shape[1]
        if prompt >= self.settings.max_model_len:
            return refusal(self.name, request, "see rollout.max_model_len: its prompt is too long")
        draws = self._draws if sampling.seed is None else torch.Generator().manual_seed(sampling.seed)
        logprobs: list[float] = []
        for _ in range(min(sampling.max_tokens, self.settings.max_model_len - prompt)):
            async with self._step:
                token, logprob = await asyncio.to_thread(self._next, ids, inputs, sampling.temperature, draws)
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
            logprobs.append(logprob)
            if token in self._ends:
                break
        token_ids = ids[0, prompt:].tolist()
        return Rollout(
            request_id=request.request_id,
            sample_id=request.sample.id,
            prompt_ids=tuple(ids[0, :prompt].tolist()),
            token_ids=tuple(token_ids),
            logprobs=tuple(logprobs),
            text=tokenizer.decode(token_ids, skip_special_tokens=True),
            finish_reason="stop" if token_ids[-1] in self._ends else "length",
            weight_version=self.version,
            engine=self.name,
            started_at=began,
            finished_at=time.time(),
        )

    @torch.no_grad()
    def _next(self, ids: Any, inputs: dict[str, Any], temperature: float, draws: torch.Generator) -> tuple[int, float]:
        inputs = inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        logits_V = self._body(**inputs).logits[0, -1].float()
        logits_V[self._forbidden] = float("-inf")
        logprobs_V = torch.log_softmax(logits_V / (temperature or 1.0), dim=-1)
        token = logprobs_V.exp().multinomial(1, generator=draws) if temperature else logprobs_V.argmax()
        return int(token), float(logprobs_V[int(token)])

    async def pause(self) -> None:
        """No token is begun from here on."""
        if self.state == "generating":
            await self._step.acquire()
            self.state = "paused"

    async def resume(self) -> None:
        """Go on."""
        if self.state == "paused":
            self._go_on()

    async def sleep(self) -> None:
        """There is no memory to give up on CPU: it pauses."""
        await self.pause()
        if self.state == "paused":
            self.state = "asleep"

    async def wake(self) -> None:
        """Go on."""
        if self.state == "asleep":
            self._go_on()

    def _go_on(self) -> None:
        self._step.release()
        self.state = "generating"

    async def join_weight_channel(self, meeting: Meeting, first_member: int) -> None:
        """It has one worker, so it is one member."""
        self._channel = await asyncio.to_thread(join, meeting, first_member)

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """Install in place; the receipt says what arrived and what was installed."""
        refuse_mixed(self.name, self.state, self.running)
        receipt = await asyncio.wait_for(asyncio.to_thread(self._install, buckets), timeout_s)
        self.version = version
        return [receipt]

    @torch.no_grad()
    def _install(self, buckets: list[Bucket]) -> Receipt:
        arrival, parameters = Arrival(self._channel, buckets), dict(self._body.named_parameters())
        for name, tensor in arrival:
            parameters[self._names[name]].copy_(tensor)
        return arrival.receipt(self._body, self._names.get)

    async def reset_caches(self) -> None:
        """It has none."""

    async def health(self) -> Health:
        """What it is at."""
        return Health(self.state, self.version, self.running)

    async def stop(self) -> None:
        """Nothing runs beside this actor."""
        self.state = "stopped"
