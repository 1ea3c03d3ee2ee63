from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.formats.drivebench import robust_task, split_explanation
from data.sample import CAMERAS
from tests.drawn import damage, draw, six_cameras, written
from tests.loaded import load_as

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "drivebench"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"the DriveBench sample is not at {REAL}")


def entry(question: str, answer: str, type_: str = "perception", **extra: Any) -> dict[str, Any]:
    paths = {camera: f"data/nuscenes/samples/{camera}/one.jpg" for camera in reversed(CAMERAS)}
    return {
        "scene_token": "s",
        "frame_token": "f",
        "question_type": type_,
        "question": question,
        "answer": answer,
        "tag": [1],
        "image_path": paths,
    } | extra


@pytest.fixture
def root(tmp_path: Path) -> Path:
    six_cameras(tmp_path / "nuscenes" / "samples", "one")
    six_cameras(tmp_path / "corruption" / "Fog", "one")
    return tmp_path


def test_one_list_of_questions_takes_its_images_from_the_clean_or_a_corrupted_folder(root: Path) -> None:
    file = written(root / "test.json", [entry("What is the moving status of object <c1,CAM_BACK,0.5,0.6>?", "Moving.")])
    for folder, images in (("nuscenes", "nuscenes/samples"), ("corruption/Fog", "corruption/Fog")):
        (sample,) = load_as("drivebench", file, root / folder).samples
        assert (sample.id, sample.scene_id, sample.frame_id) == ("s_f_0", "s", "f")
        assert (sample.task, sample.kind, sample.coordinate_unit) == ("perception", "open_ended", "fractions")
        assert sample.images == {camera: str(root / images / camera / "one.jpg") for camera in CAMERAS}
        assert tuple(sample.images) == CAMERAS


def test_paths_that_name_a_corruption_themselves_are_found_by_camera_and_file(root: Path) -> None:
    paths = {camera: f"./Fog/{camera}/one.jpg" for camera in CAMERAS}
    file = written(root / "fog.json", [entry("Describe it.", "Fog.", "robust_qas", tag=[4], image_path=paths)])
    (sample,) = load_as("drivebench", file, root / "corruption" / "Fog").samples
    assert sample.images["CAM_BACK"].endswith("corruption/Fog/CAM_BACK/one.jpg")
    assert sample.task == "perception"


def test_without_an_image_root_every_question_is_asked_without_images(root: Path) -> None:
    file = written(root / "test.json", [entry("Why?", "So.", "planning")])
    (sample,) = load_as("drivebench", file, without_images=True).samples
    assert sample.images == {}


def test_visual_descriptions_give_the_objects_of_their_frame(root: Path) -> None:
    info = {"Category": "Vehicle", "Status": None, "Visual_description": "Red car.", "2d_bbox": [1, 2, 3, 4]}
    frames = {"f": {"key_object_infos": {"<c1,CAM_BACK,2.0,3.0>": info}}}
    described = written(root / "described.json", {"s": {"key_frames": frames}})
    other = entry("Why?", "So.", frame_token="g")
    file = written(root / "test.json", [entry("Why?", "So."), other])
    first, second = load_as("drivebench", file, without_images=True, visual_descriptions=described).samples
    assert [item.description for item in first.objects] == ["Red car."]
    assert second.objects == ()


def test_faulty_entries_are_listed_under_their_reason_and_the_rest_is_used(root: Path) -> None:
    five = {camera: f"samples/{camera}/one.jpg" for camera in CAMERAS[1:]}
    missing = {camera: f"samples/{camera}/two.jpg" for camera in CAMERAS}
    entries = [
        entry("Good?", "Yes."),
        entry("Empty?", " "),
        entry("Type?", "Yes.", "perceptoin"),
        entry("Tag?", "Yes.", tag=[7]),
        entry("Five?", "Yes.", image_path=five),
        entry("Missing?", "Yes.", image_path=missing),
        entry("Unknown?", "Yes.", image_path={"CAM_FRNT": "samples/CAM_FRONT/one.jpg"}),
        entry("None?", "Yes.", image_path=dict.fromkeys(CAMERAS)),
        {"question": "Who?"},
        3,
    ]
    file = written(root / "test.json", entries)
    loaded = load_as("drivebench", file, root / "nuscenes")
    assert [sample.question for sample in loaded.samples] == ["Good?", "Tag?", "Five?"]
    assert loaded.dropped == {
        "empty_answer": ["s_f_1"],
        "unknown_task": ["s_f_2"],
        "wrong_cameras": ["s_f_6", "s_f_7"],
        "malformed_entry": ["[8]", "[9]"],
        "faulty_image": ["s_f_5"],
    }
    assert loaded.kept_with_fault == {"unknown_tag": ["s_f_3"]}
    assert any("test.json: [8] has no 'scene_token'" in note for note in loaded.notes)
    with pytest.raises(DataError, match="question s_f_1 has an empty answer .empty_answer"):
        load_as("drivebench", file, root / "nuscenes", strict=True)


def test_a_fraction_above_one_is_reported(root: Path) -> None:
    file = written(root / "test.json", [entry("Where?", "At <c1,CAM_BACK,1.2,0.5>.")])
    assert load_as("drivebench", file, without_images=True).kept_with_fault == {"coordinates_outside_image": ["s_f_0"]}


