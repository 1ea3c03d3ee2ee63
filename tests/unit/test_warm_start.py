"""Supervised steps: their learning rate, and when they stop early."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from actors.checkpoint import newest_checkpoint
from actors.learning.group import LearnerGroup, Portion
from actors.learning.learner import OWN
from actors.settings import LearnerSettings
from actors.warm_start import Kept, WarmStart, learning_rate
from data.sample import DrivingSample
from failures import DiskFull, LearnerLost
from policies.algorithms.algorithm import Loss
from policies.batch import TrainingGroup
from policies.prompt import PromptEncoder
from recipe import Recipe

SAMPLE = DrivingSample("a", "scene", "frame", "behavior", "open_ended", "What?", "Go.", {})


class Learning(LearnerGroup):
    """Its held-out loss at each measurement is given; remembers what was saved and loaded, by number of updates.

    A rank is lost over the update `lost_at`, and over the following ones, `deaths` in all.
    """

    def __init__(self, losses: Sequence[float], *, lost_at: int = 0, deaths: int = 1) -> None:
        self.lost_at, self.deaths, self.lives = lost_at, deaths, 1
        self.losses, self.rates, self.saved, self.loaded = list(losses), list[float](), list[int](), list[int]()
        self.batches: list[list[tuple[int, ...]]] = []
        self.ranks, self.settings = [None], LearnerSettings()

    def portions(self, groups: Sequence[TrainingGroup], updates: int = 1) -> list[Portion]:
        return [Portion(groups, [])]

    async def update(self, portion: Portion, loss: Loss, lr: float) -> dict[str, float]:
        self.rates.append(lr)
        self.batches.append([group.prompt_ids for group in portion.groups])
        if self.deaths and self.lost_at and len(self.rates) >= self.lost_at:
            self.deaths -= 1
            raise LearnerLost("learner rank 0 (update): the actor died")
        return {"loss": 1.0}

    async def begin_life(self) -> None:
        self.lives += 1

    async def model(self) -> str:
        return "a model"

    async def log_probs(
        self,
        groups: Sequence[TrainingGroup],
        temperature: float | None = None,
        *,
        reference: bool = False,
        adapter: str = OWN,
    ) -> list[list[float]]:
        assert temperature == 1.0
        return [[-self.losses.pop(0)]]

    async def save(self, folder: Path) -> None:
        self.saved.append(len(self.rates))
        (folder / "weights").write_text(str(len(self.rates)))

    async def load(self, folder: Path, written_by: int | None = None) -> None:
        self.loaded.append(int((folder / "weights").read_text()))


class Encoder:
    """A prompt is the letters of its sample's name, an answer one token."""

    def __init__(self) -> None:
        self.made = 0

    def prompt_ids(self, sample: DrivingSample) -> tuple[int, ...]:
        self.made += 1
        return tuple(map(ord, sample.id))

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        return (2,)


def encoder() -> PromptEncoder:
    return cast(PromptEncoder, Encoder())


def of_warm_start(folder: Path, **settings: Any) -> Recipe:
    """A recipe whose run folder is `folder`."""
    run = {"name": folder.name, "root": str(folder.parent)}
    return Recipe.model_validate({"run": run, "warm_start": settings})


async def trained(losses: Sequence[float], folder: Path, steps: int = 20) -> Learning:
    recipe, learners = of_warm_start(folder, batch_size=1, evaluate_every=2, patience=2), Learning(losses)
    start = WarmStart([SAMPLE], [SAMPLE], recipe)
    assert await start.steps(learners, encoder(), steps)
    start.forget()
    return learners


async def test_it_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best(tmp_path: Path) -> None:
    learners = await trained([3.0, 2.0, 2.5, 2.0], tmp_path)
    assert len(learners.rates) == 8
    assert learners.saved == [2, 4]
    assert learners.loaded == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["warm_start.jsonl"]


async def test_a_loss_that_keeps_falling_takes_all_steps_and_loads_nothing(tmp_path: Path) -> None:
    learners = await trained([4.0, 3.0, 2.0], tmp_path, steps=5)
    assert len(learners.rates) == 5  # and the last step is measured too
    assert learners.loaded == []


async def test_a_loss_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    learners = await trained([1.0, float("nan"), 2.0], tmp_path)
    assert learners.loaded == [2]


SAMPLES = [replace(SAMPLE, id=str(number)) for number in range(5)]


def asked_after(learners: Learning, updates: int | None) -> Callable[[], bool]:
    """Whether `updates` updates were taken."""
    return lambda: updates is not None and len(learners.rates) >= updates


async def supervised(
    folder: Path, losses: Sequence[float], *, every: int = 0, stop: int | None = None, resume: bool = False
) -> tuple[Learning, bool]:
    recipe = of_warm_start(folder, batch_size=2, evaluate_every=2, patience=10)
    learners = Learning(losses)
    start = WarmStart(SAMPLES, [SAMPLE], recipe)
    complete = await start.steps(learners, encoder(), 8, Kept(every, resume, asked_after(learners, stop)))
    if complete:
        start.forget()
    return learners, complete


