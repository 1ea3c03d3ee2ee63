"""The rollouts of a run, and the answers of two of its checkpoints side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter
from fastapi.responses import Response

from data.errors import DataError
from data.sample import in_order
from evaluation.comparison.before_after import AFTER, BEFORE
from evaluation.comparison.paired import IN_WORDS, Pair, pair_answers
from evaluation.held_out import AnswerRecord, EvaluationResult
from evaluation.pages.gallery import marks
from evaluation.run_record import EVALUATION_FOLDER, evaluation_path, read_evaluation, samples_path
from serve.database.page_tables import RunSample
from serve.errors import ServiceError
from serve.pages.pictures import View, small_jpeg, views
from serve.pages.runs import seen_run
from serve.pages.sample_index import MASKED, SampleIndex, tasks_of_run, worst_first
from serve.pages.visit import Visit, reads

router = APIRouter()
PAGE = 25
PAIRS = 10
COLUMNS = ("sample_id", "scene_id", "step", "group", "task", "kind", "question", "choices", "images", "ground_truth",
           "response", "value", "parts", "failure", "finish_reason", "token_count", "weight_version")  # fmt: skip


@router.get("/pages/runs/{name}/samples")
def samples(visit: Annotated[Visit, reads()], name: str) -> Response:
    """The rollouts of a run, the worst first; one task, or those that were masked."""
    folder, task = seen_run(visit, name), visit.query("task")
    waiting = index_of(visit).refresh(folder)
    with visit.database.reading() as session:
        rows = worst_first(session, folder.name, task, _after(visit), PAGE + 1)
        tasks = tasks_of_run(session, folder.name)
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    further = None if last is None else f"{last.value if last.value is not None else 0.0!r}_{last.number}"
    return visit.page("samples.html.j2", name=folder.name, rows=rows[:PAGE], tasks=in_order(tasks), task=task,
                      masked=MASKED, waiting=waiting, further=further)  # fmt: skip


@router.get("/pages/runs/{name}/samples/{number}")
def sample(visit: Annotated[Visit, reads()], name: str, number: int) -> Response:
    """A rollout, with the others of its group."""
    folder = seen_run(visit, name)
    rows, place = _rows(visit, folder, number)
    row = rows[place]
    shown = _views(row, f"/pages/runs/{folder.name}/samples/{number}/images")
    group = [one for one in rows if one["group"] == row["group"]]
    return visit.page("sample.html.j2", name=folder.name, row=row, shown=_shown(row), views=shown, group=group,
                      parts_of=lambda one: json.loads(one["parts"]), number=number)  # fmt: skip


@router.get("/pages/runs/{name}/samples/{number}/images/{index}")
def image(visit: Annotated[Visit, reads()], name: str, number: int, index: int) -> Response:
    """An image of a rollout, by its place: the path is the run's own, never the address's."""
    rows, place = _rows(visit, seen_run(visit, name), number)
    return _image(list(json.loads(rows[place]["images"]).values()), index)


@router.get("/pages/runs/{name}/diff")
def diff(visit: Annotated[Visit, reads()], name: str) -> Response:
    """The same questions as two checkpoints answered them: those first that lost most."""
    folder = seen_run(visit, name)
    there = sorted(path.stem for path in (folder / EVALUATION_FOLDER).glob("*.json"))
    if not there:
        return visit.page("diff.html.j2", name=folder.name, there=there, a=None, b=None, pairs=[], left_out={},
                          further=None, total=0, better=0, worse=0)  # fmt: skip
    a = visit.query("a") or (BEFORE if BEFORE in there else there[0])
    b = visit.query("b") or (AFTER if AFTER in there else there[-1])
    pairing = pair_answers(_evaluation(folder, a).answers, _evaluation(folder, b).answers)
    pairs = sorted(pairing.pairs, key=lambda pair: (pair.change, pair.sample_id))
    after = visit.query("after") or "0"
    start = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else 0
    cards = [_card(folder, b, pair) for pair in pairs[start : start + PAIRS]]
    further = start + PAIRS if len(pairs) > start + PAIRS else None
    return visit.page(
        "diff.html.j2", name=folder.name, there=there, a=a, b=b, pairs=cards, total=len(pairs),
        left_out={IN_WORDS[reason]: count for reason, count in pairing.left_out.items()}, further=further,
        better=sum(pair.change > 0 for pair in pairs), worse=sum(pair.change < 0 for pair in pairs),
    )  # fmt: skip


@router.get("/pages/runs/{name}/evaluations/{evaluation}/{place}/images/{index}")
def answer_image(visit: Annotated[Visit, reads()], name: str, evaluation: str, place: int, index: int) -> Response:
    """An image of a held-out question, by places."""
    answers = _evaluation(seen_run(visit, name), evaluation).answers
    if not 0 <= place < len(answers):
        raise ServiceError(404, "There is no such answer.", "no_answer")
    return _image(list(answers[place].images.values()), index)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an answer: `same`, `gone` from the first, or `new` in the second."""

    change: str
    text: str


