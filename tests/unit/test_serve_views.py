"""The images of a request as the policy sees them: six of a message become one grid where it was trained on grids."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from data.sample import CAMERAS
from policies.settings import PolicySettings
from policies.views import stitch
from serve.chat import ApiError, ChatRequest
from serve.engine import PolicyEngine

FRAMES = [Image.new("RGB", (8, 4), (30 * place, 9, 9)) for place in range(6)]
PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}


def turns_of(settings: PolicySettings, images: list[Image.Image], *messages: Any) -> tuple[Any, list[Image.Image]]:
    engine: Any = object.__new__(PolicyEngine)
    engine._policy = settings
    request = ChatRequest(model="m", messages=[{"role": "user", "content": content} for content in messages])
    return engine._turns(request, images)


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def test_the_six_images_of_a_message_become_one_grid_in_the_place_of_the_first() -> None:
    settings = PolicySettings(views="stitched", image_size=(8, 4))
    turns, shown = turns_of(settings, FRAMES * 2, [text("a"), *[PART] * 6, text("b")], "c", [*[PART] * 6])
    assert [[part["type"] for part in turn["content"]] for turn in turns] == [
        ["text", "image", "text"],
        ["text"],
        ["image"],
    ]
    grid = stitch(dict(zip(CAMERAS, FRAMES, strict=True)))
    assert [image.tobytes() for image in shown] == [grid.tobytes()] * 2


def test_separate_images_keep_their_places_and_are_resized() -> None:
    turns, shown = turns_of(PolicySettings(image_size=(4, 4)), FRAMES[:2], [PART, text("a"), PART])
    assert [part["type"] for part in turns[0]["content"]] == ["image", "text", "image"]
    assert [image.size for image in shown] == [(4, 4)] * 2


def test_another_number_of_images_than_a_grid_takes_is_refused() -> None:
    with pytest.raises(ApiError, match="5 images in one message, but this policy sees a grid of six") as caught:
        turns_of(PolicySettings(views="stitched", image_size=(8, 4)), FRAMES[:5], [*[PART] * 5])
    assert caught.value.status == 400
