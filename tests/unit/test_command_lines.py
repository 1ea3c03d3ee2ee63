"""What a person is told whose command line is not quite right: their own words, not a recipe's keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import prepare_data
from commands import evaluate
from commands.script import guarded
from data.source_arguments import as_flags

LINE = {"scene_id": "s", "task": "planning", "kind": "yes_no", "question": "Safe?", "answer": "Yes.", "images": {}}


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ("data.source=drivelm needs data.image_root (x) as well", "--format drivelm needs --image-root (x) as well"),
        ("data.annotations x/data.json does not exist", "x/data.json does not exist"),
        ("name data.source", "name --format"),
        ("policy.model=/nope is no folder", "--model=/nope is no folder"),
        ("/data.reasons/data.annotations.json is cut short", "/data.reasons/data.annotations.json is cut short"),
    ],
)
def test_settings_are_named_by_their_flags(setting: str, flag: str) -> None:
    assert as_flags(setting) == flag


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
