"""OpenAI's chat dialect: what a request may say. No model and no HTTP here; answers are in `serve.answers`.

Clients send what other servers take: `null` for what they leave out, `user`, names, a `developer`. What changes the
answer and is not served is refused by name; nothing is ignored silently but what cannot change an answer.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, ValidationError, field_validator
from pydantic import model_validator as validator

from serve.errors import ServiceError
from serve.settings import ServeSettings

MOST_KEYS = 64
"""Keys of one object in a request; every unknown one would be an error of its own."""
MOST_VALUES = 200_000
"""Commas and brackets in a body: each may stand for a value that Python would make an object of."""
MOST_SCHEMA_BYTES = 16_384
"""Longest JSON schema of an answer; the engine compiles it."""
INT64 = 2**63
TOOLS = ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        """What is null was left out; clients send both."""
        if not isinstance(given, dict):
            return given
        if len(given) > MOST_KEYS:
            raise ValueError(f"an object has {len(given)} keys: at most {MOST_KEYS} are read")
        return {key: value for key, value in given.items() if value is not None}


class TextPart(_Part):
    """Text of a message."""

    type: Literal["text"] = "text"
    text: str


class ImageUrl(_Part):
    """Where an image is: always in the URI itself. `detail` changes nothing: a policy has one image size."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Part):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl

    @field_validator("image_url", mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Part):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], FailFast()]
    name: str | None = Field(None, max_length=200)
    """Accepted and not shown: no chat template here has a place for it."""

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, given: Any) -> Any:
        return [{"type": "text", "text": given}] if isinstance(given, str) else given

    @property
    def turn(self) -> str:
        """The role as chat templates know it."""
        return "system" if self.role == "developer" else self.role


class StreamOptions(_Part):
    """Options of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted; nothing is obfuscated."""


class AnswerSchema(BaseModel):
    """The JSON schema that an answer must satisfy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "answer"
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None

    @field_validator("schema_")
    @classmethod
    def _is_one(cls, given: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(given)) > MOST_SCHEMA_BYTES:
            raise ValueError(f"a schema may take {MOST_SCHEMA_BYTES} bytes: shorten it")
        try:
            Draft202012Validator.check_schema(given)
        except SchemaError as error:
            raise ValueError(f"this is no JSON schema: {error.message[:200]}") from None
        return given


class TextFormat(_Part):
    """Free text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(_Part):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: AnswerSchema


class ChatRequest(_Part):
    """The supported part of `POST /v1/chat/completions`; any other key is refused by name, none is ignored."""

    model: str = Field(max_length=400)
    messages: Annotated[list[Message], FailFast()] = Field(min_length=1, max_length=1024)
    max_tokens: int | None = Field(None, ge=1, lt=INT64)
    max_completion_tokens: int | None = Field(None, ge=1, lt=INT64)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(-1, ge=-1, lt=2**31)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    n: int = 1
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    stop: Annotated[list[str], FailFast()] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    response_format: Annotated[TextFormat | SchemaFormat, Discriminator("type")] | None = None
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    user: str | None = Field(None, max_length=200)
    """Accepted; a key belongs to a tenant, and that is who is counted."""
    return_token_ids: bool = False
    """vLLM's extension: also give the ids of the prompt and of the answer."""

    @field_validator("n")
    @classmethod
    def _one_answer(cls, given: int) -> int:
        if given != 1:
            raise ValueError("one answer is given to a request: send it several times, with other seeds")
        return given

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, given: list[str]) -> list[str]:
        if len(given) > 16 or any(not 0 < len(one) <= 200 for one in given):
            raise ValueError("at most 16 texts of 1 to 200 characters end an answer")
        return given

    @validator(mode="after")
    def _has_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

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
        if system_prompt and self.messages[0].turn != "system":
            turns.append({"role": "system", "content": [{"type": "text", "text": system_prompt}]})
        for message in self.messages:
            turn: list[dict[str, str]] = []
            for part in message.content:
                if isinstance(part, ImagePart):
                    uris.append(part.image_url.url)
                turn.append({"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part.text})
            turns.append({"role": message.turn, "content": turn})
        return turns, uris

    def texts(self) -> list[str]:
        """Every piece of text that the client wrote."""
        return [part.text for message in self.messages for part in message.content if isinstance(part, TextPart)]


def parse_request(body: bytes, settings: ServeSettings) -> ChatRequest:
    """Read and check the body of a chat request; which model it names is another's business.

    Raises:
        ServiceError: 400 for what is malformed, not served, or beyond a cap of `ServeSettings`.
    """
    given = json_object(body)
    for name in TOOLS:
        if given.get(name) not in (None, [], "none"):
            raise ServiceError(400, f"{name}: no tools are served: leave it out", "unsupported_parameter", name)
    kept = {key: value for key, value in given.items() if key not in TOOLS}
    request: ChatRequest = read_as(ChatRequest, kept)
    if request.token_cap is not None and request.token_cap > settings.max_tokens:
        raise ServiceError(
            400,
            f"max_tokens={request.token_cap} is above this server's cap of {settings.max_tokens}",
            "invalid_request",
            "max_tokens",
        )
    images = sum(isinstance(part, ImagePart) for message in request.messages for part in message.content)
    if images > settings.max_images:
        raise ServiceError(
            400, f"{images} images were sent, at most {settings.max_images} are allowed", "invalid_request", "messages"
        )
    return request


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. What would cost much to read is refused before it is read.

    Raises:
        ServiceError: 400, it is none.
    """
    values = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if values > MOST_VALUES:
        raise ServiceError(400, f"body: {values:,} values in one request, at most {MOST_VALUES:,} are read", "too_many")
    try:
        given = json.loads(body)
    except RecursionError:
        raise ServiceError(400, "body: Invalid JSON: nested too deeply", "invalid_json") from None
    except ValueError as error:
        raise ServiceError(400, f"body: Invalid JSON: {str(error)[:200]}", "invalid_json") from None
    if not isinstance(given, dict):
        raise ServiceError(400, "body: a JSON object is needed", "invalid_json")
    return given


def read_as(kind: type[Any], given: Any, below: str = "") -> Any:
    """A part of a request as its model.

    Args:
        kind: the pydantic model, or adapter, that it must fit.
        given: what the client sent.
        below: the dotted place of it in the request.

    Raises:
        ServiceError: 400, with the first place that is wrong and how many more there are.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise malformed(error, below) from None


def malformed(error: ValidationError, below: str = "") -> ServiceError:
    """What is wrong with a request, in one sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in ([below] if below else []) + _readable(first["loc"]))
    what = {
        "extra_forbidden": "this server does not know this parameter",
        "union_tag_invalid": f"{first.get('ctx', {}).get('tag', 'this')!s:.60} is not served here, only "
        f"{first.get('ctx', {}).get('expected_tags', '')}",
        "union_tag_not_found": "it has no type",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ServiceError(400, f"{place or 'body'}: {what}{more}"[:600], "invalid_request", place or None)


def _readable(place: tuple[int | str, ...]) -> list[int | str]:
    """A place without the names that pydantic gives to the members of a union."""
    inside = {"text", "image_url", "json_schema", "json_object"}
    return [part for at, part in enumerate(place) if not (part in inside and at and isinstance(place[at - 1], int))]
