from __future__ import annotations

from itertools import chain, combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample import DrivingSample
from rewards.alphadrive import (
    DIVERSITY,
    LATERAL,
    LONGITUDINAL,
    diversity_bonuses,
    has_plan,
    planning,
    planning_group,
    read_plan,
)


def sample(answer: str = "STOP, LEFT_TURN") -> DrivingSample:
    return DrivingSample("s", "s", "f", "planning", "structured", "What is the plan?", answer, {})


def tagged(answer: str) -> str:
    return f"<think>A red light.</think><answer>{answer}</answer>"


def subsets(names: dict[str, float]) -> list[frozenset[str]]:
    sized = (combinations(sorted(names), size) for size in range(len(names) + 1))
    return [frozenset(subset) for subset in chain.from_iterable(sized)]


@pytest.mark.parametrize(
    ("text", "longitudinal", "lateral", "stray"),
    [
        ("STOP, LEFT_TURN", {"STOP"}, {"LEFT_TURN"}, False),
        (tagged("keep and straight."), {"KEEP"}, {"STRAIGHT"}, False),
        ("Decelerate; turn right\nchange left", {"DECELERATE"}, {"RIGHT_TURN", "LEFT_CHANGE"}, False),
        ("left-change, Keep", {"KEEP"}, {"LEFT_CHANGE"}, False),
        ("I would STOP here, STRAIGHT", set(), {"STRAIGHT"}, True),
        ("STOP STRAIGHT", set(), set(), True),
        ("<think>STOP, STRAIGHT</think>", set(), set(), False),
        ("", set(), set(), False),
    ],
)
def test_a_plan_is_a_list_of_names_and_prose_is_none(
    text: str, longitudinal: set[str], lateral: set[str], stray: bool
) -> None:
    plan = read_plan(text)
    assert (set(plan.longitudinal), set(plan.lateral), plan.stray) == (longitudinal, lateral, stray)


@pytest.mark.parametrize("silent", ["", "STOPP", "nothing", "KEEP STRAIGHT", ",,,", "<think></think>"])
@pytest.mark.parametrize("others", [[], ["STOP, LEFT_TURN"], ["KEEP, STRAIGHT", "STOP, LEFT_TURN"], ["", ""]])
def test_a_form_without_a_valid_action_is_worth_nothing_in_any_group(silent: str, others: list[str]) -> None:
    for text in (silent, tagged(silent)):
        score = planning_group(sample(), [text, *map(tagged, others)])[0]
        assert score.value == 0
        assert set(score.parts.values()) == {0.0}


def test_the_right_plan_is_worth_its_weights_and_its_form() -> None:
    assert planning(sample(), tagged("STOP, LEFT_TURN")).value == pytest.approx(100)
    assert planning(sample("KEEP, STRAIGHT"), tagged("KEEP, STRAIGHT")).value == pytest.approx((80 + 80 + 100) / 3)
    assert planning(sample(), "STOP, LEFT_TURN").parts["format"] == 0
    assert planning(sample(), "STOP, LEFT_TURN").value == pytest.approx(200 / 3)


def test_the_quality_of_an_axis_is_f1_times_the_mean_weight_of_what_was_named() -> None:
    parts = planning(sample(), tagged("STOP, KEEP, RIGHT_TURN")).parts
    assert parts["longitudinal"] == pytest.approx(100 * (2 / 3) * (1.0 + 0.8) / 2)
    assert parts["lateral"] == 0
    assert parts["format"] == 100


@pytest.mark.parametrize(
    "text",
    [
        "STOP, LEFT_TURN",
        "<answer>STOP, LEFT_TURN</answer>",
        "<think>hm<answer>STOP, LEFT_TURN</answer>",
        "Well. " + tagged("STOP, LEFT_TURN"),
        tagged("STOP, LEFT_TURN") + "<answer>STOP, LEFT_TURN</answer>",
        tagged("STOP, LEFT_TURN, I think"),
        tagged("STOP"),
        "<think></think><think></think><answer>STOP, LEFT_TURN</answer>",
    ],
)
def test_the_form_is_one_thought_and_one_answer_of_names_on_both_axes(text: str) -> None:
    assert planning(sample(), text).parts["format"] == 0
    assert planning(sample(), " <think>a\nb</think>\n<answer> STOP, LEFT_TURN </answer>\n").parts["format"] == 100


