"""Recipes of several stages: which of them a resumed run passes over."""

from __future__ import annotations

from pathlib import Path

from commands.reinforce import is_finished
from recipe import load_recipe


def test_a_stage_that_was_interrupted_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    recipe = load_recipe(["recipes/tiny.yaml", f"run.root={tmp_path}", "run.name=a", "run.steps=20"])
    folder = tmp_path / "a"
    for left in ("policy", "checkpoints/step_000013"):
        (folder / left).mkdir(parents=True)
    (folder / "report.html").touch()
    assert not is_finished(recipe)
    (folder / "checkpoints" / "step_000020").mkdir()
    assert is_finished(recipe)
