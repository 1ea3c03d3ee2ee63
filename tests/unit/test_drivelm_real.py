"""The real DriveLM sample, in its three formats: every question is read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from data.drivelm_questions import infer_task
from tests.loaded import load_as

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "drivelm"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"the DriveLM sample is not at {REAL}")


@needs_real_data
def test_all_790_questions_of_the_real_train_sample_load() -> None:
    loaded = load_as("drivelm", REAL / "challenge/data/train_sample.json", REAL / "nuscenes")
    assert len(loaded.samples) == 790
    assert loaded.dropped == {}
    assert Counter(s.task for s in loaded.samples) == {
        "perception": 337, "prediction": 271, "planning": 173, "behavior": 9,
    }  # fmt: skip
    assert Counter(s.kind for s in loaded.samples) == {
        "open_ended": 474, "yes_no": 242, "structured": 52, "coordinates": 22,
    }  # fmt: skip
    assert len({s.frame_id for s in loaded.samples}) == 9
    assert len(loaded.kept_with_fault["coordinates_outside_image"]) == 2  # two traffic lights with y below 0
    assert all(s.objects for s in loaded.samples)


@needs_real_data
def test_the_wording_names_the_task_of_every_real_question() -> None:
    loaded = load_as("drivelm", REAL / "challenge/data/train_sample.json", REAL / "nuscenes")
    assert [s.question for s in loaded.samples if infer_task(s.question) != s.task] == []


@needs_real_data
def test_the_real_challenge_and_llama_files_hold_the_same_samples() -> None:
    challenge = load_as("drivelm", REAL / "challenge/test_eval.json", REAL / "nuscenes")
    llama = load_as("drivelm", REAL / "challenge/test_llama.json", REAL / "nuscenes")
    assert challenge.samples == llama.samples
    assert len(llama.samples) == 66
    choices = [s for s in llama.samples if s.kind == "multiple_choice"]
    assert Counter(s.task for s in choices) == {"perception": 8, "behavior": 9}
    assert all(list(s.choices) == list("ABCD") and s.answer in s.choices for s in choices)


@needs_real_data
def test_the_real_challenge_file_without_options_is_free_text() -> None:
    loaded = load_as("drivelm", REAL / "challenge/test.json", REAL / "nuscenes")
    assert (len(loaded.samples), loaded.dropped) == (66, {})
    assert {s.kind for s in loaded.samples if s.task == "behavior"} == {"open_ended"}
