"""tinker-cookbook's own RL loop over six-camera prompts: `python -m docs.examples.tinker_cookbook_driving --url URL`.

The loop is `tinker_cookbook.rl.train.main`, unmodified; ours is the environment: one driving question, one answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import chz
import tinker
from tinker_cookbook.rl import train
from tinker_cookbook.rl.types import Env, EnvGroupBuilder, RLDataset, RLDatasetBuilder, StepResult

from docs.examples.tinker_driving import Asked, base_of, driving_questions, tokenizer_of
from docs.examples.tinker_grpo import reward


class DrivingEnv(Env):
    """One question, asked once."""

    def __init__(self, asked: Asked, tokenizer: Any) -> None:
        """The question, and how to read the answer."""
        self._asked, self._tokenizer = asked, tokenizer

    async def initial_observation(self) -> tuple[tinker.ModelInput, list[int]]:
        """Six frames and the question; the end of a turn ends the answer."""
        return self._asked.prompt, [self._tokenizer.eos_token_id]

    async def step(self, action: list[int], *, extra: Any = None) -> StepResult:
        """1 for the right answer, and a tenth for an ended one, so that there is something to compare early on."""
        value = reward(self._tokenizer.decode(action, skip_special_tokens=True), self._asked)
        ended = bool(action) and action[-1] == self._tokenizer.eos_token_id
        return StepResult(
            reward=value + 0.1 * ended,
            episode_done=True,
            next_observation=tinker.ModelInput.empty(),
            next_stop_condition=[],
            metrics={"right": value},
        )


@dataclass(frozen=True)
class DrivingGroup(EnvGroupBuilder):
    """The environments of one question."""

    asked: Asked
    base: str
    group: int

    async def make_envs(self) -> Sequence[Env]:
        """As many as are compared."""
        tokenizer = tokenizer_of(self.base)
        return [DrivingEnv(self.asked, tokenizer) for _ in range(self.group)]

    def logging_tags(self) -> list[str]:
        """The task."""
        return [self.asked.task]


class Questions(RLDataset):
    """Batches of questions."""

    def __init__(self, groups: list[DrivingGroup], batch: int) -> None:
        """In the order given."""
        self._groups, self._batch = groups, batch

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        """The groups of a step."""
        return self._groups[index * self._batch : (index + 1) * self._batch]

    def __len__(self) -> int:
        """How many whole batches there are."""
        return len(self._groups) // self._batch


@chz.chz
class DrivingQuestions(RLDatasetBuilder):
    """Questions about rendered scenes."""

    base: str
    scenes: int
    batch: int
    group: int

    async def __call__(self) -> tuple[RLDataset, RLDataset | None]:
        """To learn from, and none to measure with."""
        asked = driving_questions(tokenizer_of(self.base), 0, self.scenes)
        return Questions([DrivingGroup(one, self.base, self.group) for one in asked], self.batch), None


def config(url: str, base: str, folder: str, **more: Any) -> train.Config:
    """What `train.main` takes; `more` sets fields of it."""
    given: dict[str, Any] = {
        "dataset_builder": DrivingQuestions(base=base, scenes=8, batch=8, group=4),
        "model_name": base,
        "recipe_name": "driving",
        "base_url": url,
        "learning_rate": 1e-3,
        "max_tokens": 24,
        "lora_rank": 8,
        "eval_every": 0,
        "save_every": 0,
        "log_path": folder,
    }
    return train.Config(**(given | more))


def main() -> None:
    """Run the loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("TINKER_BASE_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--loss", default="importance_sampling")
    parser.add_argument("--substeps", type=int, default=1)
    parser.add_argument("--log", default="runs/cookbook")
    given = parser.parse_args()
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    asyncio.run(
        train.main(config(given.url, base_of(given.url), given.log, loss_fn=given.loss, num_substeps=given.substeps))
    )


if __name__ == "__main__":
    main()
