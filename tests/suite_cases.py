"""Every benchmark with small files of its own, the predictions that are right throughout, and what those are worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.rendered.questions import samples_of
from data.rendered.scene import build_scene
from data.sample import CAMERAS, GRID
from tests.drawn import draw, picture, six_cameras, written

OWN = "docs.examples.signs:Signs"
IMAGES = {camera: f"samples/{camera}/one.jpg" for camera in CAMERAS}


@dataclass(frozen=True)
class Case:
    """What a recipe would say of a benchmark, and what is right."""

    options: dict[str, Any]
    perfect: dict[str, str]
    best: dict[str, float]
    """Figures of the perfect predictions that have a best value by rule."""
    other: dict[str, Any]
    """An option that is about the questions, with another value than in `options`."""


def drivelm(folder: Path) -> Case:
    truths = {
        "perception": [("What is the moving status of object <c1,CAM_BACK,15.5,21.5>?", "B", [0])],
        "planning": [("What leads to a collision?", "Backing up.", [1, 2])],
    }
    asked = {task: [{"Q": q, "A": a, "tag": tag} for q, a, tag in truths.get(task, [])]
             for task in ("perception", "prediction", "planning", "behavior")}  # fmt: skip
    paths = {camera: f"../nuscenes/{path}" for camera, path in IMAGES.items()}
    frame = {"QA": asked, "image_paths": paths, "key_object_infos": {}}
    file = written(folder / "test_eval.json", {"scene": {"scene_description": "", "key_frames": {"frame": frame}}})
    said = {"scene_frame_0": "B", "scene_frame_1": "Backing up."}
    return Case(with_images(folder, file), said, {"accuracy": 1.0}, {"image_root": folder / "others"})


def drivebench(folder: Path) -> Case:
    entry = {"scene_token": "s", "frame_token": "f", "question_type": "planning", "question": "Is it safe?",
             "answer": "Yes.", "tag": [0], "image_path": IMAGES}  # fmt: skip
    options = with_images(folder, written(folder / "drivebench.json", [entry, entry]))
    said = {"s_f_0": "Yes.", "s_f_1": "Yes.", "no_image/s_f_0": "Yes.", "no_image/s_f_1": "Yes."}
    best = {"accuracy/clean/planning": 100.0, "accuracy/no_image/planning": 100.0}
    return Case(options, said, best, {"settings": "clean"})


def drivelm_hard(folder: Path) -> Case:
    about = {"scene_id": "s", "task": "planning", "kind": "yes_no", "question": "Is it safe?", "answer": "Yes."}
    six_cameras(folder / "samples", "one")
    lines = [json.dumps(about | {"id": id_, "images": IMAGES}) for id_ in ("a", "b")]
    file = folder / "samples.jsonl"
    file.write_text("\n".join(lines))
    return Case({"answers": file}, {"a": "Yes.", "b": "Yes."}, {"mean": 100.0}, {"image_root": folder})


def drivelmm_o1(folder: Path) -> Case:
    image = [IMAGES[camera] for row in GRID for camera in row]
    about = {"image": image, "question": "What is safest?\nA) Slow down.\nB) Speed up.", "steps": "1. Look."}
    entries = [about | {"idx": f"s_f_{number}", "final_answer": "A) Slow down."} for number in (2, 3)]
    options = with_images(folder, written(folder / "o1.json", entries))
    said = {"s_f_2": "Final answer: A", "s_f_3": "Final answer: A"}
    return Case(options, said, {"mcq_accuracy": 100.0}, {"image_root": folder / "others"})


def bdd_oia(folder: Path) -> Case:
    names = ("a.jpg", "b.jpg")
    actions = {
        "images": [{"id": number, "file_name": draw(folder / name).name} for number, name in enumerate(names)],
        "annotations": [{"category": [1, 0, 0, 0, 0]} for _ in names],
    }
    reasons = [{"file_name": name, "reason": [int(bit == 2) for bit in range(21)]} for name in names]
    files = {
        "actions": written(folder / "x_actions.json", actions),
        "reasons": written(folder / "x_reasons.json", reasons),
    }
    said = dict.fromkeys(names, "Action: Move forward; Reason: Traffic light is green")
    best = {"actions/f1_all": 100.0, "actions/exact_match": 100.0, "reasons/f1_all": 100.0}
    return Case(files | {"image_root": folder}, said, best, {"reply": "describe"})


def driveaction(folder: Path) -> Case:
    content = json.dumps({"question": "What now?", "options": {"A": "Stop", "B": "Go"}, "answer": "B"})
    images = {f"image_{number}": {"bytes": picture(40 * number), "path": None} for number in range(3)}
    row = {"question_slice_id": "s", "qa_l0": "Action", "content_en": content, "content_cn": content}
    pq.write_table(pa.Table.from_pylist([row | images, row | images]), folder / "a.parquet")
    return Case({"answers": folder / "a.parquet"}, {"s_0": "B", "s_1": "B"}, {"accuracy": 100.0}, {"language": "cn"})


def open_loop(folder: Path) -> Case:
    entry = {"scene_token": "s", "token": "f", "images": list(IMAGES.values()),
             "sdc_planning": [[[0, 2 * step, 0] for step in range(1, 7)]]}  # fmt: skip
    plan = json.dumps([[0, 2 * step] for step in range(1, 7)])
    best = {"uniad/l2_mean": 0.0, "vad_stp3/l2_mean": 0.0}
    options = with_images(folder, written(folder / "way.json", [entry]))
    return Case(options, {"f": plan}, best, {"image_root": folder / "others"})


def bench2drive(folder: Path) -> Case:
    scores = {"score_route": 100.0, "score_composed": 100.0}
    record = {"route_id": "a", "save_name": "a", "status": "Perfect", "infractions": {}, "scores": scores}
    file = written(folder / "merged.json", {"_checkpoint": {"records": [record]}})
    best = {"driving_score": 100.0, "success_rate": 100.0}
    return Case({"result": file, "routes": 1}, {}, best, {"routes": 220})


def rendered(folder: Path) -> Case:
    said = {sample.id: sample.answer for index in (0, 1) for sample in samples_of(build_scene(index, 5), {})}
    best = {f"accuracy/{task}": 100.0 for task in ("perception", "behavior")}
    return Case({"scenes": 2, "scene_seed": 5}, said, best, {"scene_seed": 6})


def own(folder: Path) -> Case:
    said = {"a.jpg": "STOP", "b.jpg": "50"}
    for name in said:
        draw(folder / name)
    file = written(folder / "signs.json", said)
    return Case({"answers": file, "image_root": folder}, said, {"read": 100.0}, {"asked": "Which sign is it?"})


def with_images(folder: Path, answers: Path) -> dict[str, Any]:
    """An answer file, and the root of six images."""
    six_cameras(folder / "samples", "one")
    return {"answers": answers, "image_root": folder}


CASES: dict[str, Callable[[Path], Case]] = {
    "drivelm": drivelm,
    "drivebench": drivebench,
    "drivelm_hard": drivelm_hard,
    "drivelmm_o1": drivelmm_o1,
    "bdd_oia": bdd_oia,
    "driveaction": driveaction,
    "open_loop": open_loop,
    "bench2drive": bench2drive,
    "rendered": rendered,
    OWN: own,
}
