"""What a shared prompt saves the learner, and what the learner costs: `python -m benchmarks.learner [--steps 11]`.

A LLaVA-shaped model of about 25 million parameters, float32, two threads; one group: six images of 64 tokens, 100 text
tokens, 8 responses of 48 tokens. Four ways of learning from it take turns; figures are medians over the steps.

- plain: transformers forward and backward over 8 rows, each with its own copy of prompt and images.
- bare: transformers forward and backward over the packed row, ready-made, with the same mask and positions.
- learner: `accumulate` and `step`: packing, forward, GRPO loss, backward, clipping, AdamW, all of it.
- shared: the learner's forward and backward alone.

Prints, last, one JSON object: `shared_prefix_speedup` (plain / shared), the same with a frozen tower whose features the
learner keeps (`shared_prefix_speedup_frozen`), `max_grad_error` (largest difference from the plain gradient / its
largest entry), `over_raw_transformers` (tokens/s of learner / bare), `peak_memory_ratio` (what a step of shared and of
plain adds to its process at most).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.learning.learner import OWN, OptimizerSettings
from actors.settings import LearnerSettings
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from policies.algorithms.registry import make_algorithm
from policies.batch import TrainingGroup, TrainingResponse
from policies.checkpoint import save_checkpoint
from policies.losses import GlobalCounts
from policies.micro_batches import Share
from policies.model import Policy
from policies.settings import AlgorithmSettings, PolicySettings
from policies.tokenizer import IMAGE_TOKEN, train_tokenizer
from policies.views import Views, views_of

ROOT = Path(__file__).resolve().parents[1]
RESPONSES, RESPONSE_TOKENS, IMAGES, IMAGE_TOKENS, TEXT_TOKENS = 8, 48, 6, 64, 100
VOCABULARY = 4096
THREADS = 2
COUNTS = GlobalCounts(RESPONSES, RESPONSES * RESPONSE_TOKENS, RESPONSE_TOKENS)


def main() -> None:
    """Measure each part in a process of its own, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=11, help="timed steps of each way")
    parser.add_argument("--part", choices=PARTS, help="measure this part alone")
    parser.add_argument("--model", type=Path, help="the model's folder, for --part")
    options = parser.parse_args()
    if options.part:
        bench = Bench(options.model, frozen=options.part == "frozen")
        print(json.dumps(PARTS[options.part](bench, options.steps)))
        return
    figures: dict[str, Any] = {"steps": options.steps, "threads": THREADS}
    with tempfile.TemporaryDirectory(prefix="bench-learner-") as folder:
        model = build_model(Path(folder) / "model")
        for part in PARTS:
            figures |= _in_a_process(part, model, options.steps)
    added = figures["mib_added_by_learner"], figures["mib_added_by_plain"]
    print(json.dumps(figures | {"peak_memory_ratio": round(added[0] / added[1], 3)}))


