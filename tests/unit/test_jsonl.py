from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import CONTROL, DataError
from data.faults import Faults
from data.jsonl import read_jsonl, record_of, write_jsonl
from data.sample import KINDS, TASKS, DrivingSample, KeyObject, Trajectory
from tests.drawn import damage, draw
from tests.loaded import load_as

LINE: dict[str, Any] = {
    "id": "q1",
    "scene_id": "s1",
    "task": "planning",
    "kind": "open_ended",
    "question": "What now?",
    "answer": "Slow down.",
    "images": {"CAM_FRONT": "images/a.jpg"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw(tmp_path / "images" / "a.jpg")
    return tmp_path


def lines(folder: Path, *records: Any) -> Path:
    path = folder / "own.jsonl"
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records))
    return path


def test_a_line_gives_a_sample_with_images_beside_the_file(folder: Path) -> None:
    (sample,) = load_as("jsonl", lines(folder, LINE)).samples
    assert (sample.id, sample.scene_id, sample.frame_id) == ("q1", "s1", "q1")
    assert (sample.task, sample.kind, sample.answer) == ("planning", "open_ended", "Slow down.")
    assert sample.images == {"CAM_FRONT": str(folder / "images" / "a.jpg")}


def test_images_may_lie_under_another_root(folder: Path, tmp_path: Path) -> None:
    moved = folder / "elsewhere" / "own.jsonl"
    moved.parent.mkdir()
    moved.write_text(json.dumps(LINE))
    (sample,) = load_as("jsonl", moved, image_root=folder).samples
    assert sample.images["CAM_FRONT"] == str(folder / "images" / "a.jpg")


TEXT = st.text(min_size=1).filter(lambda text: bool(text.strip()))
NAME = TEXT.filter(lambda text: not CONTROL.search(text))
NUMBER = st.floats(-1e4, 1e4)
POINTS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), max_size=3).map(tuple)
OBJECTS = st.builds(
    KeyObject, TEXT, TEXT, TEXT, st.none() | TEXT, st.none() | st.tuples(NUMBER, NUMBER, NUMBER, NUMBER)
)
SAMPLES = st.builds(
    DrivingSample,
    id=NAME,
    scene_id=NAME,
    frame_id=NAME,
    task=st.sampled_from(TASKS),
    kind=st.sampled_from([kind for kind in KINDS if kind != "multiple_choice"]),
    question=TEXT,
    answer=TEXT,
    images=st.just({}),
    objects=st.lists(OBJECTS, max_size=2).map(tuple),
    reasoning=st.text(),
    labels=st.dictionaries(TEXT, st.lists(st.integers(0, 20), min_size=1).map(tuple), max_size=2),
    trajectory=st.none() | st.builds(Trajectory, POINTS, POINTS, st.sampled_from(["left", "right", "forward"])),
    coordinate_unit=st.sampled_from(["pixels", "fractions", "metres"]),
)


@given(st.lists(SAMPLES, min_size=1, max_size=4, unique_by=(lambda sample: sample.id, lambda sample: sample.frame_id)))
def test_samples_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, samples: list[DrivingSample]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "samples.jsonl"
    assert write_jsonl(path, samples) == len(samples)
    assert load_as("jsonl", path).samples == tuple(samples)


def test_a_folder_with_file_and_images_can_be_moved(folder: Path) -> None:
    (sample,) = load_as("jsonl", lines(folder, LINE)).samples
    write_jsonl(folder / "copy.jsonl", [sample])
    record = json.loads((folder / "copy.jsonl").read_text())
    assert record["images"] == {"CAM_FRONT": "images/a.jpg"}
    moved = folder.rename(folder.with_name("moved"))
    assert load_as("jsonl", moved / "copy.jsonl").samples[0].images == {"CAM_FRONT": str(moved / "images" / "a.jpg")}


def test_fields_that_say_nothing_are_left_out(folder: Path) -> None:
    (sample,) = load_as("jsonl", lines(folder, LINE)).samples
    assert record_of(sample, folder) == LINE | {"frame_id": "q1"}


def test_a_choice_may_be_answered_by_letter_or_by_text(folder: Path) -> None:
    choices = {"A": "Stop.", "B": "Go."}
    asked = [
        LINE | {"id": f"q{n}", "kind": "multiple_choice", "choices": choices, "answer": a} for n, a in enumerate("B")
    ]
    asked.append(asked[0] | {"id": "text", "answer": "Go"})
    assert [sample.answer for sample in load_as("jsonl", lines(folder, *asked)).samples] == ["B", "B"]