def test_naming_every_action_is_worth_less_than_naming_the_right_ones() -> None:
    everything = tagged(", ".join([*LONGITUDINAL, *LATERAL]))
    assert planning(sample(), everything).value < planning(sample(), tagged("STOP, LEFT_TURN")).value - 30


@pytest.mark.parametrize(("names", "other"), [(LONGITUDINAL, "STRAIGHT"), (LATERAL, "KEEP")])
def test_with_one_true_action_the_right_answer_shared_by_all_still_beats_any_lone_wrong_one(
    names: dict[str, float], other: str
) -> None:
    for true in names:
        right = tagged(f"{true}, {other}")
        for wrong in set(subsets(names)) - {frozenset({true})}:
            scores = planning_group(sample(f"{true}, {other}"), [right] * 7 + [tagged(", ".join([*wrong, other]))])
            assert scores[-1].value < scores[0].value


def test_sharing_an_answer_costs_the_share_of_the_others_that_give_it_up_to_the_papers_fifth() -> None:
    right, late = tagged("STOP, LEFT_TURN"), tagged("STOP, RIGHT_TURN")
    agreed = planning_group(sample(), [right] * 4)
    assert [score.parts["lateral"] for score in agreed] == pytest.approx([100 * (1 - DIVERSITY)] * 4)
    two_of_eight = planning_group(sample(), [right] * 2 + [late] * 6)
    assert two_of_eight[0].parts["lateral"] == pytest.approx(100 * (1 - 1 / 7))
    assert two_of_eight[0].parts["lateral_diversity"] == pytest.approx(6 / 7)
    assert two_of_eight[0].parts["longitudinal"] == pytest.approx(100 * (1 - DIVERSITY))
    assert two_of_eight[2].parts["lateral"] == 0


def test_bonuses_count_the_others_that_say_something_else() -> None:
    stop, keep, none = frozenset({"STOP"}), frozenset({"KEEP"}), frozenset[str]()
    assert diversity_bonuses([stop, stop, keep]) == [0.5, 0.5, 1.0]
    assert diversity_bonuses([stop, none, none]) == [1.0, 0.0, 0.0]
    assert diversity_bonuses([stop, stop, none]) == [0.0, 0.0, 0.0]
    assert diversity_bonuses([]) == []


plans = st.sampled_from(["STOP, LEFT_TURN", "KEEP, STRAIGHT", "STOP", "", "nonsense", "KEEP, LEFT_TURN, STRAIGHT"])


@given(st.lists(plans, min_size=1, max_size=6), st.randoms())
def test_the_order_of_a_group_does_not_matter(answers: list[str], random: Random) -> None:
    order = list(range(len(answers)))
    random.shuffle(order)
    texts = [tagged(answer) for answer in answers]
    there = planning_group(sample(), texts)
    assert planning_group(sample(), [texts[at] for at in order]) == [there[at] for at in order]


@given(st.lists(plans, min_size=1, max_size=6))
def test_diversity_only_ever_lowers_what_an_answer_alone_is_worth(answers: list[str]) -> None:
    texts = [tagged(answer) for answer in answers]
    for text, score in zip(texts, planning_group(sample(), texts), strict=True):
        alone = planning(sample(), text).value
        assert (1 - DIVERSITY) * alone - 1e-9 <= score.value <= alone + 1e-9


@given(st.text(max_size=60))
def test_any_response_has_a_score_from_0_to_100(text: str) -> None:
    assert 0 <= planning(sample(), text).value <= 100


@pytest.mark.parametrize("answer", ["", "STOP", "LEFT_TURN", "The ego vehicle stops."])
def test_a_sample_without_a_true_plan_is_refused(answer: str) -> None:
    assert not has_plan(sample(answer))
    with pytest.raises(ValueError, match="sample s: answer .* names no meta-action"):
        planning(sample(answer), "STOP, LEFT_TURN")
