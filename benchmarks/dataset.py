"""`python -m benchmarks.dataset`: a training set at cluster scale, and what the dashboard's figures cost a step.

Makes a JSONL of 100,000 samples with six image paths each, reads and splits it as a run does, and draws batches. The
paths are URIs of an allowed place, as on a cluster: no image is opened before it is used. The last line is JSON:

    first_batch_s       from opening the file to the first batch of prompts
    driver_growth_gib   what reading it added to the memory of the process, at its highest
    draw_ms             drawing a batch of 128 prompts, the median of 200
    metrics_overhead    setting every figure of a step, as a share of a step of the demonstration (`--step-s`)
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from actors.record.exporter import Exporter
from cluster.session import session
from data.load import load_data
from data.sample import CAMERAS, TASKS
from data.settings import DataSettings
from data.split import TaskBalancedOrder
from recipe import Recipe

PLACE = "s3://made-up/nuscenes/samples"
BATCH, BATCHES = 128, 200
GIB = 2**30
TINY_STEP_S = 4.0
"""A step of the demonstration on two cores (docs/benchmarks.md)."""


def write_samples(path: Path, count: int) -> None:
    """Samples of scenes of 200 questions each, five to a frame, in DriveLM's proportions of text."""
    with path.open("w") as file:
        for number in range(count):
            scene, frame = f"scene-{number // 200:05}", f"frame-{number // 5:06}"
            task = TASKS[number % len(TASKS)]
            sample = {
                "id": f"{scene}_{frame}_{number}",
                "scene_id": scene,
                "frame_id": frame,
                "task": task,
                "kind": "open_ended",
                "question": f"What should the ego vehicle do about object {number} ahead of it, and why should it?",
                "answer": f"Slow down and keep its lane, since object {number} is about to cross the road ahead of it.",
                "images": {camera: f"{PLACE}/{camera}/{frame}.jpg" for camera in CAMERAS},
            }
            file.write(json.dumps(sample) + "\n")


def peak_gib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def measure_reading(count: int) -> dict[str, float]:
    """How long it takes to the first batch, what it costs in memory, and how long a batch takes then."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.jsonl"
        write_samples(file, count)
        options = {"annotations": str(file)}
        settings = DataSettings.model_validate(
            {"source": "jsonl", "options": options, "held_out": 0.05, "uris": {"allowed": [f"{PLACE}/"]}}
        )
        before, began = psutil.Process().memory_info().rss / GIB, time.perf_counter()
        data = load_data(settings, Path(folder))
        order = TaskBalancedOrder(data.split.train, settings.task_shares, settings.seed)
        order.take(BATCH)
        first = time.perf_counter() - began
        draws = []
        for _ in range(BATCHES):
            began = time.perf_counter()
            order.take(BATCH)
            draws.append(time.perf_counter() - began)
    return {
        "samples": count,
        "first_batch_s": round(first, 2),
        "driver_growth_gib": round(peak_gib() - before, 3),
        "held_gib": round(psutil.Process().memory_info().rss / GIB - before, 3),
        "draw_ms": round(1000 * statistics.median(draws), 2),
    }


def measure_metrics(step_s: float) -> dict[str, float]:
    """What a step's figures cost, with ten tasks, ten parts and ten reasons."""
    recipe = Recipe.model_validate({"run": {"name": "benchmark"}})
    metrics = {
        "step_s": 4.0,
        "sync_s": 0.2,
        "kl": 0.01,
        "probe_gap": 1e-5,
        "tokens_per_s": 900.0,
        "rollouts/count": 64.0,
    }
    metrics |= {f"{head}/{number}": 1.0 for head in ("reward", "parts", "rollouts/masked") for number in range(10)}
    with session(recipe):
        exporter = Exporter(recipe)
        exporter.observe(0, metrics)
        times = []
        for step in range(BATCHES):
            began = time.perf_counter()
            exporter.observe(step, metrics)
            times.append(time.perf_counter() - began)
        exporter.close()
    seconds = statistics.median(times)
    return {"metrics_ms": round(1000 * seconds, 3), "metrics_overhead": round(seconds / step_s, 6)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dataset", description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--step-s", type=float, default=TINY_STEP_S, help="seconds of a tiny step")
    options = parser.parse_args()
    measured = measure_reading(options.samples)
    print(json.dumps(measured | measure_metrics(options.step_s)))


if __name__ == "__main__":
    main()
