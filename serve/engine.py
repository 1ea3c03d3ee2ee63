"""The engine of the endpoint: a finished policy in vLLM's AsyncLLM, asked with chat messages and decoded images.

Never updates weights; the engine that does is `actors/`'.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from actors.rollout.talk import TalkPiece, TalkRequest, talk
from actors.rollout.vllm_engine import FORBID, due_arguments, due_extra, vllm_settings
from policies.model import load_processor, placeholder_ids
from policies.patches import patch_arguments
from policies.vllm_environment import compact_json, seedable, spread_over
from recipe import Recipe
from serve.conversation import ConversationReader


class PolicyEngine:
    """A policy folder under vLLM, with the prompt format, dtype and image size of the recipe that trained it."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        """Load the policy; takes seconds for the tiny one, minutes for a large one.

        The process must have been started with `policies.vllm_environment`.
        """
        from transformers import AutoConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        trained = recipe.policy.model_copy(update={"revision": None})  # which names a revision of what RL began with
        processor, config = load_processor(folder, trained), AutoConfig.from_pretrained(folder, trust_remote_code=False)
        self._bias, self._extra = dict.fromkeys(placeholder_ids(config), FORBID), due_extra(recipe.policy)
        patches = patch_arguments(processor.image_processor, trained.image_patches)
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**_engine_arguments(folder, recipe), mm_processor_kwargs=patches or None)
        )
        self.reader = ConversationReader(
            processor, config, recipe.policy, recipe.rollout.max_model_len, int(recipe.serve.max_megapixels * 1e6)
        )

    def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        """Generate one answer piece by piece; closing the iterator aborts it.

        Raises:
            DataError: the prompt is too long for the model, or its answer cannot be made to fit the schema.
        """
        return talk(self._llm, request, self._bias, self._extra)

    async def check(self) -> None:
        """Raises vLLM's EngineDeadError when the engine process is gone."""
        await self._llm.check_health()

    def close(self) -> None:
        """Stop the engine process."""
        self._llm.shutdown()


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
        "logprobs_mode": "processed_logprobs",
        "disable_log_stats": True,
        **compact_json(),
        **due_arguments(recipe.policy),
        **seedable(rollout.gpus, rollout.max_model_len),
    }
