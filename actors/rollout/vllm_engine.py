"""`VllmEngine`: a rollout engine on vLLM's AsyncLLM, made to run as a Ray actor.

It streams each response the moment it ends, and takes new weights in place. It knows prompts and sampling; rewards
and learning are not its business.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from actors.rollout.engine import Ability, Health, State, engine_of, in_flight_of, refusal, refuse_mixed
from actors.rollout.shared_prompts import SharedPrompts
from actors.rollout.swap import ABORTED, cache_names, hold, spans_of
from actors.rollout.vllm_times import engine_times, timing_only
from actors.supervision.waiting import as_they_end
from actors.sync.transport import Bucket, Meeting, Receipt
from data.errors import DataError
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from failures import EngineError
from policies.heads.files import DUE_AT_ONCE, DUE_TOKENS
from policies.settings import LoraSettings, PolicySettings
from policies.views import views_of
from policies.vllm_environment import seedable, spread_over, vllm_environment
from recipe import Recipe

FORBID = -100.0
"""Logit bias of ids that must not be sampled: the strongest vLLM takes, a probability of about e-100."""

ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM makes room for."""

PROMPTS_AHEAD = 2
"""Prompts with vLLM for each that it decodes at once, so that the next are ready."""


class VllmSettings(BaseModel):
    """`rollout.options` of vLLM."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    compile: bool | None = None
    """Let vLLM compile the model, on GPUs into CUDA graphs: faster decoding for a slower start; None: on GPUs alone."""
    max_concurrent: int = Field(256, ge=1)
    """Sequences an engine decodes at once."""
    memory_gib: float = Field(1.0, gt=0)
    """KV cache of an engine on CPU, in GiB."""
    gpu_memory_share: float = Field(0.85, gt=0, le=1)
    """Share of a GPU's memory that an engine may take."""
    gpu_cache_gib: float | None = Field(None, gt=0)
    """KV cache of an engine on a GPU, in GiB; None: what its share leaves. An engine that shares its GPU must have one:
    vLLM would measure what is left, and take the learner's memory, which comes and goes meanwhile, for its own."""
    sleep_mode: bool = False
    """Let an engine on a GPU give its memory up while it sleeps; vLLM then brings an allocator of its own."""

    def eager(self, gpus: float) -> bool:
        """Whether the model runs as it is written, neither compiled nor in CUDA graphs."""
        return gpus == 0 if self.compile is None else not self.compile


def vllm_settings(recipe: Recipe) -> VllmSettings:
    """vLLM's options of a recipe, for the endpoint, which is vLLM whatever the engines are: then its defaults.

    Raises:
        ExtensionError: as `engine_of`.
    """
    options = engine_of(recipe).options
    return options if isinstance(options, VllmSettings) else VllmSettings()


def adapter_arguments(lora: LoraSettings | None) -> dict[str, Any]:
    """vLLM's settings for one adapter at a time; none where the engine takes whole weights."""
    if lora is None:
        return {}
    rank = next((known for known in ADAPTER_RANKS if known >= lora.rank), lora.rank)
    return {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}


def due_arguments(policy: PolicySettings) -> dict[str, Any]:
    """vLLM's settings where only driving tokens that are due may be sampled."""
    return {} if due_extra(policy) is None else {"logits_processors": [DUE_TOKENS]}


def due_extra(policy: PolicySettings) -> dict[str, Any] | None:
    """What a request says to that end; None where anything may be sampled."""
    if policy.heads is None or policy.heads.answer == "free":
        return None
    return {DUE_AT_ONCE: policy.heads.answer == "tokens"}


