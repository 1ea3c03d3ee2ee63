"""From loaded samples to AutoDriveRL's training set and DriveLM-Hard: what is dropped, drawn, repeated. Pure functions.

The paper (3.2, Appendix C) removes "annotation errors", "duplicate options" and "mutually exclusive options" without
saying by which rules, and balances actions without saying how far: rules and shares below are ours. It cleans before
scoring in 3.2 and after in Appendix C; here frames are scored on what is left after cleaning.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from data.coordinates import coordinate_pairs, outside_image
from data.difficulty import (
    HARD_BAND,
    TRAINING_BAND,
    TRAINING_FRAMES,
    Difficulty,
    K,
    ScoreTable,
    draw_frames,
    frame_difficulty,
    frames_within,
)
from data.errors import DataError
from data.faults import ANSWER_NOT_AN_OPTION, OUTSIDE_IMAGE
from data.sample import DrivingSample

DUPLICATE_OPTIONS = "duplicate_options"
EXCLUSIVE_OPTION = "exclusive_option"
EMPTY_TEXT = "empty_text"
UNKNOWN_OBJECT = "unknown_object"
REPEATED_QUESTION = "repeated_question"
CONTRADICTING_ANSWERS = "contradicting_answers"
BENCHMARK_FRAME = "benchmark_frame"
TRAINING_FRAME = "training_frame"
OUTSIDE_BAND = "outside_band"
NOT_DRAWN = "not_drawn"
QUESTION_NOT_DRAWN = "question_not_drawn"

_SAME_MEANING = (("back up", "drive backward"),)
"""Options of DriveLM's moving status that say one thing in two ways."""
_EXCLUDE_EACH_OTHER = (
    (r"not moving|stopped|stationary", r"driving (?:very )?(?:fast|slowly)|normal speed|steering|turning"),
    (r"to the left|turn left", r"to the right|turn right"),
    (r"driving (?:very )?fast", r"driving (?:very )?slowly"),
    (r"going straight|going ahead", r"steering|turning"),
)
_TAG = re.compile(r"<c\d+,\s?CAM_[A-Z_]+,[^<>]*>")


@dataclass(frozen=True, slots=True)
class Filtered:
    """The samples that are left, in their order, and the ids of those that are not, by reason."""

    kept: tuple[DrivingSample, ...]
    dropped: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Constructed:
    """A constructed set, what was dropped on the way by reason, and the difficulty it was chosen by."""

    samples: tuple[DrivingSample, ...]
    """What was chosen, then the repeats."""
    dropped: dict[str, list[str]]
    difficulty: Difficulty
    """Without a frame where difficulty did not count."""
    repeated: dict[str, int]
    """Action to how many times its samples were repeated in all."""
    candidates: tuple[DrivingSample, ...]
    """What it was chosen from: the sound questions about frames that were allowed."""

    @property
    def chosen(self) -> tuple[DrivingSample, ...]:
        """The samples without the repeats."""
        return self.samples[: len(self.samples) - sum(self.repeated.values())]

    @property
    def summary(self) -> str:
        """One sentence with every count."""
        frames = len({sample.frame_id for sample in self.samples})
        faults = [f"{len(ids)} dropped for {reason}" for reason, ids in self.dropped.items()]
        repeats = [f"{sum(self.repeated.values())} repeated"] if self.repeated else []
        return "; ".join([f"{len(self.samples)} questions of {frames} frames", *faults, *repeats])


