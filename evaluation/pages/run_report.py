"""`report.html`: one self-contained page that shows what a run did. Reads the run folder only; no network, no script.

The page's form is in `run_report.html.j2`; here is what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from markupsafe import Markup

from data.formats.format import UNKNOWN
from evaluation import run_record as names
from evaluation.comparison.before_after import AFTER, BEFORE, Comparison, compare
from evaluation.held_out import FULL_SCORE
from evaluation.numbers import counted_noun, duration, fixed, percent, short
from evaluation.pages.driving import driving_part
from evaluation.pages.findings import findings, tone_of, tone_of_change
from evaluation.pages.gallery import Card, best_and_worst, gains_and_losses
from evaluation.pages.opening import next_commands, opening
from evaluation.pages.page import Tile, write_page
from evaluation.pages.panels import benchmark_panels, health_panels, training_panels
from evaluation.predicted import predicted_and_measured
from evaluation.run_record import RunRecord, read_run
from evaluation.settings import EvaluationSettings
from evaluation.time_parts import response_parts, step_parts

T = TypeVar("T")

TEMPLATE = "run_report.html.j2"
GALLERY_SHARE = 0.25
"""Best and worst answers are taken from this last share of the steps: earlier ones are of a policy long gone."""
LIVE_SHARE = 0.05
"""The same while the run goes: the page is written often, and must not read much."""


def write_report(run_folder: Path, *, renewed_s: float = 0.0) -> Path:
    """Write `report.html` into a run folder, finished or not, and return its path.

    What cannot be read is left out, and the page says so.

    Args:
        run_folder: of the run.
        renewed_s: seconds after which the page is loaded again, as the run goes on; 0: never.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    run = read_run(run_folder, whatever_is_there=True)
    return write_page(run_folder, TEMPLATE, _context(run, renewed_s), tasks=run.tasks())


class _Parts:
    """Makes the parts of the page; one that an odd file spoils is left out, with a sentence on it."""

    def __init__(self) -> None:
        self.spoilt: list[str] = []

    def make(self, what: str, empty: Any, made: Callable[[], T]) -> T:
        try:
            return made()
        except Exception as error:  # whatever an odd file holds; the sentence stands on the page
            self.spoilt.append(f"{what} could not be shown ({type(error).__name__}: {error})")
            return empty


def _context(run: RunRecord, renewed_s: float) -> dict[str, Any]:
    parts, before, after = _Parts(), run.evaluations.get(BEFORE), run.evaluations.get(AFTER)
    comparison = parts.make("what changed", None, lambda: compare(run.evaluations))
    window = _gallery_window(run, LIVE_SHARE if renewed_s else GALLERY_SHARE)
    opened = parts.make("the opening", None, lambda: opening(before, after))
    rows = list(run.rollouts(window[0])) if window else []
    count = parts.make("as many answers as the recipe says", EvaluationSettings().answers_shown, lambda: _shown(run))
    best, worst = parts.make("the best and worst answers", ([], []), lambda: best_and_worst(rows, count))
    gains, losses = parts.make(
        "the answers that changed",
        ([], []),
        lambda: gains_and_losses(before, after, count) if before and after else ([], []),
    )
    cards = [*best, *worst, *gains, *losses]
    small = parts.make("curves of health", [], lambda: [*health_panels(run), *benchmark_panels(run)])
    return {
        "name": parts.make("the run's name", run.folder.name, lambda: _name(run)),
        "headline": parts.make("the headline", None, lambda: _headline(comparison)),
        "opening": opened,
        "findings": parts.make("what to know", [], lambda: findings(run, comparison, opened)),
        "tone_of": tone_of,
        "tone_of_change": tone_of_change,
        "renewed_s": math.ceil(renewed_s),
        "progress": parts.make("the progress", "", lambda: _progress(run)) if renewed_s else "",
        "driving": parts.make("the driving", None, lambda: driving_part(run.folder)),
        "next_commands": parts.make("what to do next", [], lambda: next_commands(run) if run.steps else []),
        "measured": parts.make("what was measured", "", lambda: _measured(run)),
        "overlap": parts.make(
            "scenes that were trained on", 0, lambda: len(run.trained_scenes() & _held_out_scenes(run))
        ),
        "facts": [
            *parts.make("the facts", [], lambda: _facts(run)),
            *parts.make("what was predicted", [], lambda: predicted_and_measured(run)),
        ],
        "tiles": parts.make("the figures", [], lambda: _tiles(run, comparison)),
        "panels": parts.make("curves of the training", [], lambda: training_panels(run)),
        "small_panels": small,
        "step_parts": parts.make("the time of a step", [], lambda: step_parts(run)),
        "response_parts": parts.make("the time of a response", [], lambda: response_parts(run)),
        "comparison": comparison,
        "scale": _scale,
        "window": window,
        "best": best,
        "worst": worst,
        "gains": gains,
        "losses": losses,
        "provenance": parts.make("the provenance", [], lambda: _provenance(run.provenance)),
        "recipe": run.recipe_text,
        "BEFORE": BEFORE,
        "AFTER": AFTER,
        "counted": [
            *parts.make("the counts", [], lambda: _counted(run, cards)),
            *(("could not be read", sentence) for sentence in (*run.unread, *parts.spoilt)),
        ],
    }


