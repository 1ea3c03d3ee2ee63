"""TRL's side of `benchmarks.grpo_vs_trl`, a process of its own: its trainer, timed, or a step of it beside ours."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForImageTextToText, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.learning.learner import OWN
from actors.settings import LearnerSettings
from benchmarks.free_reward import points
from benchmarks.grpo_vs_trl import LR, SCENES, SIZES, THREADS, Size
from data.rendered.samples import rendered_samples
from policies.algorithms.registry import make_algorithm
from policies.batch import TrainingGroup, TrainingResponse
from policies.losses import GlobalCounts
from policies.micro_batches import Share
from policies.model import load_processor
from policies.prompt import PromptEncoder
from policies.settings import AlgorithmSettings, PolicySettings
from policies.views import Views, views_of

OURS = {"kl_beta": 0.0, "importance": "none", "aggregation": "seq-mean"}
"""TRL's `loss_type="grpo"` in our words."""


def main(name: str, model: str, steps: int) -> None:
    """Print one JSON object: the seconds of each step, or what one differs by from ours."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="trl-side-") as folder:
        side = TrlSide(SIZES[name], model, Path(folder), max(steps, 1))
        print(json.dumps({"steps": side.timed()} if steps else {"same_tokens": side.beside_ours()}))


def rewards(completions: list[Any], **_: Any) -> list[float]:
    """Our own, as TRL calls one."""
    return [points(None, str(completion)) / 100.0 for completion in completions]


class Timed(GRPOTrainer):
    """TRL's trainer, with a clock around generation."""

    generated = 0.0
    """Seconds of generation in the running step."""

    def _generate(self, prompts: list[Any]) -> Any:
        began = time.perf_counter()
        found = super()._generate(prompts)
        self.generated += time.perf_counter() - began
        return found


class Clock(TrainerCallback):
    """Reads the time at each step's end."""

    def __init__(self, trainer: Timed) -> None:
        """Of this trainer."""
        self._trainer, self._began = trainer, 0.0
        self.steps: list[dict[str, float]] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step begins here."""
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The next one begins where one ends."""
        now = time.perf_counter()
        self.steps.append({"step_s": now - self._began, "generate_s": self._trainer.generated})
        self._began, self._trainer.generated = now, 0.0


class TrlSide:
    """A trainer on the scenes that we train on too, with the same text and the same pixels for each prompt."""

    def __init__(self, size: Size, model: str, folder: Path, steps: int) -> None:
        """Load the model; prompts are drawn in the order of the scenes."""
        self.size, self.folder = size, model
        self.policy = PolicySettings(model=model, image_size=(size.pixels, size.pixels))
        self.encoder = PromptEncoder(load_processor(model, self.policy), self.policy)
        samples = rendered_samples(folder / "scenes", SCENES, seed=0)[: size.prompts * steps]
        self.views: dict[str, Views] = {sample.id: views_of(sample) for sample in samples}
        rows = [
            {
                "prompt": [{"role": "user", "content": sample.question}],
                "images": self.encoder.images(views_of(sample)),
                "sample": sample.id,
            }
            for sample in samples
        ]
        settings = GRPOConfig(
            output_dir=str(folder / "trl"), per_device_train_batch_size=size.prompts * size.group_size,
            num_generations=size.group_size, max_steps=steps, max_completion_length=size.tokens, beta=0.0,
            temperature=1.0, learning_rate=LR, lr_scheduler_type="constant", loss_type="grpo", bf16=False,
            gradient_checkpointing=False, use_cpu=True, report_to=[], logging_steps=1, save_strategy="no",
            shuffle_dataset=False, disable_tqdm=True, disable_dropout=True, seed=0,
        )  # fmt: skip
        weights = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
        self.trainer = Timed(
            weights, reward_funcs=rewards, args=settings, train_dataset=Dataset.from_list(rows),
            processing_class=load_processor(model, self.policy),
        )  # fmt: skip

    def timed(self) -> list[dict[str, float]]:
        """Seconds of each step, and of its generation."""
        clock = Clock(self.trainer)
        self.trainer.add_callback(clock)
        self.trainer.train()
        entries = [entry for entry in self.trainer.state.log_history if "reward" in entry]
        return [
            step | {"tokens": entry["completions/mean_length"]}
            for step, entry in zip(clock.steps, entries, strict=True)
        ]

    def beside_ours(self) -> dict[str, float]:
        """TRL draws and scores a batch; loss and gradient of its first update, TRL's and ours on the same tokens."""
        rows = next(iter(self.trainer.get_train_dataloader()))
        self.trainer.model.train()
        inputs = self.trainer._generate_and_score_completions(rows)
        self.trainer.current_gradient_accumulation_steps = 1  # set by `train`
        loss = self.trainer._compute_loss(self.trainer.model, inputs)
        loss.backward()
        theirs = {name: p.grad for name, p in self.trainer.model.named_parameters() if p.grad is not None}
        our_loss, ours = self._ours(self._groups(rows, inputs), int(inputs["completion_mask"].sum()))
        largest = max(float(gradient.abs().max()) for gradient in theirs.values())
        assert ours.keys() == theirs.keys(), "both must train the same weights"
        gap = max(float((theirs[name] - ours[name]).abs().max()) for name in theirs)
        return {"loss_gap": abs(float(loss.detach()) - our_loss), "gradient_gap": gap / largest}

    def _groups(self, rows: list[Any], inputs: dict[str, Tensor]) -> list[TrainingGroup]:
        """TRL's batch as ours: a prompt's responses are neighbours."""
        groups, size = list[TrainingGroup](), self.size.group_size
        for first in range(0, len(rows), size):
            responses = []
            for row in range(first, first + size):
                ids = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()].tolist()
                advantage = float(inputs["advantages"][row])
                responses.append(TrainingResponse(tuple(ids), (0.0,) * len(ids), (advantage,) * len(ids)))
            prompt = inputs["prompt_ids"][first][inputs["prompt_mask"][first].bool()].tolist()
            groups.append(TrainingGroup(self.views[rows[first]["sample"]], tuple(prompt), tuple(responses)))
        return groups

    def _ours(self, groups: list[TrainingGroup], tokens: int) -> tuple[float, dict[str, Tensor]]:
        algorithm = make_algorithm(AlgorithmSettings(options=OURS))
        settings = LearnerSettings(threads=THREADS, lr=LR)
        learner = DeepSpeedLearner(0, self.folder, self.policy, algorithm, settings, 1.0, seed=0)
        learner.start(*learner.address())
        learner.policy.forbidden_ids = []  # TRL gives an image's placeholder a probability in the loss, and we none
        counts = GlobalCounts(len(groups) * self.size.group_size, tokens, self.size.tokens)
        found = learner.accumulate(OWN, Share([groups], counts), algorithm, 1)
        body = learner.policy.body
        return found.loss, {name: p.grad for name, p in body.named_parameters() if p.grad is not None}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
