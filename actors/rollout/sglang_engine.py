"""`SglangEngine`: a rollout engine on SGLang's `Engine`, on one GPU. In an environment of its own (`.[sglang]`).

Not run by us: SGLang does not start without a GPU. Its adapter is tested against a local stand-in that has the request
and response shapes of SGLang 0.5.23 (`tests/sglang_standin.py`). Weights come by any transport of `sync.transport` and
are handed over as tensors; SGLang's own distributed update group is not used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from actors.rollout.engine import Ability, Health, State, refusal, refuse_mixed
from actors.supervision.waiting import as_they_end
from actors.sync.transport import Bucket, Meeting, Receipt, WeightTransport, join
from data.errors import DataError
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings
from failures import EngineError
from recipe import Recipe

FORBID = -1e9
"""Added to the logits of tokens that must not be sampled."""
ALL = -1
"""SGLang's word for no `top_k`."""


class SglangSettings(BaseModel):
    """What SGLang alone takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    gpu_memory_share: float = Field(0.8, gt=0, le=1)
    """Share of the GPU's memory for weights and KV cache (`mem_fraction_static`)."""
    max_concurrent: int = Field(256, ge=1)
    """Most requests at once (`max_running_requests`)."""
    attention_backend: str | None = None
    """SGLang's attention kernels, such as fa3 or flashinfer; None lets it choose."""
    sleep_mode: bool = False
    """Start so that the engine can give its memory up (`enable_memory_saver`)."""


