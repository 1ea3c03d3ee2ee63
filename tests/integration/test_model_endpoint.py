"""A model behind a URL answers a benchmark's questions: what is sent, and what becomes of refusals."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from actors.measuring.answerer import Reply
from actors.measuring.model_endpoint import ModelEndpoint
from data.errors import DataError
from data.rollout import SamplingSettings
from data.sample import DrivingSample
from evaluation.suites.suite import Question
from policies.settings import PolicySettings
from tests.drawn import draw

SAMPLING = SamplingSettings(0.2, 16, seed=5)


class Scripted:
    """Answers "Yes." and keeps what it was asked; a question that names a status is answered by that status."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        question = body["messages"][-1]["content"][-1]["text"]
        if question.isdecimal():
            return web.json_response({"error": {"message": "no"}}, status=int(question))
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Yes."}}
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        return web.json_response(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        )


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, Scripted]]:
    scripted, app = Scripted(), web.Application()
    app.router.add_post("/v1/chat/completions", scripted.complete)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1")), scripted


def question(folder: Path, text: str) -> Question:
    images = {camera: str(draw(folder / f"{camera}.jpg", shade)) for camera, shade in
              (("CAM_FRONT", 30), ("CAM_BACK", 200))}  # fmt: skip
    return Question(DrivingSample(text, "s", "f", "planning", "yes_no", text, "Yes.", images), "clean")


async def answers(url: str, *questions: Question, repeats: int = 1) -> list[Reply]:
    replies: list[Reply] = []
    endpoint = ModelEndpoint(url, "m", PolicySettings(model="unused", image_size=(32, 24), system_prompt="You drive."))
    asked = [(one, repeat) for one in questions for repeat in range(repeats)]
    await endpoint.answer(asked, SAMPLING, replies.append)
    await endpoint.stop()
    return replies


async def test_images_come_first_at_the_recipe_s_size_and_each_repeat_has_its_seed(
    served: tuple[str, Scripted], tmp_path: Path
) -> None:
    url, scripted = served
    replies = await answers(url, question(tmp_path, "Is it free?"), repeats=2)
    assert {(r.key, r.repeat, r.text, r.finish_reason, r.response_tokens) for r in replies} == {
        ("clean/Is it free?", repeat, "Yes.", "length", 3) for repeat in (0, 1)
    }
    assert sorted(body["seed"] for body in scripted.bodies) == [5, 6]
    system, user = scripted.bodies[0]["messages"]
    assert system == {"role": "system", "content": "You drive."}
    *pictures, text = user["content"]
    assert text == {"type": "text", "text": "Is it free?"}
    shown = [Image.open(io.BytesIO(base64.b64decode(p["image_url"]["url"].split(",")[1]))) for p in pictures]
    assert [image.size for image in shown] == [(32, 24)] * 2
    first, second = (image.convert("RGB").getpixel((0, 0)) for image in shown)
    assert first[0] < second[0]  # type: ignore[index]  # the front camera before the back one


async def test_a_question_that_is_refused_is_counted_and_the_others_are_answered(
    served: tuple[str, Scripted], tmp_path: Path
) -> None:
    replies = await answers(served[0], question(tmp_path, "400"), question(tmp_path, "Is it free?"))
    assert {(r.key, r.failure) for r in replies} == {("clean/400", "http_400"), ("clean/Is it free?", None)}


@pytest.mark.parametrize(("text", "sentence"), [("401", "refuses the model 'm' or the key"), ("404", "HTTP 404")])
async def test_an_endpoint_that_knows_no_such_model_or_key_ends_the_asking(
    served: tuple[str, Scripted], tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        await answers(served[0], question(tmp_path, text))


async def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/v1.*--model"):
        await answers("http://127.0.0.1:9/v1", question(tmp_path, "Is it free?"))
