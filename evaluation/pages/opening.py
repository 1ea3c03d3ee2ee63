"""How the report opens: before and after with an interval, the first answer that became right, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.comparison.differences import Difference, difference
from evaluation.comparison.paired import Pair, pair_answers
from evaluation.held_out import FULL_SCORE, AnswerRecord, EvaluationResult
from evaluation.pages.gallery import Card, Changed, changed_card
from evaluation.run_record import RunRecord

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Opening:
    """What a person wants to see first. An answer is right that has the full score."""

    mean: Difference
    """Of the mean of the tasks."""
    became_right: int
    """Held-out questions whose answer was wrong before and is right after."""
    became_wrong: int
    first: Card | None
    """The first question, by id, whose answer became right; None where there is none."""


def opening(before: EvaluationResult | None, after: EvaluationResult | None) -> Opening | None:
    """None where the policy was not measured before and after, or no answer of both has a score."""
    if before is None or after is None or not (pairs := pair_answers(before.answers, after.answers).pairs):
        return None
    right = sorted((pair for pair in pairs if _changed(pair, to_right=True)), key=lambda pair: pair.sample_id)
    wrong = sum(_changed(pair, to_right=False) for pair in pairs)
    return Opening(difference(pairs, RESAMPLES, seed=0), len(right), wrong, _card(right[0]) if right else None)


def _card(pair: Pair) -> Card:
    return changed_card(Changed(pair.change, (("before", pair.a[0]), ("after", pair.b[0]))))


def _changed(pair: Pair, *, to_right: bool) -> bool:
    was, now = _is_right(pair.a[0]), _is_right(pair.b[0])
    return was != now and now == to_right


def _is_right(answer: AnswerRecord) -> bool:
    return answer.value >= FULL_SCORE


def next_commands(run: RunRecord) -> list[tuple[str, str]]:
    """What can be done with the run: in words, and the command. A path outside the project is left to the reader."""
    settings = run.recipe.get("run", {})
    root, name = Path(settings.get("root", "runs")), settings.get("name", run.folder.name)
    runs = "PATH" if root.is_absolute() else str(root)
    steps = 2 * int(settings.get("steps", len(run.steps)))
    return [
        ("serve it", f"AUTODRIVERL_SERVE_KEY=a-long-secret-key python -m serve.app {runs}/{name}"),
        ("compare it with another run", f"python evaluate.py compare {runs}/{name} {runs}/OTHER"),
        ("train on", f"python train_grpo.py {runs}/{name}/recipe.yaml run.resume=true run.steps={steps}"),
    ]
