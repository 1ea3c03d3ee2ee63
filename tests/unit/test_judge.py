from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rewards.judge import Criterion, InvalidReply, JudgeRequest, read_reply

CRITERIA = (
    Criterion("correctness", 50),
    Criterion("clarity", 10),
    Criterion("mark", 10, lowest=1),
    Criterion("overall", 10, lowest=1, counts=False),
)
REQUEST = JudgeRequest("r@1", "rubric", "case", CRITERIA)
FULL = {"correctness": 50, "clarity": 10, "mark": 10, "overall": 10}

sheets = st.fixed_dictionaries({c.name: st.integers(c.lowest, c.highest) for c in CRITERIA})
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


def refused(reply: str) -> str:
    with pytest.raises(InvalidReply) as error:
        read_reply(REQUEST, reply)
    return str(error.value)


@given(sheets, st.permutations(list(FULL)), st.sampled_from([None, 1]))
def test_a_filled_sheet_is_read_and_added_up_here(sheet: dict[str, int], order: list[str], indent: int | None) -> None:
    reply = json.dumps({name: sheet[name] for name in order}, indent=indent)
    judgement = read_reply(REQUEST, reply)
    assert judgement.points == sheet
    assert judgement.reply == reply
    assert judgement.value == pytest.approx(100 * (sheet["correctness"] + sheet["clarity"] + sheet["mark"]) / 70)
    assert 0 <= judgement.value <= 100


def test_full_points_are_worth_100_and_what_does_not_count_changes_nothing() -> None:
    assert read_reply(REQUEST, json.dumps(FULL)).value == 100.0
    assert read_reply(REQUEST, json.dumps(FULL | {"overall": 1})).value == 100.0


def accepted(value: Any) -> bool:
    """Independently of the parser: a JSON object with exactly the criteria, each an integer within bounds."""
    bounds = {c.name: range(c.lowest, c.highest + 1) for c in CRITERIA}
    return (
        isinstance(value, dict)
        and value.keys() == bounds.keys()
        and all(isinstance(value[k], int) and not isinstance(value[k], bool) and value[k] in bounds[k] for k in bounds)
    )


@given(json_values | st.fixed_dictionaries({name: json_values | st.integers(0, 60) for name in FULL}))
def test_whatever_json_comes_only_a_filled_sheet_is_read(value: Any) -> None:
    if accepted(value):
        assert read_reply(REQUEST, json.dumps(value)).points == value
    else:
        refused(json.dumps(value))


@given(st.text(max_size=60))
@example("")
@example("null")
@example("Total Score: 100")
def test_whatever_text_comes_it_is_read_or_refused_and_nothing_else_is_raised(text: str) -> None:
    refused(text)


@given(sheets, st.text(min_size=1, max_size=10).filter(lambda text: text.strip(" \t\r\n")), st.booleans())
def test_a_sheet_with_anything_around_it_is_refused(sheet: dict[str, int], extra: str, before: bool) -> None:
    reply = json.dumps(sheet)
    refused(extra + reply if before else reply + extra)


@given(sheets, st.integers(0, 200))
def test_a_truncated_sheet_is_refused(sheet: dict[str, int], length: int) -> None:
    reply = json.dumps(sheet)
    refused(reply[: min(length, len(reply) - 1)])


@pytest.mark.parametrize("points", ["51", "-1", "101", "NaN", "Infinity", "1e1", "5.0", '"5"', "true", "null", "[5]"])
def test_a_criterion_that_is_no_whole_number_within_bounds_is_refused(points: str) -> None:
    refused(json.dumps(FULL).replace('"correctness": 50', f'"correctness": {points}'))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (json.dumps(FULL | {"mark": 0}), "mark is 0, not 1 to 10"),
        (json.dumps(FULL | {"mark": "4"}), 'mark is not a whole number: "4"'),
        (json.dumps({k: v for k, v in FULL.items() if k != "clarity"}), "the sheet names"),
        (json.dumps(FULL | {"total": 100}), "the sheet names"),
        (json.dumps(FULL)[:-1] + ', "clarity": 10}', "written twice"),
        ("[1]", "not a JSON object"),
        ("85", "not a JSON object"),
        ("", "not a JSON sheet"),
    ],
)
def test_a_refusal_says_what_is_wrong(reply: str, said: str) -> None:
    assert said in refused(reply)


@pytest.mark.parametrize("reply", ["[" * 100_000, '{"correctness": ' * 100_000, '{"correctness": ' + "9" * 5000 + "}"])
def test_a_reply_that_overwhelms_the_parser_is_refused(reply: str) -> None:
    assert len(refused(reply)) < 1000


def test_a_refusal_of_a_huge_sheet_stays_short() -> None:
    assert len(refused(json.dumps({f"criterion_{number}": number for number in range(5000)}))) < 1000
    assert len(refused(json.dumps(FULL | {"clarity": list(range(5000))}))) < 1000


def test_the_schema_bounds_every_criterion_and_allows_nothing_else() -> None:
    schema = REQUEST.schema
    assert schema["properties"]["mark"] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert schema["required"] == list(schema["properties"]) == list(FULL)
    assert schema["additionalProperties"] is False


def test_the_rubric_comes_first_and_alone_in_the_chat() -> None:
    assert REQUEST.messages() == [{"role": "system", "content": "rubric"}, {"role": "user", "content": "case"}]
