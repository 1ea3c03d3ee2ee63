"""The environment in which a process may import vLLM, and arguments of every engine. vLLM is not imported here."""

from __future__ import annotations

from typing import Any

TOKENS_AT_ONCE = 16_384
"""Tokens that vLLM takes in one step on CPU, where each prompt is taken whole."""


def vllm_environment(threads: int | None, cpus: float, memory_gib: float) -> dict[str, str]:
    """The environment variables vLLM reads when it is imported.

    Args:
        threads: compute threads on CPU; None takes `cpus`.
        cpus: CPUs reserved for the engine.
        memory_gib: size of its KV cache on CPU.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(memory_gib))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one worker runs inside the engine core: no third process that polls
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": str(threads or max(1, int(cpus))),
    }


def spread_over(gpus: int) -> dict[str, Any]:
    """Arguments of an engine whose model is spread over as many GPUs of its machine.

    Inside a placement group vLLM would take its Ray executor, which wants a bundle for every GPU and refuses the one
    that the engine's actor has. The processes of this one inherit the actor's `CUDA_VISIBLE_DEVICES` and path.
    """
    return {"tensor_parallel_size": gpus} | ({"distributed_executor_backend": "mp"} if gpus > 1 else {})


def seedable(gpus: float, max_model_len: int) -> dict[str, Any]:
    """Arguments with which an engine takes seeded requests: on CPU no prompt may be taken in parts.

    vLLM samples at the end of every part, throws the token away and sets the generator back, and torch's CPU generators
    have no offset to set: the engine dies (`gpu_model_runner.py`, `discard_sampled_tokens_req_indices`).
    """
    if gpus:
        return {}
    return {"enable_chunked_prefill": False, "max_num_batched_tokens": max(TOKENS_AT_ONCE, max_model_len)}


def compact_json() -> dict[str, Any]:
    """Arguments of an engine that is asked for JSON by a schema, without white space between the fields.

    A model that may write white space there can write nothing else until its cap.
    """
    return {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}