def _name(run: RunRecord) -> str:
    return str(run.recipe.get("run", {}).get("name", run.folder.name))


def _shown(run: RunRecord) -> int:
    settings: EvaluationSettings = EvaluationSettings.model_validate(run.recipe.get("evaluation", {}))
    return settings.answers_shown


def _planned(run: RunRecord) -> int:
    return int(run.recipe.get("run", {}).get("steps", len(run.steps)))


def _progress(run: RunRecord) -> str:
    """Where a run stands that goes on."""
    now = datetime.now(UTC).strftime("%H:%M:%S UTC")
    step = run.steps[-1]["step"] if run.steps else 0
    return f"running, step {step:.0f} of {_planned(run)} at {now}; this page renews itself"


def _gallery_window(run: RunRecord, share: float) -> tuple[int, int] | None:
    """The first and last step from which answers are shown; None before the first step."""
    if not run.steps:
        return None
    last = run.steps[-math.ceil(len(run.steps) * share) :]
    return last[0]["step"], last[-1]["step"]


def _held_out_scenes(run: RunRecord) -> set[str]:
    return {scene for result in run.evaluations.values() for scene in result.scenes}


def _headline(comparison: Comparison | None) -> dict[str, Any] | None:
    """Held-out reward before and after; None until both are measured."""
    if comparison is None or comparison.overall.reward_change is None:
        return None
    overall = comparison.overall
    change = overall.reward_change
    assert change is not None
    verb = "rose" if change.value > 0 else "fell" if change.value < 0 else "went"
    return {"before": overall.reward[BEFORE], "after": overall.reward[AFTER], "change": change, "verb": verb}


def _measured(run: RunRecord) -> str:
    """On what the figures stand, in one sentence."""
    if not run.evaluations:
        return "This run was not measured on held-out questions."
    result = run.evaluations.get(AFTER) or next(iter(run.evaluations.values()))
    temperature = run.recipe.get("evaluation", {}).get("temperature")
    how = " with greedy decoding" if temperature == 0 else f" at temperature {temperature}" if temperature else ""
    per_task = ", ".join(f"{of_task.samples} {task}" for task, of_task in result.tasks.items())
    return (
        f"Measured on {counted_noun(result.samples, 'held-out question')} ({per_task}) "
        f"about {counted_noun(len(result.scenes), 'scene')}{how}, scored 0 to 100 by the run's own reward."
    )


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    """What was trained on what, when, by which code."""
    recipe, provenance = run.recipe, run.provenance
    data, code = provenance.get("data", {}), provenance.get("code", {})
    facts = [("Model", str(recipe.get("policy", {}).get("model", "unknown")))]
    if data:
        facts.append(("Data", f"{data['source']}: {data['samples']:,} questions, {data['scenes']:,} scenes"))
        terms = " (non-commercial)" if data["licence"]["non_commercial"] else ""
        spdx = data["licence"]["spdx"]
        facts.append(("Data licence", "unknown" if spdx == UNKNOWN else spdx + terms))
    rollout = recipe.get("rollout", {})
    if rollout:
        facts.append(("Batch", f"{rollout['prompts_per_step']} questions × {rollout['group_size']} responses"))
    if "lr" in recipe.get("learner", {}):
        facts.append(("Learning rate", f"{recipe['learner']['lr']:g}"))
    if provenance:
        facts.append(("Started", provenance["started_at"].replace("T", " ").replace("+00:00", " UTC")))
        changed = " + local changes" if code["changed"] else ""
        facts.append(("Commit", code["commit"][:12] + changed if code["commit"] else "no git checkout"))
    return facts


