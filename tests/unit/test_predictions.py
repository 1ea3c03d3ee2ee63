from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from evaluation.metrics.predictions import match, read_predictions


def written(folder: Path, content: Any) -> Path:
    path = folder / "predictions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        [{"id": "a", "answer": "Yes."}, {"id": "b", "answer": "No."}],
        {"a": "Yes.", "b": "No."},
        '{"id": "a", "answer": "Yes."}\n\n{"id": "b", "answer": "No."}\n',
    ],
)
def test_a_list_a_mapping_and_jsonl_give_the_same(tmp_path: Path, content: Any) -> None:
    assert read_predictions(written(tmp_path, content)).texts == {"a": "Yes.", "b": "No."}


def test_one_line_of_jsonl_is_a_record_and_no_mapping(tmp_path: Path) -> None:
    assert read_predictions(written(tmp_path, {"id": "a", "answer": "Yes."})).texts == {"a": "Yes."}


def test_the_records_may_lie_under_results_as_in_a_submission_to_the_challenge(tmp_path: Path) -> None:
    submission = {"method": "x", "authors": ["y"], "results": [{"id": "a", "answer": "Yes."}, {"answer": "No."}]}
    found = read_predictions(written(tmp_path, submission))
    assert (found.texts, found.faults) == ({"a": "Yes."}, {"no_id": ["results[1]"]})
    assert read_predictions(written(tmp_path, {"results": "Yes.", "a": "No."})).texts == {"results": "Yes.", "a": "No."}


def test_other_names_of_the_members_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, [{"idx": 3, "pred": "B", "answer": "C"}])
    assert read_predictions(path, id_key="idx", answer_key="pred").texts == {"3": "B"}


def test_faulty_records_are_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    records = [
        "text",
        {"answer": "x"},
        {"id": "a", "answer": None},
        {"id": "b", "answer": ""},
        {"id": True, "answer": ""},
    ]
    found = read_predictions(written(tmp_path, records))
    assert found.texts == {"b": ""}
    assert found.faults == {"not_a_record": ["[0]"], "no_id": ["[1]", "[4]"], "no_answer": ["a"]}


@pytest.mark.parametrize(
    "content", ['[{"id": "a", "answer": "1"}, {"id": "a", "answer": "2"}]', '{"a": "1", "a": "2"}']
)
def test_of_an_id_that_stands_twice_the_last_answer_counts_and_it_is_listed(tmp_path: Path, content: str) -> None:
    found = read_predictions(written(tmp_path, content))
    assert (found.texts, found.faults) == ({"a": "2"}, {"duplicate_id": ["a"]})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2", "neither JSON nor JSONL: line 1"),
        ('{"idx": "a", "answer": "x"}\n{"idx": "b", "answer": "y"}\n', "no usable prediction; first: line 1 has no id"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "neither JSON nor JSONL"),
        ("", "neither JSON nor JSONL: line 1"),
        ("3", "holds a int"),
        ("[]", "no usable prediction"),
        ('[{"id": "a"}]', "first: a has no answer"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: str, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=said) as raised:
        read_predictions(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b'{"id": "a", "answer": "x"}\n{"id": "b", "ans', {"not_a_record": ["line 2"]}),
        ('{"id": "a", "answer": "x"}\n{"id": "b", "answer": "ü'.encode()[:-1], {"not_a_record": ["line 2"]}),
        (b'{"answer": "y"}\n\n{"id": "a", "answer": "x"}\n', {"no_id": ["line 1"]}),
        (b'{"idx": "a", "answer": "y"}\n{"id": "a", "answer": "x"}\nnonsense', None),
    ],
)
def test_a_faulty_line_of_jsonl_is_listed_and_the_others_are_used(
    tmp_path: Path, content: bytes, faults: dict[str, list[str]] | None
) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(content)
    found = read_predictions(path)
    assert (found.texts, found.faults) == ({"a": "x"}, faults or {"no_id": ["line 1"], "not_a_record": ["line 3"]})
    with pytest.raises(DataError, match=r"first: line [12] (is no object|has no id)"):
        read_predictions(path, strict=True)


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_bytes('{"a": "ü"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"predictions\.json is not UTF-8 text: byte 7"):
        read_predictions(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.json cannot be read"):
        read_predictions(tmp_path / "no.json")


def test_strict_reading_refuses_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 duplicate_id; first: a is in the file more than once"):
        read_predictions(written(tmp_path, '{"a": "1", "a": "2"}'), strict=True)


def test_missing_and_unknown_ids_are_listed_in_the_order_of_the_truth() -> None:
    matched = match({"z": "", "a": "", "c": ""}, ["c", "b", "a"], strict=False)
    assert matched.ids == ("c", "a")
    assert matched.faults == {"missing_prediction": ["b"], "unknown_id": ["z"]}


def test_an_answer_to_a_question_that_was_left_out_is_passed_over() -> None:
    matched = match({"a": "", "b": "", "z": ""}, ["a"], strict=False, left_out=["b"])
    assert (matched.ids, matched.faults) == (("a",), {"unknown_id": ["z"]})
    assert match({"a": "", "b": ""}, ["a"], strict=True, left_out=["b"]).faults == {}


def test_strict_matching_refuses_a_missing_id() -> None:
    with pytest.raises(DataError, match="1 missing_prediction; first: b has no prediction"):
        match({"a": ""}, ["a", "b"], strict=True)


def test_a_wrong_answer_file_is_refused_even_without_strict() -> None:
    with pytest.raises(DataError, match="answer none of the 2 questions"):
        match({"x": ""}, ["a", "b"], strict=False)


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_what_is_written_is_read_back(texts: dict[str, str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        records = [{"id": id_, "answer": text} for id_, text in texts.items()]
        path = Path(folder) / "p.json"
        for content in (json.dumps(records), "\n".join(map(json.dumps, records))):
            path.write_text(content, encoding="utf-8")
            assert read_predictions(path).texts == texts