def test_faulty_lines_are_listed_with_their_number_and_the_rest_is_used(folder: Path) -> None:
    damage(draw(folder / "images" / "cut.jpg"))
    records = [
        LINE,
        "{not json",
        LINE | {"id": "2", "task": "two words"},
        LINE | {"id": "3", "answr": "x"},
        LINE | {"id": "4", "answer": " "},
        LINE | {"id": "5", "images": {"CAM_FRONT": "images/cut.jpg"}},
        LINE | {"id": "6", "kind": "multiple_choice"},
        LINE | {"id": "7", "kind": "multiple_choice", "choices": {"A": "x", "B": "y"}, "answer": "C"},
        LINE,
        {"id": "8"},
        "",
    ]
    path = lines(folder, *records)
    loaded = load_as("jsonl", path)
    assert [sample.id for sample in loaded.samples] == ["q1"]
    assert loaded.dropped == {
        "malformed_entry": ["line 2", "2", "line 4", "line 7", "line 10"],
        "empty_answer": ["4"],
        "answer_not_an_option": ["7"],
        "faulty_image": ["5"],
        "duplicate_id": ["q1"],
    }
    assert any("question 2: the task name 'two words' must be a letter and" in note for note in loaded.notes)
    with pytest.raises(DataError, match=r"own\.jsonl line 2"):
        load_as("jsonl", path, strict=True)


def test_a_frame_id_that_stands_in_two_scenes_is_refused_with_a_way_out(folder: Path) -> None:
    frame = LINE | {"frame_id": "0001"}
    path = lines(folder, frame, frame | {"id": "q2"}, frame | {"id": "q3", "scene_id": "s2"})
    said = (
        r"own\.jsonl line 3: frame_id 0001 is of scene s2 here and of s1 above: .*unique in the file, such as s2/0001"
    )
    with pytest.raises(DataError, match=said):
        load_as("jsonl", path)


def test_a_file_without_a_usable_line_or_none_at_all_is_one_sentence(folder: Path) -> None:
    with pytest.raises(DataError, match=r"holds no usable question: .*; first: .*own\.jsonl line 1"):
        load_as("jsonl", lines(folder, "[]"))
    with pytest.raises(DataError, match=r"gone\.jsonl does not exist"):
        load_as("jsonl", folder / "gone.jsonl")


@given(st.binary())
def test_any_bytes_can_be_read(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.jsonl"
    path.write_bytes(raw)
    with suppress(DataError):  # where it begins like one JSON document
        assert list(read_jsonl(path, Faults())) == []


@pytest.mark.parametrize("text", ["{\n", "[\n", '[{\n  "id": 1}]', "[ \n"])
def test_one_json_document_is_no_jsonl(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json is one JSON document.*data\.source"):
        read_jsonl(tmp_path / "x.json", Faults())


def test_a_write_that_fails_leaves_no_file(folder: Path) -> None:
    def failing() -> Any:
        yield load_as("jsonl", lines(folder, LINE)).samples[0]
        raise DataError("stop")

    with pytest.raises(DataError, match="stop"):
        write_jsonl(folder / "new.jsonl", failing())
    assert sorted(path.name for path in folder.iterdir()) == ["images", "own.jsonl"]


def test_memory_does_not_grow_with_the_file(folder: Path) -> None:
    peaks = []
    for count in (300, 3000):
        path = lines(folder, *(LINE | {"id": f"s_f_{number % 1000}", "scene_id": "s"} for number in range(1)))
        with path.open("w") as file:
            for number in range(count):
                file.write(
                    json.dumps(LINE | {"id": f"s{number // 100}_f_{number % 100}", "reasoning": "r" * 2000}) + "\n"
                )
        tracemalloc.start()
        assert sum(1 for _ in read_jsonl(path, Faults())) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000


def test_tasks_have_the_names_that_the_data_gives_them(folder: Path) -> None:
    named = ("signs", "Perception", "percepton", "mean")
    loaded = load_as("jsonl", lines(folder, *(LINE | {"id": name, "task": name} for name in named)))
    assert [sample.task for sample in loaded.samples] == ["signs", "percepton"]
    assert loaded.dropped == {"malformed_entry": ["Perception", "mean"]}
    assert any("if perception is meant, write it so" in note for note in loaded.notes)


def test_the_images_of_a_frame_are_those_of_its_lines_whatever_came_before(tmp_path: Path) -> None:
    lines = [
        {"CAM_FRONT": "a.jpg", "CAM_BACK": "b.jpg"},
        {"CAM_BACK": "b.jpg", "CAM_FRONT": "a.jpg"},
        {"CAM_FRONT": ""},
        {"CAM_FRONT": ""},
        {"CAM_FRONT": "a.jpg"},
    ]
    file = tmp_path / "samples.jsonl"
    made = [
        {"id": f"q{n}", "scene_id": "s", "task": "planning", "kind": "open_ended", "question": "Q?", "answer": "A."}
        for n in range(len(lines))
    ]
    file.write_text("".join(json.dumps(one | {"images": lines[n]}) + "\n" for n, one in enumerate(made)))
    faults = Faults()
    read = list(read_jsonl(file, faults, check_images=False))
    assert [list(sample.images) for sample in read] == [
        ["CAM_FRONT", "CAM_BACK"],
        ["CAM_BACK", "CAM_FRONT"],
        ["CAM_FRONT"],
    ]
    assert read[0].images["CAM_FRONT"] == str(tmp_path / "a.jpg")
    assert faults.dropped == {"faulty_image": ["q2", "q3"]}
