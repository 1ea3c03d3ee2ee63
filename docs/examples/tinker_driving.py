"""Driving questions over six rendered cameras, as prompts of Tinker's client. Both loops begin with them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tinker
from PIL import Image
from tinker import types

from data.rendered.drawing import render_scene
from data.rendered.questions import questions_of
from data.rendered.scene import build_scene
from data.sample import CAMERAS

SEEN = (32, 32)
"""What the tiny policy's tower sees: larger frames would be sent for nothing."""


@dataclass(frozen=True)
class Asked:
    """A driving question."""

    prompt: types.ModelInput
    answer: str
    task: str


def tokenizer_of(base: str) -> Any:
    """The tokenizer of a base model that the server named."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def base_of(url: str, key: str | None = None) -> str:
    """The model that a server serves; the key is taken from TINKER_API_KEY where none is given."""
    rest = tinker.RestClient(base_url=url, api_key=key)
    return str(rest.get_server_capabilities().result().supported_models[0].model_name)


def png(image: Image.Image) -> bytes:
    """A frame as a file."""
    out = io.BytesIO()
    image.resize(SEEN, Image.Resampling.BILINEAR).save(out, "PNG")
    return out.getvalue()


def prompt_of(question: str, frames: list[bytes], tokenizer: Any) -> types.ModelInput:
    """Six frames and a question, in the model's own chat format."""
    content = [*({"type": "image"} for _ in frames), {"type": "text", "text": question}]
    turns = [{"role": "user", "content": content}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    chunks: list[Any] = []
    before, *parts = text.split("<image>")
    chunks.append(types.EncodedTextChunk(tokens=tokenizer.encode(before, add_special_tokens=False)))
    for frame, part in zip(frames, parts, strict=True):
        chunks.append(types.ImageChunk(data=frame, format="png", expected_tokens=4))
        if part:
            chunks.append(types.EncodedTextChunk(tokens=tokenizer.encode(part, add_special_tokens=False)))
    return types.ModelInput(chunks=chunks)


def driving_questions(tokenizer: Any, first: int, scenes: int, kinds: tuple[str, ...] = ()) -> Iterator[Asked]:
    """The questions of some rendered scenes; of some kinds alone where they are named."""
    for index in range(first, first + scenes):
        scene = build_scene(index, seed=0)
        views = render_scene(scene)
        frames = [png(views[camera]) for camera in CAMERAS]
        for one in questions_of(scene):
            if not kinds or one.kind in kinds:
                yield Asked(prompt_of(one.question, frames, tokenizer), one.answer, one.task)
