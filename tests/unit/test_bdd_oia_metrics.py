from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.formats import bdd_oia_words
from data.formats.bdd_oia_words import ACTION_TEXTS, ACTIONS, REASONS, Action
from evaluation.metrics.bdd_oia import Labels, parse_labels, score


def labels(actions: list[Action], reasons: list[int]) -> Labels:
    return Labels(frozenset(actions), frozenset(reasons))


@pytest.mark.parametrize(
    ("text", "actions", "reasons"),
    [
        ("Action: Stop/slow down; Reason: Traffic light is red", ["stop"], [7]),
        ("action: move forward, turn left. reason: the road is clear", ["forward", "left"], [1]),
        ("Action: Move forward; Reason: Follow traffic\nAction: Turn left; Reason: on the left-turn lane",
         ["forward", "left"], [0, 10]),
        ('{"description": "d", "action": ["Turn right"], "justification": "Road is clear"}', ["right"], [1]),
        ('```json\n{"action": "Move forward and turn left", "reason": ["Follow traffic"]}\n```',
         ["forward", "left"], [0]),
        ("<think>turn left?</think><answer>Action: Turn right; Reason: Road is clear</answer>", ["right"], [1]),
        ("We should move forward because the traffic light is green.", ["forward"], [2]),
        ("Stop/slow down. Reason: Obstacle: person", ["stop"], [4]),
        ("forward", ["forward"], []),
        ("Action：Move forward、Turn left；Reason：Traffic light is green。", ["forward", "left"], [2]),
        ("**Action**: Stop\n**Reason:** Traffic light", ["stop"], [7]),
        ("Ａｃｔｉｏｎ：Ｓｔｏｐ。Reason：Road is clear", ["stop"], [1]),
        ('{"Action": "Stop，Turn left", "Justification": "Road is clear。"}', ["left", "stop"], [1]),
        ("We turn left。The road is clear。", ["left"], [1]),
        ("Action: fly; Reason: aliens", [], []),
        ("Do not turn left. There is no pedestrian.", [], []),
        ("", [], []),
    ],
)  # fmt: skip
def test_an_output_is_read_in_every_form(text: str, actions: list[Action], reasons: list[int]) -> None:
    assert parse_labels(text) == labels(actions, reasons)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert parse_labels(text).actions <= set(ACTIONS)


@given(st.frozensets(st.sampled_from(ACTIONS), min_size=1), st.sampled_from(REASONS))
def test_the_data_sets_own_words_are_read_back(actions: frozenset[Action], reason: bdd_oia_words.Reason) -> None:
    names = [ACTION_TEXTS[action] for action in ACTIONS if action in actions]
    for text in (
        json.dumps({"action": names, "justification": reason.text}),
        f"Action: {', '.join(names)}; Reason: {reason.text}",
    ):
        assert parse_labels(text).actions == actions
        assert reason.bit in parse_labels(text).reasons


_TEXT = (
    "not no never the a is are green red light traffic signal sign stop yield follow flow of with car truck bus ahead "
    "in front behind clear free road lane left right turn turning solid line on obstacle : , . ; ! pedestrian person "
    "rider motorbike cone others side arrow allows permits to and because moving can't hand forward slow down barrier "
    "go keep straight change brake lights halt"
)


@given(st.lists(st.sampled_from([*_TEXT.split(), "\n"]), max_size=20).map(" ".join))
def test_reading_part_by_part_by_the_words_of_phrases_is_reading_the_whole_text(text: str) -> None:
    found, rest = set(), text.casefold()
    for bit, phrase in bdd_oia_words._REASON_PHRASES:
        if any(bdd_oia_words._affirmed(phrase, rest)):
            found.add(bit)
        rest = phrase.sub(" ; ", rest)
    assert {reason.bit for reason in bdd_oia_words.reasons_in(text)} == found
    affirmed = {
        action for action, phrase in bdd_oia_words._ACTION_PHRASES.items() if any(bdd_oia_words._affirmed(phrase, rest))
    }
    assert bdd_oia_words.actions_in(text) == affirmed


