"""What a person reads whose command line is not quite right: their own words, not a recipe's keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import prepare_data
from commands import evaluate
from commands.script import guarded

LINE = {"scene_id": "s", "task": "planning", "kind": "yes_no", "question": "Safe?", "answer": "Yes.", "images": {}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "a.json", "--format", "drivelm"), "--image-root is missing (the folder that holds"),
        (("check", "gone.jsonl"), "gone.jsonl does not exist"),
        (("check", "a.json", "--format", "drivelmm"), "--format=drivelmm is unknown (did you mean drivelm?"),
        (("convert", "drivebnch", "a.json", "b.jsonl"), "FORMAT=drivebnch is unknown (did you mean drivebench?"),
        (("convert", "bdd_oia", "a.json", "b.jsonl", "--frames", "0"), "--frames: Input should be greater than"),
        (("convert", "drivelm", "a.json", "b.jsonl", "--image-root", "gone"), "image_root gone has no folder samples"),
        (
            ("distil", "--out", "r.jsonl", "--url", "http://x", "--model", "m"),
            "--annotations is missing (the JSON file)",
        ),
    ],
)
def test_what_a_dataset_lacks_is_said_in_the_words_of_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    assert prepare_data.main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert "data.options" not in error


@pytest.mark.parametrize(("name", "hint"), [("rendred", "did you mean rendered?"), ("runs/nope", "known: drivelm,")])
def test_a_benchmark_or_run_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], name: str, hint: str
) -> None:
    assert guarded(lambda: evaluate.main([name, "--model", "runs/tiny"])) == 2
    assert f"{name} is no recipe file, no run folder and no benchmark ({hint}" in capsys.readouterr().err


def test_one_fault_of_each_reason_is_shown_and_a_file_lists_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {
        "scene_id": "s",
        "task": "planning",
        "kind": "yes_no",
        "question": "Is it safe?",
        "answer": "Yes.",
        "images": {},
    }
    entries = [line | {"id": "a"}, LINE | {"id": "a"}, *(LINE | {"id": str(n), "answer": ""} for n in range(3))]
    file, listed = tmp_path / "x.jsonl", tmp_path / "faults.json"
    file.write_text("\n".join(map(json.dumps, entries)))
    assert prepare_data.main(["check", str(file)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("duplicate") >= 1
    assert "and 2 more; --faults FILE lists them" in shown
    assert prepare_data.main(["check", str(file), "--faults", str(listed)]) == 0
    assert json.loads(listed.read_text())["entries"] == {"duplicate_id": ["a"], "empty_answer": ["0", "1", "2"]}


def test_a_model_that_is_not_there_is_named_by_its_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = {
        "id": "a",
        "scene_id": "s",
        "task": "planning",
        "kind": "yes_no",
        "question": "Safe?",
        "answer": "Yes.",
        "images": {},
    }
    (tmp_path / "x.jsonl").write_text(json.dumps(line))
    assert prepare_data.main(["check", str(tmp_path / "x.jsonl"), "--model", "/nope"]) == 2
    assert capsys.readouterr().err.startswith("error: --model=/nope")
