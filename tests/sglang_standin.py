"""A stand-in for SGLang 0.5.23, which cannot start without a GPU: the shapes of its requests and responses, no model.

It answers every prompt with the same tokens, keeps what it is given, and refuses what SGLang's classes would refuse: an
unknown argument of `Engine`, a sampling parameter that there is not, a field that a request does not have.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, NamedTuple

ENGINE_ARGUMENTS = {
    "model_path", "dtype", "random_seed", "context_length", "mem_fraction_static", "max_running_requests",
    "enable_multimodal", "enable_memory_saver", "trust_remote_code", "attention_backend", "log_level",
}  # fmt: skip
SAMPLING_PARAMETERS = {
    "max_new_tokens", "stop", "stop_token_ids", "temperature", "top_p", "top_k", "min_p", "n", "logit_bias",
    "skip_special_tokens", "sampling_seed", "ignore_eos",
}  # fmt: skip
TOKENS = ((-0.25, 7, None), (-0.5, 2, None))


@dataclass(kw_only=True)
class PauseGenerationReqInput:
    mode: Literal["abort", "retract", "in_place"] = "abort"


@dataclass(kw_only=True)
class ContinueGenerationReqInput:
    torch_empty_cache: bool = True


@dataclass(kw_only=True)
class ReleaseMemoryOccupationReqInput:
    tags: list[str] | None = None


@dataclass(kw_only=True)
class ResumeMemoryOccupationReqInput:
    tags: list[str] | None = None


@dataclass(kw_only=True)
class UpdateWeightsFromTensorReqInput:
    serialized_named_tensors: list[Any]
    load_format: str | None = None
    flush_cache: bool = True


class Flushed(NamedTuple):
    success: bool


class TokenizerManager:
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.takes = True

    async def pause_generation(self, obj: PauseGenerationReqInput) -> None:
        self.calls.append(("pause", obj.mode))

    async def continue_generation(self, obj: ContinueGenerationReqInput) -> None:
        self.calls.append("continue")

    async def release_memory_occupation(self, obj: ReleaseMemoryOccupationReqInput, request: Any = None) -> None:
        self.calls.append("release")

    async def resume_memory_occupation(self, obj: ResumeMemoryOccupationReqInput, request: Any = None) -> None:
        self.calls.append("resume memory")

    async def update_weights_from_tensor(
        self, obj: UpdateWeightsFromTensorReqInput, request: Any = None
    ) -> tuple[bool, str]:
        (named,) = obj.serialized_named_tensors
        self.calls.append(("update", [name for name, _ in named], obj.flush_cache))
        return self.takes, "Success." if self.takes else "Failed to load weights: shape mismatch"

    async def flush_cache(self, timeout_s: float | None = None) -> Flushed:
        self.calls.append("flush")
        return Flushed(True)


class Engine:
    made: Engine

    def __init__(self, **arguments: Any) -> None:
        assert not (unknown := arguments.keys() - ENGINE_ARGUMENTS), unknown
        self.arguments, self.tokenizer_manager, self.asked = arguments, TokenizerManager(), list[dict[str, Any]]()
        Engine.made = self

    async def async_generate(
        self,
        prompt: str | None = None,
        sampling_params: dict[str, Any] | None = None,
        input_ids: list[int] | None = None,
        image_data: Any = None,
        return_logprob: bool = False,
        rid: str | None = None,
    ) -> dict[str, Any]:
        sampling = sampling_params or {}
        assert not (unknown := sampling.keys() - SAMPLING_PARAMETERS), unknown
        self.asked.append({"prompt": prompt, "images": image_data, **sampling})
        tokens = TOKENS[: sampling["max_new_tokens"]]
        whole = len(tokens) == len(TOKENS)
        reason = {"type": "stop", "matched": 2} if whole else {"type": "length", "length": len(tokens)}
        about = {"id": rid or "r", "finish_reason": reason, "completion_tokens": len(tokens)}
        if return_logprob:
            about["output_token_logprobs"] = list(tokens)
        return {"text": "Yes.", "output_ids": [token for _, token, _ in tokens], "meta_info": about}

    def _serialize_tensors_per_rank(self, tensors: Any, load_format: str | None) -> list[Any]:
        return [tensors]

    def shutdown(self) -> None:
        self.tokenizer_manager.calls.append("shutdown")


def install() -> dict[str, ModuleType]:
    """Modules under SGLang's names, for `sys.modules`."""
    names = ("sglang", "sglang.srt", "sglang.srt.managers", "sglang.srt.managers.io_struct")
    modules = {name: ModuleType(name) for name in names}
    modules["sglang"].Engine = Engine  # type: ignore[attr-defined]
    here = sys.modules[__name__]
    for name in dir(here):
        if name.endswith("ReqInput"):
            setattr(modules[names[-1]], name, getattr(here, name))
    return modules
