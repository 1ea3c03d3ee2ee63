"""DriveAction: parquet files with three images a row, read batch by batch.

Rows belong to a slice (`question_slice_id`); its vision (V) and language (L) questions may be put into the prompt of
its action (A) questions as context: the modes V-L-A, V-A, L-A and A. Images lie inside the parquet files and are
written out once, named by their content. Source: Hao et al. 2025.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from data.admission import admitted, make_sample
from data.drivelm_questions import infer_task, letter_of
from data.errors import DataError
from data.faults import FAULTY_IMAGE, MALFORMED, UNREADABLE_PART, Faults
from data.formats.format import Format, FormatSettings, Licence
from data.reading.rules import is_verdict
from data.records import RecordError, expect, member, optional_text, text_member
from data.sample import DrivingSample, Task

Mode = Literal["V-L-A", "V-A", "L-A", "A"]
Language = Literal["en", "cn"]
IMAGES = ("image_0", "image_1", "image_2")
SLICE = "question_slice_id"
CATEGORY = "qa_l0"
"""The column that says Vision, Language or Action."""
LEVEL = re.compile(r"qa_l(\d+)")
"""The columns that say where a question stands in the tree, from its root down; `qa_l0` is the first of them."""
BATCH = 32
"""Rows in memory at once; an image has some hundred kilobytes."""

_TASKS: dict[str, Task] = {"Vision": "perception", "Language": "planning", "Action": "behavior"}
_READ_ERRORS = (pa.ArrowException, OSError)


def read_driveaction(
    source: Path,
    image_folder: Path | None,
    faults: Faults,
    mode: Mode = "A",
    language: Language = "en",
    paths: dict[str, tuple[str, ...]] | None = None,
) -> Iterator[DrivingSample]:
    """Read DriveAction, one sample after the other; only the texts of context questions are kept in memory.

    Sample ids are `slice_n`, n counting the rows of a slice, those of a damaged row group too; a slice is a scene and a
    frame. Without options the answer is True or False (any case, any language), and the kind yes_no.

    Args:
        source: a parquet file, or a folder of them.
        image_folder: where the images are written; None: none is read or written, and the samples have none.
        faults: takes what is wrong with rows, row groups and files.
        mode: which of a slice's other questions, with their answers, stand before its action questions.
        language: the column of the texts, `content_en` or `content_cn`.
        paths: is filled with the place of each sample in the tree, by its id: the columns `qa_l0`, `qa_l1`, ... as far
            as the file has them and the row fills them, so nothing where there is no `qa_l0`.

    Raises:
        DataError: there is no parquet file, or a mode with context is asked of files without the column `qa_l0`.
    """
    if mode not in get_args(Mode):
        raise DataError(f"context_mode must be one of {', '.join(get_args(Mode))}, got {mode}")
    files = sorted(source.glob("**/*.parquet")) if source.is_dir() else [source]
    if not files or not all(file.is_file() for file in files):
        raise DataError(f"{source} is neither a parquet file nor a folder of parquet files")
    wanted = {"V": "Vision", "L": "Language"}
    categories = tuple(wanted[letter] for letter in mode.split("-")[:-1])
    return admitted(_samples(files, image_folder, faults, categories, f"content_{language}", paths), faults)


def _samples(
    files: list[Path],
    image_folder: Path | None,
    faults: Faults,
    categories: tuple[str, ...],
    content: str,
    paths: dict[str, tuple[str, ...]] | None,
) -> Iterator[DrivingSample]:
    contexts = _contexts(files, categories, content) if categories else {}
    columns = [SLICE, CATEGORY, content, *(IMAGES if image_folder is not None else ())]
    numbers: Counter[str] = Counter()
    gap = ""
    """Where rows were lost uncounted: from there on nobody knows the number of a row in its slice."""
    lost: set[str] = set()
    for file in files:
        for place, row, readable in _rows(file, columns, faults):
            if not (row or readable):
                gap = gap or place
                continue
            try:
                slice_id = str(member(row, SLICE, object, place) or "")
                if not slice_id:
                    raise RecordError(f"{place} has no {SLICE}")
                id_ = f"{slice_id}_{numbers[slice_id]}"
                numbers[slice_id] += 1
                if gap and slice_id not in lost:
                    lost.add(slice_id)
                    note = f"slice {slice_id} is left out from {place} on: {gap} may hold rows of it, uncounted"
                    faults.drop(UNREADABLE_PART, slice_id, note)
                if not (gap or readable):
                    faults.drop(UNREADABLE_PART, id_, place)
                if gap or not readable:
                    continue
                path = _path(row, place)
                sample = _sample(row, id_, slice_id, place, image_folder, contexts.get(slice_id, []), content, faults)
            except RecordError as error:
                faults.drop(MALFORMED, place, str(error))
                continue
            if sample is not None:
                if paths is not None:
                    paths[id_] = path
                yield sample


def _path(row: dict[str, Any], place: str) -> tuple[str, ...]:
    """The steps from the root of the tree to a question, up to the first that its row leaves empty."""
    numbered = {int(found[1]): column for column in row if (found := LEVEL.fullmatch(column))}
    steps = (optional_text(row, numbered[depth], place) if depth in numbered else "" for depth in range(len(numbered)))
    return tuple(takewhile(bool, steps))


def _rows(file: Path, columns: list[str], faults: Faults | None) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Place and row, of some columns and those of the tree, and whether it could be read.

    The rows of a row group that cannot be read have the column of their slice alone, and what is wrong as their place.
    Where that column cannot be read either, nor the file, one empty row stands for them, and the part is listed
    (without `faults`: passed over).
    """
    try:
        parquet = pq.ParquetFile(file)
    except _READ_ERRORS as error:
        if faults:
            faults.drop(UNREADABLE_PART, str(file), f"{file} cannot be read as parquet (cut off?): {_line(error)}")
        yield str(file), {}, False
        return
    with parquet:
        present = [name for name in parquet.schema_arrow.names if name in columns or LEVEL.fullmatch(name)]
        number = 0
        for group in range(parquet.num_row_groups):
            first = start = number
            number += parquet.metadata.row_group(group).num_rows
            try:
                for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=present, use_threads=False):
                    for row in batch.to_pylist():
                        yield f"{file}: row {first}", row, True
                        first += 1
            except _READ_ERRORS as error:
                place, rows = f"{file}: row group {group}", _slice_column(parquet, group, first - start)
                note = f"{place} cannot be read from row {first} on: {_line(error)}"
                if faults and not any(rows):
                    faults.drop(UNREADABLE_PART, place, note)
                for row in rows:
                    yield (note if row else place), row, False


