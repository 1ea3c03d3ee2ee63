"""What `benchmarks.closed_loop --pool` makes of finished runs: pairs by scenario, and nothing that a run lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.closed_loop import pooled
from evaluation.driving import DrivingResult, EpisodeRecord
from recipe import dump_recipe, load_recipe

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "recipes/tiny_closed_loop.yaml")


def run(folder: Path, scores: Mapping[str, float], *, control: bool) -> Path:
    """A run that was measured once in each part, with these driving scores by measurement."""
    folder.mkdir()
    recipe = load_recipe([TINY, f"evaluation.control={str(control).lower()}"])
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    for name, score in scores.items():
        drives = tuple(driven(part, score) for part in ("scenarios", "families"))
        DrivingResult(name=name, weight_version=0, parts={}, scenarios={}, episodes=drives).write(folder)
    return folder


def driven(part: str, score: float) -> EpisodeRecord:
    record = {"scores": {"score_composed": score}, "infractions": {}}
    plain: dict[str, Any] = {
        "seed": 0,
        "score": score,
        "failure": None,
        "trace": {},
        "turns": 1,
        "tokens": 1,
        "unknown_actions": 0,
    }
    return EpisodeRecord.model_validate({"scenario": "bend", "part": part, "record": record, **plain})


def test_runs_without_a_control_are_pooled_without_one(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(seed), {"before": 60.0, "after": 60.0 + seed}, control=False) for seed in (10, 20)]
    found = pooled(runs)
    assert found["seeds"] == 2
    assert not [name for name in found if "control" in name]
    assert found["gain_over_before"]["gain"] == pytest.approx(15.0)  # type: ignore[index]


def test_a_control_that_was_asked_for_and_is_missing_is_said(tmp_path: Path) -> None:
    whole = {"before": 60.0, "after": 80.0}
    with pytest.raises(SystemExit, match="has no measurement control: let the run end"):
        pooled([run(tmp_path / "given-up", whole, control=True)])
    with_one = run(tmp_path / "with", whole | {"continued_warm_start": 62.0}, control=True)
    assert pooled([with_one])["gain_over_control"]["gain"] == pytest.approx(18.0)  # type: ignore[index]
    with pytest.raises(SystemExit, match="only one has a control"):
        pooled([with_one, run(tmp_path / "without", whole, control=False)])
