"""`report.html` of a constructed set: AutoDriveRL's Figures 4 to 6, and what was lost. Reads the record only.

Figure 4 is the distribution of frame scores by each model and in the set, Figure 5 the share of each task, Figure 6 the
distribution of actions in the set and in the data it comes from. The page's form is in `construction_report.html.j2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from data import faults, filtering
from data.difficulty import NO_SCORE
from data.sample import Task, in_order
from evaluation.construction.record import Construction, Extent, FrameScores, TaskScores
from evaluation.construction.score_table import scored_by
from evaluation.numbers import counted_noun, fixed, percent
from evaluation.pages.histogram import histogram
from evaluation.pages.page import Tile, write_page
from evaluation.pages.panels import Panel
from evaluation.pages.tone import tone

TEMPLATE = "construction_report.html.j2"
TITLES = {"training": "Training set", "hard": "Hard set", "unfiltered": "Unfiltered set"}
REASONS = {
    filtering.EMPTY_TEXT: "question or answer is empty",
    faults.ANSWER_NOT_AN_OPTION: "the answer is none of the options",
    filtering.DUPLICATE_OPTIONS: "two options say the same",
    filtering.EXCLUSIVE_OPTION: "an option says two things that exclude each other",
    faults.OUTSIDE_IMAGE: "points outside the image",
    filtering.UNKNOWN_OBJECT: "asks about an object that is not annotated",
    filtering.REPEATED_QUESTION: "its frame asks it twice; the first is kept",
    filtering.CONTRADICTING_ANSWERS: "its frame asks it twice and answers differently",
    filtering.TRAINING_FRAME: "its frame is trained on (--training)",
    filtering.BENCHMARK_FRAME: "its frame is kept out (--exclude)",
    NO_SCORE: "a model has no score for it",
    filtering.OUTSIDE_BAND: "its frame's difficulty lies outside the band",
    filtering.NOT_DRAWN: "its frame was not drawn",
    filtering.QUESTION_NOT_DRAWN: "it was not drawn, others of its frame were",
}
"""What each reason means, in the order in which questions are lost."""


@dataclass(frozen=True, slots=True)
class Share:
    """How often something occurs in the data and in the set."""

    name: str
    style: str
    """The CSS class that colours it, or nothing."""
    counts: tuple[int, ...]
    """In the data, among what was chosen and, where questions were repeated, with the repeats."""
    shares: tuple[float, ...]
    bars: Markup


def write_construction_report(folder: Path, record: Construction) -> Path:
    """Write `report.html` into the folder of a set and return its path."""
    return write_page(folder, TEMPLATE, _context(record), tasks=_tasks(record))


def _tasks(record: Construction) -> list[Task]:
    return in_order([*record.source.tasks, *record.chosen.tasks, *record.result.tasks])


def _context(record: Construction) -> dict[str, Any]:
    settings = record.settings
    extents = [record.source, record.chosen] + ([record.result] if record.repeated else [])
    return {
        "title": TITLES[settings.which],
        "record": record,
        "settings": settings,
        "measured": _measured(record),
        "unguarded": settings.which != "hard" and not record.left_out,
        "tiles": _tiles(record),
        "facts": _facts(record),
        "panels": _difficulty_panels(record),
        "model_panels": _model_panels(record),
        "score_tables": _score_tables(record),
        "columns": ["in the data", "chosen", "with repeats"][: len(extents)],
        "tasks": _shares([(task, tone(task), [one.tasks.get(task, 0) for one in extents]) for task in _tasks(record)]),
        "actions": _action_shares(extents),
        "losses": _losses(record),
        "counted": _counted(record),
    }


def _measured(record: Construction) -> str:
    """What decided, in one sentence."""
    settings = record.settings
    read = f"{counted_noun(record.source.samples, 'question')} about {counted_noun(record.source.frames, 'frame')}"
    if settings.band is None:
        return f"Drawn from {read}, whatever their difficulty; nothing was cleaned."
    low, high = (f"{end:g}" for end in settings.band)
    which, but = ("All", ", but for those that are trained on") if settings.which == "hard" else ("Drawn from the", "")
    *others, last = settings.models
    models = f"{', '.join(others)} and {last}" if others else last
    return (
        f"{which} frames whose difficulty D, the mean score of their questions over {settings.repeats} answers each by "
        f"{models}, lies from {low} to {high}{but}. The data hold {read}."
    )


def _tiles(record: Construction) -> list[Tile]:
    result, chosen, settings = record.result, record.chosen, record.settings
    repeats = sum(record.repeated.values())
    note = f"{repeats:,} of them repeats" if repeats else f"of {record.source.samples:,}"
    tiles = [
        Tile("Questions", f"{result.samples:,}", note),
        Tile("Frames", f"{chosen.frames:,}", f"of {record.source.frames:,}, in {counted_noun(chosen.scenes, 'scene')}"),
    ]
    if record.frames:
        everywhere = [one.difficulty for one in record.frames.values()]
        inside = [one.difficulty for one in record.frames.values() if one.chosen]
        assert settings.band is not None
        low, high = settings.band
        banded = sum(low <= value <= high for value in everywhere)
        tiles += [
            Tile("Mean difficulty", fixed(fmean(inside)), f"all scored frames {fixed(fmean(everywhere))}; low is hard"),
            Tile(
                "Frames in the band",
                f"{banded:,}",
                f"{percent(banded / len(everywhere))} of {len(everywhere):,} scored",
            ),
        ]
    met = sum(one.met for one in record.left_out)
    if record.left_out:
        tiles.append(Tile("Frames kept out", f"{met:,}", f"of {sum(one.frames for one in record.left_out):,} named"))
    lost = sum(map(len, record.faulty.values()))
    if settings.which != "unfiltered":
        tiles.append(Tile("Faulty questions", f"{lost:,}", "left out, and in no frame's score"))
    return tiles


def _facts(record: Construction) -> list[tuple[str, str]]:
    settings = record.settings
    facts = [("Samples", f"{record.inputs[0].name} ({settings.format})")]
    facts += [("Scores of", ", ".join(settings.models))] if settings.models else []
    by = {one.name: one.judge for one in record.scores}
    facts += [("Scored by", scored_by(by))] if by else []
    facts += [("Answers to a question", str(settings.repeats))] if settings.repeats else []
    facts += [("Band of D", "{:g} to {:g}".format(*settings.band))] if settings.band else []
    facts += [("Frames to draw", f"{settings.frames:,}")] if settings.frames else []
    facts += [("Questions to draw", f"{settings.questions:,}")] if settings.questions else []
    facts += [("Rarest action", f"{settings.rarest:g} of the most frequent")] if settings.rarest else []
    facts += [("Seed", str(settings.seed))] if settings.seed is not None else []
    return facts


def _difficulty_panels(record: Construction) -> list[Panel]:
    """D of all scored frames with the band marked, and D of the set alone."""
    if not record.frames:
        return []
    values = [one.difficulty for one in record.frames.values()]
    inside = [one.difficulty for one in record.frames.values() if one.chosen]
    models = record.settings.models
    by = models[0] if len(models) == 1 else f"mean of {len(models)} models"
    return [
        Panel(
            f"Frame scores, {by}",
            "",
            "all that were scored, the band marked, the chosen in colour",
            histogram(values, inside, record.settings.band, f"Difficulty of {len(values)} frames, {by}"),
        ),
        Panel(
            "Frame scores in the set",
            "",
            counted_noun(len(inside), "frame"),
            histogram(inside, inside, record.settings.band, f"Difficulty of the {len(inside)} chosen frames"),
        ),
    ]


def _model_panels(record: Construction) -> list[Panel]:
    """Where several models decide: frame scores by each alone, on one axis."""
    models = record.settings.models if len(record.settings.models) > 1 else ()
    frames = record.frames.values()
    reach = [value for one in frames for value in one.by_model.values()]
    return [
        Panel(
            model,
            fixed(fmean(one.by_model[model] for one in frames)),
            "mean; frame scores by this model alone",
            histogram(
                [one.by_model[model] for one in frames],
                [one.by_model[model] for one in frames if one.chosen],
                None,
                f"Frame scores by {model}",
                reach=(min(reach), max(reach)),
                width=360,
                height=210,
            ),
        )
        for model in models
    ]


def _score_tables(record: Construction) -> list[tuple[str, list[tuple[str, TaskScores]]]]:
    """Scores per task and, last, per frame: of all that were scored, and of the chosen."""
    frames = list(record.frames.values())
    return [
        (title, [*scores.items(), ("frames", _mean_of(of_frames, record.settings.models))])
        for title, scores, of_frames in (
            ("all that were scored", record.task_scores, frames),
            ("the chosen", record.chosen_task_scores, [one for one in frames if one.chosen]),
        )
        if of_frames
    ]


def _mean_of(frames: Sequence[FrameScores], models: Sequence[str]) -> TaskScores:
    by_model = {model: fmean(one.by_model[model] for one in frames) for model in models}
    return TaskScores(questions=len(frames), by_model=by_model, mean=fmean(one.difficulty for one in frames))


def _action_shares(extents: Sequence[Extent]) -> list[Share]:
    names = list(dict.fromkeys(action for one in extents for action in one.actions))
    return _shares([(spoken(action), "", [one.actions.get(action, 0) for one in extents]) for action in names])


def spoken(action: str) -> str:
    """An action without what DriveLM says in each: "going straight, driving slowly"."""
    return ", ".join(part.strip() for part in action.replace("the ego vehicle is ", "").split(".") if part.strip())


def _shares(rows: Sequence[tuple[str, str, Sequence[int]]]) -> list[Share]:
    """The rows that occur at all, with their share of each column."""
    kept = [row for row in rows if any(row[2])]
    totals = [sum(counts[column] for _, _, counts in kept) for column in range(len(kept[0][2]))] if kept else []
    shares = [
        tuple(count / total if total else 0.0 for count, total in zip(counts, totals, strict=True))
        for _, _, counts in kept
    ]
    longest = max((share for of_row in shares for share in of_row), default=1.0)
    return [
        Share(name, style, tuple(counts), of_row, _bars(name, of_row, longest))
        for (name, style, counts), of_row in zip(kept, shares, strict=True)
    ]


def _bars(name: str, shares: Sequence[float], longest: float) -> Markup:
    """The first share above the last, for a cell of the table."""
    widths = [156 * shares[place] / longest for place in (0, -1)]
    return Markup(
        '<svg class="pair" viewBox="0 0 160 16" aria-hidden="true">'
        '<rect class="all" x="0" y="2" width="{:.1f}" height="5"/><rect class="chosen" x="0" y="9" width="{:.1f}" '
        'height="5"/><title>{}: {} in the data, {} in the set</title></svg>'
    ).format(*widths, name, percent(shares[0], 1), percent(shares[-1], 1))


def _losses(record: Construction) -> list[tuple[str, str, int, float]]:
    """Reason, its meaning, how many questions, and their share of all entries; reader's losses first."""
    unread = {reason: len(ids) for reason, ids in record.unread.items()}
    entries = record.source.samples + sum(unread.values())
    known = [reason for reason in REASONS if reason in record.dropped]
    rest = [reason for reason in record.dropped if reason not in REASONS]
    rows = [(reason, "left out when the file was read", count) for reason, count in unread.items()]
    rows += [(reason, REASONS.get(reason, ""), record.dropped[reason]) for reason in (*known, *rest)]
    return [(reason, meaning, count, count / entries) for reason, meaning, count in rows]


def _counted(record: Construction) -> list[tuple[str, str]]:
    """What was used in spite of something, and what the scores and the kept-out frames rest on."""
    counted = [(f"read in spite of {reason}", f"{count:,}") for reason, count in record.read_with_fault.items()]
    counted += [(f"used although {_WORDS.get(why, why)}", f"{n:,}") for why, n in record.scored_with_fault.items()]
    for one in record.scores:
        counted += [(f"answers without a score, {one.name}: {why}", f"{n:,}") for why, n in one.failures.items()]
        if one.of_other_samples:
            counted.append((f"answers to other questions, {one.name}", f"{one.of_other_samples:,}"))
    counted += [
        (f"frames of {one.role} {one.name} in the data", f"{one.met:,} of {one.frames:,}") for one in record.left_out
    ]
    counted += [(f"repeats of “{spoken(action)}”", f"{n:,}") for action, n in record.repeated.items()]
    return counted


_WORDS: Mapping[str, str] = {"fewer_scores": "a model has fewer scores than answers were asked for"}