def _slice_column(parquet: pq.ParquetFile, group: int, read: int) -> list[dict[str, Any]]:
    """The rows of a row group from the first unread one on, with their slice alone; one empty row if it is damaged."""
    try:
        return list(parquet.read_row_group(group, columns=[SLICE], use_threads=False).to_pylist()[read:])
    except _READ_ERRORS:
        return [{}]


def _contexts(files: list[Path], categories: tuple[str, ...], content: str) -> dict[str, list[str]]:
    """Slice to its questions of some categories with their answers, as lines of text. Reads no images."""
    found: defaultdict[str, dict[str, list[str]]] = defaultdict(lambda: {category: [] for category in categories})
    named = False
    for file in files:
        for place, row, _ in _rows(file, [SLICE, CATEGORY, content], None):
            named = named or CATEGORY in row
            if row.get(CATEGORY) not in categories:
                continue
            try:
                question, options, answer = _content(row, content, place)
            except RecordError:
                continue  # listed when the row itself is read
            if question and answer:
                answered = options.get(letter_of(answer, options) or "", answer)
                found[str(row.get(SLICE))][row[CATEGORY]].append(f"Q: {question}\nA: {answered}")
    if not named:
        raise DataError(
            f"{files[0]} has no column {CATEGORY}, so context_mode must be A: no row says what it asks about"
        )
    return {slice_id: [line for lines in by.values() for line in lines] for slice_id, by in found.items()}


def _sample(
    row: dict[str, Any],
    id_: str,
    slice_id: str,
    place: str,
    image_folder: Path | None,
    context: list[str],
    content: str,
    faults: Faults,
) -> DrivingSample | None:
    question, options, answer = _content(row, content, place)
    category = optional_text(row, CATEGORY, place)
    images = {}
    for name in IMAGES if image_folder is not None else ():
        assert image_folder is not None
        written = _write_image(row, name, place, image_folder)
        if written is None:
            faults.drop(FAULTY_IMAGE, id_, f"{place} has no bytes for {name}")
            return None
        images[name] = written
    if question and options:
        question = "\n".join([question, *(f"{letter}. {text}" for letter, text in options.items())])
    if category == "Action" and context and question:
        question = "\n".join(["What is known about the scene:", *context, "", question])
    return make_sample(
        faults,
        id=id_,
        scene_id=slice_id,
        frame_id=slice_id,
        task=_TASKS.get(category) or infer_task(question) or "behavior",
        question=question,
        answer=answer,
        images=images,
        choices=options,
        kind="yes_no" if not options and is_verdict(answer) else None,  # also where "Which ...?" asks it
    )


def _content(row: dict[str, Any], column: str, place: str) -> tuple[str, dict[str, str], str]:
    """Question, options by letter, and answer, of a struct or of JSON text."""
    value, at = member(row, column, object, place), f"{place}.{column}"
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{at} is no JSON: {error}") from None
    record = expect(value, dict, at)
    options = expect(record.get("options") or {}, dict, f"{at}.options")
    texts = {key: optional_text(options, key, f"{at}.options") for key in sorted(options)}
    answer = record.get("answer")
    said = str(answer) if isinstance(answer, bool) else optional_text(record, "answer", at)
    return text_member(record, "question", at), {key: text for key, text in texts.items() if text}, said


def _write_image(row: dict[str, Any], name: str, place: str, folder: Path) -> str | None:
    """The file that holds an image of a row, written when it is not there; None for a row without it."""
    value = row.get(name)
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        return None
    data = expect(data, bytes, f"{place}.{name}")
    suffix = "png" if data.startswith(b"\x89PNG") else "jpg"
    path = folder.resolve() / f"{hashlib.sha256(data).hexdigest()[:32]}.{suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.part")
        draft.write_bytes(data)
        draft.replace(path)
    return str(path)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class DriveAction(Format):
    """DriveAction: three images a question, unpacked from the parquet files."""

    class Settings(FormatSettings):
        """Where it lies, and what stands in its prompts."""

        annotations: Path
        """The parquet file, or a folder of them."""
        image_root: Path | None = None
        """The folder that images are unpacked into; None: one among the files that runs make."""
        context_mode: Mode = "A"
        """Which other questions of a slice, vision (V) or language (L), stand with their answers before its action
        questions (A)."""
        language: Language = "en"
        """The language of its texts."""

    settings: Settings
    licence = Licence(
        name="Creative Commons Attribution 4.0 (DriveAction, annotations and images)",
        spdx="CC-BY-4.0",
        non_commercial=False,
        attribution="DriveAction (Hao et al. 2025, Li Auto)",
    )
    images_per_prompt = len(IMAGES)

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_driveaction`."""
        given = self.settings
        images = given.image_root or cache / "driveaction-images"
        return read_driveaction(given.annotations, images, faults, given.context_mode, given.language)
