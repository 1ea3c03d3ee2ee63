"""`VllmEngine`: a rollout engine on vLLM's AsyncLLM, made to run as a Ray actor.

It streams each response the moment it ends, and takes new weights in place. It knows prompts and sampling; rewards
and learning are not its business.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from actors.rollout.rollout import GenerationRequest, Rollout, SamplingSettings
from actors.settings import RolloutSettings
from actors.sync.receiver import Receipt
from actors.sync.transport import Bucket, Meeting
from actors.waiting import as_they_end
from data.errors import DataError
from policies.lora import adapter_config
from policies.model import forbidden_ids, load_processor
from policies.patches import patch_arguments
from policies.prompt import PromptEncoder
from policies.settings import LoraSettings, PolicySettings
from policies.views import views_of

FORBID = -100.0
"""Logit bias of ids that must not be sampled: the strongest vLLM takes, a probability of about e-100."""

ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM makes room for."""


def adapter_arguments(lora: LoraSettings | None) -> dict[str, Any]:
    """vLLM's settings for one adapter at a time; none where the engine takes whole weights."""
    if lora is None:
        return {}
    rank = next((known for known in ADAPTER_RANKS if known >= lora.rank), lora.rank)
    return {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}


PROMPTS_AHEAD = 2
"""Prompts with vLLM for each that it decodes at once, so that the next are ready."""


class VllmEngine:
    """One engine. Responses carry the version of the weights that produced them."""

    worker_extension = "actors.sync.receiver.WeightReceiver"

    def __init__(self, name: str, folder: str, policy: PolicySettings, settings: RolloutSettings, seed: int) -> None:
        """Remember what to load; `start` loads it.

        Args:
            name: how errors and rollouts call this engine.
            folder: checkpoint folder or hub name.
            policy: dtype, revision, image size and prompt settings.
            settings: engine settings.
            seed: of the sampling of all requests that name none of their own.
        """
        self.name, self.folder, self.policy, self.settings, self.seed = name, folder, policy, settings, seed
        self.version = -1
        processor = load_processor(folder, policy)
        self._encoder = PromptEncoder(processor, policy)
        self._patches = patch_arguments(processor.image_processor, policy.image_patches)
        self._lora = policy.lora if settings.adapters == "apart" else None
        self._adapter: Any = None
        self._llm: Any = None
        # Prompts are built, and hold their images, only when their turn is near.
        self._open = asyncio.Semaphore(PROMPTS_AHEAD * settings.max_concurrent)
        self._bias = dict.fromkeys(forbidden_ids(folder, policy), FORBID)

    async def start(self) -> float:
        """Load the model; returns the seconds it took."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        began = time.time()
        arguments = AsyncEngineArgs(
            model=self.folder,
            revision=self.policy.revision,
            dtype=self.policy.dtype,
            seed=self.seed,
            tensor_parallel_size=self.settings.tensor_parallel,
            enforce_eager=not self.settings.compile,
            max_model_len=self.settings.max_model_len,
            max_num_seqs=self.settings.max_concurrent,
            gpu_memory_utilization=self.settings.gpu_memory_share,
            limit_mm_per_prompt={"image": self.settings.max_images or self.policy.images_per_prompt},
            mm_processor_kwargs=self._patches or None,
            logprobs_mode="processed_logprobs",
            worker_extension_cls=self.worker_extension,
            disable_log_stats=True,
            **adapter_arguments(self._lora),
        )
        self._llm = AsyncLLM.from_engine_args(arguments)
        return time.time() - began

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout]:
        """Yield one rollout per request, in the order in which they end."""
        async for rollout in as_they_end(map(self._respond, requests)):
            yield rollout

    async def _respond(self, request: GenerationRequest) -> Rollout:
        async with self._open:
            return await self._answer(request)

    async def _answer(self, request: GenerationRequest) -> Rollout:
        from vllm.exceptions import VLLMClientError

        began = time.time()
        views = views_of(request.sample)
        prompt = {
            "prompt": self._encoder.text(request.sample),
            "multi_modal_data": {"image": self._encoder.images(views)},
            # Naming the images spares hashing their pixels for each of the group's requests.
            "multi_modal_uuids": {"image": self._encoder.image_ids(views)},
        }
        final: Any = None
        sampling, adapter = self._sampling(request.sampling), self._adapter
        try:
            async for output in self._llm.generate(prompt, sampling, request.request_id, lora_request=adapter):
                final = output
        except VLLMClientError as error:
            raise DataError(
                f"{self.name} refuses sample {request.sample.id}, see rollout.max_model_len: {error}"
            ) from error
        response = final.outputs[0]
        return Rollout(
            request_id=request.request_id,
            sample_id=request.sample.id,
            prompt_ids=tuple(final.prompt_token_ids),
            token_ids=tuple(response.token_ids),
            logprobs=tuple(
                chosen[token].logprob for token, chosen in zip(response.token_ids, response.logprobs, strict=True)
            ),
            text=response.text,
            finish_reason="length" if response.finish_reason == "length" else "stop",
            weight_version=self.version,
            engine=self.name,
            started_at=began,
            finished_at=time.time(),
        )

    def _sampling(self, sampling: SamplingSettings) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            logprobs=0,
            logit_bias=self._bias or None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def join_weight_channel(self, meeting: Meeting, first_rank: int) -> None:
        """Join the broadcast group with all workers of this engine."""
        await self._llm.collective_rpc(
            "join_weight_channel", timeout=meeting.timeout_s, args=(asdict(meeting), first_rank)
        )

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """Install a new weight version in place; one receipt per worker. Nothing may be in flight."""
        sent = [asdict(bucket) for bucket in buckets]
        if self._lora is None:
            receipts = await self._llm.collective_rpc("receive_weights", timeout=timeout_s, args=(sent,))
        else:
            receipts = await self._receive_adapter(version, sent, self._lora, timeout_s)
        await self.reset_caches()
        self.version = version
        return [Receipt(**receipt) for receipt in receipts]

    async def _receive_adapter(
        self, version: int, sent: list[dict[str, Any]], lora: LoraSettings, timeout_s: float
    ) -> list[Any]:
        """Take adapters in place of those that are there; vLLM reads them from a folder, which is gone afterwards."""
        from vllm.lora.request import LoRARequest

        with tempfile.TemporaryDirectory(prefix="adapter-") as folder:
            receipts = await self._llm.collective_rpc(
                "receive_adapter", timeout=timeout_s, args=(sent, folder, adapter_config(lora))
            )
            if self._adapter is not None:
                await self._llm.remove_lora(self._adapter.lora_int_id)
            number = self._adapter.lora_int_id + 1 if self._adapter is not None else 1
            self._adapter = LoRARequest(f"version-{version}-{number}", number, folder)
            await self._llm.add_lora(self._adapter)
        return receipts

    async def reset_caches(self) -> None:
        """Forget everything the old weights computed: prefix blocks, image embeddings, multimodal entries."""
        await self._llm.reset_prefix_cache()
        await self._llm.reset_encoder_cache()
        await self._llm.reset_mm_cache()

    async def stop(self) -> None:
        """Shut the engine's processes down, if they came up."""
        if self._llm is not None:
            self._llm.shutdown()
