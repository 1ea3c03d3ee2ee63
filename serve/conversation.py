"""`ConversationReader`: a chat request as the model reads it: prompt ids and images, within bounds of time and memory.

The text of a client never becomes a special token of the model: not as it stands, not where several parts of a message
meet, and not where a chat template puts its own words beside it. That is checked on the tokens themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from policies.model import placeholder_ids
from policies.prompt import begins
from policies.settings import PolicySettings
from policies.special_tokens import SpecialTokens
from policies.views import arrange
from serve.chat import ChatRequest
from serve.errors import ServiceError
from serve.images import Encoded, ImageRefused, read_data_uri

MOST_CHARACTERS = 64
"""Of text for each position that the model takes: more would not fit, and need not be made into tokens to see that."""
PLAIN = "x"
"""Stands for every text of a client where the special tokens of the template alone are counted."""


@dataclass(frozen=True, slots=True)
class ReadConversation:
    """A request that was read; its images are not decoded yet."""

    token_ids: tuple[int, ...]
    """One placeholder for each image that the policy sees."""
    images: tuple[tuple[Encoded, ...], ...]
    """Those of each message that has any, as they were sent."""

    @property
    def pixels(self) -> int:
        """What decoding its images takes."""
        return sum(image.pixels for group in self.images for image in group)


class ConversationReader:
    """Reads requests for one base model."""

    def __init__(self, processor: Any, config: Any, policy: PolicySettings, max_length: int, max_pixels: int) -> None:
        """Use a loaded processor.

        Args:
            processor: of the model, with its chat template.
            config: the model's.
            policy: how prompts and images were shown in training.
            max_length: most positions that the model takes.
            max_pixels: largest image.
        """
        self._processor, self._policy = processor, policy
        self.max_length, self._max_pixels = max_length, max_pixels
        self._special = SpecialTokens(processor)
        tokenizer = processor.tokenizer
        added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special_ids = frozenset(added | set(tokenizer.all_special_ids) | set(placeholder_ids(config)))

    def read(self, request: ChatRequest) -> ReadConversation:
        """The prompt of a request, and its images as they were sent. Takes milliseconds of one core: call in a thread.

        Raises:
            ServiceError: 400: text that would be a special token, too much text, or an image that is none.
        """
        if sum(map(len, request.texts())) > MOST_CHARACTERS * self.max_length:
            raise ServiceError(
                400, f"the text is too long for the {self.max_length} tokens of this model", "context_length_exceeded",
                "messages",
            )  # fmt: skip
        turns, uris = request.conversation(self._policy.system_prompt)
        try:
            encoded = [read_data_uri(uri, f"image {at}", self._max_pixels) for at, uri in enumerate(uris, 1)]
        except ImageRefused as error:
            raise ServiceError(400, str(error), "invalid_image", "messages") from None
        turns, groups = shown_turns(turns, encoded, self._policy)
        return ReadConversation(tuple(self._ids(request, turns)), tuple(map(tuple, groups)))

    def decode(self, read: ReadConversation) -> tuple[Image.Image, ...]:
        """The images as the policy sees them.

        Raises:
            ServiceError: 400, one of them is damaged.
        """
        shown: list[Image.Image] = []
        try:
            for group in read.images:
                if self._policy.views == "six" and not self._policy.lidar:  # one at a time: whole ones are large
                    shown += [arrange([image.decode()], self._policy)[0] for image in group]
                else:
                    shown += arrange([image.decode() for image in group], self._policy)
        except (ImageRefused, ValueError) as error:
            raise ServiceError(400, str(error), "invalid_image", "messages") from None
        return tuple(shown)

    def _ids(self, request: ChatRequest, turns: list[dict[str, Any]]) -> list[int]:
        if (token := self._special.first(request.texts())) is not None:
            raise ServiceError(
                400, f"text may not contain the model's special token {token!r}", "special_token", "messages"
            )
        ids = self._tokens(turns)
        plain = self._tokens([turn | {"content": list(map(_plain, turn["content"]))} for turn in turns])
        found, expected = list(self._specials(ids)), list(self._specials(plain))
        if found != expected:
            arisen = next((a for a, b in zip(found, [*expected, None], strict=False) if a != b), found[-1:] or None)
            name = self._processor.tokenizer.convert_ids_to_tokens(arisen) if isinstance(arisen, int) else "one"
            raise ServiceError(
                400, f"the texts of a message, put together, may not make the model's special token {name!r}",
                "special_token", "messages",
            )  # fmt: skip
        return ids

    def _tokens(self, turns: list[dict[str, Any]]) -> list[int]:
        try:
            text = self._processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # jinja2's own, or what a template raises of its own accord
            said = " ".join(str(error).split())[:200]
            raise ServiceError(
                400, f"this model's chat template refuses the conversation: {said}", "bad_turns", "messages"
            ) from None
        return list(self._processor.tokenizer(text, **begins(self._processor, text))["input_ids"])

    def _specials(self, ids: Sequence[int]) -> Iterator[int]:
        return (token for token in ids if token in self._special_ids)


def shown_turns(
    turns: list[dict[str, Any]], images: Sequence[Encoded], policy: PolicySettings
) -> tuple[list[dict[str, Any]], list[list[Encoded]]]:
    """The turns with one place for each image that the policy sees, and the images of each turn that has any.

    Raises:
        ServiceError: 400, a grid is asked for and the images are not those of six cameras.
    """
    waiting, groups, shown = list(images), [], []
    for turn in turns:
        places = [place for place, part in enumerate(turn["content"]) if part["type"] == "image"]
        if not places:
            shown.append(turn)
            continue
        groups.append(waiting[: len(places)])
        del waiting[: len(places)]
        try:
            kept = len(arrange([Image.new("RGB", (2, 2))] * len(places), policy))
        except ValueError as error:
            raise ServiceError(400, str(error), "invalid_image", "messages") from None
        gone = set(places[kept:])
        content = [part for place, part in enumerate(turn["content"]) if place not in gone]
        shown.append(turn | {"content": content})
    return shown, groups


def _plain(part: dict[str, str]) -> dict[str, str]:
    return part | {"text": PLAIN} if part["type"] == "text" else part
