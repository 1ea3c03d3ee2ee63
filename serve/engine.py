"""The engine of the endpoint: a finished policy in vLLM's AsyncLLM, asked with chat messages and decoded images.

Never updates weights; the engine that does is `actors/`'.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from actors.rollout.vllm_engine import FORBID, due_arguments, due_extra, vllm_settings
from policies.model import forbidden_ids, load_processor
from policies.patches import patch_arguments
from policies.prompt import begins
from policies.special_tokens import SpecialTokens
from policies.views import arrange
from policies.vllm_environment import seedable, spread_over
from recipe import Recipe
from serve.chat import ApiError, ChatRequest, Piece


@dataclass(frozen=True, slots=True)
class Delta:
    """What the engine added to an answer; every delta carries the ids of the prompt."""

    piece: Piece
    prompt_ids: tuple[int, ...]


class PolicyEngine:
    """A policy folder under vLLM, with the prompt format, dtype and image size of the recipe that trained it."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        """Load the policy; takes seconds for the tiny one, minutes for a large one.

        The process must have been started with `policies.vllm_environment`.
        """
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._policy = recipe.policy
        self._default_tokens = min(recipe.rollout.max_tokens, recipe.serve.max_tokens)
        self._default_temperature = recipe.evaluation.temperature
        trained = recipe.policy.model_copy(update={"revision": None})  # which names a revision of what RL began with
        self._processor = load_processor(folder, trained)
        self._bias = dict.fromkeys(forbidden_ids(folder, trained), FORBID)
        self._special = SpecialTokens(self._processor)
        patches = patch_arguments(self._processor.image_processor, trained.image_patches)
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**_engine_arguments(folder, recipe), mm_processor_kwargs=patches or None)
        )

    async def answer(
        self, request: ChatRequest, images: Sequence[Image.Image], request_id: str
    ) -> AsyncGenerator[Delta, None]:
        """Generate one answer piece by piece; closing the iterator aborts it.

        Raises:
            ApiError: the text holds one of the model's special tokens, the prompt is too long for the model, or the
                images are not those that the policy sees.
        """
        from vllm.exceptions import VLLMClientError

        turns, shown = self._turns(request, images)
        prompt: dict[str, Any] = {"prompt_token_ids": self._text_ids(request, turns)}
        if shown:
            prompt["multi_modal_data"] = {"image": shown}
        try:
            async for output in self._llm.generate(prompt, self._sampling(request), request_id):
                new = output.outputs[0]
                yield Delta(Piece(new.text, tuple(new.token_ids), new.finish_reason), tuple(output.prompt_token_ids))
        except (VLLMClientError, ValueError) as error:
            raise ApiError(400, str(error), "invalid_prompt", "messages") from error

    async def check(self) -> None:
        """Raises vLLM's EngineDeadError when the engine process is gone."""
        await self._llm.check_health()

    def close(self) -> None:
        """Stop the engine process."""
        self._llm.shutdown()

    def _turns(
        self, request: ChatRequest, images: Sequence[Image.Image]
    ) -> tuple[list[dict[str, Any]], list[Image.Image]]:
        """The conversation and its images as the policy sees them: those of a message may become one."""
        turns, _ = request.conversation(self._policy.system_prompt)
        waiting, shown = list(images), []
        for turn in turns:
            places = [place for place, part in enumerate(turn["content"]) if part["type"] == "image"]
            if not places:
                continue
            try:
                arranged = arrange(waiting[: len(places)], self._policy)
            except ValueError as error:
                raise ApiError(400, str(error), "invalid_image", "messages") from None
            joined = set(places[len(arranged) :])
            turn["content"] = [part for place, part in enumerate(turn["content"]) if place not in joined]
            shown += arranged
            del waiting[: len(places)]
        return turns, shown

    def _text_ids(self, request: ChatRequest, turns: list[dict[str, Any]]) -> list[int]:
        if (token := self._special.first(request.texts())) is not None:
            # A client's text must not open turns or stand for images.
            raise ApiError(400, f"text may not contain the model's special token {token!r}", None, "messages")
        text = self._processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return list(self._processor.tokenizer(text, **begins(self._processor, text))["input_ids"])

    def _sampling(self, request: ChatRequest) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=self._default_temperature if request.temperature is None else request.temperature,
            top_p=request.top_p,
            max_tokens=request.token_cap or self._default_tokens,
            seed=request.seed,
            stop=request.stop,
            logit_bias=self._bias or None,
            extra_args=due_extra(self._policy),
            output_kind=RequestOutputKind.DELTA,
        )


def _engine_arguments(folder: Path, recipe: Recipe) -> dict[str, Any]:
    rollout, options = recipe.rollout, vllm_settings(recipe)
    return {
        "model": str(folder),
        "dtype": recipe.policy.dtype,
        **spread_over(rollout.tensor_parallel),
        "gpu_memory_utilization": options.gpu_memory_share,
        "enforce_eager": options.eager(rollout.gpus),
        "max_model_len": rollout.max_model_len,
        "max_num_seqs": recipe.serve.max_concurrent,
        "limit_mm_per_prompt": {"image": recipe.serve.max_images},
        "disable_log_stats": True,
        **due_arguments(recipe.policy),
        **seedable(rollout.gpus, rollout.max_model_len),
    }
