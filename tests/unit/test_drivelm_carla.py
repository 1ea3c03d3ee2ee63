from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from tests.drawn import draw, written
from tests.loaded import load_as

IMAGE = "data/Accident/Route_1/rgb/0001.jpg"
INFO = {"Category": "Vehicle", "Visual_description": "red car", "2d_bbox": [[1, 2], [3, 4]]}


def turns(question: str, answer: str, task: str = "perception") -> list[dict[str, Any]]:
    said = {"chain": 1, "layer": 0, "type": task, "object_id": 3, "connection_up": [], "connection_down": []}
    return [{**said, "from": "human", "value": question}, {**said, "from": "gpt", "value": answer}]


def frame(**groups: Any) -> dict[str, Any]:
    return {"image": IMAGE, "conversations": {"key_object_infos": {"<c1,CAM_FRONT>": INFO}, **groups}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw(tmp_path / "images" / IMAGE)
    return tmp_path


def test_turns_become_questions_of_one_front_camera(root: Path) -> None:
    ego = turns("Does the ego vehicle need to brake?", "Yes.", "planning")
    groups = frame(important_objects=turns("What is ahead?", "A car <c1,CAM_FRONT>."), ego=ego)
    file = written(root / "a.json", {"image_paths": [IMAGE], "llava_format": [groups]})
    loaded = load_as("drivelm_carla", file, root / "images")
    assert [(s.id, s.task, s.kind, s.answer) for s in loaded.samples] == [
        ("Accident/Route_1_0001_0", "perception", "open_ended", "A car <c1,CAM_FRONT>."),
        ("Accident/Route_1_0001_1", "planning", "yes_no", "Yes."),
    ]
    first = loaded.samples[0]
    assert first.images == {"CAM_FRONT": str(root / "images" / IMAGE)}
    assert (first.scene_id, first.frame_id) == ("Accident/Route_1", "Accident/Route_1/0001")
    assert [(item.tag, item.description, item.box) for item in first.objects] == [("<c1,CAM_FRONT>", "red car", None)]
    assert load_as("drivelm_carla", written(root / "b.json", [groups]), root / "images").samples == loaded.samples


def test_released_files_of_single_frames_give_the_same_samples(root: Path) -> None:
    questions = {"perception": [{"Q": "What is ahead?", "A": "A car."}], "planning": [], "behavior": []}
    paths = {"CAM_FRONT": f"../elsewhere/{IMAGE}", "CAM_BACK": None}
    folder = root / "graph" / "Accident" / "Route_1"
    folder.mkdir(parents=True)
    tree = {"QA": questions, "key_object_infos": {"<c1,CAM_FRONT>": INFO}, "image_paths": paths}
    written(folder / "0001.json", tree)
    (folder / "0002.json").write_text("{")
    loaded = load_as("drivelm_carla", root / "graph", root / "images")
    (sample,) = loaded.samples
    turned = written(root / "a.json", [frame(a=turns("What is ahead?", "A car."))])
    assert load_as("drivelm_carla", turned, root / "images").samples == (sample,)
    assert loaded.dropped == {"malformed_entry": [str(folder / "0002.json")]}


def test_a_question_that_is_no_record_and_a_folder_named_like_a_file_are_listed(root: Path) -> None:
    entries: list[Any] = [None, 3, ["Q"], "Q and A", {"Q": "What is ahead?", "A": "A car."}]
    folder = root / "graph" / "0002.json"
    folder.mkdir(parents=True)
    file = written(root / "graph" / "0001.json", {"QA": {"perception": entries}, "image_paths": {"CAM_FRONT": IMAGE}})
    loaded = load_as("drivelm_carla", root / "graph", root / "images")
    stem = "Accident/Route_1_0001"
    assert [sample.id for sample in loaded.samples] == [f"{stem}_4"]
    assert loaded.dropped == {"malformed_entry": [*(f"{stem}_{number}" for number in range(4)), str(folder)]}
    assert loaded.notes[0] == f"{file}.QA.perception[0] must be a dict, got NoneType"
    assert loaded.notes[-1] == f"{folder} does not exist or is not a file"


def test_faulty_parts_are_listed_and_the_rest_is_used(root: Path) -> None:
    good = turns("Good?", "Yes.")
    frames: list[Any] = [
        frame(a=good, b=good[1:], c=turns("Task?", "Yes.", "driving"), d=turns("Empty?", "")),
        frame(a=good + good) | {"image": "data/Accident/Route_1/rgb/0009.jpg"},
        {"conversations": {}},
        frame(a=good + good) | {"image": None},
        3,
    ]
    frames[0]["conversations"]["key_object_infos"]["<c2,CAM_FRONT>"] = 3
    file = written(root / "a.json", frames)
    loaded = load_as("drivelm_carla", file, root / "images")
    assert [sample.question for sample in loaded.samples] == ["Good?"]
    assert loaded.dropped == {
        "malformed_entry": [f"{file}: [0].b", f"{file}: [4]"],
        "unknown_task": ["Accident/Route_1_0001_1"],
        "empty_answer": ["Accident/Route_1_0001_2"],
        "faulty_image": [
            *(f"Accident/Route_1_0009_{number}" for number in range(2)),
            f"{file}: [2]_0",
            *(f"{file}: [3]_{number}" for number in range(2)),
        ],
    }
    assert loaded.kept_with_fault == {"malformed_entry": [f"{file}: [0].key_object_infos.<c2,CAM_FRONT>"]}
    with pytest.raises(DataError, match=r"\[0\]\.b\[0\] and the next are no turn of human"):
        load_as("drivelm_carla", file, root / "images", strict=True)


def test_a_missing_file_or_image_root_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json does not exist"):
        load_as("drivelm_carla", root / "gone.json", root)
    with pytest.raises(DataError, match="image_root .*gone does not exist"):
        load_as("drivelm_carla", root / "a.json", root / "gone")
