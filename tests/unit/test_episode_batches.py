"""A batch of episodes on disk is learnt from again as it was, while its images are there; an action is one token."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.checkpoint import RunState
from actors.driving.episodes import EpisodeDriver, frames_of
from actors.experience import ExperienceBatch
from actors.updates import Updates, _decisive
from data.driving.actions import ACTIONS
from data.driving.demonstrations import spoken_text
from data.driving.environment import DrivingSettings
from evaluation.rollout_rows import write_rollouts
from evaluation.run_record import samples_path
from policies.tiny import VOCABULARY
from policies.tokenizer import train_tokenizer
from recipe import load_recipe
from tests.unit.test_episode_credit import episode, turns_of

RECIPE = load_recipe([str(Path(__file__).parents[2] / "recipes/tiny_closed_loop.yaml")])


@pytest.fixture
def updates(tmp_path: Path) -> Updates:
    """Updates of a run whose actors are not needed."""
    assert RECIPE.environment is not None
    nobody: Any = SimpleNamespace()
    driver = EpisodeDriver(nobody, nobody, RECIPE.environment, tmp_path)
    crew: Any = SimpleNamespace(recipe=RECIPE, encoder=None, driver=driver, learners=nobody)
    return Updates(crew, tmp_path, RunState(0, 0, 1))


def test_what_was_driven_before_a_stop_is_learnt_from_again_while_its_images_are_there(
    updates: Updates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driven = updates._credit.of_batch(turns_of(episode(0, [10.0, 10.0]), episode(1, [10.0, -50.0])))
    samples_path(tmp_path, 1).parent.mkdir()
    about = {"recipe": _decisive(RECIPE), "driven": {"episodes": 2.0}, "position": 11, "generate_s": 1.0, "replaced": 0}
    write_rollouts(samples_path(tmp_path, 1), 1, driven, about)
    assert updates._written(1) is None
    assert "the images of " in capsys.readouterr().out

    driver = updates.crew.driver
    assert driver is not None
    driver.folder_of(frames_of(1)).mkdir(parents=True)
    batch = updates._written(1)
    assert batch is not None
    assert (batch.position, batch.metrics["episodes"]) == (11, 2.0)
    assert [group.credits for group in batch.groups] == [group.credits for group in driven]
    assert len(batch.training_groups(updates.algorithm)) == 4


class NotingLearners:
    """Notes what is asked of all ranks, and the updates."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def all(self, method: str) -> None:
        self.asked.append(method)

    def portions(self, groups: list[Any], updates: int) -> list[Any]:
        return [SimpleNamespace(counts=SimpleNamespace(responses=1, tokens=1))]

    async def update(self, portion: Any, algorithm: Any, lr: float) -> dict[str, float]:
        self.asked.append("update")
        return {"loss": 0.0, "skipped": 0.0}

    async def record(self, folder: Path, step: int) -> None:
        """Nothing to write."""


@pytest.mark.parametrize(("kept", "first"), [(True, ["update"]), (False, ["forget_moments", "update"])])
def test_moments_of_the_warm_start_are_forgotten_before_the_first_update_alone(
    updates: Updates, kept: bool, first: list[str]
) -> None:
    learners = NotingLearners()
    recipe = RECIPE.model_copy(update={"warm_start": RECIPE.warm_start.model_copy(update={"keep_moments": kept})})
    sync = SimpleNamespace(steady=asyncio.Lock(), learnt=0)
    quarantine = SimpleNamespace(ids=frozenset[str]())
    crew: Any = SimpleNamespace(recipe=recipe, learners=learners, sync=sync, quarantine=quarantine)
    updates.crew = crew
    driven = updates._credit.of_batch(turns_of(episode(0, [10.0, 10.0]), episode(1, [10.0, -50.0])))

    async def learn(step: int) -> None:
        await updates._learn(ExperienceBatch(step, driven, 11, 1.0))
        await updates._recorded()

    asyncio.run(learn(1))
    assert learners.asked == first
    asyncio.run(learn(2))
    assert learners.asked == [*first, "update"]


def test_moments_are_forgotten_also_where_the_first_batch_teaches_nothing(updates: Updates) -> None:
    learners = NotingLearners()
    crew: Any = SimpleNamespace(recipe=RECIPE, learners=learners, quarantine=SimpleNamespace(ids=frozenset[str]()))
    updates.crew = crew
    alike = updates._credit.of_batch(turns_of(episode(0, [10.0]), episode(1, [10.0])))
    metrics = asyncio.run(updates._learn(ExperienceBatch(1, alike, 11, 1.0)))
    assert metrics["updates"] == 0.0
    assert learners.asked == ["forget_moments"]


def test_images_are_kept_for_the_steps_after_a_checkpoint(updates: Updates) -> None:
    driver = updates.crew.driver
    assert driver is not None
    folders = [driver.folder_of(frames_of(step)) for step in (1, 2, 10)]
    for folder in folders:
        folder.mkdir(parents=True)
    driver.forget_steps(2)
    assert [folder.is_dir() for folder in folders] == [False, False, True]


def test_an_action_is_one_token_of_the_tiny_policy_and_a_thought_before_it_four() -> None:
    for answer, thought in (("act", ""), ("think", "I see a car. It is in my way. I slow down. So I do this: ")):
        settings = DrivingSettings.model_validate({"answer": answer})
        tokenizer = train_tokenizer(spoken_text(settings), VOCABULARY)
        for action in ACTIONS:
            assert len(tokenizer(thought + action.text)["input_ids"]) == (5 if thought else 1), action.text
