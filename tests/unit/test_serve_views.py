"""A request as the policy reads it: six images of a message become one grid, and no text becomes a special token."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from transformers import AutoConfig, AutoProcessor

from data.sample import CAMERAS
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from policies.views import stitch
from serve.chat import ChatRequest
from serve.conversation import ConversationReader, ReadConversation, shown_turns
from serve.errors import ServiceError

FRAMES = [Image.new("RGB", (8, 4), (30 * place, 9, 9)) for place in range(6)]
PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}


def turns_of(settings: PolicySettings, images: list[Image.Image], *messages: Any) -> tuple[Any, list[list[Any]]]:
    request = ChatRequest(model="m", messages=[{"role": "user", "content": content} for content in messages])
    given: list[Any] = [SimpleNamespace(decode=lambda image=image: image) for image in images]
    return shown_turns(request.conversation(None)[0], given, settings)


def seen(settings: PolicySettings, groups: list[list[Any]]) -> list[Image.Image]:
    reader: Any = object.__new__(ConversationReader)
    reader._policy = settings
    return list(reader.decode(ReadConversation((), tuple(map(tuple, groups)))))


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def test_the_six_images_of_a_message_become_one_grid_in_the_place_of_the_first() -> None:
    settings = PolicySettings(views="stitched", image_size=(8, 4))
    turns, groups = turns_of(settings, FRAMES * 2, [text("a"), *[PART] * 6, text("b")], "c", [*[PART] * 6])
    assert [[part["type"] for part in turn["content"]] for turn in turns] == [
        ["text", "image", "text"],
        ["text"],
        ["image"],
    ]
    grid = stitch(dict(zip(CAMERAS, FRAMES, strict=True)))
    assert [image.tobytes() for image in seen(settings, groups)] == [grid.tobytes()] * 2


def test_separate_images_keep_their_places_and_are_resized() -> None:
    settings = PolicySettings(image_size=(4, 4))
    turns, groups = turns_of(settings, FRAMES[:2], [PART, text("a"), PART])
    assert [part["type"] for part in turns[0]["content"]] == ["image", "text", "image"]
    assert [image.size for image in seen(settings, groups)] == [(4, 4)] * 2


def test_another_number_of_images_than_a_grid_takes_is_refused() -> None:
    with pytest.raises(ServiceError, match="5 images in one message, but this policy sees a grid of six") as caught:
        turns_of(PolicySettings(views="stitched", image_size=(8, 4)), FRAMES[:5], [*[PART] * 5])
    assert caught.value.status == 400


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ConversationReader:
    folder: Path = build_tiny_policy(tmp_path_factory.mktemp("tiny") / "policy", seed=3)
    processor, config = AutoProcessor.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    return ConversationReader(processor, config, PolicySettings(image_size=(32, 32)), 1024, 4_000_000)


def specials_of(reader: ConversationReader) -> list[str]:
    tokenizer = reader._processor.tokenizer
    return sorted({tokenizer.eos_token, reader._processor.image_token, *tokenizer.all_special_tokens} - {None})


def asked(*messages: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=[{"role": "user", "content": content} for content in messages])


def test_no_special_token_arises_wherever_it_is_cut_in_two(reader: ConversationReader) -> None:
    tokens = [token for token in specials_of(reader) if len(token) > 1]
    assert tokens
    for token in tokens:
        for cut in range(1, len(token)):
            with pytest.raises(ServiceError, match="special token"):
                reader.read(asked([text(f"Q{token[:cut]}"), text(f"{token[cut:]} Go?")]))
        with pytest.raises(ServiceError, match="special token"):
            reader.read(asked(f"Go {token}?"))


def test_words_that_look_a_little_like_one_are_words(reader: ConversationReader) -> None:
    read = reader.read(asked([text("is 3 < 4 | 5 > 2?"), text("<think>yes</think>")]))
    assert len(read.token_ids) > 5


def test_more_text_than_the_model_could_read_is_refused_before_it_is_cut_into_tokens(
    reader: ConversationReader,
) -> None:
    with pytest.raises(ServiceError, match="too long for the 1024 tokens"):
        reader.read(asked("go " * 1_000_000))
