"""`prepare_data.py build` from files to files: synthetic scores on drawn samples, and on the real DriveLM frames."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.drivelm import load_drivelm
from data.jsonl import load_jsonl, write_jsonl
from data.sample import DrivingSample
from evaluation.construction import Construction, read_construction
from evaluation.held_out import AnswerRecord
from evaluation.suite_record import ANSWERS_FILE, Cost, SuiteRecord, read_record, write_record
from prepare_data import main
from tests.drawn import draw, written
from tests.unit.test_report import Page

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
TRAIN = SHARED / "drivelm" / "challenge" / "data" / "train_sample.json"
NUSCENES = SHARED / "drivelm" / "nuscenes"
WORDS = ("straight. The ego vehicle is driving slowly.", "straight. The ego vehicle is driving slowly.", "to the left.")

Value = Callable[[DrivingSample, int], float]


def drawn_samples(folder: Path) -> list[DrivingSample]:
    """Twelve frames of four scenes, each with a question of three tasks; the first frame has one with a fault more."""
    samples = []
    for number in range(12):
        image = str(draw(folder / "images" / f"{number}.jpg", number * 20))
        plain = DrivingSample("", f"scene-{number % 4}", f"frame-{number}", "perception", "yes_no", "", "Yes.", {})
        behavior = f"The ego vehicle is going {WORDS[number % 3]}"
        for task, kind, answer in (
            ("perception", "yes_no", "Yes."),
            ("planning", "open_ended", "Brake."),
            ("behavior", "open_ended", behavior),
        ):
            samples.append(
                replace(
                    plain,
                    id=f"frame-{number}_{task}",
                    task=task,  # type: ignore[arg-type]
                    kind=kind,  # type: ignore[arg-type]
                    question=f"What of {task}?",
                    answer=answer,
                    images={"CAM_FRONT": image},
                )
            )
    doubled = {"A": "Going ahead.", "B": "going ahead"}
    faulty = replace(samples[0], id="faulty", kind="multiple_choice", question="Which?", answer="A", choices=doubled)
    return [*samples, faulty]


@pytest.fixture
def samples(tmp_path: Path) -> list[DrivingSample]:
    found = drawn_samples(tmp_path)
    write_jsonl(tmp_path / "own.jsonl", found)
    return found


def frame_number(sample: DrivingSample) -> int:
    return int(sample.frame_id.rpartition("-")[2])


def ten_each(sample: DrivingSample, repeat: int) -> float:
    """Frame n has D = 5 n: eight answers from 3.5 below to 3.5 above its mean, or all nought."""
    middle = 5.0 * frame_number(sample)
    return middle + (repeat - 3.5 if middle else 0.0)


def shifted(value: Value, by: float) -> Value:
    return lambda sample, repeat: value(sample, repeat) + by


def scored(
    folder: Path,
    samples: Sequence[DrivingSample],
    value: Value,
    repeats: int = 8,
    failed: Callable[[DrivingSample, int], bool] = lambda sample, repeat: False,
    **changed: Any,
) -> Path:
    """The folder of a run in which each answer had that value."""
    answers = [
        AnswerRecord(
            sample_id=sample.id,
            scene_id=sample.scene_id,
            task=sample.task,
            kind=sample.kind,
            question=sample.question,
            choices=sample.choices,
            images=sample.images,
            ground_truth=sample.answer,
            response="Some say\u2028this.",
            finish_reason="stop",
            token_count=3,
            value=value(sample, repeat),
            parts={},
            failure="judge: timed out" if failed(sample, repeat) else None,
            repeat=repeat,
        ).model_copy(update=changed)
        for sample in samples
        for repeat in range(repeats)
    ]
    cost = Cost(response_tokens=3.0, image_tokens=None, seconds_per_question=None, overlong_share=0.0)
    record = SuiteRecord(
        suite="drivelm_hard",
        title="DriveLM-Hard",
        model=f"models/{folder.name}",
        sampling={"repeats": repeats},
        sources={},
        started_at="2026-01-01T00:00:00",
        questions=len(samples),
        settings=("",),
        figures={},
        tables=(),
        bars=(),
        cost=cost,
        faults={},
    )
    write_record(folder, record, answers)
    return folder


def build(which: str, folder: Path, out: str, *more: object) -> int:
    return main(["build", which, str(folder / "own.jsonl"), "--out", str(folder / out), *map(str, more)])


def training(folder: Path, out: str, *more: object) -> int:
    return build("training", folder, out, "--scores", f"align={folder / 'align'}", *more)


def ids(path: Path) -> list[str]:
    return [sample.id for sample in load_jsonl(path).samples]


def frames(path: Path) -> set[str]:
    return {sample.frame_id for sample in load_jsonl(path).samples}


# --- the training set -------------------------------------------------------------------------------------------------


def test_the_training_set_has_the_frames_of_the_band_but_the_benchmarks(
    tmp_path: Path, samples: list[DrivingSample]
) -> None:
    scored(tmp_path / "align", samples, ten_each)
    bench = written(tmp_path / "bench.json", [{"frame_token": "frame-7"}, {"frame_token": "elsewhere"}])
    assert training(tmp_path, "out", "--exclude", bench) == 0
    made = read_construction(tmp_path / "out")
    # D = 5 n: 25 to 45 is frames 5 to 9, without 7
    assert frames(tmp_path / "out" / "samples.jsonl") == {"frame-5", "frame-6", "frame-8", "frame-9"}
    assert made.dropped == {"duplicate_options": 1, "benchmark_frame": 3, "outside_band": 21}
    assert made.faulty == {"duplicate_options": ["faulty"]}
    assert (made.left_out[0].frames, made.left_out[0].met) == (2, 1)
    assert {frame: one.difficulty for frame, one in made.frames.items() if one.chosen} == {
        "frame-5": 25.0, "frame-6": 30.0, "frame-8": 40.0, "frame-9": 45.0,
    }  # fmt: skip
    assert sum(made.dropped.values()) + made.chosen.samples == made.source.samples == 37


def test_frames_are_drawn_and_rare_actions_repeated(tmp_path: Path, samples: list[DrivingSample]) -> None:
    scored(tmp_path / "align", samples, lambda sample, repeat: 30.0)
    assert training(tmp_path, "out", "--frames", 9, "--questions", 22, "--rarest", 1.0, "--seed", 3) == 0
    made = read_construction(tmp_path / "out")
    assert (made.chosen.frames, made.chosen.samples) == (9, 22)
    counts = list(made.result.actions.values())
    assert len(counts) == 2
    assert counts[0] == counts[1]
    assert made.result.samples == 22 + sum(made.repeated.values())
    assert "~repeat-1" in " ".join(ids(tmp_path / "out" / "samples.jsonl"))


def test_image_paths_resolve_from_the_folder_that_was_built(tmp_path: Path, samples: list[DrivingSample]) -> None:
    scored(tmp_path / "align", samples, ten_each)
    assert training(tmp_path, "deep/er/out") == 0
    lines = [json.loads(line) for line in (tmp_path / "deep/er/out/samples.jsonl").read_text().splitlines()]
    assert not any(os.path.isabs(path) for line in lines for path in line["images"].values())
    loaded = load_jsonl(tmp_path / "deep/er/out/samples.jsonl")
    assert not loaded.dropped
    by_id = {sample.id: sample for sample in samples}
    assert all(sample.images == by_id[sample.id].images for sample in loaded.samples)


# --- the hard set -----------------------------------------------------------------------------------------------------


def test_the_hard_set_takes_the_mean_of_three_models_without_training_and_benchmark_frames(
    tmp_path: Path, samples: list[DrivingSample]
) -> None:
    for name, shift in (("a", 0.0), ("b", 6.0), ("c", 12.0)):
        scored(tmp_path / name, samples, shifted(ten_each, shift))
    scored(tmp_path / "align", samples, ten_each)
    assert training(tmp_path, "train", "--band", 20, 30, "--frames", 2) == 0
    trained = frames(tmp_path / "train" / "samples.jsonl")
    models = [part for name in "abc" for part in ("--scores", f"{name}={tmp_path / name}")]
    bench = written(tmp_path / "bench.json", [{"frame_token": "frame-1"}])
    shown = ["--training", tmp_path / "train" / "samples.jsonl", "--exclude", bench]
    assert build("hard", tmp_path, "hard", *models, *shown) == 0
    # D = 5 n + 6: 10 to 31 is frames 1 to 5, without 1
    found = frames(tmp_path / "hard" / "samples.jsonl")
    assert found == {f"frame-{n}" for n in (2, 3, 4, 5)} - trained
    assert not found & trained
    made = read_construction(tmp_path / "hard")
    assert made.frames["frame-2"].by_model == pytest.approx({"a": 10.0, "b": 16.0, "c": 22.0})
    assert made.settings.band == (10.0, 31.0)
    assert [one.model for one in made.scores] == ["models/a", "models/b", "models/c"]


def test_a_moment_under_two_frame_ids_is_refused(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path / "a", samples, lambda sample, repeat: 20.0)
    renamed = [replace(sample, frame_id=f"my-{sample.frame_id}") for sample in samples[:3]]
    write_jsonl(tmp_path / "trained.jsonl", renamed)
    scores = ("--scores", f"a={tmp_path / 'a'}")
    assert build("hard", tmp_path, "out", *scores, "--training", tmp_path / "trained.jsonl") == 2
    assert "frame-0 shows" in (said := capsys.readouterr().err)
    assert "under another frame id: give one moment one frame_id in both files" in said
    assert not (tmp_path / "out").exists()


# --- without filtering ------------------------------------------------------------------------------------------------


def test_the_unfiltered_set_needs_no_scores_and_has_as_many_frames_and_questions(
    tmp_path: Path, samples: list[DrivingSample]
) -> None:
    bench = written(tmp_path / "bench.json", [{"frame_token": "frame-0"}])
    assert build("unfiltered", tmp_path, "raw", "--frames", 4, "--questions", 9, "--exclude", bench) == 0
    found = load_jsonl(tmp_path / "raw" / "samples.jsonl").samples
    assert len(found) == 9
    assert len({sample.frame_id for sample in found} - {"frame-0"}) == 4
    page = Page((tmp_path / "raw" / "report.html").read_text())
    assert "Scores per task" not in page.text
    assert "nothing was cleaned" in page.text


# --- the same again ---------------------------------------------------------------------------------------------------


def test_the_same_inputs_and_seed_give_the_same_bytes(tmp_path: Path, samples: list[DrivingSample]) -> None:
    scored(tmp_path / "align", samples, ten_each)
    assert training(tmp_path, "one", "--frames", 3, "--rarest", 1.0) == 0
    # In another process, whose sets have another order.
    command = ["prepare_data.py", "build", "training", str(tmp_path / "own.jsonl"), "--out", str(tmp_path / "two")]
    command += ["--scores", f"align={tmp_path / 'align'}", "--frames", "3", "--rarest", "1.0"]
    subprocess.run([sys.executable, *command], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "7"}, check=True)
    for name in ("samples.jsonl", "construction.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    for seed in range(4):
        assert training(tmp_path, f"seed-{seed}", "--frames", 3, "--rarest", 1.0, "--seed", seed) == 0
    assert len({(tmp_path / f"seed-{seed}/samples.jsonl").read_bytes() for seed in range(4)}) > 1
    assert (tmp_path / "seed-0/construction.json").read_bytes() == (tmp_path / "one/construction.json").read_bytes()


def test_a_finished_set_is_left_and_one_of_other_inputs_is_refused(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path / "align", samples, ten_each)
    out = tmp_path / "out"
    assert training(tmp_path, "out") == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert before.keys() == {"samples.jsonl", "construction.json", "report.html"}
    capsys.readouterr()
    assert training(tmp_path, "out") == 0
    printed = capsys.readouterr().out
    assert "is up to date" in printed
    assert json.loads(printed.splitlines()[-1])["samples"] == 15
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (out / "report.html").unlink()
    assert training(tmp_path, "out") == 0
    assert (out / "report.html").exists()

    assert training(tmp_path, "out", "--band", 25, 40) == 2
    assert "was built from other inputs (band): give another --out, or --overwrite" in capsys.readouterr().err
    scored(tmp_path / "align", samples, lambda sample, repeat: 30.0)
    assert training(tmp_path, "out") == 2
    assert "other inputs (--scores align)" in capsys.readouterr().err
    assert training(tmp_path, "out", "--overwrite") == 0
    assert read_construction(out).chosen.frames == 12


def test_a_set_that_was_changed_or_never_finished_is_not_called_up_to_date(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path / "align", samples, ten_each)
    assert training(tmp_path, "out") == 0
    with (tmp_path / "out/samples.jsonl").open("a") as file:
        file.write("\n")
    assert training(tmp_path, "out") == 2
    assert "samples.jsonl was changed or lost since it was built" in capsys.readouterr().err
    (tmp_path / "out/construction.json").unlink()
    assert training(tmp_path, "out") == 2
    assert "samples.jsonl of no finished build" in capsys.readouterr().err
    (tmp_path / "out/construction.json").write_text("{}")
    assert training(tmp_path, "out") == 2
    assert "construction.json is not as this version writes it" in capsys.readouterr().err
    assert training(tmp_path, "out", "--overwrite") == 0


def test_a_build_that_fails_leaves_what_was_there(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path / "align", samples, ten_each)
    assert training(tmp_path, "out") == 0
    before = (tmp_path / "out/construction.json").read_bytes()
    assert training(tmp_path, "out", "--band", 90, 95, "--overwrite") == 2
    said = capsys.readouterr().err
    assert "no sample is left (1 duplicate_options, 36 outside_band)" in said
    assert "runs from 0.0 to 55.0: move or widen the band" in said
    assert (tmp_path / "out/construction.json").read_bytes() == before


# --- what cannot be used ----------------------------------------------------------------------------------------------


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
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "out" / "samples.jsonl").exists()


def test_too_few_frames_and_no_benchmark_are_said_and_built_all_the_same(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path / "align", samples, ten_each)
    assert training(tmp_path, "out") == 0
    said = capsys.readouterr().err
    assert "note: 1,000 frames were asked for, 5 were left" in said
    assert "note: no --exclude" in said
    bench = written(tmp_path / "bench.json", [{"frame_token": "elsewhere"}])
    assert training(tmp_path, "again", "--exclude", bench) == 0
    assert "bench.json names 1 frames, none of which the samples have" in capsys.readouterr().err


def test_answers_are_read_back_whatever_line_breaks_they_hold(tmp_path: Path, samples: list[DrivingSample]) -> None:
    record, answers = read_record(scored(tmp_path / "align", samples, ten_each))
    assert record.model == "models/align"
    assert len(answers) == 8 * len(samples)
    assert answers[0].response == "Some say\u2028this."


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_says_what_the_record_holds_and_loads_nothing(tmp_path: Path, samples: list[DrivingSample]) -> None:
    attack = "<script>alert(1)</script>"
    scored(tmp_path / "align", samples, ten_each)
    arguments = ("--scores", f"{attack}={tmp_path / 'align'}", "--rarest", 1.0)
    assert build("training", tmp_path, "out", *arguments) == 0
    html = (tmp_path / "out" / "report.html").read_text()
    page = Page(html)
    assert "script" not in page.tags
    assert attack in page.text
    assert not [value for _, name, value in page.attributes if name in ("src", "href")]
    assert "No frames were kept out" in page.text
    for words in ("Frame scores in the set", "Scores per task", "Going straight", "outside_band", "with repeats"):
        assert words.casefold() in page.text.casefold()
    # the faulty question, and seven frames of three outside the band
    assert re.search(r"duplicate_options two options say the same 1 ", page.text)
    assert re.search(r"outside_band its frame's difficulty lies outside the band 21 ", page.text)
    assert html.count('class="band"') == 2


def test_every_difficulty_that_is_drawn_is_in_the_record(tmp_path: Path, samples: list[DrivingSample]) -> None:
    scored(tmp_path / "align", samples, ten_each)
    assert training(tmp_path, "out") == 0
    made = Construction.model_validate_json((tmp_path / "out" / "construction.json").read_text())
    assert {frame: one.difficulty for frame, one in made.frames.items()} == {f"frame-{n}": 5.0 * n for n in range(12)}
    # 36 sound questions of a task's 12; frames 5 to 9 have a mean of 35
    assert made.task_scores["behavior"].questions == 12
    assert made.chosen_task_scores["behavior"].mean == 35.0
    svg = (tmp_path / "out" / "report.html").read_text()
    titles = re.findall(r"<title>[\d.]+ to [\d.]+: (\d+) frames, (\d+) chosen</title>", svg)
    assert sum(int(chosen) for _, chosen in titles) == 10  # five in each histogram


# --- real frames ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not TRAIN.is_file(), reason=f"the DriveLM sample is not at {TRAIN}")
def test_real_frames_become_a_training_set_and_a_hard_one_that_share_none(tmp_path: Path) -> None:
    loaded = load_drivelm(TRAIN, NUSCENES).samples
    tokens = sorted({sample.frame_id for sample in loaded})
    place = {token: number for number, token in enumerate(tokens)}
    for name, shift in (("a", 0.0), ("b", 2.0), ("c", 4.0)):
        scored(tmp_path / name, loaded, shifted(lambda sample, repeat: 12.0 + 4.0 * place[sample.frame_id], shift))
    source = [str(TRAIN), "--format", "drivelm", "--image-root", str(NUSCENES)]
    bench = SHARED / "drivebench" / "drivebench-test.slice23.json"
    scores = [part for name in "abc" for part in ("--scores", f"{name}={tmp_path / name}")]
    train, hard = tmp_path / "train", tmp_path / "hard"
    # D by a: 12, 16, ... 44; the band from 25 holds places 4 to 8
    asked = ["build", "training", *source, "--out", str(train), *scores[:2], "--exclude", str(bench), "--frames", "3"]
    assert main(asked) == 0
    asked = ["build", "hard", *source, "--out", str(hard), *scores, "--training", str(train / "samples.jsonl")]
    assert main(asked) == 0
    trained, kept = frames(train / "samples.jsonl"), frames(hard / "samples.jsonl")
    assert len(trained) == 3
    assert trained <= set(tokens[4:])
    # the mean of the models is 2 more: places 0 to 4 lie below 31
    assert kept == set(tokens[:5]) - trained
    made = read_construction(train)
    assert made.faulty.keys() == {"coordinates_outside_image", "repeated_question", "contradicting_answers"}
    assert sum(made.dropped.values()) + made.chosen.samples == 790
    assert Counter(sample.task for sample in load_jsonl(train / "samples.jsonl").samples)["behavior"] == 3
    assert not load_jsonl(hard / "samples.jsonl").dropped
    assert "going straight, driving slowly" in Page((train / "report.html").read_text()).text