def test_a_truncated_image_drops_its_frame_and_nothing_left_is_an_error(root: Path) -> None:
    damage(root / "nuscenes" / "samples" / "CAM_BACK" / "one.jpg")
    file = written(root / "test.json", [entry("Good?", "Yes.")])
    with pytest.raises(
        DataError, match=r"no usable question: .*1 dropped for faulty_image; first: frame f: image .*is tru"
    ):
        load_as("drivebench", file, root / "nuscenes")


@pytest.mark.parametrize(
    ("value", "message"), [({}, "is no list of questions"), ([], "no usable question"), (3, "is no list of questions")]
)
def test_a_file_of_another_structure_is_one_sentence(root: Path, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_as("drivebench", written(root / "test.json", value), root / "nuscenes")


def test_an_image_root_without_cameras_is_named(root: Path) -> None:
    file = written(root / "test.json", [entry("Good?", "Yes.")])
    with pytest.raises(DataError, match="holds neither samples/CAM_FRONT/.* nor CAM_FRONT"):
        load_as("drivebench", file, root)


def test_an_explanation_is_distinguished_from_the_verdict() -> None:
    assert split_explanation("A, Explanation: it is dark.") == ("A", "it is dark.")
    assert split_explanation("No.") == ("No.", "")
    assert split_explanation("Explanation: dark") == ("Explanation: dark", "")


@given(st.text(), st.text())
def test_any_text_can_be_read(answer: str, question: str) -> None:
    assert isinstance(split_explanation(answer)[0], str)
    assert robust_task(question)


@needs_real_data
def test_the_real_23_questions_load_with_their_objects() -> None:
    loaded = load_as(
        "drivebench",
        REAL / "drivebench-test.slice23.json",
        without_images=True,
        visual_descriptions=REAL / "visual_description.json",
    )
    assert (len(loaded.samples), loaded.dropped, loaded.kept_with_fault) == (23, {}, {})
    assert Counter(sample.task for sample in loaded.samples) == {
        "perception": 6, "prediction": 5, "planning": 9, "behavior": 3,
    }  # fmt: skip
    assert Counter(sample.kind for sample in loaded.samples) == {
        "open_ended": 11, "multiple_choice": 6, "structured": 3, "yes_no": 3,
    }  # fmt: skip
    assert all(len(sample.choices) == 3 for sample in loaded.samples if sample.task == "perception" and sample.choices)
    assert all(sample.objects for sample in loaded.samples)


def with_named_cameras(entry: dict[str, Any], *, null: bool) -> dict[str, Any]:
    """An entry after DriveBench's own preprocessing: of the cameras those that the question names, or all."""
    paths = entry["image_path"]
    named = [camera for camera in paths if camera in re.findall(r"CAM_[A-Z_]+", entry["question"])] or list(paths)
    kept = {camera: path if camera in named else None for camera, path in paths.items()}
    return entry | {"image_path": kept if null else {camera: kept[camera] for camera in named}}


@needs_real_data
@pytest.mark.parametrize("null", [True, False])
def test_the_real_23_questions_bring_the_cameras_that_they_name(tmp_path: Path, null: bool) -> None:
    whole = json.loads((REAL / "drivebench-test.slice23.json").read_text())
    entries = [with_named_cameras(entry, null=null) for entry in whole]
    for entry_ in entries:
        for camera, path in entry_["image_path"].items():
            if path is not None:
                draw(tmp_path / "samples" / camera / Path(path).name)
    samples = load_as("drivebench", written(tmp_path / "test.json", entries), tmp_path, strict=True).samples
    assert [list(sample.images) for sample in samples] == [
        [camera for camera in CAMERAS if entry_["image_path"].get(camera)] for entry_ in entries
    ]
    assert Counter(len(sample.images) for sample in samples).keys() == {1, 6}
    unshown = load_as("drivebench", REAL / "drivebench-test.slice23.json", without_images=True, strict=True).samples
    assert [(sample.id, sample.answer) for sample in samples] == [(sample.id, sample.answer) for sample in unshown]


def test_answers_need_no_image_paths(root: Path) -> None:
    entries: list[dict[str, Any]] = [entry("A?", "Yes."), entry("B?", "Yes.", image_path={}), entry("C?", "Yes.")]
    del entries[2]["image_path"]
    entries.append(entry("D?", "Yes.", image_path=None))
    file = written(root / "test.json", entries)
    assert len(load_as("drivebench", file, without_images=True, strict=True).samples) == 4
    loaded = load_as("drivebench", file, root / "nuscenes")
    assert loaded.dropped == {"wrong_cameras": ["s_f_1", "s_f_2", "s_f_3"]}
    assert "one camera is needed" in loaded.notes[0]


@needs_real_data
def test_the_real_questions_about_a_corruption_load_with_choices_and_explanations() -> None:
    loaded = load_as("drivebench", REAL / "camcrash.slice8.json", without_images=True)
    assert (len(loaded.samples), loaded.dropped) == (8, {})
    corruption, count, _, status, sign, *_ = loaded.samples
    assert (corruption.answer, corruption.choices["D"]) == ("D", "Sensor failure")
    assert (count.answer, count.choices) == ("B", {"A": "1.", "B": "3.", "C": "5.", "D": "0"})
    assert (status.answer, status.task) == ("A", "perception")
    assert status.reasoning.startswith("The object is a gray sedan")
    assert (sign.answer, sign.kind, sign.task) == ("No", "yes_no", "prediction")
