from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.errors import DataError
from data.faults import Faults, LoadedSamples
from data.formats.drivelm import read_drivelm
from data.sample import CAMERAS, KeyObject
from tests.loaded import load_as

OPTIONS = " Please select the correct answer from the following options: A. Going ahead. B. Stopped. C. Turn left."


def qa(question: str, answer: Any, **extra: Any) -> dict[str, Any]:
    return {"Q": question, "A": answer, "C": None, "con_up": None, "con_down": None, "cluster": None, **extra}


def scene_tree() -> dict[str, Any]:
    paths = {camera: f"../nuscenes/samples/{camera}/one.jpg" for camera in reversed(CAMERAS)}
    info = {"Category": "Vehicle", "Status": "Moving", "Visual_description": "Red car.", "2d_bbox": [1, 2, 30, 40.5]}
    frame = {
        "key_object_infos": {"<c1,CAM_BACK,15.5,21.5>": info},
        "QA": {
            "behavior": [qa("Predict the behavior of the ego vehicle.", "The ego vehicle is going straight.")],
            "perception": [
                qa("What is the moving status of object <c1,CAM_BACK,15.5,21.5>?" + OPTIONS, "B"),
                qa("Are there barriers to the front of the ego car?", "Yes."),
            ],
            "planning": [qa("What is the priority of the objects?", "<c1,CAM_BACK,15.5,21.5>.")],
        },
        "image_paths": paths,
    }
    return {"scene-1": {"scene_description": "A road.", "key_frames": {"frame-1": frame}}}


def frame_of(tree: dict[str, Any]) -> dict[str, Any]:
    return tree["scene-1"]["key_frames"]["frame-1"]


def llama_list() -> list[dict[str, Any]]:
    image = [f"data/nuscenes/samples/{camera}/one.jpg" for camera in CAMERAS]
    texts = [
        ("<image>\nWhat is the moving status of object <c1,CAM_BACK,15.5,21.5>?" + OPTIONS, "B"),
        ("<image>\nPredict the behavior of the ego vehicle.", "The ego vehicle is going straight."),
    ]
    return [
        {
            "id": f"scene_1_frame-1_{number}",
            "image": image,
            "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
        }
        for number, (question, answer) in enumerate(texts)
    ]


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    for camera in CAMERAS:
        folder = tmp_path / "nuscenes" / "samples" / camera
        folder.mkdir(parents=True)
        Image.effect_noise((160, 90), 80).convert("RGB").save(folder / "one.jpg")
    return tmp_path / "nuscenes"


def load(tree: Any, image_root: Path) -> LoadedSamples:
    path = image_root / "annotations.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return load_as("drivelm", path, image_root)


# --- the formats ------------------------------------------------------------------------------------------------------


def test_the_train_format_gives_samples_with_task_kind_images_and_objects(image_root: Path) -> None:
    loaded = load(scene_tree(), image_root)
    assert [(s.id, s.task, s.kind, s.answer) for s in loaded.samples] == [
        ("scene-1_frame-1_0", "perception", "multiple_choice", "B"),
        ("scene-1_frame-1_1", "perception", "yes_no", "Yes."),
        ("scene-1_frame-1_2", "planning", "coordinates", "<c1,CAM_BACK,15.5,21.5>."),
        ("scene-1_frame-1_3", "behavior", "open_ended", "The ego vehicle is going straight."),
    ]
    first = loaded.samples[0]
    assert (first.scene_id, first.frame_id) == ("scene-1", "frame-1")
    assert first.choices == {"A": "Going ahead.", "B": "Stopped.", "C": "Turn left."}
    assert tuple(first.images) == CAMERAS
    assert first.images["CAM_BACK"] == str(image_root / "samples" / "CAM_BACK" / "one.jpg")
    assert first.objects == (
        KeyObject("<c1,CAM_BACK,15.5,21.5>", "Vehicle", "Red car.", "Moving", (1.0, 2.0, 30.0, 40.5)),
    )
    assert (loaded.dropped, loaded.kept_with_fault, loaded.notes) == ({}, {}, ())


def test_the_challenge_format_needs_no_objects(image_root: Path) -> None:
    tree = scene_tree()
    del frame_of(tree)["key_object_infos"]
    for entries in frame_of(tree)["QA"].values():
        for entry in entries:
            entry["tag"] = [0]
    loaded = load(tree, image_root)
    assert len(loaded.samples) == 4
    assert loaded.samples[0].objects == ()


