from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commands import sweep
from commands.sweep import main, run_once
from data.errors import DataError
from data.sample import TASKS
from evaluation.seeds import interval, of_specialists
from tests.page import Page
from tests.unit.test_findings import about, measured

ROOT = Path(__file__).parents[2]


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
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert said in printed
    assert printed.count("\n") == 1


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
    with pytest.raises(DataError, match="was left by another command"):
        run_once(leaves, str(script), str(leaves), "second")
    assert json.loads((tmp_path / "left.txt.command").read_text())[-1] == "first"


class Runs:
    """Stands in for the training scripts: a run leaves the evaluation that its learning rate earns."""

    def __init__(self, *codes: int) -> None:
        self.codes, self.begun = list(codes), list[list[str]]()

    def __call__(self, command: list[str], **_: Any) -> SimpleNamespace:
        self.begun.append(command)
        code = self.codes.pop(0) if self.codes else 0
        if code == 0:
            given = dict(part.split("=", 1) for part in command[3:])
            name = given.get("run.name", "tiny").strip('"')
            after = Path(given["run.root"]) / name / "evaluation" / "after.json"
            after.parent.mkdir(parents=True)
            after.write_text(measured("after", about(40.0 + 1e5 * float(given["learner.lr"]))).to_json())
        return SimpleNamespace(returncode=code)


ARGUMENTS = [str(ROOT / "recipes" / "tiny.yaml"), "--seeds", "0", "1", "--set", "learner.lr=1e-4,2e-4", "run.steps=1"]


def test_settings_are_crossed_with_seeds_and_reported_with_intervals_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep.subprocess, "run", runs := Runs())
    assert main([*ARGUMENTS, "--root", str(tmp_path), "--name", "rates"]) == 0
    assert len(runs.begun) == 4
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["recipes"]["lr=1e-4"]["mean"]["mean"] == pytest.approx(49.05)
    assert printed["recipes"]["lr=2e-4"]["mean"]["mean"] == pytest.approx(59.05)
    page = Page((tmp_path / "rates" / "sweep.html").read_text())
    assert "4 of 4 runs, 2 settings over 2 seeds" in page.text
    assert "highest mean reward: lr=2e-4" in page.text
    assert "seed-1/lr=2e-4/report.html" in {value for _, name, value in page.attributes if name == "href"}


def test_a_sweep_that_was_interrupted_goes_on_and_runs_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep.subprocess, "run", Runs(0, 130))
    assert main([*ARGUMENTS, "--root", str(tmp_path)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(sweep.subprocess, "run", runs := Runs())
    assert main([*ARGUMENTS, "--root", str(tmp_path)]) == 0
    assert len(runs.begun) == 3
    assert all("run.resume=true" in command for command in runs.begun)


def test_a_run_that_fails_is_reported_and_the_others_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep.subprocess, "run", runs := Runs(1))
    assert main([*ARGUMENTS, "--root", str(tmp_path)]) == 1
    assert len(runs.begun) == 4
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["unfinished"] == {"lr=1e-4, seed 0": "ended with exit code 1; the same command tries it again"}


@pytest.mark.parametrize("given", ["learner.lr", "learner.lr=", "learner.lr=1e-4,,"])
def test_values_that_are_none_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str) -> None:
    assert main([ARGUMENTS[0], "--set", given, "--root", str(tmp_path)]) == 2
    assert f"--set {given} must look like" in capsys.readouterr().err


def test_a_dry_run_lists_the_commands_and_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep.subprocess, "run", runs := Runs())
    assert main([str(ROOT / "recipes" / "strategies"), "--seeds", "0", "--root", str(tmp_path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), runs.begun) == (7, [])
    assert lines[0].startswith("base, seed 0: python train_grpo.py")
    assert "seed-0/base/policy" in lines[1]
