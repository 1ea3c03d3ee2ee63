from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.formats.drivelmm_o1 import lettered_options, task_of, with_camera_names
from data.sample import CAMERAS, GRID
from tests.drawn import draw, six_cameras, written
from tests.loaded import load_as

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "drivelmm_o1" / "inference_demo_data_drivelmm.json"
needs_real_data = pytest.mark.skipif(not REAL.is_file(), reason=f"the DriveLMM-o1 sample is not at {REAL}")
CHOICE = "What is the safest action?\n   A) Slow down.\n   B) Speed up (a lot).\n   C) Turn left."
ORDER = [camera for row in GRID for camera in row]


def entry(number: int, question: str = "Describe the scene.", **extra: Any) -> dict[str, Any]:
    image = [f"samples/{camera}/one.jpg" for camera in ORDER]
    test = {"steps": "1. In the top middle image a car.\n", "final_answer": "A car ahead.", "lidar": "sweep.pcd.bin"}
    return {"idx": f"scene_1_frame_{number}", "image": image, "question": question} | (extra or test)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    six_cameras(tmp_path / "samples", "one")
    return tmp_path


def load(root: Path, *entries: Any, **options: bool) -> Any:
    return load_as("drivelmm_o1", written(root / "test.json", list(entries)), root, **options)


def test_a_test_entry_gives_steps_as_reasoning_and_images_by_camera(root: Path) -> None:
    (sample,) = load(root, entry(1)).samples
    assert (sample.id, sample.scene_id, sample.frame_id) == ("scene_1_frame_1", "scene_1", "frame")
    assert (sample.answer, sample.reasoning) == ("A car ahead.", "1. In the top middle image a car.")
    assert tuple(sample.images) == CAMERAS
    assert sample.images["CAM_BACK_LEFT"] == str(root / "samples" / "CAM_BACK_LEFT" / "one.jpg")


def test_a_train_entry_is_parted_into_steps_and_final_answer(root: Path) -> None:
    text = "**Step-by-Step Reasoning**: 1. Look.\n2. Think.\n\n**Final Answer**: A) Slow down."
    (sample,) = load(root, entry(4, CHOICE, answer=text)).samples
    assert sample.reasoning == "1. Look.\n2. Think."
    assert (sample.kind, sample.answer, sample.choices["B"]) == ("multiple_choice", "A", "Speed up (a lot).")
    assert sample.task == "planning"


def test_options_count_only_where_the_number_says_multiple_choice(root: Path) -> None:
    (sample,) = load(root, entry(1, CHOICE, steps="", final_answer="A) Slow down.")).samples
    assert (sample.kind, sample.choices, sample.answer) == ("open_ended", {}, "A) Slow down.")


def test_views_of_the_stitched_image_can_be_named_by_camera(root: Path) -> None:
    (sample,) = load(root, entry(1), name_cameras=True).samples
    assert sample.reasoning == "1. In the CAM_FRONT image a car."
    said = "Bottom-left view and the bottom right image; the lower center picture; top images."
    assert (
        with_camera_names(said) == "CAM_BACK_RIGHT image and the CAM_BACK_LEFT image; the CAM_BACK image; top images."
    )


def test_a_sample_carries_its_sweep_where_there_is_one(root: Path) -> None:
    sweep = root / "samples" / "LIDAR_TOP" / "sweep.pcd.bin"
    assert "LIDAR_TOP" not in load(root, entry(1)).samples[0].images
    sweep.parent.mkdir(parents=True)
    sweep.touch()
    assert load(root, entry(1)).samples[0].images["LIDAR_TOP"] == str(sweep)


