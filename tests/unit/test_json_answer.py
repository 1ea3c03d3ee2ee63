from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.json_answer import json_answer

OBJECT = '{"a": 1}'


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        f"  {OBJECT}\n",
        f"```json\n{OBJECT}\n```",
        f"```\n{OBJECT}```",
        f"<think>{{not this}}</think>{OBJECT}",
        f"<think>hm</think><answer>```json {OBJECT} ```</answer>",
    ],
)
def test_an_object_alone_or_in_one_fence_stands_alone(text: str) -> None:
    assert json_answer(text) == ({"a": 1}, True)


@pytest.mark.parametrize("text", [f"Here: {OBJECT}", f"{OBJECT} Done.", f"Here:\n```json\n{OBJECT}\n```"])
def test_an_object_in_prose_is_read_and_does_not_stand_alone(text: str) -> None:
    assert json_answer(text) == ({"a": 1}, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no object",
        "[1, 2]",
        '{"a": 1',
        "} {",
        f"{OBJECT}{OBJECT}",
        f"[{OBJECT}, {OBJECT}]",
        '{"a": 1, "a": 2}',
        '{"b": {"a": 1, "a": 2}}',
        '{"a": NaN}',
        '{"a": Infinity}',
        f"<think>{OBJECT}",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a": ' + "9" * 5_000 + "}",
    ],
)
def test_anything_but_exactly_one_object_is_none(text: str) -> None:
    assert json_answer(text) is None


def test_an_object_of_a_list_of_one_does_not_stand_alone() -> None:
    assert json_answer(f"[{OBJECT}]") == ({"a": 1}, False)


@given(st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5)))
def test_every_object_comes_back_as_it_was_written(fields: dict[str, object]) -> None:
    written = json.dumps(fields)
    assert json_answer(written) == (fields, True)


@given(st.text(alphabet='{}[]":,` \\abc0\n', max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    found = json_answer(text)
    assert found is None or isinstance(found[0], dict)


@pytest.mark.parametrize("flood", ["`", "\n", "{", "} {", "``` {}"])
def test_a_long_response_is_read_as_a_short_one_is(flood: str) -> None:
    # Two million characters squared would outlast the limit of a test.
    short, long = (json_answer("```" + flood * times) for times in (4, 2_000_000 // len(flood)))
    assert short is long is None
