"""`TransformersEngine`: a rollout engine on plain `generate`, for debugging. Slow and simple."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from actors.rollout.engine import Ability, Health, State, refusal, refuse_mixed
from actors.sync.transport import Bucket, Meeting, Receipt, WeightTransport, join
from data.errors import DataError
from data.rollout import GenerationRequest, Refusal, Rollout
from extension import NoOptions
from recipe import Recipe


class TransformersEngine:
    """A `RolloutEngine` that answers one request after another, on the CPU, and keeps nothing between them."""

    Settings = NoOptions

    @staticmethod
    def abilities(recipe: Recipe) -> frozenset[Ability]:
        """See `RolloutEngine`."""
        return frozenset({"seeds", "cuts"})

    @staticmethod
    def environment(recipe: Recipe, options: NoOptions) -> dict[str, str]:
        """See `RolloutEngine`."""
        settings = recipe.rollout
        return {"OMP_NUM_THREADS": str(settings.threads or max(1, int(settings.cpus)))}

    def __init__(self, name: str, folder: str, recipe: Recipe, options: NoOptions, seed: int) -> None:
        """See `RolloutEngine`."""
        self.name, self.folder, self.settings, self.seed = name, folder, recipe.rollout, seed
        self.policy_settings = recipe.policy.model_copy(update={"lora": None})  # adapters arrive merged
        self.version, self.running = -1, 0
        self.state: State = "new"
        self._turn = asyncio.Lock()  # torch's seed is the process's own: one response at a time
        self._may_go_on, self._idle = asyncio.Event(), asyncio.Event()
        self._may_go_on.set()
        self._idle.set()

    async def start(self) -> float:
        """See `RolloutEngine`."""
        import torch
        from transformers import GenerationConfig

        from policies.checkpoint import disk_name
        from policies.heads.due import due_of
        from policies.model import end_ids, load_policy, load_processor
        from policies.prompt import PromptEncoder

        began = time.time()
        torch.manual_seed(self.seed)
        self.policy = load_policy(self.folder, self.policy_settings, self.settings.temperature).eval()
        self._encoder = PromptEncoder(load_processor(self.folder, self.policy_settings), self.policy_settings)
        tokenizer = self._encoder.processor.tokenizer
        self._ends = end_ids(self.policy.body, tokenizer)
        self._due = due_of(self.folder, self.policy_settings, tokenizer)
        # In place of the checkpoint's: a repetition penalty there, say, would not be the learner's distribution.
        self.policy.body.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends), pad_token_id=tokenizer.pad_token_id, top_k=0, top_p=1.0
        )
        names = {name: disk_name(name, self.policy.model_type) for name, _ in self.policy.body.named_parameters()}
        self._memory_names = {disk: memory for memory, disk in names.items()}
        self.state = "generating"
        return time.time() - began

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout | Refusal]:
        """See `RolloutEngine`; in the order of the requests."""
        unfinished = len(requests)
        self.running += unfinished
        try:
            for request in requests:
                answer = await self._in_turn(request)
                self.running -= 1
                unfinished -= 1
                yield answer
        finally:
            self.running -= unfinished

    async def _in_turn(self, request: GenerationRequest) -> Rollout | Refusal:
        async with self._turn:
            while not self._may_go_on.is_set():  # it may have been cleared again before this task woke up
                await self._may_go_on.wait()
            self._idle.clear()
            try:
                return await asyncio.to_thread(self._respond, request)
            except DataError as error:
                return refusal(self.name, request, error)
            finally:
                self._idle.set()

    def _respond(self, request: GenerationRequest) -> Rollout:
        import torch

        from policies.heads.generation import DueLogits

        began = time.time()
        sampling = request.sampling
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        inputs = self._encoder.inputs(request.sample)
        prompt = inputs["input_ids"].shape[1]
        if prompt >= self.settings.max_model_len:
            raise DataError(
                f"see rollout.max_model_len: its prompt has {prompt} tokens, and prompt and response may have "
                f"{self.settings.max_model_len}"
            )
        with torch.no_grad():
            output: Any = self.policy.body.generate(
                **inputs,
                do_sample=sampling.temperature > 0,
                temperature=sampling.temperature or None,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_new_tokens=min(sampling.max_tokens, self.settings.max_model_len - prompt),
                suppress_tokens=self.policy.forbidden_ids or None,
                logits_processor=None if self._due is None else [DueLogits(self._due, prompt)],
                return_dict_in_generate=True,
                output_scores=True,
            )
        token_ids = output.sequences[0, prompt:].tolist()
        scores_T_V = torch.cat(output.scores).float()
        logprobs = torch.log_softmax(scores_T_V, -1).gather(1, torch.tensor(token_ids)[:, None])[:, 0]
        tokenizer = self._encoder.processor.tokenizer
        stopped = token_ids[-1] in self._ends
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

    async def pause(self) -> None:
        """After the response that is generated."""
        if self.state == "generating":
            await self._hold("paused")

    async def resume(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "paused":
            self._go_on()

    async def sleep(self) -> None:
        """A pause: weights in host memory are where they would go."""
        if self.state in ("generating", "paused"):
            await self._hold("asleep")

    async def wake(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "asleep":
            self._go_on()

    async def _hold(self, state: State) -> None:
        self._may_go_on.clear()
        await self._idle.wait()
        self.state = state

    def _go_on(self) -> None:
        self._may_go_on.set()
        self.state = "generating"

    async def join_weight_channel(self, meeting: Meeting, first_member: int) -> None:
        """See `RolloutEngine`."""
        self._channel: WeightTransport = await asyncio.to_thread(join, meeting, first_member)

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """See `RolloutEngine` (the transport's own timeout bounds the wait)."""
        refuse_mixed(self.name, self.state, self.running)
        receipt = await asyncio.wait_for(asyncio.to_thread(self._install, buckets), timeout_s)
        await self.reset_caches()
        self.version = version
        return [receipt]

    def _install(self, buckets: list[Bucket]) -> Receipt:
        import torch

        from actors.sync.receiver import Arrival

        arrival = Arrival(self._channel, buckets)
        parameters = dict(self.policy.body.named_parameters())
        with torch.no_grad():
            for name, tensor in arrival:
                parameters[self._memory_names[name]].copy_(tensor)
        return arrival.receipt(self.policy.body, self._memory_names.get)

    async def reset_caches(self) -> None:
        """Nothing outlives a call of `generate`."""

    async def health(self) -> Health:
        """See `RolloutEngine`."""
        return Health(self.state, self.version, self.running)

    async def stop(self) -> None:
        """Nothing runs besides this actor."""
        self.state = "stopped"
