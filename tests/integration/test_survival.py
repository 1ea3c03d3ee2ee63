"""Runs that lose an engine or a learner rank and go on, on the real stack: nothing is lost and nothing learnt twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.training import prepare, run_reinforcement
from evaluation.run_record import MASKED_ROLLOUTS, ROLLOUTS, read_run
from failures import ActorLost, LearnerLost, RolloutExhausted, TooManyRefused
from recipe import Recipe, load_recipe
from tests.integration import faults
from tests.integration.conftest import QUICK_ENGINE, ROOT, SMALL, MakeRecipe, any_node

pytestmark = pytest.mark.usefixtures("ray_session")

PLAIN = ("evaluation.before_and_after=false", "run.checkpoint_every=2")


def run(recipe: Recipe, deaths: int, **classes: Any) -> list[dict[str, Any]]:
    """The metrics of the steps of a run in which something dies `deaths` times."""
    Path(recipe.run.root, "deaths").write_text(str(deaths))
    prepared = prepare(recipe)
    assert asyncio.run(run_reinforcement(prepared, any_node, **classes))
    assert Path(recipe.run.root, "deaths").read_text() == "0", "it did not die as often as it should have"
    steps = [json.loads(line) for line in (prepared.folder / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, recipe.run.steps + 1))
    wanted = recipe.rollout.prompts_per_step * recipe.rollout.group_size
    assert all(step[ROLLOUTS] == wanted and step[MASKED_ROLLOUTS] == 0 for step in steps)
    return steps


@pytest.mark.parametrize(
    "engine",
    [pytest.param(faults.EngineThatDies, marks=pytest.mark.fault), faults.EngineWhoseCoreDies],
    ids=["actor", "EngineCore"],
)
def test_an_engine_that_dies_comes_back_with_the_current_weights(small_recipe: MakeRecipe, engine: type[Any]) -> None:
    last = run(small_recipe("run.steps=4", "learner.lr=3e-3", *PLAIN), 1, engine_class=engine)[-1]
    assert (last["engines/lost"], last["engines/restarted"]) == (1, 1)
    assert last["engines/retried"] > 0
    assert last["probe_gap"] < 1e-4


@pytest.mark.fault
def test_of_two_engines_the_other_goes_on_meanwhile(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=4", "rollout.engines=2", *PLAIN)
    steps = run(recipe, 1, engine_class=faults.EngineThatDies)
    assert steps[-1]["engines/lost"] == 1
    assert all(step["probe_gap"] < 1e-4 for step in steps)


@pytest.mark.parametrize("transport", ["shared_memory", "gloo"])
def test_an_engine_that_dies_while_weights_are_sent_ends_nothing_and_is_not_waited_for(
    small_recipe: MakeRecipe, transport: str
) -> None:
    buckets = (f"sync.transport={transport}", "sync.bucket_mib=0.05")  # many, so that all wait for the one that is gone
    recipe = small_recipe("run.steps=3", "rollout.engines=2", *buckets, QUICK_ENGINE, *PLAIN)
    steps = run(recipe, 1, engine_class=faults.EngineThatDiesReceiving)
    assert steps[-1]["engines/lost"] >= 1
    assert all(step["sync_s"] < recipe.sync.timeout_s for step in steps)
    gaps = [step["probe_gap"] for step in steps if "probe_gap" in step]
    assert len(gaps) >= len(steps) - 1, "in the step of the loss the other engine may be away too"
    assert max(gaps) < 1e-4


def test_a_driver_that_is_killed_learns_again_from_what_it_had_written_as_if_nothing_had_been(tmp_path: Path) -> None:
    settings = (f"run.root={tmp_path}", *SMALL, "run.steps=4", QUICK_ENGINE, "evaluation.before_and_after=false")
    command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", *settings, "run.name=killed"]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("step 2/4"):
            break
    first.kill()
    first.wait(60)
    folder = tmp_path / "killed"
    written = {path.name: path.read_bytes() for path in sorted((folder / "samples").glob("*.parquet"))}
    assert len(written) >= 2
    again = subprocess.run([*command, "run.resume=true"], cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert again.returncode == 0, again.stderr[-3000:]
    steps = read_run(folder).steps
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert steps[-1]["learner/replayed"] >= 2
    assert {name: (folder / "samples" / name).read_bytes() for name in written} == written

    unbroken = prepare(load_recipe([str(ROOT / "recipes/tiny.yaml"), *settings, "run.name=unbroken"]))
    assert asyncio.run(run_reinforcement(unbroken, any_node))
    expected = read_run(unbroken.folder).steps
    assert [learnt(step) for step in steps] == [learnt(step) for step in expected]
    assert any(step["grad_norm"] > 0 for step in steps)


def learnt(step: dict[str, Any]) -> dict[str, Any]:
    """The figures of a step that do not say how long something took, or what was lost on the way."""
    apart = ("_s", "time", "engines/asked", "learner/replayed")
    return {name: value for name, value in step.items() if not name.endswith(apart)}


@pytest.mark.fault
def test_engines_that_die_whenever_they_are_asked_end_the_run(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=3", "rollout.restarts=0", *PLAIN)
    with pytest.raises(ActorLost, match=r"no rollout engine is left \(rollout\.restarts: 0"):
        run(recipe, 99, engine_class=faults.EngineThatDies)


@pytest.mark.fault
def test_a_request_over_which_engine_after_engine_dies_is_given_up(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=3", "rollout.dispatches=1", *PLAIN)
    with pytest.raises(RolloutExhausted, match=r"rollout\.dispatches"):
        run(recipe, 99, engine_class=faults.EngineThatDies)


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.fault), 2])
def test_a_learner_that_dies_learns_again_what_came_since_the_checkpoint(small_recipe: MakeRecipe, ranks: int) -> None:
    recipe = small_recipe("run.steps=4", f"learner.ranks={ranks}", QUICK_ENGINE, *PLAIN)
    last = run(recipe, 1, learner_class=faults.LearnerThatDies)[-1]
    assert last["learner/restarts"] == 1
    assert last["probe_gap"] < 1e-4


@pytest.mark.fault
def test_an_engine_that_hangs_is_found_by_a_probe(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=3", "rollout.probe_timeout_s=5", *PLAIN)
    last = run(recipe, 1, engine_class=faults.EngineThatHangs)[-1]
    assert (last["engines/lost"], last["engines/restarted"]) == (1, 1)
    (kept,) = (recipe.run.folder / "stacks").iterdir()
    assert "EngineThatHangs.die (faults.py:" in kept.read_text()


def test_a_learner_that_hangs_is_found_by_a_probe(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=4", "learner.ranks=2", "learner.probe_timeout_s=20", QUICK_ENGINE, *PLAIN)
    last = run(recipe, 1, learner_class=faults.LearnerThatHangs)[-1]
    assert last["learner/restarts"] == 1
    (kept,) = (recipe.run.folder / "stacks").iterdir()
    assert "LearnerThatHangs.step (faults.py:" in kept.read_text()


@pytest.mark.fault
def test_a_learner_that_keeps_dying_ends_the_run(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=4", "learner.restarts=1", QUICK_ENGINE, *PLAIN)
    with pytest.raises(LearnerLost, match=r"learner rank 0 \(step\).*died"):
        run(recipe, 99, learner_class=faults.LearnerThatDies)


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.fault), 2])
def test_a_learner_that_dies_in_the_warm_start_takes_its_steps_again(small_recipe: MakeRecipe, ranks: int) -> None:
    recipe = small_recipe("run.steps=1", "warm_start.steps=4", f"learner.ranks={ranks}", QUICK_ENGINE, *PLAIN)
    run(recipe, 1, learner_class=faults.LearnerThatDiesWarmingUp)
    lines = (recipe.run.folder / "warm_start.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.fault), 2])
def test_a_checkpoint_without_room_is_written_when_the_next_is_due(small_recipe: MakeRecipe, ranks: int) -> None:
    recipe = small_recipe("run.steps=4", "run.keep_last=0", f"learner.ranks={ranks}", QUICK_ENGINE, *PLAIN)
    last = run(recipe, 1, learner_class=faults.LearnerWithoutRoom)[-1]
    assert last["learner/unsaved"] == 1
    kept = sorted(path.name for path in (recipe.run.folder / "checkpoints").iterdir())
    assert kept == ["step_000000", "step_000004"]


CUT = ("run.steps=3", "data.max_refused_share=0.5", QUICK_ENGINE, *PLAIN)


def refused(recipe: Recipe) -> list[str]:
    faults_found: dict[str, list[str]] = json.loads((recipe.run.folder / "data_faults.json").read_text())
    return faults_found["refused"]


@pytest.mark.fault
def test_questions_whose_images_were_cut_off_give_way_to_others(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe(*CUT)
    run(recipe, 1, engine_class=faults.EngineThatFindsAnImageCut)
    assert refused(recipe)
    report = (recipe.run.folder / "report.html").read_text()
    assert f"refuses sample {refused(recipe)[0]}: image " in report


def test_what_the_learner_cannot_read_any_more_is_left_out_of_its_batch(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe(*CUT, "learner.ranks=2")
    last = run(recipe, 1, learner_class=faults.LearnerThatFindsAnImageCut)[-1]
    assert refused(recipe)
    assert last["learner/restarts"] == 1


@pytest.mark.fault
def test_above_the_share_that_is_allowed_the_run_stops(small_recipe: MakeRecipe) -> None:
    with pytest.raises(TooManyRefused, match=r"data\.max_refused_share=0;"):
        run(small_recipe(*CUT, "data.max_refused_share=0"), 1, engine_class=faults.EngineThatFindsAnImageCut)
