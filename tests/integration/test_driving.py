"""Episodes on real workers and engines: what crashes or hangs costs its own episodes; a run drives and learns."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.driving.environments import Environments
from actors.driving.episodes import EpisodeDriver
from actors.training import prepare, run_reinforcement
from data.driving.actions import ACTIONS
from data.environment import Observation, Outcome, Step
from data.episode import Start
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from data.settings import EnvironmentSettings
from evaluation.driving import read_driving
from evaluation.rollout_rows import read_rollouts
from evaluation.run_record import read_run, samples_path
from extension import NoOptions
from recipe import load_recipe
from rewards.episode import Episode
from tests.integration.conftest import QUICK_ENGINE, ROOT, any_node

pytestmark = pytest.mark.usefixtures("ray_session")


class Deadly:
    """Ends after three turns; in its second turn it kills its worker, or hangs, where the scenario says so."""

    Settings = NoOptions
    measures = ("progress",)

    def __init__(self, settings: NoOptions) -> None:
        """Nothing to take."""

    def scenarios(self, *, held_out: bool) -> tuple[str, ...]:
        """What can go wrong."""
        return ("well", "dies", "hangs")

    def reset(self, scenario: str, seed: int) -> Observation:
        """Begin."""
        self.scenario, self.turn = scenario, 0
        return Observation("?")

    def step(self, response: str, seconds: float) -> Step:
        """Count, or go wrong."""
        self.turn += 1
        if self.turn == 2 and self.scenario == "dies":
            os._exit(1)
        if self.turn == 2 and self.scenario == "hangs":
            time.sleep(600)
        return Step(None if self.turn == 3 else Observation("?"), {"progress": 0.25})

    def outcome(self) -> Outcome:
        """Nothing is kept."""
        return Outcome()


class Parrots:
    """Stands for the engines, which are not the point here: answers every request at once."""

    def requests(
        self, samples: Sequence[DrivingSample], count: int, sampling: SamplingSettings, draw: str
    ) -> list[GenerationRequest]:
        return [GenerationRequest(f"{draw} {sample.id}", sample, sampling) for sample in samples]

    async def generate(
        self,
        requests: Sequence[GenerationRequest],
        finished: Callable[[Rollout], None],
        refused: Callable[[Refusal], None],
    ) -> None:
        for one in requests:
            finished(Rollout(one.request_id, one.sample.id, (1,), (2,), (0.0,), "x", "stop", 0, "parrot", 0.0, 1.0))


def drive(folder: Path, settings: EnvironmentSettings, scenarios: list[str]) -> tuple[list[Episode], Environments]:
    async def go() -> tuple[list[Episode], Environments]:
        environments = await Environments.start(settings, any_node)
        engines: Any = Parrots()
        driver = EpisodeDriver(environments, engines, settings, folder)
        starts = [Start(scenario, seed) for seed, scenario in enumerate(scenarios)]
        episodes, _ = await driver.drive(starts, 1, SamplingSettings(1.0, 4), "test")
        more, _ = await driver.drive([Start("well", 9), Start("well", 10)], 1, SamplingSettings(1.0, 4), "again")
        await environments.close()
        return [*episodes, *more], environments

    return asyncio.run(go())


@pytest.mark.parametrize(("scenario", "timeout_s"), [("dies", 60.0), ("hangs", 3.0)])
def test_a_worker_that_dies_or_hangs_is_started_again_and_its_episodes_are_counted_not_scored(
    tmp_path: Path, scenario: str, timeout_s: float
) -> None:
    settings = EnvironmentSettings(
        name="tests.integration.test_driving:Deadly",
        weights={"progress": 100.0},
        workers=2,
        waves=1,
        timeout_s=timeout_s,
    )
    episodes, environments = drive(tmp_path, settings, ["well", scenario, "well", "well"])
    lost = [one for one in episodes if one.failure is not None]
    # Episodes are dealt out in turn: those with odd numbers shared the worker that was lost.
    assert [one.start.seed for one in lost] == [1, 3]
    assert all((one.failure or "").startswith("environment_lost: ") for one in lost)
    assert [one.score for one in episodes if one.failure is None] == [75.0] * 4
    assert environments.counts.lost == 1
    assert environments.counts.failed["lost"] == 2


SMALL = (
    "run.steps=2",
    "run.checkpoint_every=1",
    "data.options.scenarios=11",
    "rollout.prompts_per_step=2",
    "rollout.group_size=2",
    "rollout.threads=1",
    "learner.threads=1",
    "warm_start.steps=2",
    "warm_start.batch_size=8",
    "warm_start.evaluate_every=0",
    "environment.measured_each=1",
    "environment.max_turns=6",
    "environment.options.families=[bend, van_child]",
    "environment.options.held_out_families=[bus_stop]",
    "environment.demonstrated=4",
    QUICK_ENGINE,
)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics of every step; of one that was replayed, its latest."""
    return list(read_run(folder).steps)