def fault_of(sample: DrivingSample) -> str | None:
    """Why a sample alone cannot be trusted, or None: its options, its answer, or where it points."""
    if not sample.question.strip() or not sample.answer.strip():
        return EMPTY_TEXT
    if sample.kind == "multiple_choice" and sample.answer not in sample.choices:
        return ANSWER_NOT_AN_OPTION
    meanings = [_meaning(option) for option in sample.choices.values()]
    if len(set(meanings)) < len(meanings):
        return DUPLICATE_OPTIONS
    if any(_excludes_itself(option) for option in sample.choices.values()):
        return EXCLUSIVE_OPTION
    pairs = [pair for text in (sample.question, sample.answer) for pair in coordinate_pairs(text)]
    if any(outside_image(pair, sample.coordinate_unit) for pair in pairs):
        return OUTSIDE_IMAGE
    # The tags of annotated objects are in pixels; a question in another unit writes them in its own.
    known = {item.tag for item in sample.objects} if sample.coordinate_unit == "pixels" else set()
    if known and not known.issuperset(_TAG.findall(sample.question)):
        return UNKNOWN_OBJECT
    return None


def without_faults(samples: Sequence[DrivingSample]) -> Filtered:
    """The samples without a fault of their own, each question of a frame once.

    Of a question that a frame asks twice the first is kept when the answers are the same, and none when they differ.
    """
    dropped: dict[str, list[str]] = defaultdict(list)
    sound: list[DrivingSample] = []
    for sample in samples:
        fault = fault_of(sample)
        if fault is None:
            sound.append(sample)
        else:
            dropped[fault].append(sample.id)
    answers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in sound:
        answers[_asked(sample)].add(_said(sample))
    kept: dict[tuple[str, str], DrivingSample] = {}
    for sample in sound:
        if len(answers[_asked(sample)]) > 1:
            dropped[CONTRADICTING_ANSWERS].append(sample.id)
        elif _asked(sample) in kept:
            dropped[REPEATED_QUESTION].append(sample.id)
        else:
            kept[_asked(sample)] = sample
    return Filtered(tuple(kept.values()), dict(dropped))


def without_frames(samples: Iterable[DrivingSample], frames: Collection[str], reason: str) -> Filtered:
    """The samples of other frames than these; the rest is listed under `reason`."""
    excluded = frozenset(frames)
    return _split(samples, lambda sample: sample.frame_id not in excluded, reason)


def training_set(
    samples: Sequence[DrivingSample],
    scores: ScoreTable,
    model: str,
    benchmark_frames: Collection[str],
    *,
    seed: int,
    band: tuple[float, float] = TRAINING_BAND,
    frames: int = TRAINING_FRAMES,
    questions: int | None = None,
    rarest: float = 0.0,
    answers_per_model: int = K,
) -> Constructed:
    """AutoDriveRL-Train: faults and DriveBench's frames out, D in [25, 45] by one model, 1,000 frames drawn, balanced.

    Args:
        samples: DriveLM's training questions.
        scores: judged scores of `model` by sample id.
        model: the one whose scores decide the difficulty.
        benchmark_frames: frame ids that must not be trained on.
        seed: of the draw and of the repeats.
        band: of D, both ends included.
        frames: how many are drawn; all where fewer are left.
        questions: how many of the drawn frames' questions are drawn; None takes all of them.
        answers_per_model: how many scores a question should have; one with fewer is used and listed.
        rarest: how often every action is to occur, as a share of the most frequent one; 0 repeats nothing.

    Raises:
        DataError: nothing is left, or the scores cannot be used.
    """
    sound = without_faults(samples)
    allowed = without_frames(sound.kept, benchmark_frames, BENCHMARK_FRAME)
    difficulty = frame_difficulty(allowed.kept, scores, [model], answers_per_model)
    banded, scored = _within_band(allowed.kept, difficulty, band)
    drawn = _drawn(banded.kept, frames, questions, seed)
    dropped = _merged(sound.dropped, allowed.dropped, scored, banded.dropped, drawn.dropped)
    _refuse_empty(drawn.kept, dropped, difficulty)
    balanced, repeated = balance_actions(drawn.kept, rarest, seed)
    return Constructed(balanced, dropped, difficulty, repeated, allowed.kept)


