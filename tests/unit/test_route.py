from __future__ import annotations

import json
import sys
from asyncio import run
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.sample import DrivingSample, Kind, Task
from rewards.errors import RewardError
from rewards.format import valid_format
from rewards.judge import FailureReason, JudgeFailed, Judgement, JudgeRequest
from rewards.route import Router
from rewards.score import Score
from rewards.scorers import BUILT_IN
from rewards.settings import RewardSettings, RouteSettings

TRUTH: dict[Kind, str] = {
    "multiple_choice": "B",
    "yes_no": "No.",
    "open_ended": "Keep going at the same speed.",
    "coordinates": "<c1,CAM_BACK,1088.3,497.5>.",
    "structured": "<c2,CAM_BACK,864.2,468.3> is at the back of <c1,CAM_BACK,1088.3,497.5>.",
}
OWN_REWARD = """
import numpy as np
def good(sample, text): return np.float32(40.0) if sample.task == "planning" else 0
def raises(sample, text): raise KeyError("no such thing")
def too_much(sample, text): return 100.5
def not_a_number(sample, text): return float("nan")
def nothing(sample, text): return None
def truth(sample, text): return True
def sees(sample, text): return 100.0 if "<think>" in text else 0.0
def one_argument(text): return 1.0
value = 3
"""


def make_sample(kind: Kind = "open_ended", task: Task = "planning", answer: str | None = None) -> DrivingSample:
    choices = {"A": "Going ahead.", "B": "Stopped."} if kind == "multiple_choice" else {}
    return DrivingSample("s_f_0", "s", "f", task, kind, "Question?", answer or TRUTH[kind], {}, choices)


def router(*routes: dict[str, Any], **gate: Any) -> Router:
    return Router(RewardSettings.model_validate({"routes": routes, "gate": gate}))


@pytest.fixture
def own_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_reward.py").write_text(OWN_REWARD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_reward", raising=False)
    return "own_reward"


# --- what an answer is worth ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRUTH)
def test_the_default_routes_give_the_truth_100_and_nonsense_next_to_nothing(kind: Kind) -> None:
    default, sample = Router(RewardSettings()), make_sample(kind)
    default.check_routes([sample])
    assert run(default.score(sample, sample.answer, "stop")).value == pytest.approx(100.0)
    assert run(default.score(sample, "Purple elephants", "stop")).value < 10.0


@pytest.mark.parametrize(
    ("kind", "text", "parts"),
    [
        ("multiple_choice", "B. Stopped.", {"option": 100.0}),
        ("multiple_choice", "stopped", {"option": 100.0}),
        ("multiple_choice", "A car stopped.", {"option": 0.0}),
        ("yes_no", "no", {"yes_no": 100.0}),
        ("yes_no", "Perhaps.", {"yes_no": 0.0}),
        ("coordinates", "<c1,CAM_BACK,1080,490>", {"hybrid_coordinate_f1": 100.0}),
    ],
)
def test_rules_settle_the_kinds_with_one_right_answer(kind: Kind, text: str, parts: dict[str, float]) -> None:
    score = run(Router(RewardSettings()).score(make_sample(kind), text, "stop"))
    assert score.parts == parts
    assert score.value == next(iter(parts.values()))


def test_the_value_is_the_weighted_mean_and_every_part_is_logged() -> None:
    both = router({"scorers": {"exact_match": 1.0, "rouge_l": 3.0, "bleu": 0.0}})
    score = run(both.score(make_sample(), "keep going at the same", "stop"))
    assert set(score.parts) == {"exact_match", "rouge_l", "bleu"}
    assert score.value == pytest.approx(0.75 * score.parts["rouge_l"])
    assert 0 < score.value < 100


def test_text_and_coordinates_of_a_structured_answer_are_scored_apart() -> None:
    default, sample = Router(RewardSettings()), make_sample("structured")
    moved = run(default.score(sample, TRUTH["structured"].replace("864.2", "64.2").replace("1088.3", "88.3"), "stop"))
    assert moved.parts == {"hybrid_coordinate_f1": 0.0, "rouge_l": 100.0, "bleu": pytest.approx(100.0)}
    bare = run(default.score(sample, "<c2,CAM_BACK,864.2,468.3> <c1,CAM_BACK,1088.3,497.5>", "stop"))
    assert bare.parts == {"hybrid_coordinate_f1": 100.0, "rouge_l": 0.0, "bleu": 0.0}


