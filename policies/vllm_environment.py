"""The environment in which a process may import vLLM. Names only: vLLM itself is not imported here."""

from __future__ import annotations


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
