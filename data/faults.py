"""What was wrong with the entries of a data file, and what a loaded file gives. Imports nothing but the sample.

A faulty entry never stops a load: it is listed under the name of its fault, and the rest is used. With `strict` the
first one is an error.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError, one_line
from data.sample import DrivingSample, in_order

EMPTY_QUESTION = "empty_question"
EMPTY_ANSWER = "empty_answer"
WRONG_CAMERAS = "wrong_cameras"
FAULTY_IMAGE = "faulty_image"
UNKNOWN_TASK = "unknown_task"
UNKNOWN_TAG = "unknown_tag"
ANSWER_NOT_AN_OPTION = "answer_not_an_option"
DUPLICATE_ID = "duplicate_id"
OUTSIDE_IMAGE = "coordinates_outside_image"
ODD_COORDINATES = "odd_number_of_coordinates"
MALFORMED = "malformed_entry"
UNREADABLE_PART = "unreadable_part"
UNPAIRED = "unpaired_entry"
CONFUSED = "confused_label"
PAIRING = "how_entries_were_paired"
"""Of a note: no fault."""


class Faults:
    """Collects what is wrong while a file is read; a note is kept once however many entries it concerns.

    `dropped` lists the ids of the entries that were left out, `kept` of those that were used in spite of a fault, each
    by its reason; `notes` has one sentence per fault or decision, naming the entry, file or object, with its reason.
    They grow with the faults, not with the file.
    """

    def __init__(self, strict: bool = False, *, unanswered: bool = False) -> None:
        """With `strict` the first fault raises; with `unanswered` a question without an answer is no fault."""
        self.strict, self.unanswered = strict, unanswered
        self.dropped: defaultdict[str, list[str]] = defaultdict(list)
        self.kept: defaultdict[str, list[str]] = defaultdict(list)
        self.notes: dict[str, str] = {}

    def drop(self, reason: str, id: str, note: str) -> None:
        """Leave an entry out.

        Raises:
            DataError: `strict` is set; the note and the reason.
        """
        self.dropped[reason].append(id)
        self._note(reason, note)

    def keep(self, reason: str, id: str, *notes: str) -> None:
        """Use an entry in spite of a fault.

        Raises:
            DataError: `strict` is set; the first note and the reason.
        """
        self.kept[reason].append(id)
        for note in notes:
            self._note(reason, note)

    def _note(self, reason: str, note: str) -> None:
        note = one_line(note)
        if self.strict:
            raise DataError(f"{note} ({reason}; without strict such entries are counted, and the rest is used)")
        self.notes.setdefault(note, reason)

    def tell(self, reason: str, note: str) -> None:
        """Say what a reader decided; no fault, so that strict reading goes on."""
        self.notes.setdefault(one_line(note), reason)

    def as_dict(self) -> dict[str, list[str]]:
        """Reason to ids, dropped and kept together."""
        reasons = self.dropped | self.kept
        return {reason: [*self.dropped.get(reason, ()), *self.kept.get(reason, ())] for reason in reasons}


@dataclass(frozen=True, slots=True)
class LoadedSamples:
    """What an annotation file held.

    `dropped` lists the ids of the questions that were left out, `kept_with_fault` of those that were used in spite of
    a fault, each by its reason; `notes` has one sentence per fault, naming the frame, file or object.
    """

    samples: Sequence[DrivingSample]
    dropped: dict[str, list[str]]
    kept_with_fault: dict[str, list[str]]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One sentence with every count, for logs and reports."""
        tasks = Counter(sample.task for sample in self.samples)
        counted = ", ".join(f"{tasks[task]} {task}" for task in in_order(tasks))
        faults = [f"{len(ids)} dropped for {reason}" for reason, ids in self.dropped.items()]
        faults += [f"{len(ids)} kept with {reason}" for reason, ids in self.kept_with_fault.items()]
        scenes = len({sample.scene_id for sample in self.samples})
        return "; ".join([f"{len(self.samples)} questions of {scenes} scenes ({counted})", *faults])


def collected(
    file: Path,
    samples: Iterable[DrivingSample],
    faults: Faults,
    keep: Callable[[Iterable[DrivingSample]], Sequence[DrivingSample]] = tuple,
) -> LoadedSamples:
    """All samples of a file, in memory or where `keep` puts them.

    Raises:
        DataError: none is left; the sentence has the counts and the first fault.
    """
    kept = keep(samples)
    loaded = LoadedSamples(kept, dict(faults.dropped), dict(faults.kept), tuple(faults.notes))
    if not kept:
        raise DataError(f"{file} holds no usable question: {loaded.summary}{first_note(faults)}")
    return loaded


def first_note(faults: Faults) -> str:
    """The first fault as the end of an error sentence, or nothing."""
    return next((f"; first: {note}" for note, reason in faults.notes.items() if reason != PAIRING), "")


def refuse_unfit(faults: Faults, left: int, *, drop: bool, wanted: Collection[str] = ()) -> None:
    """Make an error of samples that are at fault.

    Args:
        faults: what was found of samples that a model cannot be asked.
        left: how many samples are not at fault.
        drop: leave the others out, as long as there are any left.
        wanted: reasons for which samples were to be left out.

    Raises:
        DataError: how many are at fault for what, the first of them, and what to do.
    """
    unfit = {reason: ids for reason, ids in faults.dropped.items() if reason not in wanted}
    if unfit and not (drop and left):
        counts = ", ".join(f"{len(ids)} {reason}" for reason, ids in unfit.items())
        first = next(note for note, reason in faults.notes.items() if reason in unfit)
        more = "data.unfit=drop leaves such questions out and counts them" if left else "no question is left"
        raise DataError(f"the model cannot be asked all questions ({counts}); first: {first}; {more}")
