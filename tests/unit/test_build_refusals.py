"""What `prepare_data.py build` cannot use is one sentence that says what to do, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data.jsonl import write_jsonl
from data.sample import DrivingSample
from evaluation.construction.record import read_construction
from evaluation.suites.record import ANSWERS_FILE
from tests.drawn import written
from tests.scored import drawn_samples, scored, ten_each, training


@pytest.fixture
def samples(tmp_path: Path) -> list[DrivingSample]:
    found = drawn_samples(tmp_path)
    write_jsonl(tmp_path / "own.jsonl", found)
    return found


def test_fewer_scores_than_asked_for_are_counted_and_used(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    scored(
        tmp_path / "align",
        samples,
        lambda sample, repeat: 30.0,
        failed=lambda sample, repeat: sample.frame_id == "frame-3" and (repeat == 0 or sample.task == "planning"),
    )
    assert training(tmp_path, "out") == 0
    made = read_construction(tmp_path / "out")
    assert made.dropped["no_score"] == 1
    assert made.scored_with_fault == {"fewer_scores": 2}
    assert made.scores[0].failures == {"judge": 10}
    assert "align: 286 of 296 answers have a score" in capsys.readouterr().err


def test_a_refused_number_of_a_clips_frames_is_named_by_its_own_option(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        training(tmp_path, "out", "--format", "bdd_oia", "--reasons", "r", "--image-root", "i", "--source-frames", 0)
        == 2
    )
    assert capsys.readouterr().err.startswith("error: --source-frames: Input should be greater than or equal to 1")


Change = Callable[[Path, list[DrivingSample]], list[object]]


def fewer(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", samples, ten_each, repeats=3)
    return []


def others(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", [replace(sample, id=f"other-{sample.id}") for sample in samples], ten_each)
    return []


def other_questions(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", samples, ten_each, question="Another?")
    return []


def all_failed(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", samples, ten_each, failed=lambda sample, repeat: True)
    return []


def out_of_range(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", samples, lambda sample, repeat: 101.0)
    return []


def twice(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", samples, ten_each, repeat=0)
    return []


def broken_answers(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", samples, ten_each)
    with (folder / "align" / ANSWERS_FILE).open("a") as file:
        file.write("{}\n")
    return []


def no_answers(folder: Path, samples: list[DrivingSample]) -> list[object]:
    shutil.rmtree(scored(folder / "align", samples, ten_each))
    return []


def no_samples(folder: Path, samples: list[DrivingSample]) -> list[object]:
    (folder / "own.jsonl").unlink()
    return fine(folder, samples)


def unusable_samples(folder: Path, samples: list[DrivingSample]) -> list[object]:
    (folder / "own.jsonl").write_text("nonsense\n")
    return fine(folder, samples)


def fine(folder: Path, samples: list[DrivingSample]) -> list[object]:
    scored(folder / "align", samples, ten_each)
    return []


def with_arguments(*arguments: object) -> Change:
    return lambda folder, samples: [*fine(folder, samples), *arguments]


def broken_exclusion(folder: Path, samples: list[DrivingSample]) -> list[object]:
    return [*fine(folder, samples), "--exclude", written(folder / "e.json", [{"question": "?"}])]


def file_as_folder(folder: Path, samples: list[DrivingSample]) -> list[object]:
    (folder / "out").write_text("mine")
    return fine(folder, samples)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fewer, "has 3 answers to a question where 8 are averaged: sample with --repeats 8, or build with --repeats 3"),
        (others, "answers 296 questions, none of them among the samples"),
        (other_questions, "answers another question under the id frame-0_perception"),
        (all_failed, "has no score, all 296 answers failed (296 judge)"),
        (out_of_range, "align has the score 101.0 for frame-0_perception; scores are numbers from 0 to 100"),
        (twice, "holds repeat 0 of frame-0_perception twice"),
        (broken_answers, "line 297 is no answer"),
        (no_answers, "is not the folder of a benchmark's run: it has no results.json"),
        (no_samples, "own.jsonl cannot be read: No such file or directory"),
        (unusable_samples, "own.jsonl holds no usable question; first:"),
        (with_arguments("--band", 45, 25), "--band: Value error, give the lower end first, and both from 0 to 100"),
        (with_arguments("--frames", 0), "--frames: Input should be greater than or equal to 1, got 0"),
        (with_arguments("--rarest", 2), "--rarest: Input should be less than or equal to 1, got 2.0"),
        (with_arguments("--scores", "b=b"), "build training is decided by one model: give --scores once"),
        (with_arguments("--scores", "align=b"), "--scores names align twice"),
        (with_arguments("--band", 1, 2), "move or widen the band"),
        (broken_exclusion, "e.json: [0] names no frame"),
        (with_arguments("--exclude", "nowhere.json"), "nowhere.json cannot be read: No such file or directory"),
        (file_as_folder, "out is a file: name a folder"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    tmp_path: Path,
    samples: list[DrivingSample],
    capsys: pytest.CaptureFixture[str],
    change: Change,
    said: str,
) -> None:
    more = change(tmp_path, samples)
    assert training(tmp_path, "out", *more) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out" / "samples.jsonl").exists()