def _in_a_process(part: str, model: Path, steps: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.learner", "--part", part, "--model", str(model), "--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class Bench:
    """A learner in this process, the group, and the plain ways of learning from it."""

    def __init__(self, folder: Path, *, frozen: bool) -> None:
        """Load the model into a learner; `frozen` fixes tower and projector."""
        policy = PolicySettings(model=str(folder), freeze_vision=frozen, freeze_projector=frozen)
        settings = LearnerSettings(threads=THREADS, lr=1e-9, micro_batch_groups=1)
        self.algorithm = make_algorithm(AlgorithmSettings(options={"kl_beta": 0.0}))
        self.learner = DeepSpeedLearner(0, str(folder), policy, self.algorithm, settings, 1.0, seed=0)
        self.learner.start(*self.learner.address())
        samples = rendered_samples(folder.parent / "scenes", 1, seed=0)
        self.group = _group(views_of(samples[0]), self.learner.policy)
        self.batch = self.learner.packed([self.group])
        self.pixels = self.learner.encoder.image_tensors(self.group.images)["pixel_values"]
        self._calls = 0

    def plain(self) -> Tensor:
        """Forward and backward over one row for each response; the log-probabilities."""
        prompt, responses = self.group.prompt_ids, [response.token_ids for response in self.group.responses]
        ids = torch.tensor([[*prompt, *response] for response in responses])
        logits = self.learner.policy.body(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=self.pixels.repeat(RESPONSES, 1, 1, 1),
            logits_to_keep=RESPONSE_TOKENS + 1,
        ).logits[:, :-1]
        return self._learn(logits, torch.tensor(responses))

    def bare(self) -> Tensor:
        """Forward and backward over the packed row; the log-probabilities."""
        body, batch = self.learner.policy.body, self.batch
        hidden = body.model(**batch.model_inputs, use_cache=False).last_hidden_state[0]
        return self._learn(body.lm_head(hidden[batch.source_R_T]), batch.token_ids_R_T)

    def shared(self) -> Tensor:
        """Forward and backward as the learner does them; the log-probabilities."""
        logprobs, _ = self.learner.policy(self.learner.packed([self.group]))
        self._weighted(logprobs).backward()
        return logprobs.detach()

    def update(self) -> None:
        """A whole step of the learner."""
        self._calls += 2
        self.learner.accumulate(OWN, Share([[self.group]], COUNTS), self.algorithm, self._calls - 1)
        self.learner.step(OWN, OptimizerSettings(lr=1e-9), self._calls)

    def gradient(self, way: Callable[[], Tensor]) -> Tensor:
        """The gradient that a way leaves."""
        self.learner.policy.zero_grad()
        way()
        grads = [p.grad.flatten() for p in self.learner.policy.parameters() if p.grad is not None]
        gradient = torch.cat(grads).clone()
        self.learner.policy.zero_grad()
        return gradient

    def _learn(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = logits.float()
        logits[..., self.learner.policy.forbidden_ids] = -torch.inf
        logprobs = torch.log_softmax(logits, -1).gather(-1, targets[..., None])[..., 0]
        self._weighted(logprobs).backward()
        return logprobs.detach()

    def _weighted(self, logprobs: Tensor) -> Tensor:
        """On the first update of a batch this has the gradient of the GRPO loss."""
        return -(logprobs * self.batch.credits_R_T).mean()


def race(bench: Bench, steps: int) -> dict[str, Any]:
    """Everything learns."""
    exact, ours = bench.gradient(bench.plain), bench.gradient(bench.shared)
    seconds = medians({"plain": bench.plain, "bare": bench.bare, "shared": bench.shared, "update": bench.update}, steps)
    return {
        "shared_prefix_speedup": round(seconds["plain"] / seconds["shared"], 2),
        "shared_prefix_speedup_with_adamw": round(seconds["plain"] / seconds["update"], 2),
        "max_grad_error": float((exact - ours).abs().max() / exact.abs().max()),
        "over_raw_transformers": round(seconds["bare"] / seconds["update"], 3),
        "tokens_per_s": round(bench.batch.model_inputs["input_ids"].numel() / seconds["update"]),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "parameters": sum(parameter.numel() for parameter in bench.learner.policy.parameters()),
    }


def frozen(bench: Bench, steps: int) -> dict[str, Any]:
    """Tower and projector are frozen: the learner keeps their features, the plain way computes them for every row."""
    exact, ours = bench.gradient(bench.plain), bench.gradient(bench.shared)
    seconds = medians({"plain": bench.plain, "shared": bench.shared}, steps)
    return {
        "shared_prefix_speedup_frozen": round(seconds["plain"] / seconds["shared"], 2),
        "max_grad_error_frozen": float((exact - ours).abs().max() / exact.abs().max()),
        "seconds_frozen": {name: round(value, 4) for name, value in seconds.items()},
    }


def plain_memory(bench: Bench, steps: int) -> dict[str, int]:
    """What the plain way's steps add to the process at most."""
    return {"mib_added_by_plain": _mib_added(bench.plain)}


def learner_memory(bench: Bench, steps: int) -> dict[str, int]:
    """What the learner's steps add to the process at most, the optimizer's apart."""
    return {"mib_added_by_learner": _mib_added(bench.shared)}


PARTS: dict[str, Callable[[Bench, int], dict[str, Any]]] = {
    "race": race,
    "frozen": frozen,
    "plain_memory": plain_memory,
    "learner_memory": learner_memory,
}


def medians(ways: dict[str, Callable[[], Any]], steps: int) -> dict[str, float]:
    """Median seconds of each way; they take turns, and the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(steps + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _mib_added(way: Callable[[], Any]) -> int:
    """By the kernel's own high-water mark, which is set back first."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = psutil.Process().memory_info().rss
    for _ in range(3):
        way()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    return round((peak - before) / 2**20)


def _group(images: Views, policy: Policy) -> TrainingGroup:
    """One prompt of random text behind its images, and random responses of alternating advantage."""
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(10, VOCABULARY - 200, (count,), generator=generator).tolist())

    def response(number: int) -> TrainingResponse:
        advantage = 1.0 if number % 2 else -1.0
        return TrainingResponse(ids(RESPONSE_TOKENS), (-8.0,) * RESPONSE_TOKENS, (advantage,) * RESPONSE_TOKENS)

    prompt = (policy.body.config.image_token_id,) * (IMAGES * IMAGE_TOKENS) + ids(TEXT_TOKENS)
    return TrainingGroup(images, prompt, tuple(response(number) for number in range(RESPONSES)))


def build_model(folder: Path) -> Path:
    """The model, with a processor that makes 64 tokens of each image."""
    tokenizer = train_tokenizer(driving_text(), 1024)
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    special: dict[str, Any] = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id}
    config = LlavaConfig(
        architectures=[LlavaForConditionalGeneration.__name__],  # by which vLLM knows it
        dtype="float32",
        vision_config=CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=112,
            patch_size=14,
            projection_dim=128,
        ),
        text_config=LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=448,
            intermediate_size=1344,
            num_hidden_layers=8,
            num_attention_heads=7,
            num_key_value_heads=7,
            max_position_embeddings=4096,
            **special,
        ),
        image_token_id=image_token,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**special)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 112}, crop_size={"height": 112, "width": 112}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    folder.mkdir(parents=True)
    save_checkpoint(folder, model, processor, model.state_dict())
    return folder


if __name__ == "__main__":
    main()
