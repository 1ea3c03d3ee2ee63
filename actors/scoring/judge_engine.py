"""`JudgeEngine`: a chat model in vLLM that fills judges' sheets, made to run as a Ray actor.

It knows chats and schemas; what a sheet means is not its business.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from actors.supervision.waiting import as_they_end, one_line
from policies.vllm_environment import compact_json, seedable, spread_over
from rewards.settings import JudgeSettings
from rewards.untrusted import shielded


@dataclass(frozen=True, slots=True)
class SheetRequest:
    """A chat to be answered by JSON of a schema."""

    messages: list[dict[str, str]]
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SheetReply:
    """The reply to a request, or why the model will not take it; and what its prompt cost."""

    text: str
    refused: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the prefix cache served."""


class JudgeEngine:
    """One engine. The rubric comes first in every prompt, so its keys and values are computed once."""

    def __init__(self, folder: str, settings: JudgeSettings) -> None:
        """Remember what to load; `start` loads it."""
        self.folder, self.settings = folder, settings
        self._numbers = itertools.count()

    async def start(self) -> float:
        """Load the model; returns the seconds it took."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        began = time.time()
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_arguments(self.folder, self.settings)))
        tokenizer = self._llm.get_tokenizer()
        self._tokenizer = await tokenizer if asyncio.iscoroutine(tokenizer) else tokenizer
        return time.time() - began

    async def replies(self, requests: Sequence[SheetRequest]) -> AsyncIterator[tuple[int, SheetReply]]:
        """Yield each request's position and reply, in the order in which they end."""

        async def one(position: int, request: SheetRequest) -> tuple[int, SheetReply]:
            return position, await self.reply(request)

        async for reply in as_they_end(itertools.starmap(one, enumerate(requests))):
            yield reply

    async def reply(self, request: SheetRequest) -> SheetReply:
        """One reply; a chat that the model cannot take is refused, and the engine lives on."""
        # The answer is a stranger's text: none of it may become a special token of this very judge.
        messages = [turn | {"content": shielded(turn["content"], self._tokenizer)} for turn in request.messages]
        chat = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt_ids = self._tokenizer(chat, add_special_tokens=False).input_ids
        room = self.settings.max_model_len - self.settings.max_tokens
        if len(prompt_ids) > room:
            asked = f"a prompt of {len(prompt_ids)} tokens, and reward.judge.max_model_len leaves room for {room}"
            return SheetReply("", refused=asked)
        parameters, final = sampling(self.settings, request.schema), None
        prompt, name = {"prompt_token_ids": prompt_ids}, f"j{next(self._numbers)}"
        try:
            async for output in self._llm.generate(prompt, parameters, name):
                final = output
        except ValueError as error:  # how vLLM refuses one request; a dead engine raises something else
            return SheetReply("", refused=one_line(error))
        assert final is not None, "vLLM ends every request with an output"
        return SheetReply(final.outputs[0].text, None, len(prompt_ids), final.num_cached_tokens or 0)

    async def stop(self) -> None:
        """Shut the engine's processes down."""
        self._llm.shutdown()
        del self._llm  # now: while Python ends, vLLM's own clean-up fails


def engine_arguments(folder: str, settings: JudgeSettings) -> dict[str, Any]:
    """What vLLM is started with."""
    return {
        "model": folder,
        "revision": settings.revision,
        "dtype": settings.dtype,
        **spread_over(settings.tensor_parallel),
        "enforce_eager": settings.gpus == 0,  # compiling takes longer on CPU than a small judge saves
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_concurrent,
        "gpu_memory_utilization": settings.gpu_memory_share,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **compact_json(),
        **({"quantization": "bitsandbytes"} if settings.four_bit else {}),
        **(seedable(settings.gpus, settings.max_model_len) if settings.temperature else {}),
    }


def sampling(settings: JudgeSettings, schema: dict[str, Any]) -> Any:
    """vLLM's sampling parameters: the recipe's, held to the sheet's schema."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
        structured_outputs=StructuredOutputsParams(json=schema),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
