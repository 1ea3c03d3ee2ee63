"""The chat dialect: which requests are understood, and that every refusal is a sentence in OpenAI's error form."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.rollout.talk import TalkPiece, TalkToken
from serve.answers import AnswerFormat, event
from serve.chat import MOST_VALUES, ChatRequest, parse_request
from serve.errors import ServiceError
from serve.settings import ServeSettings

SETTINGS = ServeSettings(max_images=2, max_tokens=100)


def image(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": name}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def parse(**body: Any) -> ChatRequest:
    whole = {"model": "run", "messages": [{"role": "user", "content": "Go?"}]} | body
    return parse_request(json.dumps(whole).encode(), SETTINGS)


def refusal(**body: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
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
        ({"best_of": 2}, 400, "best_of: this server does not know this parameter"),
        ({"n": 2}, 400, "n: one answer is given to a request"),
        ({"tools": [{"type": "function"}]}, 400, "tools: no tools are served: leave it out"),
        ({"seed": 2**63}, 400, "seed: Input should be less than"),
        ({"seed": 10**40}, 400, "seed: "),
        ({"top_logprobs": 3}, 400, "body: top_logprobs needs logprobs: true"),
        ({"stop": [""]}, 400, "stop: at most 16 texts of 1 to 200 characters"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            400,
            "messages.0.content.0: input_audio is not served here, only 'text', 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, 400, "messages.0.content.0: it has no type"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "messages.0.content: Input should be a valid list"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}},
            400,
            "response_format.json_schema.json_schema.schema: this is no JSON schema",
        ),
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
    assert error.openai_body()["error"].keys() == {"message", "type", "param", "code"}


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_body_raises_anything_but_a_refusal(body: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_request(body, SETTINGS)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"user": "me", "seed": None, "stop": None, "max_tokens": None, "stream_options": None, "tools": None},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "top_k": 40, "min_p": 0.05, "n": 1, "tools": []},
        {"messages": [{"role": "developer", "content": "Drive."}, {"role": "user", "name": "ann", "content": "Go?"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a"}, text("Go?")]}]},
        {"seed": -(2**63), "response_format": {"type": "text"}, "logprobs": False},
    ],
)
def test_what_other_servers_take_is_taken(body: dict[str, Any]) -> None:
    assert parse(**body).messages


def test_a_developer_is_the_system() -> None:
    request = parse(messages=[{"role": "developer", "content": "mine"}, {"role": "user", "content": "Go?"}])
    assert [turn["role"] for turn in request.conversation("trained")[0]] == ["system", "user"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [' + b"0," * 3_500_000 + b"0]}",
        b'{"messages": [' + b"[" * 7_000_000,
        b"{" + b",".join(b'"k%d":0' % at for at in range(90_000)) + b"}",
        b'{"model": "m", "messages": [' + b",".join([b'{"role": 1}'] * 90_000) + b"]}",
        b"\xff" * 7_000_000,
    ],
)
def test_seven_megabytes_of_nonsense_are_refused_in_a_moment(body: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        parse_request(body, SETTINGS)
    assert caught.value.status == 400
    assert len(caught.value.message) < 700
    assert time.monotonic() - began < 1.0


def test_the_values_of_a_body_are_counted_before_it_is_read() -> None:
    with pytest.raises(ServiceError, match="values in one request"):
        parse_request(b'{"a": [' + b"0," * MOST_VALUES + b"0]}", SETTINGS)


def test_a_whole_answer_counts_its_tokens_and_gives_ids_only_when_asked() -> None:
    piece = TalkPiece("Go ahead", (5, 6, 7), "stop", (1, 2))
    plain = AnswerFormat("id", "run", with_token_ids=False).completion(piece)
    asked = AnswerFormat("id", "run", with_token_ids=True).completion(piece)
    assert plain["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert plain["choices"][0]["message"]["content"] == "Go ahead"
    assert "token_ids" not in plain["choices"][0]
    assert (asked["prompt_token_ids"], asked["choices"][0]["token_ids"]) == ([1, 2], [5, 6, 7])


def test_only_the_first_piece_of_a_stream_names_the_role() -> None:
    style = AnswerFormat("id", "run", with_token_ids=False)
    first, second = (style.chunk(TalkPiece("x", (1,), None), first=place == 0) for place in range(2))
    assert first["choices"][0]["delta"] == {"content": "x", "role": "assistant"}
    assert second["choices"][0]["delta"] == {"content": "x"}


def test_log_probabilities_have_openais_form_and_are_finite() -> None:
    token = TalkToken("Go", -0.5, (("Go", -0.5), ("No", float("-inf"))))
    piece = TalkPiece("Go", (5,), "stop", (1,), (token,))
    shown = AnswerFormat("id", "run", with_token_ids=False, with_logprobs=True).completion(piece)
    (said,) = shown["choices"][0]["logprobs"]["content"]
    assert (said["token"], said["logprob"], said["bytes"]) == ("Go", -0.5, [71, 111])
    assert said["top_logprobs"][1] == {"token": "No", "logprob": -9999.0, "bytes": [78, 111]}
    json.dumps(shown, allow_nan=False)


def test_an_event_is_one_line_of_json() -> None:
    assert event({"text": "two\nlines"}) == 'data: {"text": "two\\nlines"}\n\n'
