"""Graders: what OpenAI's clients describe is read, refused by name, and gives the numbers it should."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample import DrivingSample
from rewards.errors import RewardError
from rewards.formula import Formula
from rewards.graders import grader_text, read_grader
from rewards.grading import GraderFailed, GraderScorer
from rewards.judge import Judgement, JudgeRequest
from rewards.route import Router
from rewards.settings import JudgeSettings, RewardSettings, RouteSettings

CHECK = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{ sample.output_text }}",
         "reference": "{{item.reference_answer}}"}  # fmt: skip
ALIKE = {"type": "text_similarity", "name": "alike", "evaluation_metric": "fuzzy_match",
         "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}  # fmt: skip
JUDGED = {"type": "score_model", "name": "judged", "model": "judge", "range": [1, 5],
          "input": [{"role": "developer", "content": "Grade it."},
                    {"role": "user", "content": {"type": "input_text", "text": "{{sample.output_text}}"}}],
          "sampling_params": {"max_completions_tokens": 20}}  # fmt: skip
SAMPLE = DrivingSample("s", "scene", "frame", "planning", "open_ended", "Go?", "Yes, go.", {})
WITH_JUDGE = RewardSettings(judge=JudgeSettings(model="tiny"))


class Asked:
    """A judge that gives a number and keeps what it was asked."""

    def __init__(self, points: int) -> None:
        self.points = points
        self.requests: list[JudgeRequest] = []

    async def judge(self, request: JudgeRequest) -> Judgement:
        self.requests.append(request)
        return Judgement(0.0, {"score": self.points}, "")


def scorer(grader: dict[str, Any], settings: RewardSettings = WITH_JUDGE) -> GraderScorer:
    found = GraderScorer(read_grader(grader), settings)
    found.check()
    return found


async def reward(grader: dict[str, Any], output: str, judge: Any = None, **item: str) -> float:
    return (await scorer(grader).graded(judge, None, item, output, SAMPLE)).reward


@pytest.mark.parametrize(
    ("operation", "output", "expected"),
    [
        ("eq", "go", 1),
        ("eq", "Go", 0),
        ("ne", "Go", 1),
        ("like", "we go on", 1),
        ("ilike", "GO ON", 1),
        ("like", "GO", 0),
    ],
)
async def test_strings_compare_as_asked(operation: str, output: str, expected: float) -> None:
    assert await reward(CHECK | {"operation": operation}, output, reference_answer="go") == expected


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "rouge_l"])
async def test_the_same_text_is_as_alike_as_can_be(metric: str) -> None:
    grader = ALIKE | {"evaluation_metric": metric}
    assert await reward(grader, "the car ahead stops", answer="the car ahead stops") == pytest.approx(1.0)
    assert await reward(grader, "nothing in common", answer="zzz") < 0.4


async def test_the_judge_is_asked_within_the_range_and_what_it_reads_is_cleaned() -> None:
    judge = Asked(4)
    assert await reward(JUDGED, "Go <|im_end|> now", judge) == 4.0
    (request,) = judge.requests
    assert request.criteria[0].lowest == 1
    assert request.criteria[0].highest == 5
    assert "<|im_end|>" not in request.user
    assert request.system.startswith("Grade it.")
    score = await scorer(JUDGED).score(judge, None, SAMPLE, "Go")
    assert score.value == pytest.approx(75.0)


async def test_a_range_of_fractions_is_asked_for_in_hundredths() -> None:
    assert await reward(JUDGED | {"range": [0, 1]}, "Go", Asked(30)) == pytest.approx(0.3)
    assert await reward(JUDGED | {"range": None}, "Go", Asked(30)) == pytest.approx(0.3)


@pytest.mark.parametrize("graders", [{"same": CHECK, "alike": ALIKE}, [CHECK, ALIKE]])
async def test_several_are_joined_by_a_formula(graders: Any) -> None:
    multi = {
        "type": "multi",
        "name": "both",
        "graders": graders,
        "calculate_output": "0.5 * same + max(alike, 0.5) / 2",
    }
    assert await reward(multi, "go", reference_answer="go", answer="go") == pytest.approx(1.0)
    assert await reward(multi, "x", reference_answer="go", answer="go") == pytest.approx(0.25)


async def test_one_grader_in_place_of_many_is_taken_as_the_client_types_it() -> None:
    multi = {"type": "multi", "name": "one", "graders": CHECK, "calculate_output": "same"}
    assert await reward(multi, "go", reference_answer="go") == 1.0


@pytest.mark.parametrize(
    ("grader", "sentence"),
    [
        ({"type": "python", "name": "x", "source": "import os"}, "a python grader is not served"),
        ({"type": "label_model", "name": "x"}, "a label_model grader is not served"),
        (
            {"type": "multi", "name": "m", "graders": {"p": {"type": "python", "name": "p"}}, "calculate_output": "p"},
            "a python grader is not served",
        ),
        (CHECK | {"operation": "about"}, "operation: Input should be 'eq', 'ne', 'like' or 'ilike'"),
        (CHECK | {"reference": "{{item.secret}}"}, "reference: there is no {{ item.secret }}, only sample.output_text"),
        (CHECK | {"weight": 3}, "weight: this grader does not know it"),
        (ALIKE | {"evaluation_metric": "meteor"}, "evaluation_metric: 'meteor' is not served, only bleu"),
        (JUDGED | {"range": [5, 1]}, "range: the lower number comes first"),
        ({"type": "rubric", "name": "r", "rubric": "/etc/passwd"}, "rubric: there is no rubric '/etc/passwd', only"),
        (
            {"type": "multi", "name": "m", "graders": {"same": CHECK}, "calculate_output": "same + other"},
            "calculate_output names 'other', and the graders are same",
        ),
        ({"type": "unheard_of"}, "type: Input tag 'unheard_of'"),
        ([], "type: "),
        (None, "type: "),
    ],
)
def test_what_is_wrong_with_a_grader_is_one_sentence(grader: Any, sentence: str) -> None:
    with pytest.raises(RewardError) as caught:
        read_grader(grader)
    assert sentence in str(caught.value)


def test_a_grader_that_asks_what_is_not_there_is_refused() -> None:
    with pytest.raises(RewardError, match="asks a judge, and there is none"):
        scorer(JUDGED, RewardSettings())
    with pytest.raises(RewardError, match="asks a CLIP, and there is none"):
        scorer({"type": "clip", "name": "c"})
    with pytest.raises(RewardError, match="the judge here is 'tiny'"):
        scorer(JUDGED | {"model": "gpt-4o"})


async def test_what_is_missing_in_an_item_is_named() -> None:
    with pytest.raises(GraderFailed, match=r"there is no item.reference_answer to fill in"):
        await reward(CHECK, "go")


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "same.__class__", "(lambda: 1)()", "[1][0]", "'a'", "same if 1 else 2", "max()", "", "1 +",
     "9" * 3000, "(" * 500 + "1" + ")" * 500, "True"],
)  # fmt: skip
def test_a_formula_runs_no_code(text: str) -> None:
    with pytest.raises(RewardError, match="calculate_output"):
        Formula(text, ["same"])


@pytest.mark.parametrize("text", ["1 / same", "log(same - 1)", "10 ** 400", "exp(10000)", "(0 - 2) ** 0.5"])
def test_a_formula_without_a_number_says_so(text: str) -> None:
    with pytest.raises(RewardError, match="no (finite )?number"):
        Formula(text, ["same"]).value({"same": 0.0})


@given(st.text(max_size=60))
def test_no_formula_raises_anything_else(text: str) -> None:
    with contextlib.suppress(RewardError):
        Formula(text, ["a"]).value({"a": 0.5})


async def test_a_run_scores_by_a_grader_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "grader.json"
    path.write_text(grader_text(read_grader(CHECK)))
    router = Router(RewardSettings(routes=(RouteSettings(scorers={f"grader/{path}": 1.0}),)))
    right, wrong = [await router.score(SAMPLE, text, "stop") for text in ("Yes, go.", "No.")]
    router.close()
    assert (right.value, wrong.value) == (100.0, 0.0)
    assert right.parts["grader"] == 100.0
    assert json.loads(path.read_text())["type"] == "string_check"


async def test_a_samples_own_rule_is_a_grader_too(tmp_path: Path) -> None:
    path = tmp_path / "grader.json"
    path.write_text(grader_text(read_grader({"type": "coordinates", "name": "near"})))
    router = Router(RewardSettings(routes=(RouteSettings(scorers={f"grader/{path}": 1.0}),)))
    with pytest.raises(RewardError, match="cannot be graded: the grader near needs coordinates"):
        router.check_routes([SAMPLE])
    failed = await router.score(SAMPLE, "<1, 2>", "stop")
    router.close()
    assert (failed.failure or "").startswith("grader_ungraded: the grader near needs coordinates")
