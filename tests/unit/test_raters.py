from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.raters import (
    RatedItem,
    RatersError,
    alpha,
    bootstrap_interval,
    compare,
    main,
    pearson,
    read_ratings,
    read_scores,
)

PEOPLE = ("ada", "bo", "cy")
_NAN = float("nan")


def rating(item: str, annotator: str, value: Any, task: str = "planning") -> dict[str, Any]:
    return {"item": item, "task": task, "annotator": annotator, "rating": value}


def known(value: float | None) -> float:
    assert value is not None
    return value


def score(item: str, value: Any, judge: str = "qwen") -> dict[str, Any]:
    return {"item": item, "judge": judge, "score": value}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def rated(values: dict[str, float], task: str = "planning", spread: float = 0.0) -> dict[str, RatedItem]:
    """Three annotators around each value."""
    return {
        item: RatedItem(task, dict(zip(PEOPLE, (value - spread, value, value + spread), strict=True)))
        for item, value in values.items()
    }


# --- the mathematics --------------------------------------------------------------------------------------------------


def test_pearson_is_that_of_a_case_worked_by_hand() -> None:
    # Deviations (-2, 0, 2) and (-1, -1, 2): covariance 6, norms sqrt(8) and sqrt(6).
    assert pearson(np.array([1.0, 3.0, 5.0]), np.array([2.0, 2.0, 5.0])) == pytest.approx(6 / 48**0.5)


@pytest.mark.parametrize("x", [[1.0, 2.0], [4.0, 4.0, 4.0], []])
def test_a_correlation_that_says_nothing_is_none(x: list[float]) -> None:
    y = np.arange(len(x), dtype=np.float64)
    assert pearson(np.array(x), y) is None
    assert bootstrap_interval(np.array(x), y, 100, 0) == (None, None, 0)


def test_alpha_is_krippendorffs_published_example() -> None:
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C and its interval-level value.
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _NAN, _NAN, _NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _NAN, 3],
        [_NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _NAN],
    ]
    assert alpha(np.array(ratings)) == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("ratings", [[[50, 50], [50, 50]], [[1, _NAN], [_NAN, 2]], [[], []]])
def test_alpha_without_anything_to_disagree_on_is_none(ratings: list[list[float]]) -> None:
    assert alpha(np.array(ratings, dtype=np.float64)) is None


def test_the_interval_holds_r_is_seeded_and_narrows_with_more_items() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=400)
    y = x + random.normal(size=400)
    few, many = bootstrap_interval(x[:20], y[:20], 2000, 0), bootstrap_interval(x, y, 2000, 0)
    assert few == bootstrap_interval(x[:20], y[:20], 2000, 0) != bootstrap_interval(x[:20], y[:20], 2000, 1)
    r = known(pearson(x, y))
    assert known(many[0]) < r < known(many[1])
    assert known(many[1]) - known(many[0]) < 0.5 * (known(few[1]) - known(few[0]))
    # Fisher's z gives the interval by theory.
    z, width = np.arctanh(r), 1.96 / 397**0.5
    assert known(many[0]) == pytest.approx(np.tanh(z - width), abs=0.02)
    assert known(many[1]) == pytest.approx(np.tanh(z + width), abs=0.02)


def test_resamples_in_which_r_is_undefined_are_counted() -> None:
    x = np.array([0.0, 0.0, 0.0, 1.0])
    low, high, undefined = bootstrap_interval(x, x, 4000, 0)
    assert [known(low), known(high)] == pytest.approx([1.0, 1.0])
    assert undefined / 4000 == pytest.approx(0.75**4 + 0.25**4, abs=0.03)


def test_many_items_are_resampled_in_portions_without_changing_what_is_asked_for() -> None:
    x = np.arange(300_000, dtype=np.float64)
    low, high, undefined = bootstrap_interval(x, x, 7, 0)
    assert [known(low), known(high)] == pytest.approx([1.0, 1.0])
    assert undefined == 0


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_judge_is_compared_per_task_and_on_all_tasks() -> None:
    ratings = rated({"a": 10, "b": 50, "c": 90}, spread=5) | rated({"d": 10, "e": 50, "f": 90}, "behavior", spread=5)
    report = compare(ratings, {"good": {"a": 20, "b": 50, "c": 80, "d": 80, "e": 50, "f": 20}}, resamples=50)
    by_task = {row.task: row for row in report.rows}
    assert list(by_task) == ["behavior", "planning", "all"]
    assert by_task["planning"].pearson == pytest.approx(1.0)
    assert by_task["behavior"].pearson == pytest.approx(-1.0)
    assert by_task["all"].pearson == pytest.approx(0.0)
    assert [row.items for row in report.rows] == [3, 3, 6]


def test_a_contrary_judge_lowers_alpha_and_a_like_minded_one_does_not() -> None:
    ratings = rated({"a": 10, "b": 50, "c": 90}, spread=5)
    report = compare(ratings, {"like": {"a": 10, "b": 50, "c": 90}, "not": {"a": 90, "b": 50, "c": 10}}, resamples=50)
    contrary = next(row for row in report.rows if row.judge == "not")
    like = next(row for row in report.rows if row.judge == "like")
    assert like.alpha == contrary.alpha is not None
    assert known(contrary.alpha_with_judge) < known(like.alpha) <= known(like.alpha_with_judge)