class SglangEngine:
    """A `RolloutEngine`. Many responses at once, keys and values kept between requests, paused between two tokens."""

    Settings = SglangSettings

    @staticmethod
    def abilities(recipe: Recipe) -> frozenset[Ability]:
        """Seeds want SGLang's deterministic mode; one process here takes the weights of one GPU."""
        return frozenset({"cuts"})

    @staticmethod
    def environment(recipe: Recipe, options: SglangSettings) -> dict[str, str]:
        """Log-probabilities of the distribution that was sampled from, temperature applied."""
        return {"SGLANG_RETURN_ORIGINAL_LOGPROB": "0"}

    def __init__(self, name: str, folder: str, recipe: Recipe, options: SglangSettings, seed: int) -> None:
        """See `RolloutEngine`."""
        self.name, self.folder, self.options, self.seed = name, folder, options, seed
        self.policy, self.settings = recipe.policy.model_copy(update={"lora": None}), recipe.rollout
        self.version, self.running = -1, 0
        self.state: State = "new"
        self._engine: Any = None
        self._open = asyncio.Semaphore(2 * options.max_concurrent)

    async def start(self) -> float:
        """See `RolloutEngine`.

        Raises:
            EngineError: SGLang is not installed here, or no GPU was given.
        """
        from policies.model import forbidden_ids, load_processor
        from policies.prompt import PromptEncoder

        began = time.time()
        if not self.settings.gpus:
            raise EngineError(f"{self.name}: SGLang runs on GPUs only: set rollout.gpus=1, or rollout.backend=vllm")
        try:
            import sglang
        except ImportError as error:
            raise EngineError(
                f"{self.name}: SGLang cannot be imported ({error}): install '.[sglang]' in an environment of its own"
            ) from error
        self._encoder = PromptEncoder(load_processor(self.folder, self.policy), self.policy)
        self._bias = {str(token): FORBID for token in forbidden_ids(self.folder, self.policy)}
        attention = self.options.attention_backend
        self._engine = sglang.Engine(
            model_path=self.folder,
            dtype=self.policy.dtype,
            random_seed=self.seed,
            context_length=self.settings.max_model_len,
            mem_fraction_static=self.options.gpu_memory_share,
            max_running_requests=self.options.max_concurrent,
            enable_multimodal=True,
            enable_memory_saver=self.options.sleep_mode,
            trust_remote_code=False,
            **({"attention_backend": attention} if attention else {}),
        )
        self.state = "generating"
        return time.time() - began

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout | Refusal]:
        """See `RolloutEngine`."""
        self.running += (left := len(requests))
        try:
            async for answer in as_they_end(self._answer(request) for request in requests):
                self.running -= 1
                left -= 1
                yield answer
        finally:
            self.running -= left

    async def _answer(self, request: GenerationRequest) -> Rollout | Refusal:
        async with self._open:
            began = time.time()
            try:
                prompt_ids = await asyncio.to_thread(self._encoder.prompt_ids, request.sample)
                images = await asyncio.to_thread(self._encoder.images, _views(request))
                if len(prompt_ids) >= self.settings.max_model_len:
                    raise DataError(
                        f"see rollout.max_model_len: its prompt has {len(prompt_ids)} tokens, and prompt and response "
                        f"may have {self.settings.max_model_len}"
                    )
            except DataError as error:
                return refusal(self.name, request, error)
            said = await self._engine.async_generate(
                prompt=self._encoder.text(request.sample),
                image_data=images or None,
                sampling_params=self._sampling(request.sampling, len(prompt_ids)),
                return_logprob=True,
            )
        return self._rollout(request, prompt_ids, said, began)

    def _sampling(self, sampling: SamplingSettings, prompt: int) -> dict[str, Any]:
        """SGLang's own; a top_k of 1 is how it is greedy."""
        greedy = sampling.temperature == 0
        return {
            "temperature": sampling.temperature or 1.0,
            "top_p": sampling.top_p,
            "top_k": 1 if greedy else sampling.top_k or ALL,
            "max_new_tokens": min(sampling.max_tokens, self.settings.max_model_len - prompt),
            "skip_special_tokens": True,
            **({"logit_bias": self._bias} if self._bias else {}),
        }

    def _rollout(
        self, request: GenerationRequest, prompt_ids: tuple[int, ...], said: dict[str, Any], began: float
    ) -> Rollout:
        about = said["meta_info"]
        reason = about["finish_reason"]["type"]
        if reason not in ("stop", "length"):
            raise EngineError(f"{self.name} ended {request.request_id} by {reason}: {about['finish_reason']}")
        drawn = about["output_token_logprobs"]  # (log-probability, token id, text or None) of each token
        return Rollout(
            request_id=request.request_id,
            sample_id=request.sample.id,
            prompt_ids=prompt_ids,
            token_ids=tuple(int(token) for _, token, *_ in drawn),
            logprobs=tuple(float(logprob) for logprob, *_ in drawn),
            text=said["text"],
            finish_reason="length" if reason == "length" else "stop",
            weight_version=self.version,
            engine=self.name,
            started_at=began,
            finished_at=time.time(),
        )

    async def pause(self) -> None:
        """Between two tokens; keys and values stay."""
        if self.state == "generating":
            from sglang.srt.managers.io_struct import PauseGenerationReqInput

            await self._engine.tokenizer_manager.pause_generation(PauseGenerationReqInput(mode="in_place"))
            self.state = "paused"

    async def resume(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "paused":
            from sglang.srt.managers.io_struct import ContinueGenerationReqInput

            await self._engine.tokenizer_manager.continue_generation(ContinueGenerationReqInput())
            self.state = "generating"

    async def sleep(self) -> None:
        """See `RolloutEngine`; what is in flight would lose its keys, so nothing may be."""
        if self.state not in ("generating", "paused"):
            return
        if not self.options.sleep_mode:
            raise EngineError(f"{self.name} cannot give up its memory: start it with rollout.options.sleep_mode=true")
        if self.running:
            raise EngineError(f"{self.name} sleeps when nothing is in flight: {self.running} requests are")
        from sglang.srt.managers.io_struct import ReleaseMemoryOccupationReqInput

        await self.resume()
        await self._engine.tokenizer_manager.release_memory_occupation(ReleaseMemoryOccupationReqInput())
        self.state = "asleep"

    async def wake(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "asleep":
            from sglang.srt.managers.io_struct import ResumeMemoryOccupationReqInput

            await self._engine.tokenizer_manager.resume_memory_occupation(ResumeMemoryOccupationReqInput())
            self.state = "generating"

    async def join_weight_channel(self, meeting: Meeting, first_member: int) -> None:
        """See `RolloutEngine`; this process joins, and hands over."""
        self._channel: WeightTransport = await asyncio.to_thread(join, meeting, first_member)

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """See `RolloutEngine`; SGLang shows no whole weight, so that none can be compared: the probes tell."""
        refuse_mixed(self.name, self.state, self.running)
        receipt = await asyncio.wait_for(self._install(buckets), timeout_s)
        await self.reset_caches()
        self.version = version
        return [receipt]

    async def _install(self, buckets: list[Bucket]) -> Receipt:
        from sglang.srt.managers.io_struct import UpdateWeightsFromTensorReqInput

        from actors.sync.receiver import Arrival

        arrival = Arrival(self._channel, buckets)
        arriving = iter(arrival)
        for bucket in buckets:
            named = await asyncio.to_thread(lambda tensors: list(islice(arriving, tensors)), len(bucket.names))
            parts = self._engine._serialize_tensors_per_rank(named, None)
            asked = UpdateWeightsFromTensorReqInput(serialized_named_tensors=parts, flush_cache=False)
            took, said = await self._engine.tokenizer_manager.update_weights_from_tensor(asked)
            if not took:
                raise EngineError(f"{self.name} did not take new weights: {said}")
        return arrival.compared({})

    async def reset_caches(self) -> None:
        """See `RolloutEngine`."""
        flushed = await self._engine.tokenizer_manager.flush_cache()
        if not flushed.success:
            raise EngineError(f"{self.name} did not forget what it had computed: requests are in flight")

    async def health(self) -> Health:
        """See `RolloutEngine`."""
        return Health(self.state, self.version, self.running)

    async def stop(self) -> None:
        """See `RolloutEngine`."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.shutdown)
            self._engine = None
        self.state = "stopped"


def _views(request: GenerationRequest) -> Any:
    from policies.views import views_of

    return views_of(request.sample)
