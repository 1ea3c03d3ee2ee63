"""`TransformersEngine`: a rollout engine on plain `generate`, for debugging. The interface of `VllmEngine`, slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import torch

from actors.rollout.rollout import GenerationRequest, Rollout
from actors.settings import RolloutSettings
from actors.sync.receiver import Arrival, Receipt
from actors.sync.transport import Bucket, Meeting, WeightChannel
from policies.checkpoint import disk_name
from policies.model import Policy, load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings


class TransformersEngine:
    """One engine that answers its requests one after another."""

    def __init__(self, name: str, folder: str, policy: PolicySettings, settings: RolloutSettings, seed: int) -> None:
        """Remember what to load; `start` loads it. `seed` is that of requests that name none of their own."""
        self.name, self.folder, self.settings, self.seed = name, folder, settings, seed
        self.policy_settings = policy.model_copy(update={"lora": None})  # adapters arrive merged
        self.version = -1

    async def start(self) -> float:
        """Load the model; returns the seconds it took."""
        began = time.time()
        torch.manual_seed(self.seed)
        self.policy: Policy = load_policy(self.folder, self.policy_settings, self.settings.temperature).eval()
        self._encoder = PromptEncoder(load_processor(self.folder, self.policy_settings), self.policy_settings)
        body = self.policy.body
        self._parameters = {disk_name(n, self.policy.model_type): p for n, p in body.named_parameters()}
        return time.time() - began

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout]:
        """Yield one rollout per request, in order."""
        for request in requests:
            yield await asyncio.to_thread(self._respond, request)

    @torch.no_grad()
    def _respond(self, request: GenerationRequest) -> Rollout:
        began = time.time()
        sampling = request.sampling
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        inputs = self._encoder.inputs(request.sample)
        output: Any = self.policy.body.generate(
            **inputs,
            do_sample=sampling.temperature > 0,
            temperature=sampling.temperature or None,
            top_k=None,
            top_p=None,
            max_new_tokens=sampling.max_tokens,
            suppress_tokens=self.policy.forbidden_ids or None,
            return_dict_in_generate=True,
            output_scores=True,
        )
        prompt = inputs["input_ids"].shape[1]
        token_ids = output.sequences[0, prompt:].tolist()
        scores_T_V = torch.cat(output.scores).float()
        logprobs = torch.log_softmax(scores_T_V, -1).gather(1, torch.tensor(token_ids)[:, None])[:, 0]
        tokenizer = self._encoder.processor.tokenizer
        stopped = token_ids[-1] == tokenizer.eos_token_id
        return Rollout(
            request_id=request.request_id,
            sample_id=request.sample.id,
            prompt_ids=tuple(inputs["input_ids"][0].tolist()),
            token_ids=tuple(token_ids),
            logprobs=tuple(logprobs.tolist()),
            text=tokenizer.decode(token_ids, skip_special_tokens=True),
            finish_reason="stop" if stopped else "length",
            weight_version=self.version,
            engine=self.name,
            started_at=began,
            finished_at=time.time(),
        )

    async def join_weight_channel(self, meeting: Meeting, first_rank: int) -> None:
        """Join the broadcast group."""
        self._channel = await asyncio.to_thread(WeightChannel, meeting, first_rank)

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """Install a new weight version in place (the channel's own timeout bounds the wait)."""
        receipt = await asyncio.wait_for(asyncio.to_thread(self._install, buckets), timeout_s)
        await self.reset_caches()
        self.version = version
        return [receipt]

    @torch.no_grad()
    def _install(self, buckets: list[Bucket]) -> Receipt:
        arrival = Arrival(self._channel, buckets)
        for name, tensor in arrival:
            self._parameters[name].copy_(tensor)
        memory_names = {disk: memory for memory, disk in self._names().items()}
        return arrival.receipt(self.policy.body, memory_names.get)

    def _names(self) -> dict[str, str]:
        return {name: disk_name(name, self.policy.model_type) for name, _ in self.policy.body.named_parameters()}

    async def reset_caches(self) -> None:
        """Nothing outlives a call of `generate`."""

    async def stop(self) -> None:
        """Nothing runs besides this actor."""
