"""`evaluate.py open_loop`: planned trajectories, under both protocols. No torch, no ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.nuscenes import read_trajectories
from data.formats.nuscenes_tables import read_ego_tables
from data.formats.road_users import read_road_users
from data.tokens.bins import Bins
from data.tokens.words import Unreadable, has_tokens
from data.trajectory import waypoint_text
from evaluation.metrics import open_loop
from evaluation.metrics.judging import Judgements
from evaluation.metrics.open_loop import STEPS, OpenLoopResult, PlanningTruth, ProtocolScore
from evaluation.metrics.predictions import Predictions
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import fault_counts, fault_notes, left_out, needed_folder
from evaluation.suites.published import OPEN_LOOP, OTHER_JUDGE
from evaluation.suites.suite import OptionError, Question, Row, Scored, Suite, SuiteOptions, Table
from rewards.answer import answer_part

FIGURES = tuple(f"{what}_{when}" for what in ("l2", "collision") for when in ("1s", "2s", "3s", "mean"))
COLUMNS = tuple(f"{what}, {when}" for what in ("L2 (m)", "collisions (%)") for when in ("1 s", "2 s", "3 s", "mean"))
NOBODY: tuple[tuple[()], ...] = ((),) * STEPS


class OpenLoopOptions(SuiteOptions):
    """Its files."""

    answers: Path
    """Folder of nuScenes' JSON tables, or a file of prepared waypoints."""
    image_root: Path | None = None
    """Folder that holds samples/CAM_FRONT/...; needed to ask a model."""
    bins: Path | None = None
    """File of bins: a model is asked for tokens of it, and answers may be such (a policy's folder holds its own as
    trajectory_bins.json)."""


@dataclass(frozen=True)
class OpenLoop(Suite):
    """Collisions are scored where the files say who else was there.

    Where they do not, these figures are null and the output says why. A predictions file calls a question by its key
    frame's token.
    """

    options: OpenLoopOptions
    Options: ClassVar[type[SuiteOptions]] = OpenLoopOptions
    title: ClassVar[str] = "open-loop planning on nuScenes: displacement and collisions"
    headline: ClassVar[tuple[str, ...]] = ("uniad/l2_mean", "vad_stp3/l2_mean")

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """One question for each key frame with enough past and future."""
        images = needed_folder("image_root", self.options.image_root)
        samples = read_trajectories(self.options.answers, images, faults, bins=self._bins)
        return [Question(sample, file_ids=(sample.frame_id,)) for sample in samples]

    @property
    def _bins(self) -> Bins | None:
        try:
            return Bins.read(self.options.bins) if self.options.bins else None
        except DataError as error:
            raise OptionError("bins", str(error)) from None

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Measure displacement, and collisions with those who were there."""
        options = self.options
        faults = Faults(options.strict)
        tables = read_ego_tables(options.answers, faults) if options.answers.is_dir() else None
        samples = list(read_trajectories(options.answers, None, faults, tables))
        driven = {s.frame_id: tuple((x, y) for x, y, _ in s.trajectory.future) for s in samples if s.trajectory}
        if not driven:
            raise DataError(f"{options.answers} holds no frame with 2 s of past and 3 s of future{first_note(faults)}")
        # A model is asked by sample, a file is written by key frame.
        frame_of = {sample.id: sample.frame_id for sample in samples}
        given = {frame_of.get(id_, id_): text for id_, text in predictions.texts.items()}
        texts = in_numbers(given, self._bins, faults)
        planned = driven.keys() & texts.keys()
        others = read_road_users(options.answers, planned, faults, tables)
        truths = {
            frame: PlanningTruth(path, others.by_frame.get(frame, NOBODY))
            for frame, path in driven.items()
            if others.unknown or frame in others.by_frame or frame not in planned
        }
        unused = {name for id_ in left_out(faults) for name in (id_, id_.rpartition("_")[2])}  # scene_frame, frame
        unused |= driven.keys() - truths.keys()
        result = open_loop.score(texts, truths, strict=options.strict, left_out=unused)
        reported: dict[str, Any] = asdict(result) | {"collisions_unknown": others.unknown}
        if others.unknown:
            reported |= {"uniad": _displacement(result.uniad), "vad_stp3": _displacement(result.vad_stp3)}
        both = _protocols(result)
        return Scored(
            result=result,
            rows=tuple(row for _, name, word, of in both for row in _rows(name, word, of, others.unknown)),
            reported=reported,
            figures={
                f"{key}/{name}": value
                for key, _, _, of_protocol in both
                for name, value in zip(FIGURES, _row(of_protocol, others.unknown), strict=True)
            },
            tables=(_table(result, others.unknown),),
            faults=fault_counts(result, faults, predictions.faults),
            notes=(
                *([f"no collisions: {others.unknown}"] if others.unknown else []),
                *fault_notes(result, faults, predictions.faults),
            ),
        )


def in_numbers(texts: Mapping[str, str], bins: Bins | None, faults: Faults) -> dict[str, str]:
    """Answers of tokens as points in metres; what is no trajectory stays as it is, and is counted under its reason."""
    found = dict(texts)
    for id_, text in texts.items():
        answer = answer_part(text)
        if bins is None or not has_tokens(answer):
            continue
        points = bins.decode(answer)
        if isinstance(points, Unreadable):
            faults.keep(f"tokens_{points.reason}", id_, f"answer to {id_}: {points.sentence}")
        else:
            found[id_] = waypoint_text(points, digits=6)
    return found


def _protocols(result: OpenLoopResult) -> tuple[tuple[str, str, str, ProtocolScore], ...]:
    """Each protocol: its key among the figures, its name, and the word between it and a horizon."""
    return (("uniad", "UniAD", "at", result.uniad), ("vad_stp3", "VAD/ST-P3", "up to", result.vad_stp3))


def _table(result: OpenLoopResult, unknown: str | None) -> Table:
    why = f"No collisions: {unknown}. " if unknown else ""
    return Table(
        "Open-loop planning",
        COLUMNS,
        tuple(
            (f"this run, {name} ({word} the horizon)", _row(of, unknown)) for _, name, word, of in _protocols(result)
        ),
        tuple((name, (None, None, None, l2, None, None, None, rate)) for name, (l2, rate) in OPEN_LOOP),
        f"{why}{OTHER_JUDGE} The paper does not say under which of the two protocols its means were taken.",
    )


def _row(of_protocol: ProtocolScore, unknown: str | None) -> tuple[float | None, ...]:
    collision = (*of_protocol.collision, of_protocol.collision_mean)
    return (*of_protocol.l2, of_protocol.l2_mean, *((None,) * len(collision) if unknown else collision))


def _rows(name: str, word: str, of_protocol: ProtocolScore, unknown: str | None) -> Iterator[Row]:
    for second, value in enumerate(of_protocol.l2, start=1):
        yield f"{name} L2 {word} {second} s (m)", fixed(value, 3)
    yield f"{name} L2 mean (m)", fixed(of_protocol.l2_mean, 3)
    if unknown:
        yield f"{name} collisions", "no boxes"
        return
    for second, value in enumerate(of_protocol.collision, start=1):
        yield f"{name} collisions {word} {second} s (%)", fixed(value, 3)
    yield f"{name} collisions mean (%)", fixed(of_protocol.collision_mean, 3)


def _displacement(of_protocol: ProtocolScore) -> dict[str, Any]:
    """A protocol's figures with null for what nobody's boxes can tell."""
    unknown = {"collision": None, "collision_mean": None, "excluded_steps": None}
    return asdict(of_protocol) | unknown
