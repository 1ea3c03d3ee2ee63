"""`AdapterEngine`: a vLLM engine that is asked in tokens, and under many adapters of one base at once.

The base never changes, and each adapter lies in a folder that never changes either, so there are no weights to sync:
what an engine answers depends on nothing but the request. A lost engine is started again, and asked again.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from actors.rollout.adapter_folder import AdapterFolder
from actors.rollout.talk import TalkPiece, TalkRequest, talk
from actors.rollout.vllm_engine import ADAPTER_RANKS, VllmEngine, VllmSettings
from actors.supervision.waiting import as_they_end
from data.errors import DataError
from policies.views import load_frame
from policies.vllm_environment import compact_json
from recipe import Recipe


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Some sequences wanted after one prompt."""

    request_id: str
    token_ids: tuple[int, ...]
    """The prompt, with one placeholder for each image."""
    images: tuple[tuple[str, str], ...]
    """A name for the pixels of each image, and its path."""
    adapter: AdapterFolder | None
    """None: the base alone."""
    count: int = 1
    max_tokens: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int | None = None
    stop_texts: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    ignore_end: bool = False
    """Go on behind the token that ends a turn."""
    prompt_logprobs: bool = False
    """Also score the prompt's own tokens."""
    scored_last: int | None = None
    """How many of them are wanted, at the end; None: all. Left to who asked."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One sampled sequence, with the log-probabilities of the distribution that it was sampled from."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stopped: bool
    """False: it ended for want of room."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What became of a request; `refused` says in one sentence why it cannot be answered."""

    request_id: str
    sequences: tuple[TokenSequence, ...] = ()
    prompt_logprobs: tuple[float, ...] | None = None
    """One for each position of the prompt, images expanded; NaN where nothing comes before."""
    cached: int = 0
    """Positions of the prompt that were not computed again."""
    refused: str | None = None


class AdapterEngine(VllmEngine):
    """See `RolloutEngine` for how it starts, says how it is, and stops."""

    def __init__(self, name: str, folder: str, recipe: Recipe, options: VllmSettings, seed: int) -> None:
        """As `VllmEngine`; `serve.training` of the recipe says how many adapters it holds."""
        super().__init__(name, folder, recipe, options, seed)
        self._service = recipe.serve.training

    def _own_arguments(self) -> dict[str, Any]:
        rank = next(known for known in ADAPTER_RANKS if known >= self._service.max_rank)
        held = self._service.engine_adapters
        adapters = {"enable_lora": True, "max_lora_rank": rank, "max_loras": min(held, 4), "max_cpu_loras": held}
        return adapters | compact_json()

    async def sample(self, requests: Sequence[TokenRequest]) -> AsyncIterator[TokenAnswer]:
        """Yield one answer for each request, each the moment it is whole."""
        async for answer in as_they_end(map(self._sampled, requests)):
            yield answer

    async def talk(self, request: TalkRequest) -> AsyncIterator[TalkPiece]:
        """An answer piece by piece; raises `DataError` where there can be none."""
        self.running += 1
        try:
            async with aclosing(talk(self._llm, request, self._bias)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self.running -= 1

    async def abandon(self, request_id: str) -> None:
        """Stop an answer that nobody waits for any more."""
        await self._llm.abort(request_id)

    async def _sampled(self, request: TokenRequest) -> TokenAnswer:
        self.running += 1
        try:
            async with self._open:
                return await self._ask(request)
        except DataError as error:
            return TokenAnswer(request.request_id, refused=str(error))
        finally:
            self.running -= 1

    async def _ask(self, request: TokenRequest) -> TokenAnswer:
        from vllm.exceptions import VLLMClientError
        from vllm.lora.request import LoRARequest

        prompt: dict[str, Any] = {"prompt_token_ids": list(request.token_ids)}
        if request.images:
            size = self.policy.image_size
            prompt["multi_modal_data"] = {"image": [load_frame(path, size) for _, path in request.images]}
            prompt["multi_modal_uuids"] = {"image": [name for name, _ in request.images]}
        held, final = request.adapter, None
        adapter = held and LoRARequest(f"adapter-{held.number}", held.number, held.folder)
        try:
            async for output in self._llm.generate(
                prompt, self._asked(request), request.request_id, lora_request=adapter
            ):
                final = output
        except (VLLMClientError, ValueError) as error:
            raise DataError(str(error)) from error
        if final is None:
            raise DataError("the engine gave no answer")
        scored = final.prompt_logprobs if request.prompt_logprobs else None
        return TokenAnswer(
            request.request_id,
            tuple(map(_sequence, sorted(final.outputs, key=lambda one: one.index))),
            scored and tuple(_prompt_logprobs(final.prompt_token_ids, scored)),
            int(final.num_cached_tokens or 0),
        )

    def _asked(self, request: TokenRequest) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            n=request.count,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            max_tokens=request.max_tokens,
            seed=request.seed,
            stop=list(request.stop_texts),
            stop_token_ids=list(request.stop_ids),
            ignore_eos=request.ignore_end,
            logprobs=0,
            prompt_logprobs=0 if request.prompt_logprobs else None,
            logit_bias=self._bias or None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _sequence(output: Any) -> TokenSequence:
    pairs = zip(output.token_ids, output.logprobs, strict=True)
    logprobs = tuple(float(chosen[token].logprob) for token, chosen in pairs)
    return TokenSequence(tuple(output.token_ids), logprobs, output.finish_reason != "length")


def _prompt_logprobs(token_ids: Sequence[int], scored: Sequence[Any]) -> list[float]:
    return [math.nan if at is None else float(at[token].logprob) for token, at in zip(token_ids, scored, strict=True)]
