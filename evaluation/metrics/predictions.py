"""Predictions files: what a model answered, by the id of the question. Shared by every suite; no torch, no ray.

Read are a JSON list of records ({"id": ..., "answer": ...}), an object with such a list under `results` (a submission
to the DriveLM challenge), a JSON mapping from id to answer, and JSONL with a record on every line: what is no JSON as a
whole, but begins with a line that is an object.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import BaseModel, ConfigDict

from data.errors import DataError
from data.records import whole
from data.text_file import open_bytes, unreadable

NOT_A_RECORD = "not_a_record"
NO_ID = "no_id"
NO_ANSWER = "no_answer"
DUPLICATE_ID = "duplicate_id"
MISSING = "missing_prediction"
UNKNOWN_ID = "unknown_id"

_SAYS = {
    NOT_A_RECORD: "is no object",
    NO_ID: "has no id",
    NO_ANSWER: "has no answer that is text",
    DUPLICATE_ID: "is in the file more than once",
    MISSING: "has no prediction",
    UNKNOWN_ID: "is no question of the answer file",
}


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers by question id, in the order of the file; `faults` lists places or ids by their reason."""

    texts: dict[str, str]
    faults: dict[str, list[str]]
    by_model: bool = False
    """A model was asked here, and said this; a file is scored as it stands."""


NO_PREDICTIONS = Predictions({}, {})
"""What a benchmark is given to score that asks no model."""