def hard_set(
    samples: Sequence[DrivingSample],
    scores: ScoreTable,
    models: Sequence[str],
    training_frames: Collection[str],
    *,
    band: tuple[float, float] = HARD_BAND,
    benchmark_frames: Collection[str] = (),
    answers_per_model: int = K,
) -> Constructed:
    """DriveLM-Hard: faults out, D in [10, 31] as the mean over models, the training set's frames out. Nothing is drawn.

    Frames of another benchmark can be left out as well; a frame of both counts as the training set's.

    Raises:
        DataError: nothing is left, or the scores cannot be used.
    """
    sound = without_faults(samples)
    untrained = without_frames(sound.kept, training_frames, TRAINING_FRAME)
    allowed = without_frames(untrained.kept, benchmark_frames, BENCHMARK_FRAME)
    difficulty = frame_difficulty(allowed.kept, scores, models, answers_per_model)
    banded, scored = _within_band(allowed.kept, difficulty, band)
    dropped = _merged(sound.dropped, untrained.dropped, allowed.dropped, scored, banded.dropped)
    _refuse_empty(banded.kept, dropped, difficulty)
    return Constructed(banded.kept, dropped, difficulty, {}, allowed.kept)


def unfiltered_set(
    samples: Sequence[DrivingSample],
    benchmark_frames: Collection[str],
    *,
    seed: int,
    frames: int = TRAINING_FRAMES,
    questions: int | None = None,
) -> Constructed:
    """What filtering is compared with (Table 7): as many frames and questions, drawn from all but the benchmark's.

    Nothing is cleaned, scored or balanced: the samples are those of the source.

    Raises:
        DataError: nothing is left.
    """
    allowed = without_frames(samples, benchmark_frames, BENCHMARK_FRAME)
    drawn = _drawn(allowed.kept, frames, questions, seed)
    dropped = _merged(allowed.dropped, drawn.dropped)
    _refuse_empty(drawn.kept, dropped, None)
    return Constructed(drawn.kept, dropped, Difficulty({}, {}, {}, {}), {}, allowed.kept)


def draw_questions(samples: Iterable[DrivingSample], count: int, seed: int) -> frozenset[str]:
    """The ids of this many questions at random, or of all where there are no more.

    Every frame keeps a question before one keeps two, so that a draw of questions loses no frame.
    """
    frame_of = {sample.id: sample.frame_id for sample in samples}
    order = sorted(frame_of)
    random.Random(f"questions/{seed}").shuffle(order)
    first_of: dict[str, str] = {}
    for id_ in order:
        first_of.setdefault(frame_of[id_], id_)
    firsts = frozenset(first_of.values())
    return frozenset([*first_of.values(), *(id_ for id_ in order if id_ not in firsts)][:count])


def ego_action(sample: DrivingSample) -> str | None:
    """The action a behavior question's true answer names, in DriveLM's words; None for the other tasks."""
    if sample.task != "behavior":
        return None
    return _normal(sample.choices.get(sample.answer, sample.answer))


