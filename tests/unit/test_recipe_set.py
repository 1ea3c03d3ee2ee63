from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.recipe_set import interval, main, of_specialists, run_once
from data.sample import TASKS


def reached(**rewards: float) -> Any:
    tasks = {task: SimpleNamespace(reward=rewards.get(task, 50.0)) for task in TASKS}
    return SimpleNamespace(tasks=tasks, behavior_accuracy=0.25)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nope", "nope holds no base.yaml: name a folder of recipes, such as recipes/strategies"),
        ("broken", "base.yaml: unknown key rum (did you mean run?)"),
    ],
)
def test_a_folder_that_is_no_set_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, said: str
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "base.yaml").write_text("run: {name: x, steps: 1}\nrum: {}\n")
    assert main([str(tmp_path / folder), "--root", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert told.count("\n") == 1


def test_the_interval_of_three_seeds_is_student_s() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["half_width"] == pytest.approx(4.302653 / 3**0.5)  # t of 2 degrees of freedom, deviation 1
    assert interval([4.0]) == {"mean": 4.0, "half_width": None}
    assert interval([]) == {"mean": None, "half_width": None}


def test_specialists_are_each_measured_on_their_own_task() -> None:
    found = {f"separate_{task}": [reached(**{task: 80.0})] for task in TASKS} | {"joint": [reached()]}
    (row,) = of_specialists(found)["separate"]
    assert [row[task] for task in TASKS] == [80.0] * 4
    assert (row["mean"], row["behavior_accuracy"]) == (80.0, 25.0)
    del found["separate_planning"]
    assert of_specialists(found) == {}


@pytest.mark.slow
def test_what_another_command_left_is_never_taken_for_this_one_s(tmp_path: Path) -> None:
    leaves = tmp_path / "left.txt"
    script = tmp_path / "write.py"
    script.write_text("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])")
    run_once(leaves, str(script), str(leaves), "first")
    assert leaves.read_text() == "first"
    leaves.write_text("kept")
    run_once(leaves, str(script), str(leaves), "first")
    assert leaves.read_text() == "kept"
    with pytest.raises(SystemExit, match="was left by another command"):
        run_once(leaves, str(script), str(leaves), "second")
    assert json.loads((tmp_path / "left.txt.command").read_text())[-1] == "first"
