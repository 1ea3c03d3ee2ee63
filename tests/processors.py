"""The numerical and engine tests under every kernel path that this processor has: `make test-processors`.

torch picks its kernels by ATEN_CPU_CAPABILITY, oneDNN by ONEDNN_MAX_CPU_ISA: one machine can stand for older ones.
Prints a line for each path; exit code 1 when a test failed under one of them. `--list` prints the paths alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ATEN = {"default": (), "avx2": ("avx2",), "avx512": ("avx512f", "avx512bw", "avx512vl", "avx512dq")}
"""torch's kernels to the processor flags that they need."""
ONEDNN = {
    "AVX2": ("avx2",),
    "AVX512_CORE": ("avx512f", "avx512bw", "avx512vl", "avx512dq"),
    "AVX512_CORE_BF16": ("avx512_bf16",),
    "AVX512_CORE_AMX": ("amx_tile", "amx_bf16"),
}
"""oneDNN's instruction sets to the processor flags that they need."""
TESTS = (
    "tests/unit/test_advantages.py",
    "tests/unit/test_batch.py",
    "tests/unit/test_clip_model.py",
    "tests/unit/test_credit.py",
    "tests/unit/test_families.py",
    "tests/unit/test_kl.py",
    "tests/unit/test_losses.py",
    "tests/unit/test_peer_advantages.py",
    "tests/unit/test_peer_formulas.py",
    "tests/unit/test_peers.py",
    "tests/unit/test_tiny_policy.py",
    "tests/unit/test_weight_sync.py",
    "tests/integration/test_engine_images.py",
    "tests/integration/test_engine_logprobs.py",
    "tests/integration/test_learner.py",
    "tests/integration/test_run.py",
)
"""What computes with a processor's kernels."""
LIMIT_S = 3600.0
"""Longest time for the tests of one path."""


def flags_of_processor() -> set[str]:
    """The processor's feature flags, as Linux names them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def paths(flags: set[str]) -> list[dict[str, str]]:
    """The environment variables of every kernel path that a processor with these flags has."""
    return [
        {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn}
        for aten, needs in ATEN.items()
        for onednn, needed in ONEDNN.items()
        if flags.issuperset((*needs, *needed))
    ]


def main(arguments: list[str]) -> int:
    """Run the tests under every path; further arguments go to pytest."""
    chosen = paths(flags_of_processor())
    if arguments == ["--list"]:
        print(*(json.dumps(path) for path in chosen), sep="\n")
        return 0
    failed = 0
    for path in chosen:
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", *arguments, *TESTS]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | path, capture_output=True, text=True, timeout=LIMIT_S)
        failed += done.returncode != 0
        name = " ".join(f"{key}={value}" for key, value in path.items())
        summary = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:]
        print(f"{name}: {' '.join(summary)} ({time.monotonic() - began:.0f} s)", flush=True)
        print(*(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), sep="\n", end="")
    print(f"{len(chosen) - failed} of {len(chosen)} kernel paths passed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