def test_the_llama_format_gives_the_same_samples_without_objects(image_root: Path) -> None:
    loaded = load(llama_list(), image_root)
    choice, behavior = loaded.samples
    assert (choice.id, choice.scene_id, choice.frame_id) == ("scene_1_frame-1_0", "scene_1", "frame-1")
    assert (choice.task, choice.kind, choice.answer) == ("perception", "multiple_choice", "B")
    assert choice.question.startswith("What is the moving status")
    assert (behavior.task, behavior.kind) == ("behavior", "open_ended")
    assert tuple(choice.images) == CAMERAS


# --- faulty entries ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", "  \n", None])
def test_an_empty_answer_is_dropped_by_name_and_the_rest_is_used(image_root: Path, empty: str | None) -> None:
    tree = scene_tree()
    frame_of(tree)["QA"]["perception"][1]["A"] = empty
    loaded = load(tree, image_root)
    assert loaded.dropped == {"empty_answer": ["scene-1_frame-1_1"]}
    assert [s.id[-1] for s in loaded.samples] == ["0", "2", "3"]
    assert "1 dropped for empty_answer" in loaded.summary


def two_frames(image_root: Path) -> dict[str, Any]:
    tree = scene_tree()
    other = deepcopy(frame_of(tree))
    for camera in CAMERAS:
        source = image_root / "samples" / camera / "one.jpg"
        source.with_name("two.jpg").write_bytes(source.read_bytes())
        other["image_paths"][camera] = f"../nuscenes/samples/{camera}/two.jpg"
    tree["scene-1"]["key_frames"]["frame-2"] = other
    return tree


def assert_only_frame_1_is_left(loaded: LoadedSamples, reason: str, note: str) -> None:
    assert loaded.dropped == {reason: [f"scene-1_frame-2_{number}" for number in range(4)]}
    assert {s.frame_id for s in loaded.samples} == {"frame-1"}
    assert len(loaded.notes) == 1
    assert note in loaded.notes[0]


def test_a_frame_with_five_cameras_is_dropped(image_root: Path) -> None:
    tree = two_frames(image_root)
    del tree["scene-1"]["key_frames"]["frame-2"]["image_paths"]["CAM_BACK_LEFT"]
    note = "frame frame-2 has no image of CAM_BACK_LEFT"
    assert_only_frame_1_is_left(load(tree, image_root), "wrong_cameras", note)


def test_a_frame_with_an_unknown_camera_is_dropped(image_root: Path) -> None:
    tree = two_frames(image_root)
    tree["scene-1"]["key_frames"]["frame-2"]["image_paths"]["CAM_TOP"] = "samples/CAM_TOP/two.jpg"
    note = "an unknown or repeated camera CAM_TOP"
    assert_only_frame_1_is_left(load(tree, image_root), "wrong_cameras", note)


def test_a_frame_with_a_missing_image_is_dropped(image_root: Path) -> None:
    tree = two_frames(image_root)
    missing = image_root / "samples" / "CAM_FRONT" / "two.jpg"
    missing.unlink()
    assert_only_frame_1_is_left(
        load(tree, image_root), "faulty_image", f"frame frame-2: image {missing} does not exist"
    )


def test_a_frame_with_a_truncated_image_is_dropped(image_root: Path) -> None:
    tree = two_frames(image_root)
    cut = image_root / "samples" / "CAM_FRONT" / "two.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    assert_only_frame_1_is_left(load(tree, image_root), "faulty_image", f"image {cut} is truncated")


@pytest.mark.parametrize("path", ["../nuscenes/CAM_FRONT/one.jpg", "samples/../../secret.jpg", ""])
def test_an_image_path_that_leads_out_of_samples_is_dropped(image_root: Path, path: str) -> None:
    tree = two_frames(image_root)
    tree["scene-1"]["key_frames"]["frame-2"]["image_paths"]["CAM_FRONT"] = path
    assert_only_frame_1_is_left(load(tree, image_root), "faulty_image", "has no part from samples/ on")


@pytest.mark.parametrize("answer", ["<c1,CAM_BACK,1600.5,21.5>.", "[(traffic light, red, 1.5, -0.5, 3.5, 4.5)]"])
def test_coordinates_outside_the_image_are_reported_and_kept(image_root: Path, answer: str) -> None:
    tree = scene_tree()
    frame_of(tree)["QA"]["planning"][0]["A"] = answer
    loaded = load(tree, image_root)
    assert len(loaded.samples) == 4
    assert loaded.kept_with_fault == {"coordinates_outside_image": ["scene-1_frame-1_2"]}
    assert "scene-1_frame-1_2" in loaded.notes[0]
    assert "outside the 1600x900 image" in loaded.notes[0]


