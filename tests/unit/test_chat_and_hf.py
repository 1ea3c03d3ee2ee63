"""Data as other trainers have it: conversations, and Hugging Face datasets on disk. Also their many kinds of images."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from data.errors import DataError
from data.faults import Faults
from data.formats.format import format_of
from data.sample import DrivingSample
from data.settings import DataSettings
from prepare_data import main
from tests.drawn import draw

OPTIONS = "Please select the correct answer from the following options: A. Yes. B. No."


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 18), "teal").save(out, "JPEG")
    return out.getvalue()


def read(source: str, root: Path, **options: Any) -> tuple[list[DrivingSample], Faults]:
    faults = Faults()
    made = format_of(DataSettings(source=source, options=options))
    return list(made.read(faults, root / "cache", 0)), faults


def test_openai_messages_with_their_images_as_data_uris_and_paths(tmp_path: Path) -> None:
    draw(tmp_path / "front.jpg")
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "image", "image": "front.jpg"},
        {"type": "text", "text": f"May I go? {OPTIONS}"},
    ]
    turns = [
        {"role": "system", "content": "You drive."},
        {"role": "user", "content": content},
        {"role": "assistant", "content": "B. No."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "The light is red."},
    ]
    entry = {"messages": turns, "scene_id": "drive-1", "task": "lights"}
    (tmp_path / "chat.json").write_text(json.dumps([entry]))
    (first, second), faults = read("chat", tmp_path, annotations=tmp_path / "chat.json")
    assert not faults.notes
    assert (first.id, first.scene_id, first.task, first.kind, first.answer) == (
        "0_0", "drive-1", "lights", "multiple_choice", "B",
    )  # fmt: skip
    assert (second.question, second.answer, second.kind) == ("Why?", "The light is red.", "open_ended")
    assert list(first.images) == ["image_1", "image_2"]
    assert Path(first.images["image_1"]).read_bytes() == jpeg()
    assert first.images["image_2"] == str(tmp_path / "front.jpg")


def test_sharegpt_lines_lose_their_placeholders_and_faulty_ones_are_reported(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    good = {
        "conversations": [{"from": "human", "value": "<image>\nAny cars?"}, {"from": "gpt", "value": "yes"}],
        "images": ["a.jpg"],
    }
    lines = [
        good,
        {"text": "x"},
        good | {"images": ["https://example.org/a.jpg"]},
        good | {"images": ["data:image/png;base64,?"]},
        {"conversations": [{"from": "human", "value": "Any cars?"}]},
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{cut")
    (only,), faults = read("chat", tmp_path, annotations=tmp_path / "c.jsonl", views=("CAM_FRONT",))
    assert (only.question, only.kind, list(only.images)) == ("Any cars?", "yes_no", ["CAM_FRONT"])
    said = list(faults.notes)
    assert len(faults.dropped["malformed_entry"]) == 5
    for words in (
        "neither messages (OpenAI) nor",
        "nothing is fetched",
        "damaged",
        "that an assistant answers",
        "JSON",
    ):
        assert any(words in note for note in said), words


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two rows as `datasets` writes them, with one image as bytes and one as a path, options, and a number as truth."""
    draw(tmp_path / "b.jpg")
    rows = {
        "prompt": ["May I go?", "And now?"],
        "label": [1, 0],
        "options": [["Yes.", "No."], ["Yes.", "No."]],
        "front": [{"bytes": jpeg(), "path": None}, {"bytes": None, "path": str(tmp_path / "b.jpg")}],
        "drive": ["d1", "d2"],
    }
    features = datasets.Features(
        {
            "prompt": datasets.Value("string"),
            "label": datasets.Value("int64"),
            "options": datasets.List(datasets.Value("string")),
            "front": datasets.Image(),
            "drive": datasets.Value("string"),
        }
    )
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "saved"))
    made.to_parquet(str(tmp_path / "parquet" / "train-00000-of-00001.parquet"))
    return tmp_path


COLUMNS = {"question": "prompt", "answer": "label", "images": "front", "choices": "options", "scene": "drive"}


@pytest.mark.parametrize("folder", ["saved", "parquet", "parquet/train-00000-of-00001.parquet"])
def test_a_dataset_on_disk_is_read_by_a_map_of_columns(saved: Path, folder: str) -> None:
    (first, second), faults = read("hf", saved, annotations=saved / folder, columns=COLUMNS, task="lights")
    assert not faults.notes
    assert (first.question, first.answer, first.scene_id) == ("May I go? A. Yes. B. No.", "B", "d1")
    assert (second.answer, second.task, second.kind) == ("A", "lights", "multiple_choice")
    assert all(Path(sample.images["image_1"]).is_file() for sample in (first, second))


def test_a_column_that_is_not_there_is_named_with_those_that_are(saved: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no column question; its columns: prompt, label.*columns\.question=prompt"
    ):
        read("hf", saved, annotations=saved / "saved")


def test_a_split_that_is_not_there_is_named_with_those_that_are(saved: Path) -> None:
    with pytest.raises(DataError, match=r"has no split test; splits: train: set data\.options\.split"):
        read("hf", saved, annotations=saved / "saved", columns=COLUMNS, split="test")


def test_a_command_line_gives_the_map_as_text(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = json.dumps(COLUMNS)
    assert main(["check", str(saved / "saved"), "--format", "hf", "--columns", columns]) == 0
    assert '"samples": 2' in capsys.readouterr().out


def test_what_is_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds neither data-"):
        read("hf", tmp_path, annotations=tmp_path / "empty")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read"):
        read("hf", tmp_path, annotations=tmp_path / "cut.parquet")
