"""`python -m commands.runs`: lists, shows, compares, tags and cleans the runs of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.runs import main
from evaluation.run_record import evaluation_path
from tests.unit.test_findings import about, measured, run_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, worth, lr in (("first", 60.0, 1), ("second", 80.0, 2)):
        results = [measured("before", about(50.0)), measured("after", about(worth))]
        folder = run_of(tmp_path / name, [{"step": 9, "reward/mean": worth}], *results)
        (folder / "recipe.yaml").write_text(f"run: {{name: {name}, steps: 9, tags: [rates]}}\nlearner: {{lr: {lr}}}\n")
        (folder / "policy").mkdir()
        (folder / "report.html").write_text("")
        (folder / "checkpoints" / "step_000009").mkdir(parents=True)
        (folder / "checkpoints" / "step_000009" / "weights").write_bytes(b"x" * 3_000_000)
    stopped = run_of(tmp_path / "third", [{"step": 4, "reward/mean": 1.0}])
    (stopped / "checkpoints").mkdir()
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_every_run_has_a_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(root), "--json"]) == 0
    lines = {line["name"]: line for line in map(json.loads, printed(capsys).splitlines())}
    assert {name: (line["state"], line["step"]) for name, line in lines.items()} == {
        "first": ("finished", 9), "second": ("finished", 9), "third": ("stopped", 4),
    }  # fmt: skip
    assert lines["second"]["after"] > lines["first"]["after"] > lines["first"]["before"]
    assert main(["list", "--root", str(root)]) == 0
    assert "3 runs in" in printed(capsys)


def test_a_run_that_another_process_works_on_is_running(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    with FileLock(root / "third" / ".lock"):
        assert main(["show", "third", "--root", str(root), "--json"]) == 0
    assert json.loads(printed(capsys))["state"] == "running"


def test_runs_are_compared_by_what_differs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "first", "second", "--root", str(root), "--json"]) == 0
    assert json.loads(printed(capsys))["settings"] == {"learner.lr": ["1", "2"]}
    assert main(["compare", "first", "second", "--root", str(root)]) == 0
    assert "python evaluate.py compare" in printed(capsys)


def test_tags_are_given_and_taken_and_found_by(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tag", "first", "good", "-rates", "--root", str(root)]) == 0
    assert printed(capsys) == "first: good\n"
    assert main(["list", "--tag", "good", "--root", str(root), "--json"]) == 0
    assert [json.loads(line)["name"] for line in printed(capsys).splitlines()] == ["first"]


def test_cleaning_removes_checkpoints_of_finished_runs_when_it_is_said(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", "--root", str(root)]) == 0
    assert "with --yes it is" in printed(capsys)
    assert (root / "first" / "checkpoints").is_dir()
    assert main(["clean", "--yes", "--root", str(root)]) == 0
    assert "6 MiB freed" in printed(capsys)
    assert not (root / "first" / "checkpoints").exists()
    assert evaluation_path(root / "first", "after").is_file()
    assert (root / "third" / "checkpoints").is_dir(), "it can go on"


def test_an_unknown_run_is_one_sentence_with_the_nearest(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "frist", "--root", str(root)]) == 2
    assert "holds no run frist (did you mean first?)" in capsys.readouterr().err
