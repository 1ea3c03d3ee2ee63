"""Asking a teacher model for reasoning: any OpenAI-compatible URL, many samples at once, to be resumed at any time.

The one module of `data` that uses the network, and only on request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from PIL import Image

from data.errors import DataError
from data.images import jpeg_data_uri, open_image
from data.reasoning.distillation import DistillationRequest, Refusal, distillation_request, read_reply
from data.reasoning.reasoning import ReasoningFile, ReasoningRecord, read_reasoning
from data.sample import DrivingSample

NO_KEY = "none"
"""What is sent to an endpoint for which no key is set; the client insists on one."""
FRAME_SIZE = (448, 252)
LINES = 20
"""How often a run tells how it stands."""


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Whom to ask, and how."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key."""
    attempts: int = 3
    """Most replies asked for on one sample: the first, and again for each that is refused."""
    concurrent: int = 8
    temperature: float = 0.7
    max_tokens: int = 512
    timeout_s: float = 120.0
    image_size: tuple[int, int] | None = FRAME_SIZE
    """Width and height that a frame is made to fit before it is sent; None sends no images."""


async def distil(samples: Sequence[DrivingSample], teacher: TeacherSettings, out: Path) -> ReasoningFile:
    """Ask for the reasoning of every sample that `out` has none for, and append each record the moment it is there.

    A run that was stopped goes on where it stood when it is called again; samples whose replies were all refused are
    asked about anew.

    Raises:
        DataError: nobody answers at the URL, or the key or model is not accepted; what came before it is kept.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    done = read_reasoning(out).done if out.is_file() else set()
    waiting = [sample for sample in samples if sample.id not in done]
    print(f"{len(samples)} samples, {len(samples) - len(waiting)} of them done before", flush=True)
    client = client_of(teacher)
    queue = iter(waiting)
    finished = 0

    async def work() -> None:
        nonlocal finished
        for sample in queue:
            record = await ask(client, teacher, sample)
            file.write(record.to_line() + "\n")
            file.flush()
            finished += 1
            if finished % max(1, len(waiting) // LINES) == 0:
                print(f"distilled {finished}/{len(waiting)}", flush=True)

    with out.open("a", encoding="utf-8") as file:
        _close_last_line(out, file)
        try:
            async with client, asyncio.TaskGroup() as group:
                for _ in range(min(teacher.concurrent, len(waiting))):
                    group.create_task(work())
        except ExceptionGroup as failures:  # the first one stopped the others
            raise failures.exceptions[0] from None
    return read_reasoning(out)


def client_of(teacher: TeacherSettings) -> openai.AsyncOpenAI:
    """The client of an endpoint; it tries again by itself where the other side is overloaded."""
    key = os.environ.get(teacher.key_variable, NO_KEY)
    return openai.AsyncOpenAI(base_url=teacher.url, api_key=key, timeout=teacher.timeout_s)


async def ask(client: openai.AsyncOpenAI, teacher: TeacherSettings, sample: DrivingSample) -> ReasoningRecord:
    """Ask until a reply can be used, at most `teacher.attempts` times; the record says what came of it.

    Raises:
        DataError: nobody answers, or the key or model is not accepted: no other sample would fare better.
    """
    request = distillation_request(sample, with_images=teacher.image_size is not None)
    messages: list[Any] = await asyncio.to_thread(first_messages, request, teacher.image_size)
    refusal = Refusal("not_asked", "")
    attempt = 0
    for attempt in range(1, teacher.attempts + 1):
        try:
            completion = await client.chat.completions.create(
                model=teacher.model, messages=messages, temperature=teacher.temperature, max_tokens=teacher.max_tokens
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise DataError(
                f"the teacher at {teacher.url} refuses model {teacher.model!r} or the key in {teacher.key_variable}: "
                f"{error.message[:200]}"
            ) from error
        except openai.APITimeoutError:
            refusal = Refusal("no_reply_in_time", "")
            continue
        except openai.APIConnectionError as error:
            raise DataError(f"no teacher answers at {teacher.url}: start it, or mend --url ({error})") from error
        except openai.APIStatusError as error:
            return _record(sample, request, teacher, attempt, Refusal(f"http_{error.status_code}", error.message[:200]))
        reply = completion.choices[0].message.content or ""
        read = read_reply(sample, reply)
        if isinstance(read, str):
            return _record(sample, request, teacher, attempt, read)
        refusal = read
        messages = [*messages[:2], *complaint(reply, refusal)]
    return _record(sample, request, teacher, attempt, refusal)


def first_messages(request: DistillationRequest, image_size: tuple[int, int] | None) -> list[dict[str, Any]]:
    """A request in OpenAI's form; each image stands behind the name of its camera.

    Raises:
        ImageError: an image cannot be read.
    """
    content: list[dict[str, Any]] = []
    for camera, path in request.images:
        content += [
            {"type": "text", "text": f"{camera}:"},
            {"type": "image_url", "image_url": {"url": _data_uri(path, image_size)}},
        ]
    content.append({"type": "text", "text": request.user})
    return [{"role": "system", "content": request.system}, {"role": "user", "content": content}]


def complaint(reply: str, refusal: Refusal) -> list[dict[str, Any]]:
    """The turns that ask again: the reply that was refused, and why."""
    return [
        {"role": "assistant", "content": reply},
        {"role": "user", "content": f"{refusal.complaint} Write the whole reply again."},
    ]


def _record(
    sample: DrivingSample, request: DistillationRequest, teacher: TeacherSettings, attempts: int, read: str | Refusal
) -> ReasoningRecord:
    return ReasoningRecord(
        id=sample.id,
        scene_id=sample.scene_id,
        frame_id=sample.frame_id,
        task=sample.task,
        answer=sample.answer,
        reasoning="" if isinstance(read, Refusal) else read,
        dropped=read.reason if isinstance(read, Refusal) else "",
        detail=read.complaint if isinstance(read, Refusal) else "",
        attempts=attempts,
        teacher=teacher.model,
        prompt=request.prompt,
    )


def _close_last_line(out: Path, file: Any) -> None:
    """A line that an interrupted write left open must not swallow the next record."""
    if out.stat().st_size and not out.read_bytes().endswith(b"\n"):
        file.write("\n")


def _data_uri(path: str, size: tuple[int, int] | None) -> str:
    image = open_image(path)
    if size is not None:
        image.thumbnail(size, Image.Resampling.LANCZOS)
    return jpeg_data_uri(image)
