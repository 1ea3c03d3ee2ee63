"""Every format through the settings of a recipe, and through `prepare_data.py` into JSONL and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from data.faults import Faults
from data.formats.format import FORMATS, format_class
from data.jsonl import write_jsonl
from data.load import load_data
from data.settings import DataSettings
from prepare_data import main
from tests.drawn import draw, six_cameras, written
from tests.loaded import load_as, read_as
from tests.unit.test_bdd_oia import reason_bits
from tests.unit.test_driveaction import ROWS, parquet
from tests.unit.test_drivebench import entry as drivebench_entry
from tests.unit.test_drivelm import scene_tree
from tests.unit.test_drivelm_carla import IMAGE, frame, turns
from tests.unit.test_drivelmm_o1 import entry as o1_entry
from tests.unit.test_nuscenes import tables


def drivelm(root: Path) -> dict[str, Any]:
    six_cameras(root / "samples", "one")
    return {"annotations": written(root / "train.json", scene_tree()), "image_root": root}


def drivebench(root: Path) -> dict[str, Any]:
    six_cameras(root / "Fog", "one")
    asked = [drivebench_entry("Where is <c1,CAM_BACK,0.5,0.6>?", "A, Explanation: dark.", "robust_qas")]
    return {"annotations": written(root / "test.json", asked), "image_root": root / "Fog"}


def drivelmm_o1(root: Path) -> dict[str, Any]:
    six_cameras(root / "samples", "one")
    return {"annotations": written(root / "test.json", [o1_entry(1)]), "image_root": root, "name_cameras": True}


def bdd_oia(root: Path) -> dict[str, Any]:
    for number in range(3):
        draw(root / "a" / f"{number}.jpg")
    images = {"images": [{"id": 0, "file_name": "a.jpg"}], "annotations": [{"category": [1, 0, 0, 0]}]}
    reasons = written(root / "r.json", [{"reason": reason_bits(0), "file_name": "a.jpg"}])
    actions = written(root / "a.json", images)
    asked = {"frames": 2, "reason_order": "table", "reply": "structure"}
    return {"annotations": actions, "reasons": reasons, "image_root": root, **asked}


def driveaction(root: Path) -> dict[str, Any]:
    return {"annotations": parquet(root / "a.parquet", ROWS), "context_mode": "V-L-A", "image_root": root / "images"}


def drivelm_carla(root: Path) -> dict[str, Any]:
    draw(root / IMAGE)
    asked = [frame(important_objects=turns("What is ahead?", "A car."))]
    return {"annotations": written(root / "a.json", asked), "image_root": root}


def nuscenes(root: Path) -> dict[str, Any]:
    six_cameras(root / "samples", *map(str, range(12)))
    return {"annotations": tables(root), "image_root": root}


DRAWN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "drivelm": drivelm,
    "drivebench": drivebench,
    "drivelmm_o1": drivelmm_o1,
    "bdd_oia": bdd_oia,
    "driveaction": driveaction,
    "drivelm_carla": drivelm_carla,
    "nuscenes": nuscenes,
}


def test_every_format_but_our_own_is_drawn_here() -> None:
    assert set(DRAWN) == set(FORMATS) - {"jsonl", "chat", "hf", "rendered", "driving"}


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_converted_and_loaded_equals_the_loaders_own_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    given = DRAWN[name](tmp_path)
    own = tuple(read_as(name, tmp_path, Faults(), **given))
    assert own
    target = tmp_path / "out" / "samples.jsonl"
    options = [f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}") for key, value in given.items()]
    options = [option for option in options if not option.startswith("--annotations")]
    assert main(["convert", name, str(given["annotations"]), str(target), *options]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == {"target": str(target), "samples": len(own), "dropped": {}, "kept_with_fault": {}}
    assert load_as("jsonl", target, strict=True).samples == own


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"rendered", "driving"}))
def test_a_source_without_its_paths_is_one_sentence_that_names_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"^data.source={name} needs data.options.annotations \(.* as well$") as caught:
        load_data(DataSettings(source=name), tmp_path)
    for option, field in format_class(name).Settings.model_fields.items():
        assert (f"data.options.{option} (" in str(caught.value)) == field.is_required()


def test_what_was_given_is_not_asked_for_again(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data.source=drivelm needs data.options.image_root \([^)]*\) as well$"):
        load_data(DataSettings(source="drivelm", options={"annotations": tmp_path / "a.json"}), tmp_path)


def test_drivebench_can_be_asked_without_images(tmp_path: Path) -> None:
    given = drivebench(tmp_path)
    read = read_as("drivebench", tmp_path, Faults(), annotations=given["annotations"], without_images=True)
    assert [sample.images for sample in read] == [{}]


def own_file(root: Path) -> Path:
    drivelm(root)
    tree = scene_tree()
    tree["scene-1"]["key_frames"]["frame-1"]["QA"]["planning"][0]["A"] = ""
    path = root / "own.jsonl"
    train = written(root / "train.json", tree)
    write_jsonl(path, read_as("drivelm", root, Faults(), annotations=train, image_root=root))
    with path.open("a") as file:
        file.write("{}\n")
    return path


def test_a_recipe_loads_and_splits_your_own_data_and_tells_its_faults(tmp_path: Path) -> None:
    path = own_file(tmp_path)
    lines = path.read_text().splitlines()
    six_cameras(tmp_path / "samples", "two")
    other = lines[0].replace("scene-1", "scene-2").replace("frame-1", "frame-2").replace("one.jpg", "two.jpg")
    path.write_text("\n".join([*lines, other]))
    own = DataSettings(source="jsonl", options={"annotations": path})
    loaded = load_data(own, tmp_path)
    assert {len(loaded.split.train), len(loaded.split.held_out)} == {1, 3}
    assert loaded.faults == {"malformed_entry": ["line 4"]}
    with pytest.raises(DataError, match=r"own\.jsonl line 4"):
        load_data(own.model_copy(update={"strict": True}), tmp_path)


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_counts_tasks_kinds_and_faults_and_ends_with_one_json_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_file(tmp_path)
    assert main(["check", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert json.loads(said[-1]) == {
        "file": str(path),
        "samples": 3,
        "scenes": 1,
        "tasks": {"perception": 2, "behavior": 1},
        "kinds": {"multiple_choice": 1, "yes_no": 1, "open_ended": 1},
        "images_per_sample": {"6": 3},
        "dropped": {"malformed_entry": 1},
        "kept_with_fault": {},
    }
    assert any("malformed_entry" in line for line in said)
    assert any("own.jsonl line 4: id is missing" in line for line in said)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the script says of arguments it refuses."""
    assert main(list(arguments)) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