class PredictionsFile(BaseModel):
    """A predictions file and how it is read. The fields are flags of `evaluate.py`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    predictions: Path
    """JSON or JSONL: [{"id": the question's id, "answer": text}, ...], or a mapping from id to answer."""
    id_key: str | None = None
    """The member of a record that holds the id (default: what the benchmark calls it, id for most)."""
    answer_key: str = "answer"
    """The member of a record that holds the answer."""
    strict: bool = False
    """A fault ends the reading."""

    def read(
        self, *, id_key: str = "id", as_record: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    ) -> Predictions:
        """What it holds; `id_key` is what the benchmark calls the id, the rest as for `read_predictions`.

        Raises:
            DataError: as `read_predictions`.
        """
        return read_predictions(
            self.predictions,
            id_key=self.id_key or id_key,
            answer_key=self.answer_key,
            strict=self.strict,
            as_record=as_record,
        )


@dataclass(frozen=True, slots=True)
class Matched:
    """The ids that have a prediction and a truth, in the order of the truths; `faults` lists the others."""

    ids: tuple[str, ...]
    faults: dict[str, list[str]]


def read_predictions(
    path: Path,
    *,
    id_key: str = "id",
    answer_key: str = "answer",
    strict: bool = False,
    as_record: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Predictions:
    """Read a predictions file.

    A record without an id or without a text as its answer is listed and left out, and so is a line of JSONL that is no
    JSON. Where an id stands more than once, the last answer counts, as in DriveLM's own evaluation. An empty text is an
    answer (a wrong one).

    Args:
        path: the file.
        id_key: the member of a record that holds its id (DriveLMM-o1: `idx`).
        answer_key: the member that holds the answer (DriveBench: `pred`).
        strict: a fault ends the reading.
        as_record: what makes a record with these members of one in a form of the benchmark's own.

    Raises:
        DataError: the file cannot be read, is neither JSON nor JSONL, or holds no usable prediction; with `strict` also
            for the first fault.
    """
    faults: dict[str, list[str]] = defaultdict(list)
    texts: dict[str, str] = {}
    for place, record in _records(path, id_key, answer_key):
        if not isinstance(record, dict):
            faults[NOT_A_RECORD].append(place)
            continue
        if as_record is not None:
            record = as_record(record)
        id_, text = record.get(id_key), record.get(answer_key)
        if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
            faults[NO_ID].append(place)
        elif not isinstance(text, str):
            faults[NO_ANSWER].append(str(id_))
        else:
            if str(id_) in texts:
                faults[DUPLICATE_ID].append(str(id_))
            texts[str(id_)] = whole(text)
    if strict:
        refuse(faults, str(path))
    if not texts:
        raise DataError(
            f"{path} holds no usable prediction{_first(faults)}; each needs a text under {id_key!r} and {answer_key!r}"
        )
    return Predictions(texts, dict(faults))


def match(
    predicted: Mapping[str, object],
    true: Collection[str],
    *,
    strict: bool,
    what: str = "predictions",
    left_out: Iterable[str] = (),
) -> Matched:
    """Pair predictions with truths by id.

    Args:
        predicted: by question id.
        true: the ids of the questions there are.
        strict: a question without a prediction, or a prediction without a question, ends the scoring.
        what: names the predictions in an error.
        left_out: the ids of the questions that there are too, but whose truth cannot be used: what answers them is
            passed over, for the fault is the truth's.

    Raises:
        DataError: no id is on both sides; with `strict` also when the ids are not the same.
    """
    known = {*true, *left_out}
    faults = {
        MISSING: [id_ for id_ in true if id_ not in predicted],
        UNKNOWN_ID: [id_ for id_ in predicted if id_ not in known],
    }
    faults = {reason: ids for reason, ids in faults.items() if ids}
    if strict:
        refuse(faults, what)
    ids = tuple(id_ for id_ in true if id_ in predicted)
    if not ids:
        raise DataError(
            f"the {what} answer none of the {len(true)} questions{_first(faults)}; is this the right answer file?"
        )
    return Matched(ids, faults)


def refuse(faults: Mapping[str, Collection[str]], where: str) -> None:
    """Make faults fatal, as strict scoring does.

    Raises:
        DataError: there is one; the message counts them by reason and names the first.
    """
    found = {reason: ids for reason, ids in faults.items() if ids}
    if found:
        counted = ", ".join(f"{len(ids)} {reason}" for reason, ids in found.items())
        raise DataError(f"{where}: {counted}{_first(found)}; mend them, or score without strict")


def _first(faults: Mapping[str, Collection[str]]) -> str:
    """ "; first: 17 has no prediction", or nothing."""
    for reason, ids in faults.items():
        for id_ in ids:
            return f"; first: {id_} {says(reason)}"
    return ""


def says(reason: str) -> str:
    """What a reason says of its record, in words: "17 has no prediction"."""
    return _SAYS.get(reason, reason)


def _records(path: Path, id_key: str, answer_key: str) -> Iterator[tuple[str, Any]]:
    """Every record with its place. A key twice in one object would hide a prediction, so keys are read in pairs."""
    try:
        with open_bytes(path) as file:
            content = file.read()
        tree = json.loads(content.decode("utf-8"), object_pairs_hook=_Pairs)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        lines = [(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
        if not lines or not isinstance(_parsed(lines[0][1]), dict):
            raise unreadable(path, error, "neither JSON nor JSONL") from None
        yield from ((f"line {number}", _parsed(line)) for number, line in lines)
        return
    members = dict(tree) if isinstance(tree, _Pairs) else {}
    results = members.get("results")
    if _is_list(tree):
        yield from ((f"[{index}]", _as_dict(record)) for index, record in enumerate(tree))
    elif id_key in members:
        yield "line 1", members  # JSONL with one record
    elif _is_list(results):
        yield from ((f"results[{index}]", _as_dict(record)) for index, record in enumerate(results))
    elif isinstance(tree, _Pairs):
        yield from ((key, {id_key: key, answer_key: value}) for key, value in tree)
    else:
        raise DataError(
            f"{path} holds a {type(tree).__name__}; needed is a list of records or a mapping from id to answer"
        )


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object in order, a key that stands twice included."""


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and not isinstance(value, _Pairs)


def _as_dict(record: Any) -> Any:
    return dict(record) if isinstance(record, _Pairs) else record


def _parsed(line: bytes) -> Any:
    """What a line of JSONL holds; None, which is no record, where it is no JSON, as a line that was cut off."""
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