def test_the_first_route_that_matches_task_and_kind_is_taken() -> None:
    routes = router(
        {"task": "behavior", "kind": "open_ended", "scorers": {"bleu": 1}},
        {"kind": "open_ended", "scorers": {"rouge_l": 1}},
        {"task": "behavior", "scorers": {"exact_match": 1}},
    )
    for task, kind, part in [
        ("behavior", "open_ended", "bleu"),
        ("planning", "open_ended", "rouge_l"),
        ("behavior", "yes_no", "exact_match"),
    ]:
        assert set(run(routes.score(make_sample(kind, task), "Keep.", "stop")).parts) == {part}  # type: ignore[arg-type]


def test_rules_read_the_answer_after_the_thinking() -> None:
    text = "<think>A. Going ahead? It stands.</think><answer>B</answer>"
    assert run(Router(RewardSettings()).score(make_sample("multiple_choice"), text, "stop")).value == 100.0


# --- gate and empty ---------------------------------------------------------------------------------------------------


def test_the_gate_settles_an_answer_before_any_scorer(own_reward: str) -> None:
    own = router({"scorers": {f"{own_reward}:raises": 1.0}})
    assert run(own.score(make_sample(), "Keep going at the same speed.", "length")).parts == {
        "gate": 0.0,
        "gate_overlong": 1.0,
    }
    circles = run(own.score(make_sample(), "the car and " * 20, "stop"))
    assert (circles.value, circles.parts, circles.failure) == (0.0, {"gate": 0.0, "gate_repeated_ngrams": 1.0}, None)


def test_the_gate_is_that_of_the_settings() -> None:
    lenient = router({"scorers": {"exact_match": 1.0}}, overlong=False)
    assert run(lenient.score(make_sample(), TRUTH["open_ended"], "length")).value == 100.0


@pytest.mark.parametrize("text", ["", " \n", "<think>hm</think>", "<answer> </answer>"])
def test_an_empty_answer_is_worth_0_under_its_own_name(text: str) -> None:
    score = run(Router(RewardSettings()).score(make_sample(), text, "stop"))
    assert (score.value, score.parts, score.failure) == (0.0, {"empty": 0.0}, None)


# --- your own function ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_function_of_your_own_is_named_by_import_path(own_reward: str) -> None:
    name = f"{own_reward}:good"
    score = run(router({"scorers": {name: 1.0, "exact_match": 1.0}}).score(make_sample(), TRUTH["open_ended"], "stop"))
    assert (score.value, score.parts) == (70.0, {name: 40.0, "exact_match": 100.0})


@pytest.mark.slow
def test_a_function_of_your_own_sees_the_whole_response(own_reward: str) -> None:
    own = router({"scorers": {f"{own_reward}:sees": 1.0}})
    assert run(own.score(make_sample(), "<think>hm</think><answer>B</answer>", "stop")).value == 100.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "failure"),
    [
        ("raises", "KeyError: 'no such thing'"),
        ("too_much", "returned 100.5, not a number from 0 to 100"),
        ("not_a_number", "returned nan, not a number from 0 to 100"),
        ("nothing", "returned None, not a number"),
        ("truth", "returned True, not a number from 0 to 100"),
    ],
)
def test_a_function_that_fails_masks_the_rollout_and_is_never_a_silent_zero(
    own_reward: str, function: str, failure: str
) -> None:
    name = f"{own_reward}:{function}"
    score = run(router({"scorers": {name: 1.0, "exact_match": 1.0}}).score(make_sample(), TRUTH["open_ended"], "stop"))
    assert score.failure is not None
    assert f"{name}: {failure}" in score.failure
    assert score.value == 0.0
    assert score.parts == {f"failed_{name}": 1.0, "exact_match": 100.0}


@pytest.mark.slow
def test_a_failing_function_of_weight_0_is_logged_and_masks_nothing(own_reward: str) -> None:
    name = f"{own_reward}:raises"
    score = run(router({"scorers": {name: 0.0, "exact_match": 1.0}}).score(make_sample(), TRUTH["open_ended"], "stop"))
    assert (score.value, score.failure) == (100.0, None)
    assert score.parts[f"failed_{name}"] == 1.0


