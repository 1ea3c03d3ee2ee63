"""What a reader of a run's report must not miss, in sentences, good and bad alike. Reads a run's record; draws nothing.

Each sentence is made by a function of its own, which says nothing where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from evaluation import run_record as names
from evaluation.comparison.before_after import AFTER, BEFORE, Change, Comparison
from evaluation.comparison.differences import Difference
from evaluation.numbers import counted_noun, fixed
from evaluation.pages.opening import Opening
from evaluation.run_record import RunRecord

FEWEST_QUESTIONS = 20
"""Of fewer held-out questions no change is called one."""
CERTAIN = 1.96
"""Standard errors beyond which a change is called one: 95 %."""
WINDOW = 5
"""Steps over which a reward is averaged before its falls are looked for."""
FALL = 20.0
"""Points by which a task's reward must have fallen to be worth a sentence."""
ALARMS_SHOWN = 3
"""More alarms are only counted."""
CONTROL, SWAPPED = "continued_warm_start", "swapped"

Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, and whether it is good news."""

    tone: Tone
    text: str


def findings(run: RunRecord, comparison: Comparison | None, opening: Opening | None) -> list[Finding]:
    """The sentences in the order in which they matter."""
    found: list[Finding] = []
    if comparison is not None and opening is not None:
        found += [*_verdict(opening.mean), *_tasks_that_fell(comparison), *_control(comparison), *_swapped(comparison)]
    return [*found, *_falls(run), *_alarms(run), *_flat_groups(run)]


def tone_of(difference: Difference) -> Tone:
    """Whether a difference of held-out answers is one, and which way it goes."""
    if difference.low is None or difference.high is None or difference.questions < FEWEST_QUESTIONS:
        return "plain"
    return "good" if difference.low > 0 else "bad" if difference.high < 0 else "plain"


def tone_of_change(change: Change | None, questions: int) -> Tone:
    """The same of one row of the table."""
    if change is None or change.stderr is None or questions < FEWEST_QUESTIONS:
        return "plain"
    if abs(change.value) <= CERTAIN * change.stderr:
        return "plain"
    return "good" if change.value > 0 else "bad"


def _verdict(mean: Difference) -> Iterator[Finding]:
    asked = counted_noun(mean.questions, "held-out question")
    if mean.questions < FEWEST_QUESTIONS:
        more = "evaluation.samples_per_task and data.held_out ask more of them"
        yield Finding(
            "plain", f"Only {asked} were answered before and after: too few to tell a change from luck; {more}."
        )
    elif mean.low is not None and mean.high is not None and mean.low <= 0 <= mean.high:
        yield Finding("plain", f"The change may be luck: its 95 % interval over {asked} holds 0.")


def _tasks_that_fell(comparison: Comparison) -> Iterator[Finding]:
    for row in comparison.rows[:-1]:
        if row.reward_change is not None and tone_of_change(row.reward_change, row.samples) == "bad":
            before, after = fixed(row.reward[BEFORE]), fixed(row.reward[AFTER])
            yield Finding(
                "bad", f"{row.title} became worse: {before} before, {after} after. Its losses are shown below."
            )


def _control(comparison: Comparison) -> Iterator[Finding]:
    """What the supervised control says about this use of RL."""
    control, after = comparison.overall.reward.get(CONTROL), comparison.overall.reward.get(AFTER)
    if control is None or after is None:
        return
    if comparison.overall.samples < FEWEST_QUESTIONS or control == after:
        yield Finding(
            "plain", f"For as long as RL took, more supervised steps reach {fixed(control)}, and RL {fixed(after)}."
        )
    elif control > after:
        yield Finding(
            "bad",
            f"For as long as RL took, more supervised steps reach {fixed(control)}, and RL {fixed(after)}: where the "
            "true answers are at hand, showing them taught more here than rewarding. RL is for answers that nobody can "
            "copy: reasoning, free words under a judge, or a reward that is not the annotated answer.",
        )
    else:
        yield Finding(
            "good", f"For as long as RL took, more supervised steps reach {fixed(control)}, and RL {fixed(after)}."
        )


def _swapped(comparison: Comparison) -> Iterator[Finding]:
    blind, after, before = (comparison.overall.reward.get(name) for name in (SWAPPED, AFTER, BEFORE))
    if blind is None or after is None or before is None:
        return
    if after - blind < 0.25 * max(after - before, 0.0) or after <= blind:
        yield Finding(
            "bad",
            f"With the images of another scene the answers still earn {fixed(blind)} of {fixed(after)}: little of what "
            "was learnt needs the images.",
        )


def _falls(run: RunRecord) -> Iterator[Finding]:
    """The largest fall of each task's training reward from a height it had."""
    for task in run.tasks():
        points = run.series(names.task_reward(task))
        if (fall := _largest_fall([value for _, value in points])) is None:
            continue
        top, low, last = fall
        reached, now = _mean_around(points, low), _mean_around(points, last)
        tail = f", and ended at {fixed(now)}" if now >= reached + FALL / 2 else ""
        yield Finding(
            "bad",
            f"{task.capitalize()} fell in training: from {fixed(_mean_around(points, top))} around step "
            f"{points[top][0]:.0f} to {fixed(reached)} around step {points[low][0]:.0f}{tail}.",
        )


def _largest_fall(values: Sequence[float]) -> tuple[int, int, int] | None:
    """The places of the height and of the depth after it of the largest fall of the moving mean, and the last place."""
    if len(values) < 2 * WINDOW:
        return None
    means = [fmean(values[at : at + WINDOW]) for at in range(len(values) - WINDOW + 1)]
    top, best = 0, (0.0, 0, 0)
    for at, mean in enumerate(means):
        top = at if mean > means[top] else top
        best = max(best, (means[top] - mean, top, at), key=lambda fall: fall[0])
    fell, high, low = best
    middle = WINDOW // 2
    return (high + middle, low + middle, len(means) - 1 + middle) if fell >= FALL else None


def _mean_around(points: Sequence[tuple[float, float]], place: int) -> float:
    return fmean(value for _, value in points[max(place - WINDOW // 2, 0) : place + WINDOW // 2 + 1])


def _alarms(run: RunRecord) -> Iterator[Finding]:
    """What called for a person on the way; falls have their sentence."""
    for alarm in [one for one in run.alarms if one.get("kind") != "reward_fall"][:ALARMS_SHOWN]:
        yield Finding("bad", f"Alarm at step {alarm['step']}: {alarm['message']}.")


def _flat_groups(run: RunRecord) -> Iterator[Finding]:
    """Groups whose responses all earn the same teach nothing."""
    groups = sum(step.get(names.GROUPS) or 0 for step in run.steps)
    flat = sum(step.get(names.ZERO_STD_GROUPS) or 0 for step in run.steps)
    if groups and flat > groups / 2:
        yield Finding(
            "plain",
            f"{100 * flat / groups:.0f} % of the groups taught nothing: all their responses earned the same. A higher "
            "rollout.temperature, larger groups or harder questions give more to compare.",
        )