def _tiles(run: RunRecord, comparison: Comparison | None) -> list[Tile]:
    tiles = []
    behavior = next((row for row in comparison.rows if row.title == "Behavior"), None) if comparison else None
    if behavior and behavior.accuracy_change is not None:
        controls = [f"majority answer {percent(behavior.majority_accuracy)}"]
        if behavior.accuracy.get("swapped") is not None:
            controls.append(f"images swapped {percent(behavior.accuracy['swapped'])}")
        value = f"{percent(behavior.accuracy[BEFORE])} → {percent(behavior.accuracy[AFTER])}"
        tiles.append(Tile("Behavior accuracy", value, ", ".join(controls)))
    if comparison and comparison.overall.reward.get("continued_warm_start") is not None:
        after = comparison.overall.reward.get(AFTER)
        note = f"held-out reward with supervised steps in place of RL, for as long; RL reached {fixed(after)}"
        tiles.append(Tile("Warm start continued", fixed(comparison.overall.reward["continued_warm_start"]), note))
    if comparison and BEFORE in comparison.columns and AFTER in comparison.columns:
        form = comparison.overall.valid_format
        value = f"{percent(form[BEFORE])} → {percent(form[AFTER])}"
        tiles.append(Tile("Valid format", value, "held-out answers, mean of the tasks"))
    rewards = [reward for _, reward in run.series(names.REWARD_MEAN)]
    if len(rewards) > 1:
        quarter = math.ceil(len(rewards) / 4)
        value = f"{fixed(fmean(rewards[:quarter]))} → {fixed(fmean(rewards[-quarter:]))}"
        tiles.append(
            Tile("Training reward", value, f"mean of the first and of the last {counted_noun(quarter, 'step')}")
        )
    gaps = [gap for _, gap in run.series(names.PROBE_GAP)]
    if gaps:
        tolerance = run.recipe.get("sync", {}).get("max_logprob_gap")
        bound = f"; the run stops above {short(tolerance)}" if tolerance else ""
        tiles.append(Tile("Probe gap", short(max(gaps)), f"engine to learner, largest at any weight sync{bound}"))
    if run.steps:
        rollouts = sum(step.get(names.ROLLOUTS, 0) for step in run.steps)
        seconds = sum(step.get("step_s") or 0 for step in run.steps)
        took = f" in {duration(seconds)}" if seconds else ""
        of = f" of {_planned(run)}" if len(run.steps) < _planned(run) else ""
        tiles.append(Tile("Steps", f"{len(run.steps)}{of}", f"{rollouts:,.0f} rollouts{took}"))
    return tiles


def _scale(before: float | None, after: float | None, tone: str) -> Markup:
    """A line from before to after on 0 to 100, for a cell of the table; `tone` colours it."""
    if before is None or after is None:
        return Markup("")
    place = [6 + 148 * value / FULL_SCORE for value in (before, after)]
    return Markup(
        '<svg class="scale {4}" viewBox="0 0 160 16" aria-hidden="true">'
        '<line class="rail" x1="6" x2="154" y1="8" y2="8"/>'
        '<line class="path" x1="{0:.1f}" x2="{1:.1f}" y1="8" y2="8"/><circle class="from" cx="{0:.1f}" cy="8" r="4"/>'
        '<circle class="to" cx="{1:.1f}" cy="8" r="5"/><title>{2} to {3}</title></svg>'
    ).format(place[0], place[1], fixed(before), fixed(after), tone)


def _counted(run: RunRecord, cards: Sequence[Card]) -> list[tuple[str, str]]:
    """Everything that was lost or teaches nothing, by name; silence would hide it."""
    total = sum(step.get(names.ROLLOUTS, 0) for step in run.steps)
    counted = []
    prefix = f"{names.MASKED_ROLLOUTS}/"
    reasons = sorted({metric for step in run.steps for metric in step if metric.startswith(prefix)})
    for metric in reasons:
        lost = sum(step.get(metric) or 0 for step in run.steps)
        counted.append((f"rollouts masked: {metric.removeprefix(prefix)}", f"{lost:,.0f} of {total:,.0f}"))
    groups = sum(step.get(names.GROUPS, 0) for step in run.steps)
    if groups:
        flat = sum(step.get(names.ZERO_STD_GROUPS, 0) for step in run.steps)
        counted.append(("groups without variance (no gradient)", f"{flat:,.0f} of {groups:,.0f}"))
        overlapped = sum(step.get(names.SCORING_OVERLAPPED_SHARE, 0) * step.get(names.GROUPS, 0) for step in run.steps)
        counted.append(("groups scored while still generating", f"{overlapped:,.0f} of {groups:,.0f}"))
    for name, result in run.evaluations.items():
        counted += [(f"held-out answers without a score ({name}): {why}", str(n)) for why, n in result.masked.items()]
        if result.canaries is not None:
            fooled = ", ".join(f"{one.canary.name} (+{one.gain:.1f})" for one in result.canaries.fooled) or "none"
            tried = len(result.canaries.results)
            counted.append((f"of {tried} worthless answers, above the empty one by the judge ({name})", fooled))
    counted += [(f"alarm at step {alarm['step']}", alarm["message"]) for alarm in run.alarms]
    counted += [(what, str(number)) for what, number in run.dropped.items()]
    not_finite = sorted({metric for step in run.steps for metric in step.get("not_finite", [])})
    counted += [("metrics that were not finite at some step", ", ".join(not_finite))] if not_finite else []
    missing = sum(thumbnail.uri is None for card in cards for thumbnail in card.thumbnails)
    counted += [("images of this page that could not be read", str(missing))] if missing else []
    return counted


def _provenance(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """The provenance as label and text, flat; packages last and in one line."""
    flat: list[tuple[str, str]] = []

    def add(prefix: str, tree: dict[str, Any]) -> None:
        for key, value in tree.items():
            label = f"{prefix}{key.replace('_', ' ')}"
            if key == "packages":
                continue
            if isinstance(value, dict):
                add(f"{label}: ", value)
            elif isinstance(value, list):
                flat.append((label, " ".join(map(str, value)) or "none"))
            else:
                flat.append((label, "none" if value is None else str(value)))

    add("", provenance)
    packages = provenance.get("packages", {})
    if packages:
        flat.append(("packages", ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))))
    return flat
