"""What the planner predicts, beside what is measured here and what others published: `python -m benchmarks.plan`.

Five learners of LLaVA's shape on this CPU, float32, each in processes of its own: 25 M weights, the same with
recomputation, 100 M, 100 M with adapters, and 25 M over two ranks under ZeRO-3. One group: six images of 64 tokens, 100
text tokens, four responses of 48. Predicted are

- the growth of the process over its size before loading: states, what is gathered, and what a pass adds
  (`cluster.learner_bytes`, `cluster.traced`); measured while glibc keeps nothing of what was freed, and as it is;
- a step's seconds: FLOP over a rate that is measured on the first of the five.

And EasyR1's published setting (Qwen2.5-VL-7B, 8 x H100, 512 x 5 responses; 145 s a step), by `cluster.forecast`.
Prints, last, one JSON object: `memory`, `memory_with_holes` and `time` (predicted over measured, by name), `easyr1`
(the same), and whether all but the second lie within 0.9-1.2, 0.7-1.4 and 0.7-1.4.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, LlavaForConditionalGeneration, LlavaProcessor

from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.learning.learner import OWN, OptimizerSettings
from actors.settings import LearnerSettings
from benchmarks.learner import VOCABULARY, build_model
from benchmarks.memory import TENSORS_ALONE
from cluster.architecture import Architecture, lora_widths, vision_language
from cluster.facts import load_facts
from cluster.forecast import Assumptions, Forecast
from cluster.learner_bytes import after_passes, of_passes, states
from cluster.stage_times import Work, pass_flop
from cluster.traced import PassShape, trace
from data.rendered.samples import rendered_samples
from policies.algorithms.registry import make_algorithm
from policies.batch import TrainingGroup, TrainingResponse
from policies.checkpoint import save_checkpoint
from policies.losses import GlobalCounts
from policies.micro_batches import Share
from policies.model import Policy
from policies.settings import AlgorithmSettings, LoraSettings, PolicySettings
from policies.views import views_of
from recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
IMAGES, IMAGE_TOKENS, TEXT, RESPONSES, TOKENS = 6, 64, 100, 4, 48
SHAPE = PassShape(IMAGES, IMAGE_TOKENS, TEXT, (TOKENS,) * RESPONSES)
PUBLISHED_S = 145.0


@dataclass(frozen=True)
class Case:
    """One learner."""

    large: bool = False
    recompute: bool = False
    lora: bool = False
    ranks: int = 1

    @property
    def policy(self) -> dict[str, Any]:
        """Settings of the policy beside its folder."""
        return {"lora": LoraSettings(rank=16)} if self.lora else {}

    @property
    def learner(self) -> LearnerSettings:
        """Settings of the learner."""
        stage = 3 if self.ranks > 1 else 0
        threads = 2 // self.ranks
        return LearnerSettings(
            ranks=self.ranks, zero_stage=stage, threads=threads, lr=1e-9, gradient_checkpointing=self.recompute
        )


CASES = {
    "25M": Case(),
    "25M_recomputed": Case(recompute=True),
    "100M": Case(large=True),
    "100M_lora": Case(large=True, lora=True),
    "25M_zero3_2_ranks": Case(ranks=2),
}


def main() -> None:
    """Measure each, predict each, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each learner, after one that is not")
    parser.add_argument("--rank", nargs=4, metavar=("CASE", "FOLDER", "RANK", "PORT"), help="be this rank alone")
    options = parser.parse_args()
    if options.rank:
        name, folder, rank, port = options.rank
        print(json.dumps(measured_here(CASES[name], Path(folder), int(rank), int(port), options.steps)))
        return
    figures: dict[str, Any] = {"memory": {}, "memory_with_holes": {}, "time": {}, "measured": {}}
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as made:
        small = build_model(Path(made) / "small")
        folders = {False: small, True: widened(small, Path(made) / "large")}
        rate = 0.0
        for name, case in CASES.items():
            found = _measured(name, folders[case.large], case.ranks, options.steps)
            found["with_holes_mib"] = found["mib"]
            found["mib"] = _measured(name, folders[case.large], case.ranks, 1, TENSORS_ALONE)["mib"]
            architecture = vision_language(AutoConfig.from_pretrained(folders[case.large]))
            flop = step_flop(case, architecture)
            rate = rate or flop / found["step_s"]
            figures["measured"][name] = found
            predicted = predicted_mib(case, architecture)
            figures["memory"][name] = round(predicted / found["mib"], 3)
            figures["memory_with_holes"][name] = round(predicted / found["with_holes_mib"], 3)
            figures["time"][name] = round(flop / rate / found["step_s"], 3)
    figures["easyr1"] = round(easyr1_s() / PUBLISHED_S, 3)
    figures["within"] = {
        "memory": all(0.9 <= value <= 1.2 for value in figures["memory"].values()),
        "time": all(0.7 <= value <= 1.4 for value in figures["time"].values()),
        "easyr1": 0.7 <= figures["easyr1"] <= 1.4,
    }
    print(json.dumps(figures))


