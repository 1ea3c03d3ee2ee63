"""The ledger of a run: advantages derived again, one response's whole life, and what another reward would change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import torch

from actors.experience import Credit
from actors.record.journal import Journal
from actors.record.run_folder import create_run_folder
from commands.audit import main
from data.errors import DataError
from data.load import load_data
from data.rollout import Rollout, seed_of
from data.sample import DrivingSample
from evaluation.ledger import changes, updates
from evaluation.rollout_rows import write_rollouts
from evaluation.run_record import learnt_path, samples_path
from failures import RunFolderError
from policies.algorithms.registry import make_algorithm
from policies.batch import TrainingGroup, TrainingResponse
from policies.learnt import Learnt
from policies.losses import PolicyLossInput
from policies.prompt import PromptEncoder
from recipe import Recipe, load_recipe
from rewards.group import Group, ScoredRollout
from rewards.score import Score

Captured = pytest.CaptureFixture[str]


def scored(sample: DrivingSample, step: int, index: int, text: str, value: float) -> ScoredRollout:
    seed = seed_of(0, f"step {step}", sample.id, index)
    engine = "rollout engine 0"
    ids = (f"{seed:016x}", sample.id, (1, 2), (7, 8), (-0.5, -0.25))
    rollout = Rollout(*ids, text, "stop", step - 1, engine, 10.0, 11.5, seed)
    return ScoredRollout(rollout, Score(value, {"option": value}), 11.6)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two steps of two questions, each answered rightly once and wrongly once; the rewards are as the recipe's."""
    recipe = load_recipe(["recipes/tiny.yaml", f"run.root={tmp_path}", "run.name=audited", "data.options.scenes=6"])
    folder = create_run_folder(recipe)
    samples = [one for one in load_data(recipe.data, tmp_path).split.train if one.task == "behavior"][:2]
    credit = Credit(make_algorithm(recipe.algorithm), 24, cast(PromptEncoder, None))
    with Journal(recipe, folder) as journal:
        for step in (1, 2):
            groups = [credit.assigned(answered(sample, step)) for sample in samples]
            write_rollouts(samples_path(folder, step), step, groups, {"recipe": ""})
            journal.record(step, groups, {"loss": 0.5, "probe_gap": 1e-6, "grad_norm": 0.1, "lr": 1e-4})
    used = {name: torch.zeros(2, 2) for name in ("logprobs_R_T", "old_logprobs_R_T", "rollout_logprobs_R_T")}
    seen = PolicyLossInput(**used, reference_logprobs_R_T=torch.full((2, 2), -3.0),
                           advantages_R_T=torch.tensor([[0.5], [-0.5]]), mask_R_T=torch.ones(2, 2))  # fmt: skip
    learnt, group = Learnt(), answered(samples[0], 1)
    responses = [TrainingResponse((7, 8), (-0.5, -0.25), (0.5, 0.5), one.rollout.request_id) for one in group.rollouts]
    learnt.add([TrainingGroup((), (1, 2), tuple(responses))], seen)
    learnt.write(learnt_path(folder, 1, 0))
    sync = {"step": 1, "version": 1, "engines": ["rollout engine 0"], "compared": 9, "incomparable": 1, "gap": 1e-6}
    (folder / "syncs.jsonl").write_text(json.dumps(sync) + "\n")
    return folder


def answered(sample: DrivingSample, step: int) -> Group:
    wrong = next(letter for letter in sample.choices if letter != sample.answer)
    texts = ((f"{sample.answer}. {sample.choices[sample.answer]}", 100.0), (f"{wrong}. {sample.choices[wrong]}", 0.0))
    return Group(sample, tuple(scored(sample, step, index, *of) for index, of in enumerate(texts)))


def test_every_advantage_is_derived_again_from_the_files_alone(run: Path, capsys: Captured) -> None:
    assert main([str(run)]) == 0
    said = capsys.readouterr().out.splitlines()
    first, second = (line.split() for line in said[1:3])
    assert (first[:5], second[:5]) == (["1", "4", "0", "0", "1"], ["2", "4", "0", "1", "1"])
    assert (first[7], second[7]) == ("0.207", "–"), (
        "the learner used 0.5 where 0.707 was due; of step 2 it wrote nothing"
    )
    assert said[-1] == "8 advantages derived again; the largest difference is 0"


def test_an_advantage_that_was_tampered_with_shows(run: Path, capsys: Captured) -> None:
    (update,) = updates(run, 2)
    group, other = update.groups
    write_rollouts(samples_path(run, 2), 2, [Group(group.sample, group.rollouts, (0.75, -0.70710678)), other], {})
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "8 advantages derived again; the largest difference is 0.0429"


def test_the_life_of_a_response_is_found_by_the_beginning_of_its_id(run: Path, capsys: Captured) -> None:
    (update,) = updates(run, 2)
    one = update.groups[0].rollouts[0].rollout
    assert main([str(run), "--rollout", one.request_id[:8]]) == 0
    said = capsys.readouterr().out
    for part in (
        one.request_id,
        str(one.seed),
        "with weights 1",
        "derived again +0.7071",
        "probe gap 1e−6",
        "scored     0.10 s",
    ):
        assert part in said
    with pytest.raises(DataError, match="no rollout of .* begins with zzz"):
        main([str(run), "--rollout", "zzz"])


def test_what_the_learner_saw_is_part_of_a_life(run: Path, capsys: Captured) -> None:
    (update,) = updates(run, 1)
    assert main([str(run), "--rollout", update.groups[0].rollouts[1].rollout.request_id]) == 0
    assert "old_logprobs 0, reference_logprobs −3, advantages −0.5" in capsys.readouterr().out


def test_the_responses_of_a_step_are_listed_with_their_seeds(run: Path, capsys: Captured) -> None:
    assert main([str(run), "--step", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "advantage" in line]
    assert len(lines) == 4
    assert all("seed" in line and "version 0" in line for line in lines)
    with pytest.raises(DataError, match="no rollouts of step 7; it has steps 1 to 2"):
        main([str(run), "--step", "7"])


@pytest.mark.slow  # one's own rewards run in processes
def test_another_reward_says_what_it_would_have_changed(run: Path, capsys: Captured, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("run: {name: other}\nreward: {routes: [{scorers: {'tests.other_rewards:upside_down': 1.0}}]}\n")
    assert main([str(run), "--reward", str(other)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].split() == ["1", "4", "50.0", "->", "50.0", "4", "1.41", "4", "0", "0"]
    assert any("reward 100.0 -> 0.0" in line for line in said)
    assert main([str(run), "reward.routes=[{scorers: {'tests.other_rewards:all_alike': 1.0}}]", "--step", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].split() == ["2", "4", "50.0", "->", "30.0", "4", "0.707", "0", "2", "0"]


def test_a_masked_response_is_compared_with_nothing() -> None:
    sample = DrivingSample("q", "s", "f", "behavior", "open_ended", "What?", "Go.", {})
    group = Group(sample, (scored(sample, 1, 0, "a", 1.0), scored(sample, 1, 1, "b", 2.0)), (None, 1.0))
    now = Group(sample, group.rollouts, (0.5, -1.0))
    found = changes(1, [group], [now])
    assert (found.responses, found.compared, found.largest, found.turned) == (2, 1, 2.0, 1)


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"is not the folder of a run: there is no recipe\.yaml in it"):
        main([str(tmp_path)])
    recipe = Recipe.model_validate({"run": {"name": "empty", "root": str(tmp_path)}})
    with pytest.raises(DataError, match="holds no rollouts"):
        main([str(create_run_folder(recipe))])