@dataclass(frozen=True, slots=True)
class DiffCard:
    """A question with both answers and how their words differ."""

    pair: Pair
    asked: AnswerRecord
    views: tuple[View, ...]
    pieces: tuple[Piece, ...]


def word_diff(first: str, second: str) -> tuple[Piece, ...]:
    """How two texts differ, word by word."""
    a, b = re.findall(r"\s+|\S+", first[:8000]), re.findall(r"\s+|\S+", second[:8000])
    pieces: list[Piece] = []
    for what, start_a, end_a, start_b, end_b in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if what == "equal":
            pieces.append(Piece("same", "".join(a[start_a:end_a])))
            continue
        if end_a > start_a:
            pieces.append(Piece("gone", "".join(a[start_a:end_a])))
        if end_b > start_b:
            pieces.append(Piece("new", "".join(b[start_b:end_b])))
    return tuple(pieces)


def index_of(visit: Visit) -> SampleIndex:
    """The index of this application's samples."""
    state = visit.request.app.state
    if not hasattr(state, "samples"):
        state.samples = SampleIndex(visit.database)
    found: SampleIndex = state.samples
    return found


def row_of(visit: Visit, folder: Path, number: int) -> dict[str, Any]:
    """A rollout by its number in the index.

    Raises:
        ServiceError: 404.
    """
    rows, place = _rows(visit, folder, number)
    return rows[place]


def _rows(visit: Visit, folder: Path, number: int) -> tuple[list[dict[str, Any]], int]:
    """The rows of a rollout's file, and its place among them."""
    with visit.database.reading() as session:
        found = session.get(RunSample, number) if 0 <= number < 2**62 else None
    missing = ServiceError(404, "There is no such sample of this run.", "no_sample")
    if found is None or found.run != folder.name:
        raise missing
    try:
        rows = pq.read_table(samples_path(folder, found.step), columns=list(COLUMNS)).to_pylist()
    except (OSError, pa.ArrowException):
        raise missing from None
    if found.row >= len(rows):
        raise missing
    return rows, found.row


def _image(paths: Sequence[str], index: int) -> Response:
    if not 0 <= index < len(paths):
        raise ServiceError(404, "There is no such image.", "no_image")
    try:
        data = small_jpeg(paths[index])
    except DataError:
        raise ServiceError(404, "This image cannot be read any more.", "no_image") from None
    return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})


def _views(row: dict[str, Any], address: str) -> tuple[View, ...]:
    found = marks({"asked": row["question"], "truth": row["ground_truth"], "answered": row["response"]})
    return views(json.loads(row["images"]), lambda index: f"{address}/{index}", found)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {"question": row["question"], "choices": json.loads(row["choices"])}


def _evaluation(folder: Path, name: str) -> EvaluationResult:
    missing = ServiceError(404, f"The run has no evaluation {name[:100]!r}.", "no_evaluation")
    try:
        path = evaluation_path(folder, name)
    except ValueError:
        raise missing from None
    if "\x00" in name or not path.is_file():
        raise missing
    try:
        return read_evaluation(path)
    except DataError as error:
        raise ServiceError(409, str(error), "damaged") from None


def _card(folder: Path, evaluation: str, pair: Pair) -> DiffCard:
    asked = pair.b[0]
    answers = _evaluation(folder, evaluation).answers
    place = next(index for index, one in enumerate(answers) if one == asked)
    found = marks({"asked": asked.question, "truth": asked.ground_truth, "answered": asked.response})
    address = f"/pages/runs/{folder.name}/evaluations/{evaluation}/{place}/images"
    shown = views(asked.images, lambda index: f"{address}/{index}", found)
    return DiffCard(pair, asked, shown, word_diff(pair.a[0].response, asked.response))


def _after(visit: Visit) -> tuple[float, int] | None:
    """Where a further page begins."""
    value, _, number = (visit.query("after") or "").partition("_")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return None
    try:
        return float(value), int(number)
    except ValueError:
        return None
