"""From an uploaded file of JSON lines to driving samples with their images as files: line by line, or not at all.

Two forms are read: our own samples (`docs/data.md`) and OpenAI's chat format. Images stand in the lines as data URIs.
A path is refused: it would be one of the server's.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.admission import make_sample
from data.errors import DataError
from data.faults import Faults
from data.jsonl import read_jsonl, record_of, write_jsonl
from data.sample import CAMERAS
from data.text_file import read_lines
from serve.errors import UserError
from serve.images import ImageRefused, read_data_uri

RAW, LINES, SAMPLES, IMAGES = "raw.jsonl", "lines.jsonl", "samples.jsonl", "images"
"""As it came; one sample a line with images as files; what of it can be used; and those files."""
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
NAMED = 5
"""Faulty lines that a message names."""
ANSWERS = ("reference_answer", "answer", "reference")
"""Keys of a chat line that hold what an assistant's turn would say."""
ROLES = ("system", "developer", "user", "assistant")
TASK = "driving"


class LineFault(ValueError):
    """What is wrong with one line: the field, and what to do."""


def read_upload(folder: Path, max_pixels: int) -> dict[str, Any]:
    """Make the samples of `raw.jsonl` in a folder, beside it; what they are.

    Args:
        folder: holds the file; the rest is written here.
        max_pixels: largest image.

    Raises:
        UserError: a line is faulty, or there is none: the lines and fields by name, and nothing of it can be used.
    """
    raw, wrong = folder / RAW, list[str]()
    numbers = _write_lines(folder, max_pixels, wrong)
    if not numbers and not wrong:
        raise UserError("the file holds no line: send one JSON object a line")
    faults = Faults()
    try:
        if not wrong:
            samples = list(read_jsonl(folder / LINES, faults, folder))
    except DataError as error:
        wrong.append(_said(str(error), folder, numbers))
    wrong += [_said(note, folder, numbers) for note in faults.notes if faults.dropped]
    if wrong:
        more = f" (and {len(wrong) - NAMED} more)" if len(wrong) > NAMED else ""
        raise UserError("; ".join(wrong[:NAMED]) + more)
    write_jsonl(folder / SAMPLES, samples)
    (folder / LINES).unlink()
    tasks, kinds = Counter(one.task for one in samples), Counter(one.kind for one in samples)
    return {
        "samples": len(samples),
        "bytes": raw.stat().st_size,
        "images": len(list((folder / IMAGES).glob("*"))),
        "tasks": dict(tasks),
        "kinds": dict(kinds),
        "faults": {reason: len(ids) for reason, ids in faults.as_dict().items()},
    }


def _write_lines(folder: Path, max_pixels: int, wrong: list[str]) -> list[int]:
    """Write `lines.jsonl`; for each of its lines the number of the line that it came from."""
    numbers = list[int]()
    (folder / IMAGES).mkdir(exist_ok=True)
    with (folder / LINES).open("w", encoding="utf-8") as file:
        try:
            for number, raw in read_lines(folder / RAW):
                try:
                    for record in _records(raw, number, folder, max_pixels):
                        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
                        numbers.append(number)
                except LineFault as fault:
                    wrong.append(f"line {number}: {fault}")
                except (ValueError, RecursionError) as error:
                    wrong.append(f"line {number}: this is no JSON ({str(error)[:100]})")
        except DataError as error:
            wrong.append(_said(str(error), folder, numbers))
    return numbers


def _records(raw: bytes | str, number: int, folder: Path, max_pixels: int) -> Iterator[dict[str, Any]]:
    line = json.loads(raw)
    if not isinstance(line, dict):
        raise LineFault("a JSON object is needed")

    def kept(uri: Any, field: str) -> str:
        return _keep(uri, field, folder, max_pixels)

    if "messages" in line:
        yield from _of_chat(line, number, kept, folder)
        return
    images = line.get("images", {})
    if not isinstance(images, dict):
        raise LineFault("images must map cameras to data URIs")
    yield line | {"images": {name: kept(uri, f"images.{name}") for name, uri in images.items()}}


def _of_chat(line: dict[str, Any], number: int, kept: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """Each question of a conversation with its answer, as a line of our own form."""
    turns, images = _turns(line, kept)
    answer = next((line[key] for key in ANSWERS if isinstance(line.get(key), str)), None)
    if turns and turns[-1][0] == "user" and answer is not None:
        turns.append(("assistant", answer))
    pairs = [
        (question, said)
        for (asker, question), (answerer, said) in zip(turns, turns[1:], strict=False)
        if (asker, answerer) == ("user", "assistant")
    ]
    if not pairs:
        raise LineFault(
            f"messages: no user's turn has an assistant's answer, and there is none of {', '.join(ANSWERS)}"
        )
    names = CAMERAS if len(images) == len(CAMERAS) else [f"image_{at + 1}" for at in range(len(images))]
    for turn, (question, said) in enumerate(pairs):
        faults, name = Faults(), str(line.get("id") or f"line-{number}")
        sample = make_sample(
            faults,
            id=name if len(pairs) == 1 else f"{name}_{turn}",
            scene_id=str(line.get("scene_id") or name),
            frame_id=str(line.get("frame_id") or name),
            task=str(line.get("task") or TASK),
            question=question,
            answer=said,
            images={camera: str(folder / path) for camera, path in zip(names, images, strict=True)},
        )
        if sample is None:
            raise LineFault(next(iter(faults.notes), "it is no question with an answer"))
        yield record_of(sample, folder)


def _turns(line: dict[str, Any], kept: Any) -> tuple[list[tuple[str, str]], list[str]]:
    """Role and text of every turn, system's left out, and the images among the texts."""
    listed, turns, images = line["messages"], list[tuple[str, str]](), list[str]()
    if not isinstance(listed, list):
        raise LineFault("messages must be a list")
    for at, turn in enumerate(listed):
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            raise LineFault(f"messages.{at}.role must be one of {', '.join(ROLES)}")
        content = turn.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        texts = list[str]()
        for place, part in enumerate(parts):
            field = f"messages.{at}.content.{place}"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind == "image_url":
                inside = part.get("image_url")
                images.append(kept(inside.get("url") if isinstance(inside, dict) else inside, field))
            else:
                raise LineFault(f"{field} must be a text or an image_url, not {str(kind)[:40]!r}")
        if turn["role"] in ("user", "assistant"):
            turns.append((turn["role"], "\n".join(texts).strip()))
    return turns, images


def _keep(uri: Any, field: str, folder: Path, max_pixels: int) -> str:
    """Write an image as a file named by its content; its path below the folder."""
    if not isinstance(uri, str):
        raise LineFault(f"{field} must be a data URI")
    try:
        image = read_data_uri(uri, field, max_pixels)
    except ImageRefused as error:
        raise LineFault(str(error)) from None
    name = f"{hashlib.sha256(image.data).hexdigest()[:40]}{SUFFIXES[image.pillow_format]}"
    path = folder / IMAGES / name
    if not path.exists():
        path.write_bytes(image.data)
    return f"{IMAGES}/{name}"


def _said(note: str, folder: Path, numbers: list[int]) -> str:
    """A message of the readers, with the uploaded line's number in place of a path of the server's."""
    text = note
    for place in (folder / LINES, folder / RAW):
        head, found, rest = text.partition(f"{place} line ")
        if found and place.name == LINES:
            written, _, after = rest.partition(":")
            at = int(written) - 1 if written.isdigit() else -1
            text = f"{head}line {numbers[at] if 0 <= at < len(numbers) else written}:{after}"
        elif found:
            text = f"{head}line {rest}"
    return text.replace(f"{folder}/", "")
