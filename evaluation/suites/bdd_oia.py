"""`evaluate.py bdd_oia`: F1 over actions and reasons. No torch, no ray."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from data.errors import DataError
from data.faults import CONFUSED, UNPAIRED, Faults, first_note
from data.formats.bdd_oia import ReasonOrder, Reply, read_bdd_oia, read_labels
from data.formats.bdd_oia_words import ACTIONS
from evaluation.metrics.bdd_oia import BddOiaResult, Labels, LabelScores, sample_f1, score_labels
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import fault_counts, fault_notes, left_out, needed_folder
from evaluation.suites.published import BDD_OIA, OTHER_JUDGE
from evaluation.suites.suite import AnswerScore, Bars, Question, Scored, Suite, SuiteOptions, Table

FIGURES = {"F1 all": "f1_all", "mF1": "mf1", "accuracy": "accuracy", "exact match": "exact_match"}


class BddOiaOptions(SuiteOptions):
    """Its files, and the form in which a model is asked."""

    actions: Path
    """BDD-OIA's *_actions.json."""
    reasons: Path
    """BDD-OIA's *_reasons.json."""
    reason_order: ReasonOrder = "annotation"
    """Order of the 21 bits in the file."""
    image_root: Path | None = None
    """Folder of the frames; needed to ask a model."""
    frames: int = 1
    """Frames of each clip that a model is shown."""
    reply: Reply = "decide"
    """The form a model is asked for."""


@dataclass(frozen=True)
class BddOia(Suite):
    """A frame without a reason, or without an action, is scored as the empty set that it is.

    Frames that confused the annotators are left out on both sides, also with `strict`. A predictions file calls a
    question by its frame's file_name.
    """

    options: BddOiaOptions
    Options: ClassVar[type[SuiteOptions]] = BddOiaOptions
    title: ClassVar[str] = "BDD-OIA: F1 of actions and of reasons"
    headline: ClassVar[tuple[str, ...]] = ("actions/f1_all", "reasons/f1_all")

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """One question for each frame that did not confuse the annotators."""
        options = self.options
        samples = read_bdd_oia(
            options.actions,
            options.reasons,
            needed_folder("image_root", options.image_root),
            faults,
            options.frames,
            options.reason_order,
            options.reply,
            unlabelled=True,
        )
        return [Question(sample) for sample in samples]

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score the labels that the outputs name."""
        strict = self.options.strict
        faults = Faults(strict)
        truths, confused = _truths(self.options, faults)
        unused = confused | left_out(faults)
        result, said = score_labels(predictions.texts, truths, strict=strict, left_out=unused)
        both = (("actions", result.actions), ("reasons", result.reasons))
        named = {f"{what} {name}": getattr(scores, key) for what, scores in both for name, key in FIGURES.items()}
        rows = [(name, fixed(value, 2)) for name, value in named.items()]
        rows += [
            ("outputs without a known action", f"{result.no_known_action:,}"),
            ("outputs without a known reason", f"{result.no_known_reason:,}"),
            ("frames left out: confused", f"{len(confused):,}"),
        ]
        return Scored(
            result=result,
            rows=tuple(rows),
            reported=asdict(result) | {CONFUSED: len(confused)},
            figures={f"{what}/{key}": getattr(scores, key) for what, scores in both for key in FIGURES.values()}
            | {"no_known_action": float(result.no_known_action), "no_known_reason": float(result.no_known_reason)},
            answers={id_: _answer_score(truths[id_], labels) for id_, labels in said.items()},
            tables=_tables(result),
            bars=tuple(bar for what, scores in both for bar in _bars(what, scores)),
            faults=fault_counts(result, faults, predictions.faults),
            notes=fault_notes(result, faults, predictions.faults),
        )


def _truths(options: BddOiaOptions, faults: Faults) -> tuple[dict[str, Labels], set[str]]:
    """The labels of each frame, and the frames that confused the annotators."""
    confused, truths = set[str](), dict[str, Labels]()
    for name, actions, reasons in read_labels(options.actions, options.reasons, faults, options.reason_order):
        if len(ACTIONS) in actions:
            confused.add(name)
        elif reasons is None:
            faults.drop(UNPAIRED, name, f"{name} has actions, but no usable reasons")
        else:
            truths[name] = Labels(frozenset(ACTIONS[bit] for bit in actions), frozenset(reasons))
    if not truths:
        raise DataError(f"{options.actions} and {options.reasons} hold no usable frame{first_note(faults)}")
    return truths, confused


def _answer_score(true: Labels, said: Labels) -> AnswerScore:
    """The mean of the F1 of the frame's actions and of its reasons."""
    parts = {
        "actions_f1": 100.0 * sample_f1(true.actions, said.actions),
        "reasons_f1": 100.0 * sample_f1(true.reasons, said.reasons),
    }
    return AnswerScore(sum(parts.values()) / len(parts), parts)


def _tables(result: BddOiaResult) -> tuple[Table, ...]:
    return (
        Table(
            "F1 over samples",
            ("Actions", "Reasons"),
            (("this run", (result.actions.f1_all, result.reasons.f1_all)),),
            BDD_OIA,
            f"{OTHER_JUDGE} The report compares whole strings and loses what names no known label; here such outputs "
            "are counted and score as empty.",
        ),
        Table(
            "All figures (%)",
            tuple(FIGURES),
            tuple(
                (what, tuple(getattr(scores, key) for key in FIGURES.values()))
                for what, scores in (("actions", result.actions), ("reasons", result.reasons))
            ),
        ),
    )


def _bars(what: str, scores: LabelScores) -> tuple[Bars, Bars]:
    """The report's Figure 4 (how often each label is true, and is named) and Figure 5 (its F1)."""
    names = tuple(one.name for one in scores.classes)
    counts = (
        ("true", tuple(float(one.true) for one in scores.classes)),
        ("named by the model", tuple(float(one.predicted) for one in scores.classes)),
    )
    return (
        Bars(f"How often: {what}", "frames", names, counts),
        Bars(f"F1 of each class: {what}", "%", names, (("F1", tuple(one.f1 for one in scores.classes)),), 100.0),
    )