def test_what_could_not_be_paired_is_listed() -> None:
    ratings = rated({"a": 10, "b": 50, "c": 90, "d": 30})
    ratings["d"] = RatedItem("planning", {"ada": 30.0})
    report = compare(ratings, {"qwen": {"a": 1, "b": 2, "z": 3}, "none": {"y": 1}}, resamples=50)
    assert report.partly_rated == ("d",)
    assert report.unscored == {"qwen": ("c", "d"), "none": ("a", "b", "c", "d")}
    assert report.unrated == {"qwen": ("z",), "none": ("y",)}
    assert [(row.judge, row.items, row.pearson) for row in report.rows] == [("none", 0, None), ("qwen", 2, None)]


@given(st.permutations(range(6)))
def test_the_report_does_not_depend_on_the_order_of_the_rows(order: list[int]) -> None:
    values = {f"i{number}": float(7 * number % 5) for number in range(6)}
    scores = {f"i{number}": float(number) for number in range(6)}
    shuffled = {f"i{number}": values[f"i{number}"] for number in order}
    again = {f"i{number}": scores[f"i{number}"] for number in order}
    assert compare(rated(shuffled), {"q": again}, resamples=20) == compare(rated(values), {"q": scores}, resamples=20)


# --- the files --------------------------------------------------------------------------------------------------------


def test_rows_are_read_and_further_keys_ignored(tmp_path: Path) -> None:
    ratings = write(tmp_path / "r.jsonl", [rating("a", "ada", 10) | {"note": "hm"}, "", rating("a", "bo", 20.5)])
    assert read_ratings(ratings) == {"a": RatedItem("planning", {"ada": 10.0, "bo": 20.5})}
    assert read_ratings(ratings)["a"].gold == 15.25
    assert read_scores(write(tmp_path / "s.jsonl", [score("a", 3), score("a", 4, "gpt")])) == {
        "qwen": {"a": 3.0},
        "gpt": {"a": 4.0},
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "JSON"),
        ("[1]", "object"),
        (rating("a", "cy", 101), "rating: "),
        (rating("a", "cy", -1), "rating: "),
        (rating("a", "cy", "90"), "rating: "),
        (rating("a", "cy", None), "rating: "),
        (rating("a", "cy", True), "rating: "),
        (rating("a", "cy", _NAN), "rating: "),
        ({"item": "a", "task": "planning", "rating": 1}, "annotator: "),
        (rating("", "cy", 1), "item: "),
        (rating("a", "ada", 10), "ada has already rated item a"),
        (rating("a", "cy", 1, "behavior"), "item a is of task planning further up, and of behavior here"),
    ],
)
def test_a_bad_rating_is_named_by_file_and_line(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path / "r.jsonl", [rating("a", "ada", 10), rating("a", "bo", 10), row])
    with pytest.raises(RatersError, match="1 bad row") as error:
        read_ratings(path)
    assert f"{path}:3: " in str(error.value)
    assert said in str(error.value)


def test_all_bad_rows_are_counted_and_the_first_ten_shown(tmp_path: Path) -> None:
    with pytest.raises(RatersError) as error:
        read_scores(write(tmp_path / "s.jsonl", [score(f"i{number}", 200) for number in range(13)]))
    assert str(error.value).startswith("13 bad rows")
    assert str(error.value).endswith("and 3 more")


@pytest.mark.parametrize("rows", [[], [rating("a", "ada", 10), rating("b", "ada", 20)]])
def test_fewer_than_two_annotators_are_refused(tmp_path: Path, rows: list[Any]) -> None:
    with pytest.raises(RatersError, match="at least two annotators"):
        read_ratings(write(tmp_path / "r.jsonl", rows))


def test_a_score_given_twice_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RatersError, match=r"s.jsonl:2: qwen has already scored item a"):
        read_scores(write(tmp_path / "s.jsonl", [score("a", 1), score("a", 2)]))
    with pytest.raises(RatersError, match="holds no scores"):
        read_scores(write(tmp_path / "s.jsonl", []))
    with pytest.raises(RatersError, match="cannot be read"):
        read_scores(tmp_path / "nowhere.jsonl")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    values = {"a": 10, "b": 50, "c": 90, "d": 30}
    ratings = [rating(item, who, value) for item, value in values.items() for who in PEOPLE]
    scores = [score(item, value) for item, value in values.items() if item != "d"] + [score("z", 1)]
    return [str(write(tmp_path / "r.jsonl", ratings)), str(write(tmp_path / "s.jsonl", scores))]


def test_the_command_prints_a_table_and_the_counts(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--resamples", "100"]) == 0
    printed = capsys.readouterr().out
    assert "qwen   planning  3  1.0000" in printed
    assert "1 item rated, without a score of qwen: d" in printed
    assert "1 item scored by qwen, without a rating: z" in printed


def test_the_command_prints_one_json_line(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--json", "--resamples", "100"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    (row,) = json.loads(line)["rows"]
    assert (row["judge"], row["task"], row["items"], row["alpha"]) == ("qwen", "planning", 3, 1.0)


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = str(write(tmp_path / "r.jsonl", ["nonsense"]))
    assert main([bad, bad]) == 2
    assert "r.jsonl:1" in capsys.readouterr().err