def test_faulty_entries_are_listed_and_the_rest_is_used(root: Path) -> None:
    draw(root / "samples" / "CAM_FRONT" / "two.jpg")
    entries = [
        entry(1),
        entry(1),
        entry(2, steps="", final_answer=""),
        entry(3, CHOICE, steps="", final_answer="F) Fly."),
        entry(6) | {"image": []},
        entry(7) | {"idx": "nothing"},
        {"idx": "scene_1_frame_9"},
    ]
    loaded = load(root, *entries)
    assert [sample.id for sample in loaded.samples] == ["scene_1_frame_1"]
    assert loaded.dropped == {
        "empty_answer": ["scene_1_frame_2"],
        "answer_not_an_option": ["scene_1_frame_3"],
        "wrong_cameras": ["scene_1_frame_6"],
        "malformed_entry": ["nothing", "scene_1_frame_9"],
        "duplicate_id": ["scene_1_frame_1"],
    }
    with pytest.raises(DataError, match="more than once"):
        load(root, *entries[:2], strict=True)


def test_a_file_of_neither_is_one_sentence(root: Path) -> None:
    with pytest.raises(DataError, match="DriveLMM-o1"):
        load_as("drivelmm_o1", written(root / "test.json", 3), root)


@pytest.mark.parametrize("keys", [("0", "1"), ("scene_1_frame_1", "scene_1_frame_4")])
def test_an_object_of_entries_is_read_as_the_list_of_them_is(root: Path, keys: tuple[str, str]) -> None:
    entries = [entry(1), entry(4, CHOICE, steps="1. Look.", final_answer="B) Speed up (a lot).")]
    listed = load(root, *entries).samples
    if keys[0] != "0":
        entries = [{name: value for name, value in one.items() if name != "idx"} for one in entries]
    file = written(root / "object.json", dict(zip(keys, entries, strict=True)) | {"2": 3})
    loaded = load_as("drivelmm_o1", file, root)
    assert (loaded.samples, loaded.dropped) == (listed, {"malformed_entry": ["2"]})
    assert loaded.notes == (f"{file}: 2 must be a dict, got int",)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("None of the options.", "F"), ("none of the options", "F"), ("F) None of the options.", "F"), ("（F）", "F"),
        ("A Going ahead", "A"), ("B Stop", "B"), ("A going ahead.", "A"), ("Ａ）Going ahead", "A"), ("B。", "B"),
    ],
)  # fmt: skip
def test_an_answer_is_tied_to_its_letter_by_any_spelling(root: Path, answer: str, letter: str) -> None:
    question = "What now? A) Going ahead B) Stop. C) Turn left. D) Turn right. E) Back up. F) None of the options."
    (sample,) = load(root, entry(2, question, steps="", final_answer=answer)).samples
    assert (sample.answer, sample.choices["F"]) == (letter, "None of the options.")
    (sample,) = load(root, entry(2, question.replace(")", "）"), steps="", final_answer=answer)).samples
    assert sample.answer == letter


WORDS = st.lists(st.sampled_from(["slow", "down", "a", "B", "car."]), min_size=1, max_size=4).map(" ".join)


@given(st.lists(WORDS, min_size=2, max_size=6))
def test_options_are_read_as_they_were_written(texts: list[str]) -> None:
    choices = dict(zip("ABCDEF", texts, strict=False))
    listed = "\n   ".join(f"{letter}) {text}" for letter, text in choices.items())
    assert lettered_options(f"Which? Choose from the following\n   {listed}") == choices


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    lettered_options(text)
    task_of(text)
    with_camera_names(text)


@needs_real_data
def test_the_two_real_questions_load(tmp_path: Path) -> None:
    for item in json.loads(REAL.read_text()):
        for path in item["image"]:
            draw(tmp_path / path)
    loaded = load_as("drivelmm_o1", REAL, tmp_path)
    important, safest = loaded.samples
    assert (important.task, important.kind) == ("perception", "open_ended")
    assert important.reasoning.startswith("1. In the top middle image")
    assert (safest.task, safest.kind, safest.answer) == ("planning", "multiple_choice", "A")
    assert list(safest.choices) == list("ABCD")
    assert safest.choices["D"] == "Maintain the current speed without making adjustments."
