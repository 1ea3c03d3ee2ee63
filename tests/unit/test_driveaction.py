from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from rewards.route import Router
from rewards.settings import RewardSettings
from tests.drawn import picture
from tests.loaded import load_as


def row(slice_id: str, category: str, question: str, answer: str, **more: Any) -> dict[str, Any]:
    content = {"question": question, "options": more.pop("options", None), "answer": answer}
    images = {f"image_{number}": {"bytes": picture(40 * number), "path": None} for number in range(3)}
    row = {"question_slice_id": slice_id, "qa_l0": category, "content_en": content, "content_cn": content}
    return row | images | more


ROWS = [
    row("s1", "Action", "What does the car do?", "B", options={"A": "Stop", "B": "Go", "C": None}),
    row("s1", "Vision", "Is the light red?", "False"),
    row("s2", "Action", "Does the car stop?", "True"),
    row("s1", "Language", "Which way leads the route?", "A", options={"A": "Left", "B": "Right", "C": None}),
]


def parquet(path: Path, rows: list[dict[str, Any]], group: int = 2) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def test_rows_give_samples_with_options_and_images_written_once(tmp_path: Path) -> None:
    loaded = load_as("driveaction", parquet(tmp_path / "a.parquet", ROWS), tmp_path / "images")
    assert [(s.id, s.scene_id, s.task, s.kind, s.answer) for s in loaded.samples] == [
        ("s1_0", "s1", "behavior", "multiple_choice", "B"),
        ("s1_1", "s1", "perception", "yes_no", "False"),
        ("s2_0", "s2", "behavior", "yes_no", "True"),
        ("s1_2", "s1", "planning", "multiple_choice", "A"),
    ]
    first = loaded.samples[0]
    assert first.choices == {"A": "Stop", "B": "Go"}
    assert first.question == "What does the car do?\nA. Stop\nB. Go"
    assert list(first.images) == ["image_0", "image_1", "image_2"]
    assert Path(first.images["image_1"]).read_bytes() == picture(40)
    assert len(list((tmp_path / "images").iterdir())) == 3
    assert loaded.dropped == {}


@pytest.mark.parametrize(
    ("mode", "known", "unknown"),
    [
        ("V-L-A", ["Is the light red?\nA: False", "Which way leads the route?\nA: Left"], []),
        ("V-A", ["Is the light red?"], ["Which way"]),
        ("L-A", ["Which way leads the route?"], ["light"]),
        ("A", [], ["light", "Which way"]),
    ],
)
def test_a_mode_puts_the_other_questions_of_the_slice_before_its_action(
    tmp_path: Path, mode: Any, known: list[str], unknown: list[str]
) -> None:
    loaded = load_as("driveaction", parquet(tmp_path / "a.parquet", ROWS), tmp_path / "images", context_mode=mode)
    action, vision, other, _ = loaded.samples
    assert all(text in action.question for text in known)
    assert not any(text in action.question for text in unknown)
    assert action.question.endswith("What does the car do?\nA. Stop\nB. Go")
    spelt = [*ROWS[:3], ROWS[3] | {"content_en": ROWS[3]["content_en"] | {"answer": "（A）"}}]
    file = parquet(tmp_path / "a.parquet", spelt)
    assert load_as("driveaction", file, tmp_path / "images", context_mode=mode).samples[0].question == action.question
    assert vision.question == "Is the light red?"
    assert other.question == "Does the car stop?"


@pytest.mark.parametrize(
    ("answer", "said"),
    [("true", "yes"), (" FALSE. ", "no"), ("正确", "对"), ("错误。", "不正确"), ("是", "Yes."), ("否", "No.")],
)
async def test_true_and_false_in_any_spelling_are_scored_by_the_rules(tmp_path: Path, answer: str, said: str) -> None:
    rows = [row("s1", "Vision", "Which is so? It is a bus.", answer)]
    (sample,) = load_as(
        "driveaction", parquet(tmp_path / "a.parquet", rows), tmp_path / "images", language="cn"
    ).samples
    assert sample.kind == "yes_no"
    router = Router(RewardSettings())
    router.check_routes([sample])
    assert (await router.score(sample, said, "stop")).value == 100


def test_an_answer_that_only_begins_like_a_verdict_is_open_ended(tmp_path: Path) -> None:
    rows = [row("s1", "Vision", "What is ahead?", "No vehicles")]
    (sample,) = load_as("driveaction", parquet(tmp_path / "a.parquet", rows), tmp_path / "images").samples
    assert sample.kind == "open_ended"


def test_content_may_be_json_text_and_the_category_missing(tmp_path: Path) -> None:
    plain = ROWS[2] | {"content_en": '{"question": "Does it stop?", "options": null, "answer": true}'}
    del plain["qa_l0"]
    file = parquet(tmp_path / "a.parquet", [plain])
    (sample,) = load_as("driveaction", file, tmp_path / "images").samples
    assert (sample.question, sample.answer, sample.task) == ("Does it stop?", "True", "behavior")
    with pytest.raises(DataError, match="qa_l0.*context_mode"):
        load_as("driveaction", file, tmp_path / "images", context_mode="V-A")


