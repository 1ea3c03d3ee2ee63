"""Conversations about images, as other trainers read them: OpenAI's `messages`, and ShareGPT's `conversations`.

A file of JSON lines, or a JSON list. Each turn of a user that an assistant answers is a question of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from data.admission import admitted, make_sample
from data.errors import DataError
from data.faults import MALFORMED, Faults
from data.formats.format import Format, FormatSettings, Licence
from data.formats.jsonl import licence_of
from data.image_values import image_path, view_names
from data.json_stream import entries
from data.records import RecordError
from data.sample import DrivingSample
from data.text_file import open_bytes, read_lines

_USER, _ASSISTANT, _SYSTEM = ("user", "human"), ("assistant", "gpt"), ("system",)
_PLACEHOLDER = re.compile(r"<(image|video)>\s?")
_ROLES = {"role": "content", "from": "value"}
"""Key of a turn's role, to that of its text: OpenAI's, and ShareGPT's."""


class Chat(Format):
    """Conversations."""

    class Settings(FormatSettings):
        """Where they lie, and what they do not say of themselves."""

        annotations: Path
        """The file: JSON lines, or one JSON list."""
        image_root: Path | None = None
        """The folder that image paths are relative to; None: the file's own."""
        task: str = "driving"
        """The task of all questions, where an entry has no `task`."""
        scene_key: str = "scene_id"
        """The key of an entry that names the drive it is of; without it every image is a scene of its own, and two
        frames of one drive may come to lie on both sides of the split."""
        turns: Literal["each", "first"] = "each"
        """Which of a conversation's questions are asked: `each` alone, or the `first`."""
        views: tuple[str, ...] = ()
        """What the images are called, in their order, such as CAM_FRONT; others are image_1, image_2, ..."""
        licence: str | None = None
        """The licence of the data, as an SPDX identifier or in words; None: unknown."""
        non_commercial: bool | None = None
        """Whether the licence forbids commercial use."""
        attribution: str = ""
        """The makers of the data."""

    settings: Settings

    @property
    def licence(self) -> Licence:
        """As the options say."""
        return licence_of(self.settings.licence, self.settings.non_commercial, self.settings.attribution)

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `Format.read`."""
        path = self.settings.annotations
        if not path.is_file():
            raise DataError(f"{path} does not exist or is not a file")
        return admitted(self._samples(faults, cache / "images"), faults)

    def _samples(self, faults: Faults, cache: Path) -> Iterator[DrivingSample]:
        path = self.settings.annotations
        for number, (place, entry) in enumerate(_entries(path, faults)):
            try:
                yield from self._of_entry(entry, number, place, cache, faults)
            except RecordError as error:
                faults.drop(MALFORMED, place, str(error))

    def _of_entry(self, entry: Any, number: int, place: str, cache: Path, faults: Faults) -> Iterator[DrivingSample]:
        if not isinstance(entry, dict):
            raise RecordError(f"{place} is no object")
        given, root = self.settings, (self.settings.image_root or self.settings.annotations.parent).resolve()
        turns, inline = _turns(entry, place)
        listed = entry.get("images", entry.get("image", []))
        listed = listed if isinstance(listed, list) else [listed]
        paths = [image_path(value, root, cache, place) for value in [*listed, *inline]]
        images = dict(zip(view_names(len(paths), given.views), paths, strict=True))
        name = str(entry.get("id", number))
        scene = str(entry.get(given.scene_key) or (paths[0] if paths else name))
        pairs = _questions(turns)
        if not pairs:
            raise RecordError(f"{place} has no turn of a user that an assistant answers")
        for turn, (question, answer) in enumerate(pairs[:1] if given.turns == "first" else pairs):
            sample = make_sample(
                faults,
                id=name if len(pairs) == 1 else f"{name}_{turn}",
                scene_id=scene,
                frame_id=paths[0] if paths and given.scene_key not in entry else name,
                task=str(entry.get("task", given.task)),
                question=question,
                answer=answer,
                images=images,
            )
            if sample is not None:
                yield sample


def _entries(path: Path, faults: Faults) -> Iterator[tuple[str, Any]]:
    """The entries of a file with their places."""
    with open_bytes(path) as file:
        listed = file.readline(8).strip().startswith(b"[")
    if listed:
        yield from ((f"{path} entry {at}", entry) for at, (_, entry) in enumerate(entries(path)))
        return
    for number, raw in read_lines(path):
        place = f"{path} line {number}"
        try:
            yield place, json.loads(raw)
        except (ValueError, RecursionError) as error:
            faults.drop(MALFORMED, place, f"{place} is not valid JSON ({error})")


def _turns(entry: dict[str, Any], place: str) -> tuple[list[tuple[str, str]], list[Any]]:
    """Role and text of every turn, and the images that stand among the texts."""
    listed = entry.get("messages", entry.get("conversations"))
    if not isinstance(listed, list):
        raise RecordError(f"{place} has neither messages (OpenAI) nor conversations (ShareGPT)")
    turns, images = [], []
    for turn in listed:
        key = next((key for key in _ROLES if isinstance(turn, dict) and key in turn), None)
        if key is None:
            raise RecordError(f"{place} has a turn without role and content, or from and value")
        content = turn.get(_ROLES[key])
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        texts = []
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind in ("image", "image_url"):
                images += [part[kind]] if kind in part else []  # a bare placeholder is filled from `images`
            else:
                raise RecordError(f"{place} has a part of a turn that is neither text nor image")
        turns.append((str(turn[key]), _PLACEHOLDER.sub("", "\n".join(texts)).strip()))
    return turns, images


def _questions(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every text of a user with the assistant's answer to it."""
    said = [(role, text) for role, text in turns if role not in _SYSTEM]
    return [
        (question, answer)
        for (asker, question), (answerer, answer) in zip(said, said[1:], strict=False)
        if asker in _USER and answerer in _ASSISTANT
    ]