class VllmEngine:
    """A `RolloutEngine`. Many responses at once, images and keys kept between requests, paused between two tokens."""

    Settings = VllmSettings
    worker_extension = "actors.sync.receiver.WeightReceiver"

    @staticmethod
    def abilities(recipe: Recipe) -> frozenset[Ability]:
        """All there are; adapters that are apart are not swapped between tokens."""
        swaps: frozenset[Ability] = frozenset({"swaps"} if recipe.rollout.adapters == "merged" else ())
        return swaps | {"adapters", "tensor_parallel", "seeds", "cuts"}

    @staticmethod
    def environment(recipe: Recipe, options: VllmSettings) -> dict[str, str]:
        """See `vllm_environment`."""
        return vllm_environment(recipe.rollout.threads, recipe.rollout.cpus, options.memory_gib)

    def __init__(self, name: str, folder: str, recipe: Recipe, options: VllmSettings, seed: int) -> None:
        """See `RolloutEngine`; imports vLLM, which takes as long as everything else that a start does."""
        import vllm.v1.engine.async_llm  # noqa: F401

        self.name, self.folder, self.options, self.seed = name, folder, options, seed
        self.policy, self.settings = recipe.policy, recipe.rollout
        self.version, self.running = -1, 0
        self.state: State = "new"
        self._installed, self._compare_every = 0, recipe.sync.compare_every
        self._in_flight = in_flight_of(recipe, self.abilities(recipe))
        self._lora = self.policy.lora if self.settings.adapters == "apart" else None
        self._adapter: Any = None
        self._llm: Any = None
        # Prompts are built, and hold their images, only when their turn is near.
        self._open = asyncio.Semaphore(PROMPTS_AHEAD * options.max_concurrent)
        # Text and images are prepared beside the event loop, which hands answers on; by one thread, whose caches they
        # are.
        self._preparing = ThreadPoolExecutor(1, "prompts")

    async def start(self) -> float:
        """See `RolloutEngine`."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        from policies.model import forbidden_ids, load_processor
        from policies.patches import patch_arguments
        from policies.prompt import PromptEncoder

        began = time.time()
        processor = load_processor(self.folder, self.policy)
        self._encoder = PromptEncoder(processor, self.policy)
        self._bias = dict.fromkeys(forbidden_ids(self.folder, self.policy), FORBID)
        arguments = AsyncEngineArgs(
            model=self.folder,
            revision=self.policy.revision,
            dtype=self.policy.dtype,
            seed=self.seed,
            enforce_eager=self.options.eager(self.settings.gpus),
            enable_sleep_mode=self._frees_gpu,
            max_model_len=self.settings.max_model_len,
            max_num_seqs=self.options.max_concurrent,
            gpu_memory_utilization=self.options.gpu_memory_share,
            # A group's prompt is processed once as it is; vLLM's two caches of what a processor made would have to see
            # the same requests in the same order.
            mm_processor_cache_gb=0,
            limit_mm_per_prompt={"image": self.settings.max_images or self.policy.images_per_prompt},
            mm_processor_kwargs=patch_arguments(processor.image_processor, self.policy.image_patches) or None,
            logprobs_mode="processed_logprobs",
            worker_extension_cls=self.worker_extension,
            disable_log_stats=True,
            kv_cache_memory_bytes=self._cache_bytes,
            **spread_over(self.settings.tensor_parallel),
            **self._own_arguments(),
            **due_arguments(self.policy),
            **seedable(self.settings.gpus, self.settings.max_model_len),
        )
        self._llm = AsyncLLM.from_engine_args(arguments, stat_loggers=self._stat_loggers())
        self.state = "generating"
        return time.time() - began

    def _stat_loggers(self) -> list[type[Any]]:
        """Where there is one, vLLM times requests."""
        return [timing_only()]

    def _own_arguments(self) -> dict[str, Any]:
        return adapter_arguments(self._lora)

    @property
    def _cache_bytes(self) -> int | None:
        given = self.options.gpu_cache_gib
        return round(given * 2**30) if given and self.settings.gpus > 0 else None

    @property
    def _frees_gpu(self) -> bool:
        return self.options.sleep_mode and self.settings.gpus > 0

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout | Refusal]:
        """See `RolloutEngine`; in the order in which they end."""
        prompts = SharedPrompts(requests, self._prompt)
        async for answer in as_they_end(self._respond(request, prompts) for request in requests):
            yield answer

    async def _respond(self, request: GenerationRequest, prompts: SharedPrompts) -> Rollout | Refusal:
        self.running += 1
        try:
            async with self._open:
                return await self._answer(request, prompts)
        except DataError as error:
            return refusal(self.name, request, error)
        finally:
            self.running -= 1

    def _described(self, sample: DrivingSample) -> dict[str, Any]:
        """A prompt in vLLM's words."""
        views = views_of(sample)
        most, shown = self.settings.max_images or self.policy.images_per_prompt, self._encoder.images(views)
        if len(shown) > most:
            raise DataError(f"it shows {len(shown)} images, and rollout.max_images={most}")
        return {
            "prompt_token_ids": self._encoder.text_ids(sample),
            "multi_modal_data": {"image": shown},
            **cache_names(self._in_flight, self.version, self._encoder.image_ids(views)),
        }

    async def _prompt(self, sample: DrivingSample) -> Any:
        """A prompt as vLLM takes it in, images processed."""
        from vllm.exceptions import VLLMClientError

        described = await asyncio.get_running_loop().run_in_executor(self._preparing, self._described, sample)
        try:
            (prompt,) = await self._llm.renderer.render_cmpl_async([described])
        except VLLMClientError as error:
            raise DataError(f"see rollout.max_model_len: {error}") from error
        return prompt

    async def _answer(self, request: GenerationRequest, prompts: SharedPrompts) -> Rollout:
        from vllm.exceptions import VLLMClientError

        began, prompt, dropped = time.time(), await prompts.take(request.sample), 0
        prepared = time.time() - began
        sampling, adapter = self._sampling(request.sampling), self._adapter
        while True:
            final: Any = None
            try:
                async for output in self._llm.generate(prompt, sampling, request.request_id, lora_request=adapter):
                    final = output
            except VLLMClientError as error:
                raise DataError(f"see rollout.max_model_len: {error}") from error
            if final is None:
                raise EngineError(f"{self.name}: vLLM ended request {request.request_id} without an answer")
            if final.outputs[0].finish_reason != ABORTED:
                break
            dropped += 1  # again, with the weights that came meanwhile
        response = final.outputs[0]
        spans = spans_of(response.weight_versions)
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
            weight_version=min((span.version for span in spans), default=self.version),
            engine=self.name,
            started_at=began,
            finished_at=time.time(),
            weight_spans=spans if len(spans) > 1 else (),
            dropped=dropped,
            times=engine_times(prepared, final.metrics),
        )

    def _sampling(self, sampling: SamplingSettings) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=sampling.seed,
            logprobs=0,
            logit_bias=self._bias or None,
            extra_args=due_extra(self.policy),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def pause(self) -> None:
        """Between two tokens; keys and values stay."""
        if self.state == "generating":
            await self._llm.pause_generation(mode="keep", clear_cache=False)
            self.state = "paused"

    async def resume(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "paused":
            await self._llm.resume_generation()
            self.state = "generating"

    async def sleep(self) -> None:
        """On a GPU, weights go to host memory and the cache is dropped; what is in flight is computed again after."""
        if self.state not in ("generating", "paused"):
            return
        if self.settings.gpus > 0 and not self._frees_gpu:
            raise EngineError(f"{self.name} cannot give up its memory: start it with rollout.options.sleep_mode=true")
        await self._llm.sleep(level=1, mode="keep")
        self.state = "asleep"

    async def wake(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "asleep":
            await self._llm.wake_up()
            self.state = "generating"

    async def join_weight_channel(self, meeting: Meeting, first_member: int) -> None:
        """See `RolloutEngine`."""
        await self._llm.collective_rpc(
            "join_weight_channel", timeout=meeting.timeout_s, args=(asdict(meeting), first_member)
        )

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """See `RolloutEngine`."""
        swaps, was = self._in_flight != "finish", self.state
        refuse_mixed(self.name, self.state, 0 if swaps else self.running)
        if swaps:  # also where nothing runs: requests may arrive meanwhile
            await hold(self._llm, self._in_flight)
            self.state = "paused"
        sent = [asdict(bucket) for bucket in buckets]
        if self._lora is None:
            compare = self._installed % self._compare_every == 0
            receipts = await self._llm.collective_rpc("receive_weights", timeout=timeout_s, args=(sent, compare))
            self._installed += 1
        else:
            receipts = await self._receive_adapter(version, sent, self._lora, timeout_s)
        if not swaps:  # else they were emptied, or their names tell the weights apart
            await self.reset_caches()
        self.version = version
        await self._llm.update_weight_version(str(version))
        if swaps and was == "generating":
            await self.resume()
        return [Receipt(**receipt) for receipt in receipts]

    async def _receive_adapter(
        self, version: int, sent: list[dict[str, Any]], lora: LoraSettings, timeout_s: float
    ) -> list[Any]:
        """Take adapters in place of those that are there; vLLM reads them from a folder, which is gone afterwards."""
        from vllm.lora.request import LoRARequest

        from policies.lora import adapter_config

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
        """Prefix blocks and image embeddings."""
        await self._llm.reset_prefix_cache()
        await self._llm.reset_encoder_cache()

    async def health(self) -> Health:
        """See `RolloutEngine`; raises vLLM's own error where its engine process is gone."""
        if self._llm is not None:
            await self._llm.check_health()
        return Health(self.state, self.version, self.running)

    async def stop(self) -> None:
        """See `RolloutEngine`."""
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self.state = "stopped"