# --- errors before the run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exact_mach", r"reward.routes\[1\]: unknown scorer exact_mach \(did you mean exact_match\?\)"),
        ("judge", "reward.judge is not set: name its model there, and its url where an endpoint judges"),
        ("zzz", r"unknown scorer zzz \(scorers: exact_match, "),
        ("no_such_module:f", "cannot import no_such_module of scorer no_such_module:f: ModuleNotFoundError"),
        ("own_reward:god", r"own_reward has no function 'god'; did you mean good\?"),
        ("own_reward:value", "own_reward has no function 'value'"),
        ("own_reward:", "own_reward has no function ''"),
        ("own_reward:one_argument", r"own_reward:one_argument must take \(sample, text\)"),
    ],
)
def test_a_scorer_that_cannot_be_had_is_an_error_at_construction(own_reward: str, name: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        router({"scorers": {"bleu": 1}}, {"scorers": {name: 1}})


def test_a_module_that_breaks_on_import_is_named_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_reward.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RewardError, match="cannot import broken_reward.*ZeroDivisionError"):
        router({"scorers": {"broken_reward:f": 1}})


def test_a_sample_that_no_route_matches_is_an_error_before_the_run() -> None:
    routes = router({"task": "planning", "scorers": {"bleu": 1}})
    routes.check_routes([make_sample()])
    lost = [make_sample(), make_sample("yes_no", "behavior"), make_sample("yes_no", "behavior")]
    with pytest.raises(RewardError, match=r"no route of reward.routes matches behavior / yes_no \(2 samples\)"):
        routes.check_routes(lost)
    with pytest.raises(RewardError, match="no route"):
        run(routes.score(lost[1], "Yes.", "stop"))


@pytest.mark.parametrize(
    ("scorer", "needs"),
    [
        ("option", "choices"),
        ("yes_no", "an answer of yes or no"),
        ("hybrid_coordinate_f1", "coordinates in the answer"),
        ("drivelm_match_f1", "coordinates in the answer"),
    ],
)
def test_a_scorer_that_cannot_score_a_sample_is_an_error_before_the_run(scorer: str, needs: str) -> None:
    with pytest.raises(RewardError, match=rf"routes\[0\] sends sample s_f_0 .* to {scorer}, which needs {needs}"):
        router({"scorers": {scorer: 1}}).check_routes([make_sample()])


@pytest.mark.parametrize("scorers", [{}, {"bleu": 0.0}, {"bleu": -1.0, "rouge_l": 2.0}, {"bleu": float("inf")}])
def test_weights_that_make_no_mean_are_refused(scorers: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="scorer"):
        RouteSettings(scorers=scorers)


def test_the_settings_name_every_scorer_of_the_house() -> None:
    documented = RouteSettings.model_fields["scorers"].description or ""
    assert all(f"`{name}`" in documented for name in BUILT_IN)


# --- format -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "valid"),
    [
        ("multiple_choice", "A", True),
        ("multiple_choice", "<think>C</think><answer>b.</answer>", True),
        ("multiple_choice", "C", False),
        ("multiple_choice", "Stopped.", False),
        ("yes_no", "Yes, it is.", True),
        ("yes_no", "It is.", False),
        ("coordinates", "<c9,CAM_FRONT,1.5,2.5>", True),
        ("coordinates", "The car.", False),
        ("structured", "It is at (1.5, 2.5).", True),
        ("structured", "It is there.", False),
        ("open_ended", "Anything", True),
        ("open_ended", "  ", False),
        ("open_ended", "<think>only thought</think>", False),
    ],
)
def test_a_valid_format_can_be_read_as_an_answer_of_its_kind(kind: Kind, text: str, valid: bool) -> None:
    assert valid_format(make_sample(kind), text) is valid


# --- judge and CLIP ---------------------------------------------------------------------------------------------------


class FakeJudge:
    """Gives every criterion full points, or fails for a reason."""

    def __init__(self, fails: FailureReason | None = None) -> None:
        self.fails: FailureReason | None = fails
        self.requests: list[JudgeRequest] = []

    async def judge(self, request: JudgeRequest) -> Judgement:
        self.requests.append(request)
        if self.fails is not None:
            raise JudgeFailed(self.fails, "as the test wants")
        points = {criterion.name: criterion.highest for criterion in request.criteria}
        return Judgement(100.0, points, json.dumps(points))


