"""What log-probabilities in chunks of the vocabulary cost and save: `python -m benchmarks.memory [--steps 11]`.

- Memory: 2,048 positions of width 256 over a vocabulary of 65,536, float32: what forward and backward of their
  log-probabilities add to the process at most (the kernel's own high-water mark), whole and in chunks, each in a
  process of its own; and how far loss and gradient lie apart.
- Time: forward and backward of the learner's policy at the 25 M shape of `benchmarks.learner` (eight responses of 48
  tokens to one prompt, vocabulary 4,096) with either, taking turns; medians.

Prints, last, one JSON object: `chunked_peak_ratio` (of tensors alone; `_with_holes`: with what glibc's heap keeps of
those that were freed), `max_loss_error` and `max_gradient_error` (relative to the loss and
to the norm of the gradient), `step_time_ratio` (chunked over whole).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from benchmarks.learner import Bench, build_model, medians
from policies.vocabulary import VocabularyProjection

ROOT = Path(__file__).resolve().parents[1]
POSITIONS, WIDTH, VOCABULARY = 2048, 256, 65_536
THREADS = 2
FORBIDDEN = [5]
TENSORS_ALONE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc gives a freed tensor back at once. Else its heap keeps holes of what earlier passes freed, and the size of the
process says little about what lives; a GPU's allocator is another one, with a share of its own (`fragments_share` in
`cluster/facts.yaml`). Steps are timed without it, since giving back takes time."""


def whole(head: nn.Linear, hidden_N_D: Tensor, ids_N: Tensor) -> Tensor:
    """The plain way: all logits at once."""
    logits_N_V = nn.functional.linear(hidden_N_D, head.weight, head.bias).float()
    logits_N_V[:, FORBIDDEN] = -torch.inf
    logits_N_V = logits_N_V / 1.0
    return logits_N_V.gather(1, ids_N[:, None])[:, 0] - logits_N_V.logsumexp(1)


def chunked(head: VocabularyProjection, hidden_N_D: Tensor, ids_N: Tensor) -> Tensor:
    """This project's way."""
    logprobs_N: Tensor = head(hidden_N_D, ids_N, 1.0, FORBIDDEN)
    return logprobs_N


WAYS: dict[str, Callable[..., Tensor]] = {"whole": whole, "chunked": chunked}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=11, help="timed steps of each way")
    parser.add_argument("--peak", choices=WAYS, help="measure the memory of this way alone")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.peak:
        print(json.dumps(peak_mib(WAYS[options.peak])))
        return
    figures: dict[str, float] = {}
    for suffix, allocator in (("", TENSORS_ALONE), ("_with_holes", dict[str, str]())):
        peaks = {way: _in_a_process(way, allocator) for way in WAYS}
        figures |= {f"{way}_peak_mib{suffix}": peak for way, peak in peaks.items()}
        figures[f"chunked_peak_ratio{suffix}"] = round(peaks["chunked"] / peaks["whole"], 3)
    print(json.dumps(figures | errors() | step_times(options.steps)))


def _in_a_process(way: str, allocator: Mapping[str, str]) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--peak", way]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)} | dict(allocator)
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _made() -> tuple[VocabularyProjection, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    head = VocabularyProjection(WIDTH, VOCABULARY, bias=False)
    hidden_N_D = torch.randn(POSITIONS, WIDTH, requires_grad=True)
    return head, hidden_N_D, torch.randint(10, VOCABULARY, (POSITIONS,)), torch.randn(POSITIONS)


def peak_mib(way: Callable[..., Tensor]) -> float:
    """What a forward and backward pass adds to this process at most."""
    head, hidden_N_D, ids_N, weights_N = _made()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = psutil.Process().memory_info().rss
    (way(head, hidden_N_D, ids_N) * weights_N).sum().backward()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    return round((peak - before) / 2**20, 1)


def errors() -> dict[str, float]:
    """How far the two ways lie apart."""
    head, hidden_N_D, ids_N, weights_N = _made()
    found = []
    for way in WAYS.values():
        loss = (way(head, hidden_N_D, ids_N) * weights_N).mean()
        found.append((loss.detach(), torch.autograd.grad(loss, [hidden_N_D, head.weight])))
    (loss, exact), (ours, gradients) = found
    apart = [float((a - b).norm() / a.norm()) for a, b in zip(exact, gradients, strict=True)]
    return {"max_loss_error": float((loss - ours).abs() / loss.abs()), "max_gradient_error": max(apart)}


def step_times(steps: int) -> dict[str, Any]:
    """The learner's forward and backward with either way."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        bench = Bench(build_model(Path(folder) / "model"), frozen=False)
        ours = VocabularyProjection.forward

        def plain(self: VocabularyProjection, hidden: Tensor, ids_N: Tensor, *_: Any, **__: Any) -> Tensor:
            return whole(self, hidden, ids_N)

        def with_whole() -> None:
            VocabularyProjection.forward = plain  # type: ignore[assignment, method-assign]
            try:
                bench.shared()
            finally:
                VocabularyProjection.forward = ours  # type: ignore[method-assign]

        seconds = medians({"whole": with_whole, "chunked": bench.shared}, steps)
    return {
        "step_time_ratio": round(seconds["chunked"] / seconds["whole"], 3),
        "step_seconds": {name: round(value, 4) for name, value in seconds.items()},
    }


if __name__ == "__main__":
    main()