def test_an_object_outside_the_image_is_reported_once_for_its_whole_frame(image_root: Path) -> None:
    tree = scene_tree()
    infos = frame_of(tree)["key_object_infos"]
    infos["<c1,CAM_BACK,15.5,21.5>"]["2d_bbox"] = [1, 2, 30, 901]
    loaded = load(tree, image_root)
    assert len(loaded.samples) == 4
    assert len(loaded.kept_with_fault["coordinates_outside_image"]) == 4
    assert len(loaded.notes) == 1
    assert "object <c1,CAM_BACK,15.5,21.5>" in loaded.notes[0]


def test_an_answer_that_is_no_option_is_dropped(image_root: Path) -> None:
    tree = scene_tree()
    frame_of(tree)["QA"]["perception"][0]["A"] = "Reverse parking."
    assert load(tree, image_root).dropped == {"answer_not_an_option": ["scene-1_frame-1_0"]}


def test_a_question_that_comes_twice_is_used_once(image_root: Path) -> None:
    entries = llama_list()
    loaded = load([*entries, entries[0]], image_root)
    assert len(loaded.samples) == 2
    assert loaded.dropped == {"duplicate_id": ["scene_1_frame-1_0"]}


def test_wording_of_no_known_task_is_dropped_in_the_llama_format(image_root: Path) -> None:
    entries = llama_list()
    entries[1]["conversations"][0]["value"] = "<image>\nWhat colour is the sky?"
    loaded = load(entries, image_root)
    assert loaded.dropped == {"unknown_task": ["scene_1_frame-1_1"]}
    assert "What colour is the sky?" in loaded.notes[0]


def test_a_file_without_one_usable_question_is_an_error_that_says_why(image_root: Path) -> None:
    tree = scene_tree()
    del frame_of(tree)["image_paths"]["CAM_BACK"]
    with pytest.raises(
        DataError, match=r"holds no usable question: .*4 dropped for wrong_cameras; first: frame frame-1"
    ):
        load(tree, image_root)
    with pytest.raises(DataError, match="holds no usable question"):
        load({}, image_root)


# --- files that cannot be read ----------------------------------------------------------------------------------------


def broken(change: Any) -> dict[str, Any]:
    tree = scene_tree()
    change(tree, frame_of(tree))
    return tree


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ('{"scene": ', r"annotations.json is not valid JSON: line 1 column 11"),
        ("3", "holds a int; a DriveLM file is"),
        ({"scene": []}, "annotations.json: scene must be a dict, got list"),
        ({"scene": {}}, "annotations.json: scene has no 'key_frames'; this is none of DriveLM's"),
        (broken(lambda _, frame: frame.pop("QA")), r"scene-1.key_frames.frame-1 has no 'QA'"),
        (broken(lambda _, frame: frame.update(image_paths=[])), "frame-1.image_paths must be a dict, got list"),
        ([3], r"annotations.json: \[0\] must be a dict"),
        ([{"id": "x"}], r"\[0\].id must look like scene_frame_number, got 'x'"),
        ([{"id": "a_b_0", "image": [], "conversations": []}], r"\[0\].conversations has no turn from human"),
        ([{"id": "a_b_0", "image": "x.jpg"}], r"\[0\].image must be a list, got str"),
    ],
)
def test_a_structure_that_is_not_drivelm_is_one_error_naming_file_and_place(
    image_root: Path, tree: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(tree, image_root)
    assert "annotations.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "left", "message"),
    [
        (lambda frame: frame["QA"].update(plannning=[]), 4, r"QA has the unknown task plannning; tasks: perc"),
        (lambda frame: frame["QA"]["planning"][0].pop("Q"), 3, r"frame-1.QA.planning\[0\] has no 'Q'"),
        (lambda frame: frame["QA"]["planning"][0].update(A=3), 3, r"planning\[0\].A must be a str, got int"),
        (lambda frame: frame["QA"].update(planning={}), 3, r"QA.planning must be a list, got dict"),
        (
            lambda frame: frame["key_object_infos"]["<c1,CAM_BACK,15.5,21.5>"].update({"2d_bbox": [1]}),
            4,
            r"2d_bbox must hold four numbers x1, y1, x2, y2, got \[1\]",
        ),
    ],
)
def test_a_malformed_part_is_listed_and_the_rest_is_used_but_strict_makes_it_an_error(
    image_root: Path, change: Callable[[dict[str, Any]], Any], left: int, message: str
) -> None:
    tree = broken(lambda _, frame: change(frame))
    loaded = load(tree, image_root)
    assert len(loaded.samples) == left
    assert re.search(message, loaded.notes[0])
    assert sum(map(len, (loaded.dropped | loaded.kept_with_fault).values())) == 1
    with pytest.raises(DataError, match=message):
        load_as("drivelm", image_root / "annotations.json", image_root, strict=True)


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (lambda frame: frame["image_paths"].update(CAM_BACK=None), "wrong_cameras", "no image of CAM_BACK; 6 cameras"),
        (lambda frame: frame["image_paths"].update(CAM_BACK=3), "malformed_entry", "CAM_BACK must be a str, got int"),
        (lambda frame: frame.pop("image_paths"), "malformed_entry", "frame-1 has no 'image_paths'"),
        (lambda frame: frame.update(QA={"planing": [{}, {}, {}, {}]}), "unknown_task", "has the unknown task planing"),
    ],
)
def test_what_a_fault_of_a_frame_costs_is_counted_by_the_question(
    image_root: Path, change: Callable[[dict[str, Any]], Any], reason: str, message: str
) -> None:
    tree = broken(lambda _, frame: change(frame))
    loaded = load({"whole": scene_tree()["scene-1"]} | tree, image_root)
    assert {name: len(ids) for name, ids in loaded.dropped.items()} == {reason: 4}
    assert len(set(loaded.dropped[reason])) == 4
    (note,) = loaded.notes
    assert message in note