def test_a_run_copies_the_expert_drives_learns_and_is_measured_with_its_control(tmp_path: Path) -> None:
    given = [str(ROOT / "recipes/tiny_closed_loop.yaml"), f"run.root={tmp_path}", *SMALL]
    folder = tmp_path / "tiny_closed_loop"
    prepared = prepare(load_recipe(given))
    assert asyncio.run(run_reinforcement(prepared, any_node))
    steps = steps_of(folder)
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert step["episodes"] == 4
        assert step["rollouts/count"] == step["episodes/turns"]
        assert step["probe_gap"] < 1e-4
        assert step["episodes/failed"] == 0
        groups, _ = read_rollouts(samples_path(folder, step["step"]))
        said = [one.rollout for group in groups for one in group.rollouts]
        whole = tuple(action.text.lower().rstrip(".") for action in ACTIONS)
        cut = [one.text.lower().rstrip(". \n") for one in said if one.finish_reason == "length"]
        assert not [text for text in cut if text.endswith(whole)], "an answer that was whole was not cut off"
        assert len(said) * step["response/overlong_share"] == pytest.approx(len(cut))
    assert [one.name for one in (folder / "frames").iterdir()] == ["step-2"], (
        "images before the last checkpoint are gone"
    )
    for name in ("before", "after", "continued_warm_start"):
        result = read_driving(folder, name)
        assert result is not None
        assert result.parts["scenarios"].episodes == 2
        assert result.parts["families"].episodes == 1
    assert "animateTransform" in (folder / "report.html").read_text()


def test_a_critic_learns_from_turns_what_comes_after_them(tmp_path: Path) -> None:
    ppo = ("algorithm.name=ppo", "algorithm.options.updates_per_batch=2", "evaluation.control=false")
    given = [str(ROOT / "recipes/tiny_closed_loop.yaml"), f"run.root={tmp_path}", *SMALL, *ppo]
    prepared = prepare(load_recipe([*given, "evaluation.before_and_after=false"]))
    assert asyncio.run(run_reinforcement(prepared, any_node))
    for step in steps_of(prepared.folder):
        assert step["rollouts/count"] == step["episodes/turns"]
        assert step["updates"] == 2
        assert step["value_error"] > 0


def test_a_run_that_is_killed_amid_a_batch_of_episodes_drives_them_again_as_they_were(tmp_path: Path) -> None:
    plain = ("run.steps=3", "evaluation.control=false", "evaluation.before_and_after=false")
    given = ("recipes/tiny_closed_loop.yaml", f"run.root={tmp_path}", *SMALL, *plain)
    command = [sys.executable, "train_grpo.py", *given, "run.name=killed"]
    folder = tmp_path / "killed"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as first:
        try:
            deadline = time.monotonic() + 600.0
            while not any((folder / "frames" / "step-2").rglob("*.*")):
                assert first.poll() is None, "it ended before its second step"
                assert time.monotonic() < deadline, "it never drove in its second step"
                time.sleep(0.02)
        finally:
            first.kill()
    assert [step["step"] for step in steps_of(folder)] == [1]
    again = subprocess.run([*command, "run.resume=true"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr[-3000:]
    unbroken = prepare(load_recipe([*given, "run.name=unbroken"]))
    assert asyncio.run(run_reinforcement(unbroken, any_node))
    figures = ("step", "reward/mean", "episodes/turns", "loss", "grad_norm")
    found, expected = ([[step[name] for name in figures] for step in steps_of(f)] for f in (folder, unbroken.folder))
    assert found == expected
