"""OpenAI's chat dialect: what a request may say, and the JSON of answers and errors. No model and no HTTP here."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve.settings import ServeSettings


class ApiError(Exception):
    """A refused request: HTTP status, OpenAI's error type and code, and one sentence."""

    def __init__(self, status: int, message: str, code: str | None = None, parameter: str | None = None) -> None:
        """`parameter` is the dotted place in the request that is wrong."""
        super().__init__(message)
        self.status, self.message, self.code, self.parameter = status, message, code, parameter

    def body(self) -> dict[str, Any]:
        """The error object as OpenAI's clients read it."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.parameter, "code": self.code}}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Part):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Part):
    """Where an image is: always in the URI itself. `detail` changes nothing: a policy has one image size."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Part):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(_Part):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class StreamOptions(_Part):
    """Options of a streamed answer."""

    include_usage: bool = False


class ChatRequest(_Part):
    """The supported part of `POST /v1/chat/completions`; any other key is refused by name, none is ignored."""

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    n: Literal[1] = 1
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = False
    """vLLM's extension: also give the ids of the prompt and of the answer."""

    @property
    def token_cap(self) -> int | None:
        """The response cap that was asked for, under its new or its old name."""
        return self.max_completion_tokens or self.max_tokens

    def conversation(self, system_prompt: str | None) -> tuple[list[dict[str, Any]], list[str]]:
        """The messages in the form of a processor's chat template, and the image URIs in the order they appear.

        `system_prompt` is what the policy was trained with; it opens the conversation when the request brings none.
        """
        turns: list[dict[str, Any]] = []
        uris: list[str] = []
        if system_prompt and self.messages[0].role != "system":
            turns.append({"role": "system", "content": [{"type": "text", "text": system_prompt}]})
        for message in self.messages:
            content = message.content
            parts = [TextPart(type="text", text=content)] if isinstance(content, str) else content
            turn: list[dict[str, str]] = []
            for part in parts:
                if isinstance(part, ImagePart):
                    uris.append(part.image_url.url)
                turn.append({"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part.text})
            turns.append({"role": message.role, "content": turn})
        return turns, uris

    def texts(self) -> list[str]:
        """Every piece of text that the client wrote."""
        return [text for message in self.messages for text in _texts(message)]


def parse_request(body: bytes, settings: ServeSettings, served_model: str) -> ChatRequest:
    """Read and check the body of a chat request.

    Raises:
        ApiError: 400 for what is malformed or beyond a cap of `ServeSettings`, 404 for a model not served here.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _malformed(error) from None
    if request.model != served_model:
        raise ApiError(
            404, f"model {request.model!r} is not served here, {served_model!r} is", "model_not_found", "model"
        )
    if request.token_cap is not None and request.token_cap > settings.max_tokens:
        raise ApiError(
            400,
            f"max_tokens={request.token_cap} is above this server's cap of {settings.max_tokens}",
            None,
            "max_tokens",
        )
    images = sum(isinstance(part, ImagePart) for message in request.messages for part in message.content)
    if images > settings.max_images:
        raise ApiError(400, f"{images} images were sent, at most {settings.max_images} are allowed", None, "messages")
    return request


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer, or a whole one: text, token ids, and why it ended (None: it goes on)."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """Puts the pieces of one answer into OpenAI's JSON."""

    answer_id: str
    model: str
    with_token_ids: bool

    def completion(self, piece: Piece, prompt_ids: Sequence[int]) -> dict[str, Any]:
        """The JSON of a whole answer."""
        message = {"role": "assistant", "content": piece.text}
        body = self._envelope("chat.completion") | {"choices": [self._choice({"message": message}, piece)]}
        body["usage"] = usage(len(prompt_ids), len(piece.token_ids))
        return body | ({"prompt_token_ids": list(prompt_ids)} if self.with_token_ids else {})

    def chunk(self, piece: Piece, *, first: bool) -> dict[str, Any]:
        """The JSON of one piece of a streamed answer."""
        delta = {"content": piece.text} | ({"role": "assistant"} if first else {})
        return self._envelope("chat.completion.chunk") | {"choices": [self._choice({"delta": delta}, piece)]}

    def usage_chunk(self, prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
        """The last piece of a streamed answer, when `stream_options.include_usage` asks for it."""
        counts = usage(prompt_tokens, completion_tokens)
        return self._envelope("chat.completion.chunk") | {"choices": [], "usage": counts}

    def _choice(self, said: dict[str, Any], piece: Piece) -> dict[str, Any]:
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": piece.finish_reason}
        return choice | ({"token_ids": list(piece.token_ids)} if self.with_token_ids else {})

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": self.answer_id, "object": kind, "created": int(time.time()), "model": self.model}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's token counts."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body)}\n\n"


def _malformed(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    what = "this server does not know this parameter" if first["type"] == "extra_forbidden" else first["msg"]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ApiError(400, f"{place or 'body'}: {what}{more}", "invalid_request", place or None)


def _texts(message: Message) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    return [part.text for part in message.content if isinstance(part, TextPart)]
