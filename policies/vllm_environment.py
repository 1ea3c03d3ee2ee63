"""The environment in which a process may import vLLM. Names only: vLLM itself is not imported here."""

from __future__ import annotations

from typing import Protocol


class Compute(Protocol):
    """What an engine's settings say of its processors."""

    @property
    def threads(self) -> int | None:
        """Compute threads on CPU; None takes `cpus`."""

    @property
    def cpus(self) -> float:
        """CPUs reserved for the engine."""


def vllm_environment(settings: Compute, memory_gib: float) -> dict[str, str]:
    """The environment variables vLLM reads when it is imported; `memory_gib` is the size of its KV cache on CPU."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(memory_gib))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one worker runs inside the engine core: no third process that polls
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": str(settings.threads or max(1, int(settings.cpus))),
    }