class FakeClip:
    async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
        return [0.25 for _ in texts]


def judged(*scorers: dict[str, float], fails: FailureReason | None = None, **judge: Any) -> tuple[Router, FakeJudge]:
    fake = FakeJudge(fails)
    settings = {"routes": [{"scorers": one} for one in scorers], "judge": {"model": "m", **judge}, "clip": {}}
    return Router(RewardSettings.model_validate(settings), fake, FakeClip()), fake


def test_a_judged_answer_shows_the_points_of_each_criterion() -> None:
    routes, fake = judged({"judge": 0.5, "exact_match": 0.5})
    score = run(routes.score(make_sample(task="planning"), "Slow down.", "stop"))
    assert score.value == 50.0
    assert (score.parts["judge"], score.parts["judge/action"], score.parts["exact_match"]) == (100.0, 40.0, 0.0)
    assert fake.requests[0].rubric.startswith("planning_vqa@")


def test_another_rubric_is_named_behind_the_judge() -> None:
    routes, fake = judged({"judge/drivelm": 1.0})
    parts = run(routes.score(make_sample(), "Slow down.", "stop")).parts
    assert set(parts) == {"judge/drivelm", "judge/drivelm/score"}
    assert fake.requests[0].rubric.startswith("drivelm@")


@pytest.mark.parametrize(("sees", "thinking_shown"), [("answer", False), ("response", True)])
def test_the_judge_sees_the_answer_or_the_thinking_too(sees: str, thinking_shown: bool) -> None:
    routes, fake = judged({"judge": 1.0}, sees=sees)
    run(routes.score(make_sample(), "<think>a red light</think><answer>Stop.</answer>", "stop"))
    assert ("a red light" in fake.requests[0].user) == thinking_shown


def test_a_judge_that_fails_masks_the_rollout_under_its_reason() -> None:
    routes, _ = judged({"judge": 1.0, "exact_match": 1.0}, fails="timeout")
    score = run(routes.score(make_sample(), TRUTH["open_ended"], "stop"))
    assert score.failure == "judge_timeout: as the test wants"
    assert score.parts == {"failed_judge": 1.0, "exact_match": 100.0}


@pytest.mark.parametrize(("text", "finish"), [("Stop.", "length"), ("stop now please " * 9, "stop"), ("", "stop")])
def test_what_the_gate_settles_never_reaches_the_judge(text: str, finish: str) -> None:
    routes, fake = judged({"judge": 1.0})
    assert run(routes.score(make_sample(), text, finish)).value == 0.0
    assert not fake.requests


def test_r1_r2_and_r3_are_combined_by_their_weights() -> None:
    routes, _ = judged({"clip": 0.2, "agreement": 0.3, "structure": 0.5})
    answer = (
        '{"description": "A red light hangs above the road.", "action": "stop", "justification": "The light is red."}'
    )
    score = run(routes.score(make_sample(answer="stop because the light is red"), answer, "stop"))
    assert score.failure is None
    assert score.parts["clip"] == 25.0
    assert score.value == pytest.approx(0.2 * 25.0 + 0.3 * score.parts["agreement"] + 0.5 * score.parts["structure"])


@pytest.mark.parametrize("scorer", ["judge", "judge/drivelm", "clip"])
def test_a_scorer_without_its_model_is_an_error_at_construction(scorer: str) -> None:
    with pytest.raises(RewardError, match=rf"reward.routes\[0\] names the scorer {scorer}, but reward\.\w+ is not set"):
        router({"scorers": {scorer: 1.0}})


def test_a_complete_group_is_scored_anew_where_its_responses_are_compared() -> None:
    routes = router({"scorers": {"planning": 0.5, "rouge_l": 0.5}})
    sample, texts = make_sample(answer="STOP, STRAIGHT"), ["STOP, STRAIGHT", "STOP, STRAIGHT", "KEEP, LEFT_TURN"]
    alone = [run(routes.score(sample, text, "stop")) for text in texts]
    together = routes.complete(sample, texts, alone)
    assert together[0].parts["planning"] < alone[0].parts["planning"]  # two say the same
    assert together[0].value == pytest.approx((together[0].parts["planning"] + together[0].parts["rouge_l"]) / 2)
    gated = Score(0.0, {"gate": 0.0})
    assert routes.complete(sample, texts, [alone[0], alone[1], gated])[2] == gated
