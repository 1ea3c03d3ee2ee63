from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats.bdd_oia_words import ACTION_TEXTS, OBJECTS, REASONS, Reason
from data.sample import DrivingSample
from rewards.structure import FIELDS, MAX_REASONS, WEIGHTS, structure

SAMPLE = DrivingSample(
    id="s",
    scene_id="s",
    frame_id="f",
    task="behavior",
    kind="structured",
    question="Look at the busy road in front. Actions: forward, stop, left, right. Answer with a JSON object.",
    answer="unread",
    images={},
)
DESCRIPTION = "A wide street on a sunny day, with two parked vans beside it."
HONEST = {"description": DESCRIPTION, "action": "Move forward", "justification": "The traffic light is green."}
ALL_PHRASES = " ".join([*(reason.text + "." for reason in REASONS), *ACTION_TEXTS.values(), *OBJECTS])
ALL_WORDS = " ".join(sorted(set(ALL_PHRASES.casefold().replace(".", " ").replace(":", " ").split())))
PADDINGS = (ALL_PHRASES, ALL_WORDS)


def written(fields: dict[str, Any]) -> str:
    return json.dumps(fields)


def value(fields: dict[str, Any]) -> float:
    return structure(SAMPLE, written(fields)).value


def parts(fields: dict[str, Any]) -> dict[str, float]:
    return structure(SAMPLE, written(fields)).parts


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: kept for key, kept in fields.items() if key != name}


answers = st.fixed_dictionaries(
    {},
    optional={
        "description": st.sampled_from(
            [DESCRIPTION, "", " \n", "!?", "car", "Turn left", "The traffic light is green.", "foo bar baz qux"]
        ),
        "action": st.sampled_from(
            ["Move forward", "stop", "", "  ", "banana", "The traffic light is green.", [], ["left", "right"]]
        ),
        "justification": st.sampled_from(
            [reason.text for reason in REASONS] + ["", "\t", "Turn left", "foo bar baz qux", DESCRIPTION]
        ),
    },
)


def test_the_weights_are_out_of_100() -> None:
    assert sum(WEIGHTS.values()) == 100


@pytest.mark.parametrize("reason", [reason for reason in REASONS if not reason.rules_out])
def test_an_honest_answer_for_every_supporting_reason_earns_everything(reason: Reason) -> None:
    fields = {**HONEST, "action": ACTION_TEXTS[reason.action], "justification": reason.text}
    assert value(fields) == pytest.approx(100.0)
    assert parts(fields) == pytest.approx(dict.fromkeys(WEIGHTS, 100.0))


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason.rules_out])
def test_a_reason_that_rules_the_action_out_supports_nothing(reason: Reason) -> None:
    fields = {**HONEST, "action": ACTION_TEXTS[reason.action], "justification": reason.text}
    assert parts(fields)["consistency"] == 0


def test_the_form_of_the_answer_around_the_object_costs_syntax_alone() -> None:
    honest = written(HONEST)
    assert structure(SAMPLE, f"<think>hm {{}}</think>```json\n{honest}\n```").value == pytest.approx(100)
    in_prose = structure(SAMPLE, f"Here you are: {honest}")
    assert in_prose.parts == pytest.approx({**dict.fromkeys(WEIGHTS, 100.0), "syntax": 50})
    unasked = structure(SAMPLE, f"Here: {written({**HONEST, 'note': 'x'})}")
    assert unasked.parts["syntax"] == 0
    assert unasked.parts["completeness"] == 100


@pytest.mark.parametrize("text", ["", "Move forward.", "{", "[]", "null", f"{written(HONEST)} {written(HONEST)}"])
def test_what_is_not_one_object_earns_nothing(text: str) -> None:
    score = structure(SAMPLE, text)
    assert score.value == 0
    assert set(score.parts) == set(WEIGHTS)


@pytest.mark.parametrize("nothing", ["", " ", "\n\t", "\u200b", "...", None, 3, [], {}, ["  "]])
@pytest.mark.parametrize("names", [FIELDS, *((name,) for name in FIELDS)])
def test_empty_fields_earn_no_more_than_missing_ones(nothing: Any, names: tuple[str, ...]) -> None:
    missing = {key: kept for key, kept in HONEST.items() if key not in names}
    assert value({**HONEST, **dict.fromkeys(names, nothing)}) == value(missing)


def test_an_object_with_nothing_in_it_earns_nothing() -> None:
    assert value({}) == value(dict.fromkeys(FIELDS, "")) == value({"note": "The road is clear."}) == 0


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("filler", ["description", "action", " ".join(FIELDS), "x", "the the the the", "123"])
def test_a_field_filled_for_the_sake_of_it_earns_no_more_than_a_missing_one(name: str, filler: str) -> None:
    assert value({**HONEST, name: filler}) <= value(without(HONEST, name))


