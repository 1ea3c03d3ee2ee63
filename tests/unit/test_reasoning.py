"""What a policy is taught to say, where its reasoning comes from, and that no frame is on both sides of a split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.warm_start import WarmStart
from data.errors import DataError
from data.load import load_data
from data.reasoning.reasoning import (
    ReasoningRecord,
    Variant,
    demonstration,
    numbered,
    read_reasoning,
    split_solution,
    steps_of,
    with_reasoning,
)
from data.sample import DrivingSample
from data.settings import DataSettings
from recipe import Recipe
from rewards.answer import answer_part

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "drivelmm_o1"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"the DriveLMM-o1 sample is not at {REAL}")


def sample(name: str = "a", **fields: Any) -> DrivingSample:
    base = DrivingSample(name, f"s_{name}", f"f_{name}", "planning", "open_ended", "Go?", "Yes.", {})
    return replace(base, **fields)


def record(of: DrivingSample, **fields: Any) -> ReasoningRecord:
    good = ReasoningRecord(
        of.id, of.scene_id, of.frame_id, of.task, of.answer, "The lane is free.", "", "", 1, "teacher", "planning@1"
    )
    return replace(good, **fields)


def write(path: Path, *records: ReasoningRecord) -> Path:
    path.write_text("".join(one.to_line() + "\n" for one in records))
    return path


# --- demonstrations ---------------------------------------------------------------------------------------------------


def test_the_variants_demonstrate_the_answer_alone_the_reasoning_in_tags_and_the_steps_under_headings() -> None:
    asked = sample(kind="multiple_choice", answer="B", choices={"A": "Stop.", "B": "Go."}, reasoning="1. Free lane.")
    assert {variant: demonstration(asked, variant) for variant in get_args(Variant)} == {
        "simple": "B",
        "reason": "<think>1. Free lane.</think><answer>B</answer>",
        "steps": "**Step-by-Step Reasoning**:\n\n1. Free lane.\n\n**Final Answer**: B) Go.",
    }


def test_only_the_answer_alone_can_be_demonstrated_without_reasoning() -> None:
    assert [demonstration(sample(), variant) for variant in get_args(Variant)] == ["Yes.", None, None]


@given(reasoning=st.text(min_size=1), answer=st.text(alphabet="abc .<>0", min_size=1))
def test_what_is_scored_of_demonstrated_reasoning_is_the_answer(reasoning: str, answer: str) -> None:
    if "answer>" in reasoning or "answer>" in answer or not answer.strip():
        return
    text = demonstration(sample(reasoning=reasoning, answer=answer), "reason")
    assert text is not None
    assert answer_part(text) == answer.strip()


# --- DriveLMM-o1 ------------------------------------------------------------------------------------------------------


def test_a_training_answer_is_taken_apart_into_steps_and_final_answer_and_put_together_again() -> None:
    text = "**Step-by-Step Reasoning**:\n\n1. A car\n   is near.\n2. It brakes.\n\n**Final Answer**: B) Stop."
    steps, final = split_solution(text)
    assert (steps, final) == (("A car is near.", "It brakes."), "B) Stop.")
    choices = {"A": "Go.", "B": "Stop."}
    asked = sample(kind="multiple_choice", answer="B", choices=choices, reasoning=numbered(steps))
    again = demonstration(asked, "steps")
    assert again is not None
    assert split_solution(again) == (steps, final)


@pytest.mark.parametrize(
    "text",
    [
        "Step-by-step reasoning\n1) One.\n2) Two.\nFinal Answer: Yes.",
        "**Step-by-Step Reasoning:**\n1. One.\n2. Two.\n**Final Answer:** Yes.",
        "## Step-by-Step Reasoning\n\n1. One.\n\n2. Two.\n\n## Final Answer\n\nYes.",
    ],
)
def test_headings_are_known_in_any_dress(text: str) -> None:
    assert split_solution(text) == (("One.", "Two."), "Yes.")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1. One.", ((), "1. One.")),
        ("**Final Answer**: Yes.", ((), "Yes.")),
        ("1. One.\n**Final Answer**：Yes.", (("One.",), "Yes.")),
        ("**Step-by-Step Reasoning**：\n1、One.\n2． Two.\n\n最终答案：Yes.", (("One.", "Two."), "Yes.")),
        ("Final answer is B.", ((), "Final answer is B.")),
        ("1. One.\n**Final Answer**: ", (("One.",), "")),
        ("The final answer is clear: go.", ((), "The final answer is clear: go.")),
    ],
)
def test_without_a_heading_of_its_own_line_all_is_answer(text: str, parts: tuple[tuple[str, ...], str]) -> None:
    assert split_solution(text) == parts


@needs_real_data
def test_the_steps_of_real_records_are_found() -> None:
    entries = json.loads((REAL / "inference_demo_data_drivelmm.json").read_text())
    assert [len(steps_of(entry["steps"])) for entry in entries] == [3, 2]
    assert steps_of(entries[0]["steps"])[0].startswith("In the top middle image, the ego vehicle")


# --- files of distilled reasoning -------------------------------------------------------------------------------------


def test_records_are_read_as_they_were_written_and_the_last_one_on_a_sample_counts(tmp_path: Path) -> None:
    a, b = sample("a"), sample("b")
    refused = record(b, reasoning="", dropped="too_long", detail="Write one sentence.")
    file = read_reasoning(write(tmp_path / "r.jsonl", record(a, reasoning="", dropped="no"), refused, record(a)))
    assert dict(file.records) == {"a": record(a), "b": refused}
    assert (file.done, file.dropped, file.unreadable) == ({"a"}, {"too_long": 1}, ())


@given(text=st.text(min_size=1))
def test_any_reasoning_survives_its_file(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("r") / "r.jsonl", record(sample(), reasoning=text))
    assert read_reasoning(path).records["a"].reasoning == text


def test_a_line_that_was_cut_off_is_named_and_the_rest_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", record(sample("a")))
    path.write_text(path.read_text() + record(sample("b")).to_line()[:40])
    file = read_reasoning(path)
    assert file.done == {"a"}
    assert "r.jsonl line 2 is no record" in file.unreadable[0]


@pytest.mark.parametrize(
    "line", ["[]", "{}", '{"id": 1}', record(sample(), attempts="x").to_line(), record(sample(), dropped="x").to_line()]
)
def test_a_line_of_another_form_is_no_record(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.jsonl").write_text(line)
    assert len(read_reasoning(tmp_path / "r.jsonl").unreadable) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.reasoning .*gone\.jsonl does not exist"):
        read_reasoning(tmp_path / "gone.jsonl")


def test_reasoning_goes_to_its_samples_and_every_fault_is_listed(tmp_path: Path) -> None:
    a, b, c, d = (sample(name) for name in "abcd")
    path = write(tmp_path / "r.jsonl", record(a), record(b, answer="No."), record(c, reasoning="", dropped="too_long"))
    given_own = replace(d, reasoning="Its own.")
    found, faults = with_reasoning([a, b, c, given_own], read_reasoning(path))
    assert [one.reasoning for one in found] == ["The lane is free.", "", "", "Its own."]
    assert faults == {"no_reasoning": ["b", "c"], "reasoning_for_another_answer": ["b"]}


def test_reasoning_reaches_the_training_samples_alone_and_no_frame_is_on_both_sides(tmp_path: Path) -> None:
    settings = DataSettings(options={"scenes": 6}, held_out=0.5)
    plain = load_data(settings, tmp_path).split
    records = [record(one) for one in (*plain.train, *plain.held_out)]
    file = write(tmp_path / "r.jsonl", *records)
    split = load_data(settings.model_copy(update={"reasoning": file}), tmp_path).split
    assert {one.reasoning for one in split.train} == {"The lane is free."}
    assert {one.reasoning for one in split.held_out} == {""}
    assert {one.frame_id for one in split.train}.isdisjoint({one.frame_id for one in split.held_out})
    assert [one.id for one in split.train] == [one.id for one in plain.train]


# --- the warm start ---------------------------------------------------------------------------------------------------


def showing(variant: str) -> Recipe:
    return Recipe.model_validate({"run": {"name": "warm"}, "warm_start": {"variant": variant}})


def test_samples_without_reasoning_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    samples = [sample("a", reasoning="Free."), sample("b")]
    assert [one.id for one in WarmStart(samples, [], showing("reason")).samples] == ["a"]
    assert "1 of 2 samples lack reasoning" in capsys.readouterr().out
    assert len(WarmStart(samples, [], showing("simple")).samples) == 2


def test_a_warm_start_on_reasoning_that_nobody_has_is_refused() -> None:
    with pytest.raises(DataError, match=r"warm_start\.variant=steps needs reasoning.*data\.reasoning"):
        WarmStart([sample()], [], showing("steps"))