def test_the_figures_of_three_samples_are_those_worked_out_by_hand() -> None:
    answers = {
        "1": labels(["forward", "left"], [0, 1]),
        "2": labels(["stop"], [7]),
        "3": labels([], []),  # an annotation without labels: empty against empty counts 0
    }
    predictions = {
        "1": "Action: Move forward; Reason: Follow traffic",
        "2": "Action: Move forward; Reason: Traffic light is red",
        "3": "I cannot tell.",
    }
    result = score(predictions, answers, strict=True)
    # samples: F1({forward}, {forward, left}) = 2/3; F1({forward}, {stop}) = 0; 0. Mean 2/9.
    assert result.actions.f1_all == pytest.approx(100 * 2 / 9)
    # classes: forward 2*1/(1+2) = 2/3; the other three 0.
    assert result.actions.mf1 == pytest.approx(100 * (2 / 3) / 4)
    # 12 bits, wrong are left of 1, forward and stop of 2.
    assert result.actions.accuracy == pytest.approx(100 * 9 / 12)
    assert result.actions.exact_match == pytest.approx(100 / 3)
    # reasons: 2/3, 1, 0; classes follow 1, light 1, clear 0 of 21; one bit of 63 is wrong.
    assert result.reasons.f1_all == pytest.approx(100 * (2 / 3 + 1) / 3)
    assert result.reasons.mf1 == pytest.approx(100 * 2 / 21)
    assert result.reasons.accuracy == pytest.approx(100 * 62 / 63)
    assert (result.no_known_action, result.no_known_reason, result.neither) == (1, 1, 1)
    first = result.actions.classes[0]
    assert (first.name, first.true, first.predicted) == ("Move forward", 1, 2)
    assert first.f1 == pytest.approx(200 / 3)


def toy_test(hits: dict[Action, int], said: dict[Action, int]) -> tuple[dict[str, str], dict[str, Labels]]:
    """One action to a sample, in the counts of the report's Figure 4; the other outputs name nothing known."""
    true: dict[Action, int] = {"forward": 41, "stop": 339, "left": 12, "right": 11}
    rest = [action for action, count in true.items() for _ in range(count - hits.get(action, 0))]
    wrong: list[Action] = [action for action, count in said.items() for _ in range(count - hits.get(action, 0))]
    outputs: list[tuple[Action, Action | None]] = [(a, a) for a, count in hits.items() for _ in range(count)]
    for action in rest:
        other = next((a for a in wrong if a != action), None)
        if other is not None:
            wrong.remove(other)
        outputs.append((action, other))
    assert not wrong
    predictions = {str(i): f"Action: {ACTION_TEXTS[a] if a else 'hover'}" for i, (_, a) in enumerate(outputs)}
    return predictions, {str(i): labels([a], []) for i, (a, _) in enumerate(outputs)}


@pytest.mark.parametrize(
    ("hits", "said", "f1_all", "by_class", "lost"),
    [
        ({"forward": 5, "stop": 170}, {"forward": 66, "stop": 201, "left": 19, "right": 23}, 43.42, [9, 63, 0, 0], 94),
        (
            {"forward": 6, "stop": 167},
            {"forward": 45, "stop": 203, "left": 15, "right": 27},
            42.92,
            [14, 62, 0, 0],
            113,
        ),
    ],
)
def test_the_published_toy_test_is_reproduced_from_its_own_counts(
    hits: dict[Action, int], said: dict[Action, int], f1_all: float, by_class: list[int], lost: int
) -> None:
    predictions, answers = toy_test(hits, said)
    result = score(predictions, answers)
    assert round(result.actions.f1_all, 2) == pytest.approx(f1_all, abs=0.011)  # the report cuts 42.928 off
    assert [round(one.f1) for one in result.actions.classes] == by_class
    assert [one.true for one in result.actions.classes] == [41, 339, 12, 11]
    assert [one.predicted for one in result.actions.classes] == list(said.values())
    assert result.no_known_action == lost


def test_missing_outputs_are_left_out_and_listed_and_strict_refuses_them() -> None:
    answers = {"1": labels(["stop"], [7]), "2": labels(["stop"], [7])}
    result = score({"1": "Action: stop; Reason: Traffic light is red", "9": "x"}, answers)
    assert (result.scored, result.actions.f1_all) == (1, 100.0)
    assert result.faults == {"missing_prediction": ["2"], "unknown_id": ["9"]}
    with pytest.raises(DataError, match="missing_prediction"):
        score({"1": ""}, answers, strict=True)


def test_the_result_is_one_json_object() -> None:
    tree = json.loads(score({"1": "stop"}, {"1": labels(["stop"], [])}).to_json())
    assert tree["actions"]["f1_all"] == 100.0
    assert len(tree["reasons"]["classes"]) == 21
