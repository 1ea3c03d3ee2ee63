from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from data.faults import Faults, LoadedSamples
from data.formats.bdd_oia import REASON_ORDERS, answer_text
from data.formats.bdd_oia_words import REASONS, actions_in, reasons_in
from evaluation.suites.bdd_oia import BddOia, BddOiaOptions
from tests.drawn import damage, draw, written
from tests.loaded import load_as


def reason_bits(*positions: int) -> list[int]:
    return [int(position in positions) for position in range(21)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abcdefg":
        draw(tmp_path / f"{name}.jpg")
    return tmp_path


def load(root: Path, actions: dict[str, Any], reasons: dict[str, Any], **options: Any) -> LoadedSamples:
    images = [{"id": number, "file_name": name} for number, name in enumerate(actions)]
    annotations = [{"category": category} for category in actions.values()]
    first = written(root / "x_actions.json", {"images": images, "annotations": annotations})
    second = written(root / "x_reasons.json", [{"reason": bits, "file_name": name} for name, bits in reasons.items()])
    return load_as("bdd_oia", first, root, reasons=second, **options)


def test_a_frame_gives_its_actions_and_reasons_in_words_and_as_bits(root: Path) -> None:
    loaded = load(root, {"a.jpg": [1, 0, 1, 0, 0]}, {"a.jpg": reason_bits(2, 0, 11)})
    (sample,) = loaded.samples
    assert sample.answer == (
        "Action: Move forward, Turn left; "
        "Reason: Follow traffic, Traffic light is green, Traffic light allows turning left"
    )
    assert sample.labels == {"action": (0, 2), "reason": (0, 2, 11)}
    assert (sample.id, sample.scene_id, sample.task, sample.kind) == ("a.jpg", "a", "behavior", "open_ended")
    assert sample.images == {"CAM_FRONT": str(root / "a.jpg")}


def test_actions_and_reasons_are_paired_by_file_name_whatever_their_order(root: Path) -> None:
    actions = {"a.jpg": [1, 0, 0, 0], "b.jpg": [0, 1, 0, 0]}
    loaded = load(root, actions, {"b.jpg": reason_bits(7), "a.jpg": reason_bits(1)})
    assert [sample.labels for sample in loaded.samples] == [
        {"action": (0,), "reason": (1,)},
        {"action": (1,), "reason": (7,)},
    ]


def ided(root: Path, images: dict[Any, str], annotations: list[dict[str, Any]]) -> LoadedSamples:
    tree = {"images": [{"id": id_, "file_name": name} for id_, name in images.items()], "annotations": annotations}
    reasons = [{"reason": reason_bits(1), "file_name": name} for name in images.values()]
    first, second = written(root / "x_actions.json", tree), written(root / "x_reasons.json", reasons)
    return load_as("bdd_oia", first, root, reasons=second, strict=True)


def actions_of(loaded: LoadedSamples) -> dict[str, tuple[int, ...]]:
    return {sample.id: sample.labels["action"] for sample in loaded.samples}


@pytest.mark.parametrize("key", ["id", "image_id"])
def test_actions_belong_to_the_image_of_their_id_wherever_it_stands(root: Path, key: str) -> None:
    own: dict[str, Any] = (
        {"id": 7} if key == "image_id" else {}
    )  # an annotation's own id says nothing beside the image's
    annotations = [own | {key: 0, "category": [1, 0, 0, 0, 0]}, own | {key: "1", "category": [0, 1, 0, 0, 0]}]
    loaded = ided(root, {1: "a.jpg", 0: "b.jpg"}, annotations)
    assert actions_of(loaded) == {"a.jpg": (1,), "b.jpg": (0,)}
    (note,) = loaded.notes
    assert note.endswith("paired by id; by position the pairs would differ")
    assert (loaded.dropped, loaded.kept_with_fault) == ({}, {})


def test_ids_that_agree_with_the_positions_need_no_word(root: Path) -> None:
    annotations = [{"id": 4, "category": [1, 0, 0, 0]}, {"id": 2, "category": [0, 1, 0, 0]}]
    loaded = ided(root, {4: "a.jpg", 2: "b.jpg"}, annotations)
    assert (actions_of(loaded), loaded.notes) == ({"a.jpg": (0,), "b.jpg": (1,)}, ())


@pytest.mark.parametrize("ids", [(1, 2), (10, 11), (5, 5)])
def test_ids_that_are_not_the_images_leave_the_positions(root: Path, ids: tuple[int, int]) -> None:
    annotations = [{"id": ids[0], "category": [1, 0, 0, 0]}, {"id": ids[1], "category": [0, 1, 0, 0]}]
    loaded = ided(root, {0: "a.jpg", 1: "b.jpg"}, annotations)
    assert actions_of(loaded) == {"a.jpg": (0,), "b.jpg": (1,)}
    assert all("paired by position: their ids are not the same" in note for note in loaded.notes)
    assert len(loaded.notes) == (ids != (5, 5))


def test_an_image_whose_annotation_is_lost_costs_itself_alone(root: Path) -> None:
    images = [{"id": id_, "file_name": f"{name}.jpg"} for id_, name in enumerate("abc")]
    annotations = [{"id": 2, "category": [0, 0, 1, 0]}, {"id": 0, "category": [1, 0, 0, 0]}]
    first = written(root / "x_actions.json", {"images": images, "annotations": annotations})
    reasons = [{"reason": reason_bits(1), "file_name": f"{name}.jpg"} for name in "ac"]
    loaded = load_as("bdd_oia", first, root, reasons=written(root / "x_reasons.json", reasons))
    assert actions_of(loaded) == {"a.jpg": (0,), "c.jpg": (2,)}
    assert loaded.dropped == {"unpaired_entry": ["[1]"]}


def test_a_file_in_the_order_of_the_table_gives_the_true_bits(root: Path) -> None:
    loaded = load(root, {"a.jpg": [1, 0, 0, 0]}, {"a.jpg": reason_bits(0, 3)}, reason_order="table")
    assert loaded.samples[0].labels["reason"] == (2, 7)  # the table begins with the green light; fourth: traffic light
    assert sorted(REASON_ORDERS["table"]) == list(range(21))


def test_the_order_of_the_table_is_that_of_its_rows() -> None:
    assert [REASONS[bit].text for bit in REASON_ORDERS["table"]][:10] == [
        "Traffic light is green", "Follow traffic", "Road is clear", "Traffic light", "Traffic sign", "Obstacle: car",
        "Obstacle: person", "Obstacle: rider", "Obstacle: others", "No lane on the left",
    ]  # fmt: skip


def test_a_clip_is_shown_oldest_first_and_ends_with_the_frame_of_the_question(root: Path) -> None:
    for number in range(9):
        draw(root / "a" / f"{number}.jpg")
    (sample,) = load(root, {"a.jpg": [1, 0, 0, 0]}, {"a.jpg": reason_bits(1)}, frames=3).samples
    assert [(view, Path(path).name) for view, path in sample.images.items()] == [
        ("CAM_FRONT-2", "0.jpg"), ("CAM_FRONT-1", "4.jpg"), ("CAM_FRONT", "8.jpg"),
    ]  # fmt: skip


def test_faulty_frames_are_listed_and_the_rest_is_used(root: Path) -> None:
    damage(root / "f.jpg")
    actions: dict[str, Any] = {
        "a.jpg": [1, 0, 0, 0, 0],
        "b.jpg": [0, 0, 0, 0, 1],
        "c.jpg": [0, 0, 0, 0, 0],
        "d.jpg": [1, 0, 2, 0],
        "e.jpg": [1, 0, 0, 0],
        "f.jpg": [1, 0, 0, 0],
        "../g.jpg": [1, 0, 0, 0],
    }
    reasons: dict[str, Any] = {name: reason_bits(1) for name in actions if name != "e.jpg"}
    reasons |= {"z.jpg": reason_bits(1), "y.jpg": [1, 0]}
    loaded = load(root, actions, reasons)
    assert [sample.id for sample in loaded.samples] == ["a.jpg"]
    assert loaded.dropped == {
        "confused_label": ["b.jpg"],
        "empty_answer": ["c.jpg"],
        "malformed_entry": ["reasons[7]", "[3]"],
        "unpaired_entry": ["e.jpg", "d.jpg", "z.jpg"],
        "faulty_image": ["../g.jpg", "f.jpg"],
    }
    with pytest.raises(DataError, match=r"\[7\]\.reason must hold 21 zeros and ones"):
        load(root, actions, reasons, strict=True)


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_frame_whose_name_names_no_file_is_listed(root: Path, name: str) -> None:
    reasons = {"a.jpg": reason_bits(1), name: reason_bits(1)}
    loaded = load(root, {name: [1, 0, 0, 0], "a.jpg": [1, 0, 0, 0]}, reasons)
    assert [sample.id for sample in loaded.samples] == ["a.jpg"]
    assert loaded.dropped == {"malformed_entry": ["[0]"], "unpaired_entry": [name]}
    assert f"images[0].file_name must name a file, got {name!r}" in loaded.notes[0]


def test_of_a_frame_that_is_listed_twice_the_first_actions_count(root: Path) -> None:
    images = [{"id": number, "file_name": "a.jpg"} for number in range(2)]
    annotations = [{"category": [1, 0, 0, 0]}, {"category": [0, 1, 0, 0]}]
    first = written(root / "x_actions.json", {"images": images, "annotations": annotations})
    second = written(root / "x_reasons.json", [{"reason": reason_bits(1), "file_name": "a.jpg"}])
    loaded = load_as("bdd_oia", first, root, reasons=second)
    assert [sample.labels["action"] for sample in loaded.samples] == [(0,)]
    assert loaded.dropped == {"duplicate_id": ["a.jpg"]}
    assert loaded.notes == (f"{first}: images[1]: a.jpg has actions more than once; the first count",)


def test_the_benchmark_counts_frames_that_confused_people_also_when_it_is_strict(root: Path) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate(("a.jpg", "b.jpg"))]
    annotations = [{"category": [1, 0, 0, 0, 0]}, {"category": [0, 0, 0, 0, 1]}]
    first = written(root / "x_actions.json", {"images": images, "annotations": annotations})
    reasons = [{"reason": reason_bits(1), "file_name": name} for name in ("a.jpg", "b.jpg")]
    second = written(root / "x_reasons.json", reasons)
    suite = BddOia(BddOiaOptions(actions=first, reasons=second, image_root=root))
    faults = Faults(strict=True)
    assert [question.sample.id for question in suite.questions(faults, root)] == ["a.jpg"]
    assert faults.as_dict() == {"confused_label": ["b.jpg"]}
    with pytest.raises(DataError, match="annotators were confused"):
        load_as("bdd_oia", first, root, reasons=second, strict=True)