def test_check_tells_image_problems_and_nothing_left_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_file(tmp_path)
    (tmp_path / "samples" / "CAM_BACK" / "one.jpg").write_bytes(b"no picture")
    assert "own.jsonl holds no usable question; first: " in refused(capsys, "check", str(path))


def test_check_strict_stops_at_the_first_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "own.jsonl line 4" in refused(capsys, "check", str(own_file(tmp_path)), "--strict")


def test_check_tells_prompt_lengths_for_a_model_as_its_encoder_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from policies.prompt_lengths import PromptLengths
    from policies.settings import PolicySettings
    from policies.tiny import build_tiny_policy

    path = own_file(tmp_path)
    folder = build_tiny_policy(tmp_path / "tiny")
    samples = load_as("jsonl", path).samples
    lengths = PromptLengths(str(folder), PolicySettings(model=str(folder)))
    exact = sorted(len(lengths.encoder.prompt_ids(sample)) for sample in samples)
    assert sorted(map(lengths, samples)) == exact
    assert main(["check", str(path), "--model", str(folder)]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["prompt_tokens"] == {"shortest": exact[0], "median": exact[1], "p95": exact[2], "longest": exact[2]}
    assert printed["context"] == lengths.context == 4096


def test_convert_overwrites_nothing_and_leaves_no_file_when_nothing_is_usable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = drivelm(tmp_path)
    (tmp_path / "there.jsonl").write_text("mine")
    arguments = ["--image-root", str(tmp_path)]
    error = refused(capsys, "convert", "drivelm", str(given["annotations"]), str(tmp_path / "there.jsonl"), *arguments)
    assert "there.jsonl exists already" in error
    empty = written(tmp_path / "empty.json", {})
    error = refused(capsys, "convert", "drivelm", str(empty), str(tmp_path / "new.jsonl"), *arguments)
    assert "empty.json holds no usable question" in error
    assert not (tmp_path / "new.jsonl").exists()
