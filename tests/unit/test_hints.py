"""What other trainers call a thing, and slips of the pen: the hint names a key that is there, and its remedy works."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from commands.evaluate import run as evaluate
from data.errors import DataError
from data.faults import Faults
from data.jsonl import read_jsonl
from extension import at_home
from hints import ELSEWHERE, hint_for
from policies.algorithms.registry import make_algorithm
from policies.settings import AlgorithmSettings
from recipe import Recipe, RecipeError, load_recipe
from rewards.errors import RewardError
from rewards.scorers import find_scorer
from rewards.settings import RewardSettings

TINY = "recipes/tiny.yaml"


def is_key(dotted: str) -> bool:
    """Whether a recipe has a key of this name."""
    model: Any = Recipe
    for number, part in enumerate(parts := dotted.split(".")):
        if part == "options":
            return number == len(parts) - 2
        field = model.model_fields.get(part)
        if field is None:
            return False
        annotations = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((one for one in annotations if hasattr(one, "model_fields")), None)
    return True


@pytest.mark.parametrize("here", sorted(set(ELSEWHERE.values())))
def test_every_hint_names_keys_that_a_recipe_has(here: str) -> None:
    named = [key for key in re.findall(r"\b[a-z_]+(?:\.[a-z_0-9]+)+", here) if not key.endswith(".py")]
    assert named
    assert [key for key in named if not is_key(key)] == []


def test_hints_about_an_algorithm_name_its_options() -> None:
    options = {
        name
        for algorithm in ("grpo", "ppo")
        for name in type(make_algorithm(AlgorithmSettings(name=algorithm)).settings).model_fields
    }
    named = {key for here in ELSEWHERE.values() for key in re.findall(r"algorithm\.options\.(\w+)", here)}
    assert named <= options


@pytest.mark.parametrize(
    ("override", "here"),
    [
        ("algorithm.options.epsilon=0.1", "clip_low and algorithm.options.clip_high"),
        ("max_completion_length=64", "rollout.max_tokens"),
        ("rollout.max_new_tokens=64", "rollout.max_tokens"),
        ("num_generations=4", "rollout.group_size"),
        ("rollout.n=4", "rollout.group_size"),
        ("learner.learning_rate=1e-4", "learner.lr"),
        ("beta=0", "algorithm.options.kl_beta"),
        ("run.save_total_limit=2", "run.keep_last"),
    ],
)
def test_names_of_other_trainers_are_answered_with_ours(override: str, here: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(here)):
        load_recipe([TINY, override])


def test_a_name_that_looks_like_a_number_is_to_be_quoted() -> None:
    with pytest.raises(RecipeError, match=re.escape("'run.name=\"123\"'")):
        load_recipe([TINY, "run.name=123"])
    assert load_recipe([TINY, 'run.name="123"']).run.name == "123"


def test_a_recipe_is_found_by_its_stem() -> None:
    with pytest.raises(RecipeError, match=r"did you mean recipes/tiny\.yaml\?"):
        load_recipe(["tiny.yml"])


def test_an_override_of_one_key_merges_into_the_default_mapping(tmp_path: Path) -> None:
    assert load_recipe([TINY, "data.task_shares.prediction=0"]).data.task_shares == {"any": 1.0, "prediction": 0.0}
    written = tmp_path / "whole.yaml"
    written.write_text("run: {name: x}\ndata: {task_shares: {planning: 1}}\n")
    assert load_recipe([str(written)]).data.task_shares == {"planning": 1.0}
    both = load_recipe([str(written), "data.task_shares.behavior=2"]).data.task_shares
    assert both == {"planning": 1.0, "behavior": 2.0}


def test_a_misspelt_field_of_a_line_is_named_and_not_the_one_it_leaves_missing(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "q1", "scene_id": "s", "task": "planning", "kind": "open_ended", "qestion": "?"}\n')
    with pytest.raises(DataError, match=r"line 1: unknown key qestion \(did you mean question\?\)"):
        list(read_jsonl(path, Faults(strict=True)))


def test_a_reward_that_is_not_found_says_where_modules_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RewardError, match=r"looked for in .*put not_here_yet\.py there, .*export PYTHONPATH"):
        find_scorer("not_here_yet:polite", "reward", RewardSettings())
    (tmp_path / "not_here_yet.py").write_text("def polite(sample, text):\n    return 100.0\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])  # as PYTHONPATH does at the next start
    find_scorer("not_here_yet:polite", "reward", RewardSettings())


def test_evaluate_alone_says_what_it_takes_and_which_runs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "recipe.yaml").write_text("run: {name: mine}\n")
    assert evaluate([]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("runs/mine", "recipes/tiny.yaml", "drivebench", "compare"))


@pytest.mark.parametrize("argument", ["~/a", "--recipe=~/a"])
def test_the_home_folder_is_found_in_arguments(argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert at_home(argument) == argument.replace("~", "/home/me")
    assert at_home("a~/b") == "a~/b"


def test_the_home_folder_is_found_in_a_recipe_and_in_image_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = load_recipe([TINY, "data.source=jsonl", "data.options.annotations=~/own.jsonl", "policy.model=~/model"])
    assert recipe.data.options["annotations"] == str(tmp_path / "own.jsonl")
    assert recipe.policy.model == str(tmp_path / "model")
    line = '{"id": "q", "scene_id": "s", "task": "signs", "kind": "open_ended", "question": "?", "answer": "A.", '
    (tmp_path / "own.jsonl").write_text(line + '"images": {"CAM_FRONT": "~/a.jpg"}}\n')
    (sample,) = read_jsonl(tmp_path / "own.jsonl", Faults(), check_images=False)
    assert sample.images["CAM_FRONT"] == str(tmp_path / "a.jpg")


def test_unknown_names_have_no_hint() -> None:
    assert hint_for("temprature") is None
