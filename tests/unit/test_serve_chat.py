"""The chat dialect: which requests are understood, and that every refusal is a sentence in OpenAI's error form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat import AnswerFormat, ApiError, ChatRequest, Piece, event, parse_request
from serve.settings import ServeSettings

SETTINGS = ServeSettings(max_images=2, max_tokens=100)


def image(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": name}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def parse(**body: Any) -> ChatRequest:
    whole = {"model": "run", "messages": [{"role": "user", "content": "Go?"}]} | body
    return parse_request(json.dumps(whole).encode(), SETTINGS, "run")


def refusal(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(**body)
    return caught.value


def test_images_keep_the_order_in_which_the_request_gives_them() -> None:
    request = parse(messages=[{"role": "user", "content": [image("b"), text("which?"), image("a")]}])
    messages, uris = request.conversation(None)
    assert uris == ["b", "a"]
    assert messages == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "which?"}, {"type": "image"}]}
    ]


def test_the_policys_system_prompt_opens_a_conversation_that_brings_none() -> None:
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "Go?"}]
    assert parse().conversation("trained")[0][0]["content"] == [text("trained")]
    assert parse(messages=own).conversation("trained")[0][0]["content"] == [text("mine")]
    assert len(parse().conversation(None)[0]) == 1


def test_the_token_cap_is_known_by_both_its_names() -> None:
    assert parse(max_tokens=7).token_cap == 7
    assert parse(max_completion_tokens=8).token_cap == 8
    assert parse().token_cap is None


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"max_tokens": 101}, 400, "max_tokens=101 is above this server's cap of 100"),
        ({"model": "other"}, 404, "model 'other' is not served here, 'run' is"),
        ({"logprobs": True}, 400, "logprobs: this server does not know this parameter"),
        ({"n": 2}, 400, "n: Input should be 1"),
        ({"temperature": -1}, 400, "temperature: Input should be greater than or equal to 0"),
        ({"messages": []}, 400, "messages: List should have at least 1 item"),
        (
            {"messages": [{"role": "user", "content": [image("a")] * 3}]},
            400,
            "3 images were sent, at most 2 are allowed",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role: Input should be"),
    ],
)
def test_a_refusal_names_the_parameter_and_the_bound(body: dict[str, Any], status: int, sentence: str) -> None:
    error = refusal(**body)
    assert error.status == status
    assert error.message.startswith(sentence)
    assert error.body()["error"].keys() == {"message", "type", "param", "code"}


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_body_raises_anything_but_a_refusal(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request(body, SETTINGS, "run")
    assert caught.value.status == 400


def test_a_whole_answer_counts_its_tokens_and_gives_ids_only_when_asked() -> None:
    piece = Piece("Go ahead", (5, 6, 7), "stop")
    plain = AnswerFormat("id", "run", with_token_ids=False).completion(piece, (1, 2))
    asked = AnswerFormat("id", "run", with_token_ids=True).completion(piece, (1, 2))
    assert plain["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert plain["choices"][0]["message"] == {"role": "assistant", "content": "Go ahead"}
    assert "token_ids" not in plain["choices"][0]
    assert (asked["prompt_token_ids"], asked["choices"][0]["token_ids"]) == ([1, 2], [5, 6, 7])


def test_only_the_first_piece_of_a_stream_names_the_role() -> None:
    style = AnswerFormat("id", "run", with_token_ids=False)
    first, second = (style.chunk(Piece("x", (1,), None), first=place == 0) for place in range(2))
    assert first["choices"][0]["delta"] == {"content": "x", "role": "assistant"}
    assert second["choices"][0]["delta"] == {"content": "x"}


def test_an_event_is_one_line_of_json() -> None:
    assert event({"text": "two\nlines"}) == 'data: {"text": "two\\nlines"}\n\n'