def test_a_truncated_file_is_listed_and_the_other_files_are_used(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", ROWS[:2])
    cut = parquet(tmp_path / "b.parquet", ROWS)
    cut.write_bytes(cut.read_bytes()[:-50])
    loaded = load_as("driveaction", tmp_path, tmp_path / "images")
    assert len(loaded.samples) == 2
    assert loaded.dropped == {"unreadable_part": [str(cut)]}
    assert "b.parquet cannot be read as parquet" in loaded.notes[0]
    with pytest.raises(DataError, match=r"b\.parquet cannot be read as parquet"):
        load_as("driveaction", tmp_path, tmp_path / "images", strict=True)
    with pytest.raises(DataError, match=r"b\.parquet holds no usable question: .*1 dropped for unreadable_part"):
        load_as("driveaction", cut, tmp_path / "images")


def damaged(file: Path, rows: list[dict[str, Any]], group: int, *columns: str) -> Path:
    """A file of these rows, ten (of `ROWS` two) a group, with some columns of one group destroyed."""
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=10 if len(rows) > 10 else 2, compression="zstd")
    metadata = pq.ParquetFile(file).metadata.row_group(group)
    data = bytearray(file.read_bytes())
    for column in map(metadata.column, range(metadata.num_columns)):
        if column.path_in_schema.split(".")[0] in columns:
            start = column.dictionary_page_offset or column.data_page_offset
            data[start : start + 20] = b"\xff" * 20
    file.write_bytes(data)
    return file


def test_a_damaged_row_group_is_listed_and_the_others_are_used(tmp_path: Path) -> None:
    file = damaged(tmp_path / "a.parquet", ROWS, 1, "question_slice_id")
    loaded = load_as("driveaction", file, tmp_path / "images")
    assert [sample.id for sample in loaded.samples] == ["s1_0", "s1_1"]
    assert loaded.dropped == {"unreadable_part": [f"{file}: row group 1"]}


FORTY = [row(f"s{number // 4}", "Vision", f"Is this row {number}?", "True") for number in range(40)]


def test_rows_after_a_damaged_row_group_keep_the_numbers_that_they_have_in_their_slices(tmp_path: Path) -> None:
    whole = load_as("driveaction", parquet(tmp_path / "whole.parquet", FORTY, 10), tmp_path / "images").samples
    file = damaged(tmp_path / "a.parquet", FORTY, 0, "content_en")
    loaded = load_as("driveaction", file, tmp_path / "images")
    assert [(sample.id, sample.question) for sample in loaded.samples] == [(s.id, s.question) for s in whole[10:]]
    assert loaded.samples[0].id == "s2_2"
    assert loaded.dropped == {"unreadable_part": [sample.id for sample in whole[:10]]}
    (note,) = loaded.notes
    assert note.startswith(f"{file}: row group 0 cannot be read from row 0 on: ")
    with pytest.raises(DataError, match=r"row group 0 cannot be read from row 0 on"):
        load_as("driveaction", file, tmp_path / "images", strict=True)


def test_a_slice_with_rows_after_uncounted_ones_is_left_out_by_name(tmp_path: Path) -> None:
    file = damaged(tmp_path / "a.parquet", FORTY, 2, "question_slice_id")
    loaded = load_as("driveaction", file, tmp_path / "images")
    assert [sample.id for sample in loaded.samples] == [f"s{number // 4}_{number % 4}" for number in range(20)]
    assert loaded.dropped == {"unreadable_part": [f"{file}: row group 2", "s7", "s8", "s9"]}
    assert loaded.notes[1] == (
        f"slice s7 is left out from {file}: row 30 on: {file}: row group 2 may hold rows of it, uncounted"
    )


def test_slices_after_a_file_that_is_cut_off_are_left_out_by_name(tmp_path: Path) -> None:
    cut = parquet(tmp_path / "b.parquet", ROWS)
    cut.write_bytes(cut.read_bytes()[:-50])
    parquet(tmp_path / "a.parquet", ROWS[:1])
    parquet(tmp_path / "c.parquet", ROWS[1:])
    loaded = load_as("driveaction", tmp_path, tmp_path / "images")
    assert [sample.id for sample in loaded.samples] == ["s1_0"]
    assert loaded.dropped == {"unreadable_part": [str(cut), "s1", "s2"]}


def test_faulty_rows_are_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    rows = [
        ROWS[2],
        row("s3", "Action", "Which?", "D", options={"A": "Stop", "B": "Go", "C": None}),
        row("s4", "Action", "", "True"),
        row("s5", "Action", "Why?", "True", image_1={"bytes": None, "path": None}),
        row("s6", "Action", "Why?", "True", image_1={"bytes": b"no picture", "path": None}),
        row("", "Action", "Why?", "True"),
    ]
    loaded = load_as("driveaction", parquet(tmp_path / "a.parquet", rows), tmp_path / "images")
    assert [sample.id for sample in loaded.samples] == ["s2_0"]
    assert loaded.dropped == {
        "answer_not_an_option": ["s3_0"],
        "empty_question": ["s4_0"],
        "faulty_image": ["s5_0", "s6_0"],
        "malformed_entry": [f"{tmp_path / 'a.parquet'}: row 5"],
    }


def test_a_folder_without_parquet_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="parquet"):
        load_as("driveaction", tmp_path, tmp_path / "images")
