"""Frames that must stay out of a set, read from any file that names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from data.formats.format import frames_of
from tests.drawn import written
from tests.loaded import load_as

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    "held",
    [
        [{"frame_token": "f1", "scene_token": "s"}, {"frame_token": "f2"}, {"frame_token": "f1", "answer": ""}],
        {"s": {"key_frames": {"f1": {}}}, "t": {"key_frames": {"f2": {"QA": "broken"}}}},
        [{"id": "s_f1_0"}, {"id": "s_f2_12"}],
        [{"idx": "s_f1_0"}, {"idx": "s_f2_1"}],
        {"0": {"idx": "s_f1_0"}, "1": {"idx": "s_f2_1"}},
        {"s_f1_0": {"final_answer": "A"}, "s_f2_1": {}},
    ],
)
def test_every_format_names_its_frames_faulty_entries_too(tmp_path: Path, held: Any) -> None:
    assert frames_of(written(tmp_path / "held.json", held)).ids == {"f1", "f2"}


def test_jsonl_names_frames_and_the_images_they_show(tmp_path: Path) -> None:
    lines = [{"id": "q1", "frame_id": "f1", "images": {"CAM_FRONT": "a/../b.jpg"}}, {"id": "q2", "images": {}}]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = frames_of(path)
    assert found.ids == {"f1", "q2"}
    assert found.images == {str(tmp_path.resolve() / "b.jpg")}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[{]", "not valid JSON"),
        ("a.json", "[]", "names no frame; frames are read from"),
        ("a.json", '[{"question": "?"}]', r"\[0\] names no frame"),
        ("a.json", '{"s": []}', "s has no key_frames"),
        ("a.jsonl", '{"id": "q"}\nnonsense', "line 2 is not valid JSON"),
        ("a.jsonl", '{"id": 5}', "line 1 names no frame"),
        ("a.jsonl", "", "names no frame"),
        ("a.jsonl", b"\xff{}", "line 1 is not valid JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not valid JSON"),
    ],
)
def test_a_file_that_leaves_a_frame_unnamed_is_refused(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        frames_of(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        frames_of(tmp_path / "none.json")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the data samples are not at {SHARED}")
def test_real_files_name_the_frames_that_their_loaders_find() -> None:
    drivelm = SHARED / "drivelm"
    train = drivelm / "challenge" / "data" / "train_sample.json"
    loaded = load_as("drivelm", train, drivelm / "nuscenes")
    frames = {sample.frame_id for sample in loaded.samples}
    assert frames_of(train).ids == frames == frames_of(drivelm / "challenge" / "test_llama.json").ids
    drivebench = frames_of(SHARED / "drivebench" / "drivebench-test.slice23.json").ids
    assert drivebench <= frames_of(SHARED / "drivebench" / "visual_description.json").ids
    assert frames_of(SHARED / "drivelmm_o1" / "inference_demo_data_drivelmm.json").ids