def test_a_frame_whose_objects_are_damaged_keeps_its_questions(image_root: Path) -> None:
    loaded = load(broken(lambda _, frame: frame.update(key_object_infos=[3])), image_root)
    assert [sample.objects for sample in loaded.samples] == [()] * 4
    assert list(loaded.kept_with_fault) == ["malformed_entry"]


def test_a_scene_without_frames_is_dropped_and_the_others_are_used(image_root: Path) -> None:
    loaded = load(scene_tree() | {"scene-2": {}, "scene-3": {"key_frames": {"f": {"image_paths": {}}}}}, image_root)
    assert len(loaded.samples) == 4
    assert loaded.dropped == {"malformed_entry": ["scene-2", "scene-3_f"]}


def test_a_tag_that_is_no_metric_is_listed_and_the_question_used(image_root: Path) -> None:
    tree = scene_tree()
    for entries in frame_of(tree)["QA"].values():
        for entry in entries:
            entry["tag"] = [9]
    loaded = load(tree, image_root)
    assert len(loaded.samples) == 4
    assert len(loaded.kept_with_fault["unknown_tag"]) == 4
    assert "tag [9] is none of (0, 1, 2, 3)" in loaded.notes[0]


@pytest.mark.parametrize("tag", [[[0]], {"a": 1}, [], [True], None])
def test_a_tag_that_is_no_number_is_listed_and_the_question_used(image_root: Path, tag: Any) -> None:
    tree = scene_tree()
    frame_of(tree)["QA"]["behavior"][0]["tag"] = tag
    loaded = load(tree, image_root)
    assert len(loaded.samples) == 4
    assert loaded.kept_with_fault == {"unknown_tag": ["scene-1_frame-1_3"]}


def test_an_odd_number_of_coordinates_is_reported_and_kept(image_root: Path) -> None:
    tree = scene_tree()
    frame_of(tree)["QA"]["planning"][0]["A"] = "<c1,CAM_BACK,15.5>, <c2,CAM_BACK,1.5,2.5>."
    loaded = load(tree, image_root)
    assert len(loaded.samples) == 4
    assert loaded.kept_with_fault == {"odd_number_of_coordinates": ["scene-1_frame-1_2"]}
    assert "<c1,CAM_BACK,15.5> with an odd count of numbers" in loaded.notes[0]


def test_memory_does_not_grow_with_the_annotation_file(image_root: Path) -> None:
    peaks = []
    for scenes in (40, 400):
        path = image_root / f"{scenes}.json"
        tree = scene_tree()["scene-1"]
        tree["scene_description"] = "long " * 4000
        path.write_text(json.dumps({f"scene-{number}": tree for number in range(scenes)}))
        faults = Faults()
        tracemalloc.start()
        assert sum(1 for _ in read_drivelm(path, image_root, faults)) == 4 * scenes
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert path.stat().st_size > 8_000_000
    assert peaks[1] < peaks[0] + 1_000_000


def test_bytes_that_are_no_text_are_an_error_naming_the_file(image_root: Path) -> None:
    (image_root / "a.json").write_bytes(b"\xff{}")
    with pytest.raises(DataError, match=r"a\.json is not UTF-8 text"):
        load_as("drivelm", image_root / "a.json", image_root)


def test_a_missing_file_and_a_wrong_image_root_are_named(image_root: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json does not exist"):
        load_as("drivelm", image_root / "gone.json", image_root)
    (image_root / "a.json").write_text(json.dumps(scene_tree()))
    with pytest.raises(DataError, match="image_root .*CAM_FRONT has no folder samples"):
        load_as("drivelm", image_root / "a.json", image_root / "samples" / "CAM_FRONT")
