"""`prepare_data.py build` from files to files: synthetic scores on drawn samples, and on the real DriveLM frames."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data.jsonl import write_jsonl
from data.sample import DrivingSample
from evaluation.construction.record import Construction, read_construction
from evaluation.suites.record import read_record
from prepare_data import main
from tests.drawn import written
from tests.loaded import load_as
from tests.page import Page
from tests.scored import build, drawn_samples, frames, ids, scored, shifted, ten_each, training

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
TRAIN = SHARED / "drivelm" / "challenge" / "data" / "train_sample.json"
NUSCENES = SHARED / "drivelm" / "nuscenes"


@pytest.fixture
def samples(tmp_path: Path) -> list[DrivingSample]:
    found = drawn_samples(tmp_path)
    write_jsonl(tmp_path / "own.jsonl", found)
    return found


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


def test_every_file_of_frames_counts_however_it_is_given(tmp_path: Path, samples: list[DrivingSample]) -> None:
    scored(tmp_path / "align", samples, ten_each)
    files = [written(tmp_path / f"{n}.json", [{"frame_token": f"frame-{n}"}]) for n in (5, 6, 7)]
    assert training(tmp_path, "out", "--exclude", files[0], files[1], "--exclude", files[2]) == 0
    assert frames(tmp_path / "out" / "samples.jsonl") == {"frame-8", "frame-9"}


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
    loaded = load_as("jsonl", tmp_path / "deep/er/out/samples.jsonl")
    assert not loaded.dropped
    by_id = {sample.id: sample for sample in samples}
    assert all(sample.images == by_id[sample.id].images for sample in loaded.samples)


@pytest.mark.parametrize(("judge", "said"), [(None, "rules"), ("Qwen/Qwen2.5-72B-Instruct",) * 2])
def test_who_scored_is_printed_and_recorded(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str], judge: str | None, said: str
) -> None:
    scored(tmp_path / "align", samples, ten_each, judge=judge)
    assert training(tmp_path, "out") == 0
    printed = capsys.readouterr()
    assert f"scored by {said}\n" in printed.out
    assert ("no judge scored the answers" in printed.err) == (judge is None)
    assert read_construction(tmp_path / "out").scores[0].judge == judge
    assert f"Scored by {said}" in Page((tmp_path / "out" / "report.html").read_text()).text


def test_scores_by_rules_and_by_a_judge_are_not_mixed(
    tmp_path: Path, samples: list[DrivingSample], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ["--training", written(tmp_path / "trained.json", [{"frame_token": "elsewhere"}])]
    for name, judge in (("a", None), ("b", "one-judge"), ("c", "other-judge")):
        scored(tmp_path / name, samples, ten_each, judge=judge)
    for pair, said in (("ab", "a by rules, b by one-judge"), ("bc", "b by one-judge, c by other-judge")):
        both = [part for name in pair for part in ("--scores", f"{name}={tmp_path / name}")]
        assert build("hard", tmp_path, "out", *both, *shown) == 2
        assert f"error: scores of different scorers cannot be averaged ({said})" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


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
    found = load_as("jsonl", tmp_path / "raw" / "samples.jsonl").samples
    assert len(found) == 9
    assert len({sample.frame_id for sample in found} - {"frame-0"}) == 4
    page = Page((tmp_path / "raw" / "report.html").read_text())
    assert "Scores per task" not in page.text
    assert "nothing was cleaned" in page.text


# --- the same again ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
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
    loaded = load_as("drivelm", TRAIN, NUSCENES).samples
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
    assert Counter(sample.task for sample in load_as("jsonl", train / "samples.jsonl").samples)["behavior"] == 3
    assert not load_as("jsonl", hard / "samples.jsonl").dropped
    assert "going straight, driving slowly" in Page((train / "report.html").read_text()).text