def action_counts(
    samples: Iterable[DrivingSample], action_of: Callable[[DrivingSample], str | None] = ego_action
) -> dict[str, int]:
    """How often each action occurs, the most frequent first."""
    counts = Counter(action for sample in samples if (action := action_of(sample)) is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def balance_actions(
    samples: Sequence[DrivingSample],
    rarest: float,
    seed: int,
    action_of: Callable[[DrivingSample], str | None] = ego_action,
) -> tuple[tuple[DrivingSample, ...], dict[str, int]]:
    """Repeat samples of rare actions until each action occurs at least `rarest` times as often as the most frequent.

    Repeats follow the samples and are called `<id>~repeat-1` and so on. The samples of an action are repeated in turn,
    in an order drawn from the seed, so that none is repeated twice before each was once. Samples without an action, and
    actions frequent enough, stay as they are.

    Returns:
        All samples, and how many repeats each action got.

    Raises:
        DataError: `rarest` is not between 0 and 1.
    """
    if not 0.0 <= rarest <= 1.0:
        raise DataError(f"the share of the rarest action must lie between 0 and 1, got {rarest}")
    by_action: dict[str, list[DrivingSample]] = defaultdict(list)
    for sample in samples:
        action = action_of(sample)
        if action is not None:
            by_action[action].append(sample)
    wanted = math.ceil(rarest * max(map(len, by_action.values()), default=0))
    repeats: list[DrivingSample] = []
    repeated: dict[str, int] = {}
    for action in sorted(by_action):
        pool = sorted(by_action[action], key=lambda sample: sample.id)
        random.Random(f"balance/{seed}/{action}").shuffle(pool)
        missing = max(0, wanted - len(pool))
        for number in range(missing):
            turn, place = divmod(number, len(pool))
            repeats.append(replace(pool[place], id=f"{pool[place].id}~repeat-{turn + 1}"))
        if missing:
            repeated[action] = missing
    return (*samples, *repeats), repeated


def _meaning(option: str) -> str:
    words = _normal(option)
    return next((group[0] for group in _SAME_MEANING if words in group), words)


def _excludes_itself(option: str) -> bool:
    """Whether an option says two things of which only one can be: "not moving" and "driving fast"."""
    words = _normal(option)
    return any(re.search(one, words) and re.search(other, words) for one, other in _EXCLUDE_EACH_OTHER)


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")


def _asked(sample: DrivingSample) -> tuple[str, str]:
    return sample.frame_id, _normal(sample.question)


def _said(sample: DrivingSample) -> str:
    return _normal(sample.choices.get(sample.answer, sample.answer))


def _split(samples: Iterable[DrivingSample], keep: Callable[[DrivingSample], bool], reason: str) -> Filtered:
    kept: list[DrivingSample] = []
    lost: list[str] = []
    for sample in samples:
        if keep(sample):
            kept.append(sample)
        else:
            lost.append(sample.id)
    return Filtered(tuple(kept), {reason: lost} if lost else {})


def _drawn(samples: Sequence[DrivingSample], frames: int, questions: int | None, seed: int) -> Filtered:
    """The questions that are drawn of the frames that are drawn."""
    chosen = frozenset(draw_frames({sample.frame_id for sample in samples}, frames, seed))
    of_frames = _split(samples, lambda sample: sample.frame_id in chosen, NOT_DRAWN)
    if questions is None:
        return of_frames
    asked = draw_questions(of_frames.kept, questions, seed)
    of_questions = _split(of_frames.kept, lambda sample: sample.id in asked, QUESTION_NOT_DRAWN)
    return Filtered(of_questions.kept, _merged(of_frames.dropped, of_questions.dropped))


def _within_band(
    samples: Sequence[DrivingSample], difficulty: Difficulty, band: tuple[float, float]
) -> tuple[Filtered, dict[str, list[str]]]:
    """The samples with a score whose frame lies in the band, and the ids of those without a score."""
    unscored = frozenset(id_ for ids in difficulty.dropped.values() for id_ in ids)
    inside = frozenset(frames_within(difficulty.frames, band))
    scored = [sample for sample in samples if sample.id not in unscored]
    return _split(scored, lambda sample: sample.frame_id in inside, OUTSIDE_BAND), difficulty.dropped


def _merged(*parts: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {reason: ids for part in parts for reason, ids in part.items()}


def _refuse_empty(
    samples: Sequence[DrivingSample], dropped: Mapping[str, list[str]], difficulty: Difficulty | None
) -> None:
    if samples:
        return
    counted = ", ".join(f"{len(ids)} {reason}" for reason, ids in dropped.items()) or "there was none"
    if difficulty is not None and difficulty.frames:
        low, high = min(difficulty.frames.values()), max(difficulty.frames.values())
        raise DataError(
            f"no sample is left ({counted}); the frames' difficulty runs from {low:.1f} to {high:.1f}: move or widen "
            f"the band, or score more frames"
        )
    mend = "leave fewer frames out" if difficulty is None else "score the samples, or leave fewer frames out"
    raise DataError(f"no sample is left ({counted}); {mend}")