async def test_steps_that_were_interrupted_go_on_with_the_questions_they_would_have_had(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole, _ = await supervised(tmp_path / "whole", [4.0, 3.0, 2.0, 1.0])
    first, complete = await supervised(tmp_path, [4.0], stop=3)
    assert not complete
    rest, complete = await supervised(tmp_path, [3.0, 2.0, 1.0], resume=True)
    assert complete
    assert rest.loaded == [3]
    assert first.batches + rest.batches == whole.batches
    assert not (tmp_path / "supervised").exists()


@pytest.mark.parametrize("lost_at", [1, 5])
async def test_when_a_rank_is_lost_the_steps_since_the_newest_checkpoint_are_taken_again(
    tmp_path: Path, lost_at: int
) -> None:
    (tmp_path / "whole").mkdir()
    whole, _ = await supervised(tmp_path / "whole", [4.0, 3.0, 2.0, 1.0])
    learners = Learning([4.0, 3.0, 3.0, 2.0, 1.0][-4 - (lost_at > 4) :], lost_at=lost_at)
    start = WarmStart(SAMPLES, [SAMPLE], of_warm_start(tmp_path, batch_size=2, evaluate_every=2, patience=10))
    assert await start.steps(learners, encoder(), 8, Kept(every=3))
    assert learners.lives == 2
    assert learners.loaded == ([3] if lost_at > 3 else [])
    again = whole.batches[:lost_at] + whole.batches[3 * (lost_at > 3) :]
    assert learners.batches == again
    steps = [json.loads(line)["step"] for line in (tmp_path / "warm_start.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


async def test_without_room_for_a_checkpoint_the_steps_go_on_unless_it_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_room(*_: object) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr("actors.warm_start.save_checkpoint", no_room)
    learners, complete = await supervised(tmp_path, [4.0, 3.0, 2.0, 1.0], every=3)
    assert (complete, len(learners.rates)) == (True, 8)
    with pytest.raises(DiskFull):
        await supervised(tmp_path, [4.0], stop=3)


async def test_a_rank_that_is_lost_again_and_again_ends_the_run(tmp_path: Path) -> None:
    learners = Learning([], lost_at=1, deaths=99)
    start = WarmStart(SAMPLES, [], of_warm_start(tmp_path, batch_size=2))
    with pytest.raises(LearnerLost):
        await start.steps(learners, encoder(), 8)
    assert learners.lives == 4  # three restarts


async def test_a_line_that_was_cut_off_does_not_end_the_next_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await supervised(tmp_path, [4.0], stop=3)
    with (tmp_path / "warm_start.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')
    _, complete = await supervised(tmp_path, [3.0, 2.0, 1.0], resume=True)
    assert complete
    assert "1 line(s) were cut off" in capsys.readouterr().out
    assert len((tmp_path / "warm_start.jsonl").read_text().splitlines()) == 8 + 4


async def test_the_best_measurement_outlives_an_interruption(tmp_path: Path) -> None:
    await supervised(tmp_path, [1.0], stop=3)
    rest, _ = await supervised(tmp_path, [3.0, 3.0, 3.0], resume=True)
    assert rest.loaded == [3, 2]  # where it stood, and at last the weights of step 2


async def test_a_best_measurement_of_a_lost_step_is_forgotten(tmp_path: Path) -> None:
    learners = Learning([5.0, 1.0])
    recipe = of_warm_start(tmp_path, batch_size=2, evaluate_every=2, patience=10)
    kept = Kept(3, False, asked_after(learners, None))
    with pytest.raises(IndexError):  # killed at the third measurement: a checkpoint of step 3, the best of step 4
        await WarmStart(SAMPLES, [SAMPLE], recipe).steps(learners, encoder(), 8, kept)
    rest, _ = await supervised(tmp_path, [4.0, 3.0, 6.0], resume=True)
    assert rest.loaded == [3, 3]  # where it stood, and at last the weights of its own third update, step 6


async def test_only_the_newest_checkpoint_is_kept_and_each_answer_is_encoded_once(tmp_path: Path) -> None:
    learners = Learning([3.0, 2.0])
    recipe = of_warm_start(tmp_path, batch_size=2, evaluate_every=4, patience=10)
    start = WarmStart(SAMPLES, [SAMPLE], recipe)
    counting = Encoder()
    assert not await start.steps(learners, cast(PromptEncoder, counting), 20, Kept(2, False, asked_after(learners, 7)))
    assert newest_checkpoint(tmp_path / "supervised") == 7
    assert len(list((tmp_path / "supervised" / "checkpoints").iterdir())) == 1
    assert counting.made == len(SAMPLES) + 1  # and the held-out one


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", [0.5, 0.904508, 0.654508, 0.345492, 0.095492]),
    ],
)
def test_the_learning_rate_rises_over_the_warm_up_and_falls_by_its_schedule(
    schedule: str, expected: list[float]
) -> None:
    recipe = of_warm_start(Path("run"), lr=1.0, schedule=schedule, warmup_steps=1)
    assert [learning_rate(recipe, step, 5) for step in range(1, 6)] == pytest.approx(expected, abs=1e-6)