def widened(small: Path, folder: Path) -> Path:
    """A model of about 100 million weights with the small one's processor."""
    config = AutoConfig.from_pretrained(small)
    text = config.get_text_config()
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 768, 2304, 12
    text.num_attention_heads = text.num_key_value_heads = 12
    text.head_dim = 64
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    folder.mkdir()
    save_checkpoint(folder, model, LlavaProcessor.from_pretrained(small), model.state_dict())
    return folder


def _measured(
    name: str, folder: Path, ranks: int, steps: int, more: Mapping[str, str] | None = None
) -> dict[str, float]:
    """The largest growth of a rank, and the median seconds of a step, with more in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": str(2 // ranks)} | dict(more or {})
    command = [sys.executable, "-m", "benchmarks.plan", "--steps", str(steps), "--rank", name, str(folder)]
    running = [
        subprocess.Popen([*command, str(rank), str(port)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    found = [json.loads(one.communicate(timeout=1800)[0].splitlines()[-1]) for one in running]
    return {key: max(one[key] for one in found) for key in ("mib", "step_s")}


def measured_here(case: Case, folder: Path, rank: int, port: int, steps: int) -> dict[str, float]:
    """Load the learner in this process and take steps."""
    policy = PolicySettings(model=str(folder), **case.policy)
    algorithm = make_algorithm(AlgorithmSettings(options={"kl_beta": 0.0}))
    learner = DeepSpeedLearner(rank, str(folder), policy, algorithm, case.learner, 1.0, seed=0)
    (sample,) = rendered_samples(folder.parent / f"scenes-{rank}", 1, seed=0)[:1]
    before, load = 0, learner._load_policy

    def loading() -> Policy:  # after libraries and process groups, which no model needs more of
        nonlocal before
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        before = psutil.Process().memory_info().rss
        return load()

    learner._load_policy = loading  # type: ignore[method-assign]
    learner.start("127.0.0.1", port)
    prompt = (learner.policy.body.config.image_token_id,) * (IMAGES * IMAGE_TOKENS) + tuple(range(20, 20 + TEXT))
    ids = tuple(torch.randint(10, VOCABULARY - 200, (TOKENS,)).tolist())
    responses = tuple(TrainingResponse(ids, (-8.0,) * TOKENS, (float(i % 2) - 0.5,) * TOKENS) for i in range(RESPONSES))
    group = TrainingGroup(views_of(sample), prompt, responses)
    counts, seconds = GlobalCounts(RESPONSES, RESPONSES * TOKENS, TOKENS), list[float]()
    for step in range(steps + 1):
        began = time.perf_counter()
        learner.accumulate(OWN, Share([[group]], counts), algorithm, 2 * step + 1)
        learner.step(OWN, OptimizerSettings(lr=1e-9), 2 * step + 2)
        seconds.append(time.perf_counter() - began)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    return {"mib": (peak - before) / 2**20, "step_s": statistics.median(seconds[1:])}


def predicted_mib(case: Case, model: Architecture) -> float:
    """What a rank holds between passes and gathers during them, by the planner's arithmetic, and what a pass adds.

    Of a bucket only what is written counts: a CPU's pages are nobody's before.
    """
    policy = PolicySettings(**case.policy)
    found = trace(model.config, policy, SHAPE, recompute=case.recompute, reference=False)
    passing = of_passes(model, case.learner, "float32")
    passing["buckets"] = min(passing["buckets"], 4.0 * found.learning)
    held = states(model, found.learning, case.learner, policy)
    passed = max(float(found.peak), after_passes(found.learning, case.learner, "float32"))
    return (sum(held.values()) + sum(passing.values()) + passed) / 2**20


def step_flop(case: Case, model: Architecture) -> float:
    """FLOP of a step of one rank, and AdamW's as the bytes that it moves stand for; two ranks share the two cores."""
    work = Work(1, RESPONSES, IMAGES, IMAGE_TOKENS, TEXT, (TOKENS,) * RESPONSES)
    passes = 1 + (1 if case.lora else 2) + case.recompute
    learning = lora_widths(model)["attention"] * 16 if case.lora else model.parameters
    return (pass_flop(model, work, [TOKENS] * RESPONSES) * passes + 100 * learning / case.ranks) * case.ranks


def easyr1_s() -> float:
    """Seconds of a step of EasyR1's setting: colocated, four updates a batch, plain rows, four to a micro-batch."""
    recipe = Recipe(
        **{
            "run": {"name": "easyr1", "steps": 1},
            "policy": {"model": "Qwen/Qwen2.5-VL-7B-Instruct", "dtype": "bfloat16", "image_size": (448, 448)},
            "algorithm": {"name": "grpo", "options": {"kl_beta": 0.01, "updates_per_batch": 4}},
            "rollout": {
                "engines": 4,
                "gpus": 2,
                "tensor_parallel": 2,
                "prompts_per_step": 512,
                "group_size": 5,
                "max_tokens": 2048,
                "max_model_len": 4096,
                "max_images": 1,
            },
            "learner": {"ranks": 8, "gpus": 1, "zero_stage": 3, "gradient_checkpointing": True},
        }
    )
    given = Assumptions(load_facts(), {"p5.48xlarge": 2}, mean_tokens=400, text_tokens=70, colocated=True, plain_rows=4)
    return Forecast(recipe, given).times().step_s


if __name__ == "__main__":
    main()
