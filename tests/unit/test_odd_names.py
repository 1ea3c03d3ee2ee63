"""Names with control characters, and endless nesting, wherever people may give them: one sentence each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import evaluate
from data.errors import DataError, one_line
from data.faults import Faults
from data.formats.bdd_oia import read_labels
from data.formats.drivebench import frame_questions, read_drivebench
from data.formats.drivelm import read_drivelm
from data.formats.drivelmm_o1 import read_drivelmm_o1
from data.formats.format import frames_of
from data.jsonl import read_jsonl
from data.reasoning.reasoning import read_reasoning
from evaluation.metrics.drivelm_answers import read_answers
from evaluation.metrics.predictions import read_predictions
from evaluation.raters import RatersError, read_scores
from recipe import RecipeError, dump_recipe, load_recipe
from rewards.errors import RewardError
from rewards.rubric import load_rubric
from tests.drawn import six_cameras, written

ODD = ["a\0b", "a\nb", "a\x1b[31mb", "a\x7fb", "a\x9bb", "a\u2028b", "a\u202eb", "\r"]
LINE = {"id": "q", "scene_id": "s", "task": "planning", "kind": "open_ended", "question": "?", "answer": "Go."}
BENCH = {
    "scene_token": "s",
    "frame_token": "f",
    "question_type": "planning",
    "question": "?",
    "answer": "Go.",
    "tag": [1],
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", ["id", "scene_id", "frame_id"])
def test_a_name_with_a_control_character_costs_its_sample_and_is_shown_as_json_writes_it(
    tmp_path: Path, field: str, odd: str
) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in (LINE, LINE | {"id": "r", field: odd})))
    faults = Faults()
    assert [sample.id for sample in read_jsonl(path, faults, check_images=False)] == ["q"]
    assert list(faults.dropped) == ["malformed_entry"]
    (note,) = faults.notes
    assert "holds a control character" in note
    assert one_line(note) == note


def test_every_format_leaves_out_odd_names_by_name(tmp_path: Path) -> None:
    six_cameras(tmp_path / "samples", "one")
    frame = {"QA": {"planning": [{"Q": "?", "A": "Go."}]}, "image_paths": {}}
    readers: list[tuple[Any, Callable[[Path, Faults], Any]]] = [
        ([BENCH | {"scene_token": "a\0b"}], lambda file, faults: read_drivebench(file, None, faults)),
        ([{"idx": "s_a\x1bb_1", "question": "?", "steps": "", "final_answer": "Go."}],
         lambda file, faults: read_drivelmm_o1(file, None, faults)),
        ({"a\nb": {"key_frames": {"f": frame}}}, lambda file, faults: read_drivelm(file, tmp_path, faults)),
    ]  # fmt: skip
    for tree, read in readers:
        faults = Faults()
        assert list(read(written(tmp_path / "a.json", tree), faults)) == []
        assert sum(map(len, faults.dropped.values())) == 1
        assert all(one_line(note) == note for note in faults.notes)


def test_a_name_in_an_error_is_not_obeyed_by_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["drivelm_hard", "--answers", str(tmp_path / "a\x1b[2J\nb.jsonl"), "--predictions", "x.json"]
    assert evaluate.run([*arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_half_a_character_in_an_answer_is_written_as_a_whole_one(tmp_path: Path) -> None:
    file = written(tmp_path / "said.json", {"q": "\ud800 Go.", "r": "🚗"})
    assert read_predictions(file).texts == {"q": "\ufffd Go.", "r": "🚗"}


@pytest.mark.parametrize("key", ["run.name", "run.root", "data.options.annotations", "policy.system_prompt"])
@pytest.mark.parametrize("odd", ["\\0", "\\e", "\\x9b"])
def test_a_recipe_holds_no_control_character(tmp_path: Path, key: str, odd: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("run: {name: x}\n")
    with pytest.raises(RecipeError, match=f"{key} holds the control character '"):
        load_recipe([str(path), f'{key}="a{odd}b"'])


@pytest.mark.parametrize(
    "text",
    ['run: {name: "a\\nb"}', 'run: {name: x, root: "r\\tb"}', 'base: "a\\0.yaml"', 'run: {name: x}\n"da\\eta": 3',
     'run: {name: x}\nstages: [{name: "a\\nb"}]', "run: {name: a\x1bb}"],
)  # fmt: skip
def test_neither_do_names_folders_and_keys_of_a_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RecipeError, match="control character|special characters") as caught:
        load_recipe([str(tmp_path / "a.yaml")])
    assert one_line(str(caught.value)) == str(caught.value)


def test_a_text_of_several_lines_is_no_odd_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("run:\n  name: x\npolicy:\n  system_prompt: |\n    Drive.\n    Safely.\n")
    assert load_recipe([str(tmp_path / "a.yaml")]).policy.system_prompt == "Drive.\nSafely.\n"


DEEP = {"list": "[" * 3000 + "]" * 3000, "object": '{"a":' * 3000 + "1" + "}" * 3000}


@pytest.mark.parametrize("deep", DEEP.values(), ids=DEEP)
def test_endless_nesting_is_one_sentence_or_a_fault(tmp_path: Path, deep: str) -> None:
    six_cameras(tmp_path / "samples", "one")

    def file(text: str, name: str = "a.json") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    refused: list[Callable[[], Any]] = [
        lambda: frames_of(file(deep, "a.jsonl")),
        lambda: frames_of(file(deep)),
        lambda: read_answers(file(f'{{"s": {deep}}}')),
        lambda: read_predictions(file(f"[{deep}]")),
        lambda: read_scores(file(deep, "a.jsonl")),
        lambda: load_recipe([str(file(deep, "a.yaml"))]),
        lambda: load_recipe([str(file("run: {name: x}", "a.yaml")), f"data.options={deep}"]),
        lambda: load_rubric(str(file(f"---\nname: {deep}\n---\nx", "a.md"))),
    ]
    for read in refused:
        with pytest.raises((DataError, RecipeError, RewardError, RatersError)) as caught:
            read()
        assert len(str(caught.value)) < 400
    listed: list[Callable[[Faults], Any]] = [
        lambda faults: read_jsonl(file(deep, "a.jsonl"), faults, check_images=False),
        lambda faults: read_drivelm(file(f'{{"s": {deep}}}'), tmp_path, faults),
        lambda faults: read_drivebench(file(f"[{deep}]"), None, faults),
        lambda faults: read_drivelmm_o1(file(f"[{deep}]"), None, faults),
        lambda faults: read_labels(file(f'{{"images": [{deep}], "annotations": [3]}}'), file("[]", "b.json"), faults),
    ]
    for read_with in listed:
        faults = Faults()
        assert list(read_with(faults)) == []
        assert sum(map(len, faults.dropped.values())) == 1
    for member in ("tag", "question", "answer", "image_path"):
        entry = json.dumps(BENCH | {"tag": [1], "image_path": {}} | {member: "DEEP"}).replace('"DEEP"', deep)
        faults = Faults()
        found = list(read_drivebench(file(f"[{entry}]"), None, faults))
        assert len(found) == len(faults.kept["unknown_tag"]) == (member == "tag")
        assert all(len(note) < 400 for note in faults.notes)
        assert list(frame_questions(file(f"[{entry}]"))) == [("s", "f")]
    frame = {"QA": {}, "image_paths": {}, "key_object_infos": {"c": {"2d_bbox": "DEEP"}}}
    scenes = json.dumps({"s": {"key_frames": {"f": frame}}}).replace('"DEEP"', deep)
    faults = Faults()
    assert list(read_drivelm(file(scenes), tmp_path, faults)) == []
    assert len(faults.kept["malformed_entry"]) == 1
    assert len(read_reasoning(file(deep, "a.jsonl")).unreadable) == 1


@pytest.mark.parametrize("levels", [60, 70, 200, 400])
def test_a_recipe_that_is_read_can_be_written_back(tmp_path: Path, levels: int) -> None:
    nested = "[" * levels + "]" * levels
    (tmp_path / "a.yaml").write_text(f"run: {{name: x}}\ndata: {{source: 'a:B', options: {{x: {nested}}}}}")
    if levels < 64:
        recipe = load_recipe([str(tmp_path / "a.yaml")])
        (tmp_path / "b.yaml").write_text(dump_recipe(recipe))
        assert load_recipe([str(tmp_path / "b.yaml")]) == recipe
        return
    with pytest.raises(RecipeError, match="nested too deeply"):
        load_recipe([str(tmp_path / "a.yaml")])