@pytest.mark.parametrize(("copy", "source"), [(a, b) for a in FIELDS for b in FIELDS if a != b])
def test_a_field_that_repeats_another_earns_nothing_for_itself(copy: str, source: str) -> None:
    repeated = {**HONEST, copy: HONEST[source]}
    assert value(repeated) <= max(value(without(repeated, copy)), value(without(repeated, source)))
    padded = {**HONEST, copy: f"{HONEST[source]} {HONEST[source]} very"}
    assert value(padded) <= max(value(without(repeated, copy)), value(without(repeated, source)))


def test_one_text_in_all_fields_earns_no_more_than_one_field() -> None:
    for text in HONEST.values():
        assert value(dict.fromkeys(FIELDS, text)) <= max(value({name: text}) for name in FIELDS)


def test_a_description_copied_from_the_question_earns_nothing_for_itself() -> None:
    copied = {**HONEST, "description": "look at  the busy road in FRONT."}
    assert value(copied) == value(without(HONEST, "description"))
    own = {**HONEST, "description": "Look at that: the busy road in front is being repaired."}
    assert value(own) == pytest.approx(100)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("names", [FIELDS, *((name,) for name in FIELDS)])
def test_naming_every_known_word_earns_less_than_an_honest_answer(padding: str, names: tuple[str, ...]) -> None:
    assert value({**HONEST, **dict.fromkeys(names, padding)}) <= value(
        {key: kept for key, kept in HONEST.items() if key not in names}
    )
    assert value({**HONEST, **{name: f"{HONEST[name]} {padding}" for name in names}}) < value(HONEST)


@given(answers, st.sampled_from(FIELDS), st.sampled_from(PADDINGS), st.booleans())
@settings(max_examples=150)
def test_padding_a_field_with_every_known_word_never_earns_anything(
    fields: dict[str, Any], name: str, padding: str, before: bool
) -> None:
    old = fields.get(name, "")
    old = " ".join(old) if isinstance(old, list) else old
    padded = {**fields, name: f"{padding} {old}" if before else f"{old} {padding}"}
    assert value(padded) <= value(fields) + 1e-9


@given(answers, st.sampled_from(("action", "justification")))
def test_an_action_without_a_justification_or_the_reverse_is_not_consistent(fields: dict[str, Any], name: str) -> None:
    assert parts(without(fields, name))["consistency"] == 0


@pytest.mark.parametrize("action", [["forward", "stop"], ["left", "left"], ["left", "banana"], list(ACTION_TEXTS), []])
def test_actions_that_exclude_each_other_or_repeat_or_are_unknown_are_none(action: list[str]) -> None:
    assert value({**HONEST, "action": action}) == value(without(HONEST, "action"))


def test_every_action_of_a_list_needs_a_reason_of_its_own() -> None:
    both = {**HONEST, "action": ["forward", "left"], "justification": "The traffic light is green."}
    assert parts(both)["consistency"] == pytest.approx(50)
    both["justification"] = "The traffic light is green and we are on the left-turn lane."
    assert value(both) == pytest.approx(100)


@pytest.mark.parametrize(
    ("action", "justification", "consistency"),
    [
        ("stop", "The traffic light is red.", 100),
        ("stop", "The traffic light is green.", 0),
        ("stop", "The traffic light is red, so we turn left.", 0),
        ("stop", "The traffic light is red, so we must stop.", 100),
        ("stop", "The traffic light is red and the road is clear.", 50),
        ("forward", "The road is clear and there is no lane on the left.", 100),
        ("forward", "There is no lane on the left.", 0),
        ("left", "We are on the left-turn lane, but a solid line is on the left.", 0),
        ("forward", "Because that is what a good driver would do.", 0),
    ],
)
def test_consistency_asks_whether_the_justification_bears_out_the_action(
    action: str, justification: str, consistency: float
) -> None:
    found = parts({**HONEST, "action": action, "justification": justification})["consistency"]
    assert found == pytest.approx(consistency)


def test_more_reasons_than_the_limit_are_a_list_and_no_justification() -> None:
    reasons = [reason.text for reason in REASONS if reason.action == "stop"]
    enough = {**HONEST, "action": "stop", "justification": ". ".join(reasons[:MAX_REASONS])}
    assert value(enough) == pytest.approx(100)
    too_many = {**enough, "justification": ". ".join(reasons[: MAX_REASONS + 1])}
    assert value(too_many) == value(without(enough, "justification"))


@pytest.mark.parametrize("name", ["description", "justification"])
def test_naming_all_objects_at_once_is_a_list_and_says_nothing(name: str) -> None:
    assert value({**HONEST, name: "See the " + ", ".join(OBJECTS)}) == value(without(HONEST, name))


@given(st.text(max_size=120))
def test_any_response_has_a_score_from_0_to_100(text: str) -> None:
    assert 0 <= structure(SAMPLE, text).value <= 100


@given(st.dictionaries(st.sampled_from([*FIELDS, "note"]), st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)))  # fmt: skip
def test_any_object_has_a_score_from_0_to_100(fields: dict[str, Any]) -> None:
    assert 0 <= value(fields) <= 100
