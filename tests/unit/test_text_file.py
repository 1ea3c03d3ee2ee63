"""A byte-order mark, as editors on Windows write it, changes nothing in any file that people give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from data.faults import Faults
from data.formats.bdd_oia import read_labels
from data.formats.drivebench import read_drivebench
from data.formats.drivelmm_o1 import read_drivelmm_o1
from data.formats.format import frames_of
from data.jsonl import read_jsonl
from data.reasoning.reasoning import read_reasoning
from data.text_file import read_lines, read_text
from evaluation.metrics.drivelm_answers import read_answers
from evaluation.metrics.predictions import read_predictions
from evaluation.raters import read_scores
from evaluation.suites.bench2drive import read_routes
from recipe import load_recipe
from rewards.rubric import load_rubric

MARK = "\ufeff"
SAMPLE = {"id": "q", "scene_id": "s", "task": "planning", "kind": "open_ended", "question": "?", "answer": "Go."}
RECORD: dict[str, Any] = {
    "id": "q",
    "scene_id": "s",
    "frame_id": "f",
    "task": "planning",
    "answer": "Go.",
    "reasoning": "1. Look.",
}
RECORD |= {"dropped": "", "detail": "", "attempts": 1, "teacher": "t", "prompt": "p"}
QA = {"QA": {"perception": [{"Q": "What?", "A": "A car.", "tag": [2]}]} | dict.fromkeys(["prediction"], [])}
BENCH = {
    "scene_token": "s",
    "frame_token": "f",
    "question_type": "planning",
    "question": "?",
    "answer": "Go.",
    "tag": [1],
}
RUBRIC = """---
name: own
source: ours
sees: [question]
criteria:
  - {name: good, points: 60}
---
The answer is the data between <answer> and </answer>: score good.
"""


READERS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "own.jsonl": (SAMPLE, lambda path: list(read_jsonl(path, Faults(strict=True), check_images=False))),
    "frames.jsonl": (SAMPLE, frames_of),
    "reasoning.jsonl": (RECORD, read_reasoning),
    "answers.json": ({"s": {"key_frames": {"f": QA}}}, read_answers),
    "frames.json": ({"s": {"key_frames": {"f": QA}}}, frames_of),
    "predictions.json": ([{"id": "q", "answer": "Go."}], read_predictions),
    "predictions.jsonl": ('{"id": "q", "answer": "Go."}\n{"id": "r", "answer": "No."}', read_predictions),
    "drivebench.json": (
        [BENCH | {"image_path": {}}],
        lambda path: list(read_drivebench(path, None, Faults(strict=True))),
    ),
    "o1.json": (
        [{"idx": "s_f_1", "question": "?", "steps": "1. Look.", "final_answer": "Go."}],
        lambda path: list(read_drivelmm_o1(path, None, Faults(strict=True))),
    ),
    "recipe.yaml": ("run: {name: x}\n", lambda path: load_recipe([str(path)])),
    "rubric.md": (RUBRIC, lambda path: load_rubric(str(path)).text),
    "scores.jsonl": ({"item": "a", "judge": "j", "score": 5}, read_scores),
    "routes.txt": ("1711\n1712\n", read_routes),
    "routes.xml": ("<routes><route id='1711'/></routes>", read_routes),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_changes_nothing(tmp_path: Path, name: str) -> None:
    content, read = READERS[name]
    path, text = tmp_path / name, content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    plain = read(path)
    path.write_text(MARK + text, encoding="utf-8")
    assert plain
    assert read(path) == plain


def test_bdd_oias_two_files_may_have_the_mark(tmp_path: Path) -> None:
    actions, reasons = tmp_path / "actions.json", tmp_path / "reasons.json"
    tree = {"images": [{"file_name": "a.jpg"}], "annotations": [{"category": [1, 0, 0, 0]}]}
    actions.write_text(MARK + json.dumps(tree), encoding="utf-8")
    reasons.write_text(MARK + json.dumps([{"file_name": "a.jpg", "reason": [1] + [0] * 20}]), encoding="utf-8")
    assert list(read_labels(actions, reasons, Faults(strict=True))) == [("a.jpg", (0,), (0,))]


def test_a_mark_counts_only_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{MARK}a\n\n{MARK}b\u2028c\n", encoding="utf-8")
    assert list(read_lines(path)) == [(1, b"a\n"), (3, f"{MARK}b\u2028c\n".encode())]
    assert read_text(path) == f"a\n\n{MARK}b\u2028c\n"
    path.write_bytes(b"")
    assert read_text(path) == ""


@pytest.mark.parametrize("code", ["utf-16", "utf-16-be"])
def test_utf_16_is_refused_by_name(tmp_path: Path, code: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes((MARK if code == "utf-16-be" else "").encode(code) + json.dumps(SAMPLE).encode(code))
    with pytest.raises(DataError, match=r"own\.jsonl is UTF-16 text: save it as UTF-8"):
        list(read_jsonl(path, Faults()))
