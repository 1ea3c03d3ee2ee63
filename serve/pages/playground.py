"""The playground: a sample's images, a question, and two models' answers side by side.

Models are asked at the endpoints of `serve.pages.endpoints`, the only addresses that are ever called.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import httpx
from fastapi import APIRouter
from fastapi.responses import Response

from data.errors import DataError
from evaluation.pages.gallery import marks
from evaluation.run_list import runs_in
from serve.errors import ServiceError
from serve.pages.pictures import small_jpeg, views
from serve.pages.runs import may_see_runs, seen_run
from serve.pages.sample_index import worst_first
from serve.pages.samples import index_of, row_of
from serve.pages.visit import Visit, posts, reads
from serve.settings import ServeSettings

router = APIRouter()
LIST_S = 3.0
"""How long an endpoint may take to name its models."""
RUNS_OFFERED = 200
SAMPLES_OFFERED = 12


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, or why it did not."""

    model: str
    text: str
    fault: str | None
    seconds: float


@router.get("/pages/playground")
async def choose(visit: Annotated[Visit, reads("sample")]) -> Response:
    """Pick a sample, then ask."""
    return await _page(visit, visit.query("run"), visit.query("sample"), None, "")


@router.post("/pages/playground")
async def ask(visit: Annotated[Visit, posts("sample")]) -> Response:
    """Ask both models at the same time."""
    question = visit.text("question", 20_000).strip()
    if not question:
        raise ServiceError(400, "Write a question: a model needs one.", "no_question")
    run, sample = visit.text("run", 255), visit.text("sample", 20)
    images = await asyncio.to_thread(_images, visit, run, sample) if sample else []
    models = await _models(visit.site.settings)
    chosen = [visit.text(name, 300) for name in ("first", "second")]
    if unknown := [one for one in chosen if one and one not in models]:
        raise ServiceError(400, f"No endpoint of serve.pages.endpoints serves {unknown[0][:100]!r}.", "no_model")
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": uri}} for uri in images]
    content.append({"type": "text", "text": question})
    tokens = visit.number("max_tokens", 1, visit.site.settings.max_tokens, min(256, visit.site.settings.max_tokens))
    asked = [_reply(visit.site.settings, models[one], one, content, tokens) for one in chosen if one]
    if not asked:
        raise ServiceError(400, "Choose at least one model.", "no_model")
    replies = await asyncio.gather(*asked)
    return await _page(visit, run or None, sample or None, replies, question, models, chosen)


async def _page(
    visit: Visit, run: str | None, sample: str | None, replies: list[Reply] | None, question: str,
    models: dict[str, str] | None = None, chosen: list[str] | None = None,
) -> Response:  # fmt: skip
    models = await _models(visit.site.settings) if models is None else models
    context = await asyncio.to_thread(_sample, visit, run, sample)
    sampled = context.pop("question")
    return visit.page(
        "playground.html.j2", models=list(models), replies=replies, question=question or sampled,
        chosen=chosen or list(models)[:2], endpoints=visit.site.settings.pages.endpoints,
        max_tokens=visit.site.settings.max_tokens, **context,
    )  # fmt: skip


def _sample(visit: Visit, run: str | None, number: str | None) -> dict[str, Any]:
    """What the page shows of a run and of one of its samples."""
    runs = [folder.name for folder in runs_in(visit.site.root)[:RUNS_OFFERED]] if may_see_runs(visit) else []
    context: dict[str, Any] = {"runs": runs, "run": run, "offered": [], "row": None, "views": (), "sample": number,
                               "question": ""}  # fmt: skip
    if run is None:
        return context
    folder = seen_run(visit, run)
    index_of(visit).refresh(folder)
    with visit.database.reading() as session:
        context["offered"] = worst_first(session, folder.name, None, None, SAMPLES_OFFERED)
    if number is not None:
        row = row_of(visit, folder, _number(number))
        found = marks({"asked": row["question"]})
        address = f"/pages/runs/{folder.name}/samples/{_number(number)}/images"
        context |= {"row": row, "question": row["question"],
                    "views": views(json.loads(row["images"]), lambda index: f"{address}/{index}", found)}  # fmt: skip
    return context


def _images(visit: Visit, run: str, number: str) -> list[str]:
    row = row_of(visit, seen_run(visit, run), _number(number))
    try:
        files = [small_jpeg(path) for path in json.loads(row["images"]).values()]
    except DataError:
        raise ServiceError(404, "An image of this sample cannot be read any more.", "no_image") from None
    return [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in files]


def _number(given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise ServiceError(404, "There is no such sample of this run.", "no_sample")
    return int(given)


@cache
def _trust() -> ssl.SSLContext:
    """Whose certificates are trusted; read once, since that takes longer than a page may."""
    return ssl.create_default_context()


def _headers(settings: ServeSettings) -> dict[str, str]:
    key = os.environ.get(settings.key_variable)
    return {"authorization": f"Bearer {key}"} if key else {}


async def _models(settings: ServeSettings) -> dict[str, str]:
    """Model to the endpoint that serves it; an endpoint that does not answer has none."""

    async def of(client: httpx.AsyncClient, url: str) -> dict[str, str]:
        try:
            answer = await client.get(f"{url.rstrip('/')}/models", headers=_headers(settings))
            return {str(one["id"]): url for one in answer.raise_for_status().json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return {}

    if not settings.pages.endpoints:
        return {}
    async with httpx.AsyncClient(timeout=LIST_S, verify=_trust()) as client:
        found = await asyncio.gather(*(of(client, url) for url in settings.pages.endpoints))
    return {model: url for one in reversed(found) for model, url in one.items()}


async def _reply(settings: ServeSettings, url: str, model: str, content: list[dict[str, Any]], tokens: int) -> Reply:
    """One model's answer; what goes wrong is said in its place."""
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0}
    began = time.monotonic()
    try:
        async with httpx.AsyncClient(timeout=settings.pages.chat_timeout_s, verify=_trust()) as client:
            answer = await client.post(f"{url.rstrip('/')}/chat/completions", json=body, headers=_headers(settings))
        seconds = time.monotonic() - began
        if answer.status_code != 200:
            return Reply(model, "", f"it answered {answer.status_code}: {answer.text[:300]}", seconds)
        return Reply(model, str(answer.json()["choices"][0]["message"]["content"]), None, seconds)
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        return Reply(model, "", f"it could not be asked ({type(error).__name__})", time.monotonic() - began)
