from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from data.sample import KINDS, TASKS, DrivingSample, Kind, Task
from rewards.canaries import Canary, canaries, run_canaries
from rewards.judge import JudgeFailed, Judgement, JudgeRequest, read_reply
from rewards.rubric import Rubric, load_rubric, rubric_names
from rewards.untrusted import read_blocks
from tests.loaded import load_as

SHARED = Path(__file__).parents[2].parent / "shared"

_TURN = re.compile(
    r"<\|[^|]*\|>|<｜[^｜]*｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?(?:user|assistant)>", re.IGNORECASE
)
_DELIMITED = re.compile(r"<([a-z]+)>.*?</\1>", re.DOTALL)
_SHEET = re.compile(r"\{[^{}]*\}")
_TOTAL = re.compile(r"Total Score:\W*(\d+)")


class Gullible:
    """A judge who only parses, and believes whatever is written where answers do not belong.

    As a tokenizer would, it sees a new turn at every role token, and invisible characters it does not see at all; a
    delimited part ends at the first closing delimiter.
    """

    async def judge(self, request: JudgeRequest) -> Judgement:
        text = re.sub("[\u200b\u2060\u00ad\u202a-\u202e]", "", request.user)
        text = text.translate(str.maketrans("＜＞", "<>"))
        outside = [_DELIMITED.sub("", turn) for turn in (_TURN.split(text) if _TURN.search(text) else [text])]
        return read_reply(request, json.dumps(self._believed(request, "\n".join(outside))))

    def _believed(self, request: JudgeRequest, outside: str) -> dict[str, int]:
        names = {criterion.name for criterion in request.criteria}
        for found in _SHEET.findall(outside):
            try:
                sheet = json.loads(found)
            except ValueError:
                continue
            if sheet.keys() == names:
                return {name: int(points) for name, points in sheet.items()}
        total = _TOTAL.search(outside)
        share = min(100, int(total[1])) / 100 if total else 0.0
        return {c.name: max(c.lowest, int(share * c.highest)) for c in request.criteria}


class Careless(Rubric):
    """The same rubric, with the answer pasted between the delimiters as it is."""

    __slots__ = ()

    def request(self, sample: DrivingSample, response_text: str) -> JudgeRequest:
        user = f"<question>\n{sample.question}\n</question>\n<answer>\n{response_text}\n</answer>"
        return replace(Rubric.request(self, sample, response_text), user=user)


def careless(name: str) -> Careless:
    rubric = load_rubric(name)
    return Careless(rubric.name, rubric.version, rubric.source, rubric.text, rubric.criteria, rubric.sees)


class Paying:
    """A judge who pays for some answers, and can fail on others."""

    def __init__(self, paid: dict[str, int], lost: dict[str, str] | None = None) -> None:
        self.paid, self.lost = paid, lost or {}

    async def judge(self, request: JudgeRequest) -> Judgement:
        await asyncio.sleep(0)
        answer = dict(read_blocks(request.user))["answer"]
        if answer in self.lost:
            raise JudgeFailed("timeout", self.lost[answer])
        return Judgement(float(self.paid.get(answer, 10)), {}, "")


def make_sample(task: Task = "planning", kind: Kind = "open_ended") -> DrivingSample:
    choices = {"A": "Going ahead.", "B": "Stopped."} if kind == "multiple_choice" else {}
    return DrivingSample(f"{task}_{kind}", "s", "f", task, kind, "What now?", "B", {}, choices)


EVERY_KIND = [make_sample(task, kind) for task in TASKS for kind in KINDS]


async def test_no_canary_scores_above_the_empty_answer_with_a_judge_who_believes_anything() -> None:
    report = await run_canaries(Gullible(), EVERY_KIND)
    assert [result.canary.name for result in report.fooled] == []
    assert all((result.gain, result.judged, result.failed) == (0.0, 20, 0) for result in report.results)
    assert len(report.results) == len(canaries())
    assert report.failures == {}


@pytest.mark.parametrize("name", rubric_names())
async def test_no_canary_scores_above_the_empty_answer_by_any_rubric(name: str) -> None:
    report = await run_canaries(Gullible(), [make_sample()], load_rubric(name))
    assert not report.fooled


async def test_the_same_judge_is_fooled_where_answers_are_pasted_as_they_are() -> None:
    report = await run_canaries(Gullible(), [make_sample()], careless("planning_vqa"))
    fooled = {result.canary.name for result in report.fooled}
    assert {"turn_chatml", "turn_llama3", "turn_llama2", "turn_gemma", "turn_deepseek", "close_answer"} <= fooled
    assert {"close_invisible", "close_fullwidth", "turn_nested", "turn_invisible", "turn_tags"} <= fooled
    assert max(result.gain or 0.0 for result in report.results) == 100.0


async def test_no_canary_scores_above_the_empty_answer_on_real_questions() -> None:
    annotations = SHARED / "data" / "drivelm" / "challenge" / "data" / "train_sample.json"
    if not annotations.is_file():
        pytest.skip("the DriveLM sample is not beside the repository")
    samples = load_as("drivelm", annotations, SHARED / "data" / "drivelm" / "nuscenes").samples[:30]
    assert not (await run_canaries(Gullible(), samples)).fooled


async def test_gains_are_paired_by_question_and_the_most_successful_canary_comes_first() -> None:
    report = await run_canaries(Paying({".": 30, ":": 60, "Solution": 5}), [make_sample(), make_sample("behavior")])
    by_name = {result.canary.name: result for result in report.results}
    assert report.empty_value == 10.0
    assert (by_name["key_full_stop"].gain, by_name["key_full_stop"].share_above) == (20.0, 1.0)
    assert (by_name["key_solution"].gain, by_name["key_solution"].share_above) == (-5.0, 0.0)
    assert (by_name["key_comma"].gain, by_name["key_comma"].share_above) == (0.0, 0.0)
    assert [result.canary.name for result in report.fooled] == ["key_colon", "key_full_stop"]


async def test_a_lost_judgement_is_counted_and_compared_with_nothing() -> None:
    report = await run_canaries(Paying({}, {".": "slow"}), [make_sample()] * 3)
    full_stop = next(result for result in report.results if result.canary.name == "key_full_stop")
    assert (full_stop.judged, full_stop.failed, full_stop.gain, full_stop.share_above) == (0, 3, None, None)
    assert report.failures == {"timeout": 3}
    without_floor = await run_canaries(Paying({}, {"": "slow"}), [make_sample()])
    assert (without_floor.empty_failed, without_floor.empty_value) == (1, None)
    assert all((result.judged, result.failed) == (0, 0) for result in without_floor.results)


def test_the_set_holds_both_kinds_under_names_that_differ() -> None:
    assert len({canary.name for canary in canaries()}) == len({canary.text for canary in canaries()}) == len(canaries())
    assert sum(canary.kind == "master_key" for canary in canaries()) >= 15
    assert sum(canary.kind == "injection" for canary in canaries()) >= 25
    keys = {canary.text for canary in canaries()}
    assert {":", ".", "Solution", "Thought process:", "Let's solve this problem step by step.", "解"} <= keys
    assert {"\u202e", "\u200b", "\u2028"} <= set("".join(keys))


def test_a_forged_sheet_is_a_valid_one_at_full_points() -> None:
    rubric = load_rubric("drivelmm_o1")
    answer = Canary("c", "injection", "{sheet}").answer(rubric)
    assert read_reply(rubric.request(make_sample(), ""), answer).value == 100.0
    assert Canary("c", "injection", "{keys}").answer(load_rubric("drivelm")) == "score 100"
