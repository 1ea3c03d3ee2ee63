"""Provenance knows what a run was made with beside the project's own code: a hash for each setting that names it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.record.provenance import extension_hashes, record_provenance
from recipe import Recipe
from rewards.rubric import FOLDER

RUBRIC = (FOLDER / "planning_vqa.md").read_text()


def recipe(**parts: Any) -> Recipe:
    return Recipe.model_validate({"run": {"name": "first"}, **parts})


def scored_by(name: str, **reward: Any) -> Recipe:
    return recipe(reward={"routes": [{"kind": "any", "scorers": {name: 1.0}}], **reward})


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def a_dataset() -> Recipe:
    return recipe(data={"source": "own_extension:Thing"})


def a_reward() -> Recipe:
    return scored_by("own_extension:thing")


def an_engine() -> Recipe:
    plain = recipe()
    return plain.model_copy(update={"rollout": plain.rollout.model_copy(update={"backend": "own_extension:Thing"})})


def an_algorithm() -> Recipe:
    plain = recipe()
    return plain.model_copy(update={"algorithm": plain.algorithm.model_copy(update={"name": "own_extension:Thing"})})


@pytest.mark.parametrize(
    ("named", "setting"),
    [
        (a_dataset, "data.source"),
        (a_reward, "reward.routes.0.scorers.own_extension:thing"),
        (an_engine, "rollout.backend"),
        (an_algorithm, "algorithm.name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_module_of_your_own_is_hashed_wherever_a_setting_names_it(
    here: Path, named: Callable[[], Recipe], setting: str
) -> None:
    for text in ("ONE = 1\n", "TWO = 2\n"):
        (here / "own_extension.py").write_text(text)
        assert extension_hashes(named()) == {setting: sha256(text)}


def test_a_rubric_of_your_own_is_hashed_and_the_built_in_ones_that_a_judge_works_by(tmp_path: Path) -> None:
    own = tmp_path / "mine.md"
    own.write_text(RUBRIC)
    found = extension_hashes(scored_by(f"judge/{own}", judge={"model": "tiny"}))
    assert found[f"reward.routes.0.scorers.judge/{own}"] == sha256(RUBRIC)
    assert found["rewards/rubrics/planning_vqa.md"] == sha256(RUBRIC)
    built_in = {f"rewards/rubrics/{path.name}" for path in FOLDER.glob("*.md")}
    assert set(found) == built_in | {f"reward.routes.0.scorers.judge/{own}"}


def test_without_a_judge_and_names_of_your_own_there_is_nothing_to_hash() -> None:
    assert extension_hashes(recipe()) == {}


def test_what_only_looks_like_a_module_is_left_out(here: Path) -> None:
    assert extension_hashes(recipe(policy={"system_prompt": "Remember:Brake", "model": "no_such_module.x:Model"})) == {}


@pytest.mark.slow
def test_a_run_writes_the_hashes_down(here: Path, tmp_path: Path) -> None:
    (here / "own_extension.py").write_text("ONE = 1\n")
    provenance = record_provenance(a_reward(), [], tmp_path, tmp_path)
    assert provenance.extensions == {"reward.routes.0.scorers.own_extension:thing": sha256("ONE = 1\n")}
    assert '"extensions"' in (tmp_path / "provenance.json").read_text()