def test_a_clip_with_too_few_frames_is_a_fault_that_says_how_many(root: Path) -> None:
    draw(root / "a" / "0.jpg")
    with pytest.raises(DataError, match="the clip .*a holds 1 frames, 2 are asked for"):
        load(root, {"a.jpg": [1, 0, 0, 0]}, {"a.jpg": reason_bits(1)}, frames=2)


def test_lists_of_unlike_length_lose_only_their_rest(root: Path) -> None:
    images = [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    first = written(root / "x_actions.json", {"images": images, "annotations": [{"category": [1, 0, 0, 0]}]})
    second = written(root / "x_reasons.json", [{"reason": reason_bits(1), "file_name": "a.jpg"}])
    loaded = load_as("bdd_oia", first, root, reasons=second)
    assert (len(loaded.samples), loaded.dropped) == (1, {"unpaired_entry": ["[1]"]})


def test_the_reasons_of_another_split_are_an_error_that_says_why(root: Path) -> None:
    with pytest.raises(DataError, match=r"no usable question: .*dropped for unpaired_entry; first: a.jpg has actions"):
        load(root, {"a.jpg": [1, 0, 0, 0]}, {"b.jpg": reason_bits(1)})


@pytest.mark.parametrize("bit", range(21))
def test_every_answer_names_the_reason_it_was_written_for(bit: int) -> None:
    assert REASONS[bit] in reasons_in(answer_text([0], [bit]))


def test_an_answer_says_its_actions() -> None:
    assert actions_in(answer_text([0, 3], [1])) == {"forward", "right"}


def test_what_is_asked_for_follows_the_stage_and_the_answer_stays(root: Path) -> None:
    given = ({"a.jpg": [1, 0, 0, 0]}, {"a.jpg": reason_bits(0, 3)})
    asked = {reply: load(root, *given, reply=reply).samples[0] for reply in ("describe", "decide", "structure")}
    assert len({sample.question for sample in asked.values()}) == 3
    assert len({sample.answer for sample in asked.values()}) == 1
