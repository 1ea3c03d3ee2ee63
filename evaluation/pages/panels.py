"""The panels of a report: which metrics of a run are drawn, and how."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from markupsafe import Markup

from data.sample import TASKS
from evaluation import run_record as names
from evaluation.held_out import FULL_SCORE
from evaluation.numbers import fixed, fixed_tick, percent, percent_tick, short
from evaluation.pages.line_chart import SMOOTH_FROM, Axis, Series, line_chart, smooth
from evaluation.pages.tone import tone
from evaluation.run_record import RunRecord
from evaluation.suites.registry import suite_of_record


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart with its title, the value its line ends at, and a few words that say what is drawn."""

    title: str
    now: str
    note: str
    chart: Markup


def training_panels(run: RunRecord) -> list[Panel]:
    """AutoDriveRL's four training panels."""
    reward, share = Axis(fixed_tick, limit=FULL_SCORE), Axis(percent_tick, floor=0.0, limit=1.0)
    present = [Series(task, tone(task), run.series(names.task_reward(task))) for task in run.tasks()]
    return [
        _panel(run, "Mean reward", names.REWARD_MEAN, reward, fixed, "training rollouts, 0–100"),
        Panel(
            "Reward per task",
            "",
            "training rollouts, 0–100",
            line_chart(present, reward, "Reward per task over the training steps"),
        ),
        _panel(run, "Mean response length", names.LENGTH_MEAN, Axis(fixed_tick, floor=0.0), fixed, "tokens"),
        _panel(
            run, "Over-long responses", names.OVERLONG_SHARE, share, lambda v: percent(v, 1), "cut off at the token cap"
        ),
    ]


def health_panels(run: RunRecord) -> list[Panel]:
    """What tells a healthy run from a sick one, as small charts; those without a measurement are left out."""
    tolerance = run.recipe.get("sync", {}).get("max_logprob_gap")
    probes = Axis(short, logarithmic=True, reference=tolerance, reference_label="tolerance")
    share = Axis(percent_tick, floor=0.0, limit=1.0)
    small, count = Axis(short, floor=0.0), Axis(short, floor=0.0)
    wanted: list[tuple[str, str, Axis, Callable[[float], str], str]] = [
        ("Probe gap", names.PROBE_GAP, probes, short, "engine to learner, log-prob of the sync's probes"),
        ("Rollout gap", names.ROLLOUT_GAP, Axis(short, logarithmic=True), short, "the same of a step's rollout tokens"),
        ("KL", "kl", small, short, "to the reference policy"),
        ("Clip share", "clip_share", share, lambda v: percent(v, 1), "tokens whose ratio was clipped"),
        ("Valid format", names.VALID_FORMAT_SHARE, share, lambda v: percent(v, 1), "training responses"),
        ("Zero-variance groups", names.ZERO_STD_GROUPS, count, short, "all rewards equal: nothing to learn"),
        ("Entropy", "entropy", small, short, "nats per token"),
        ("Gradient norm", "grad_norm", small, short, "before clipping"),
        ("Throughput", "tokens_per_s", count, short, "response tokens per second"),
    ]
    return [
        _panel(run, title, metric, axis, write, note, width=360, height=190)
        for title, metric, axis, write, note in wanted
        if run.series(metric)
    ]


def benchmark_panels(run: RunRecord) -> list[Panel]:
    """What benchmarks measured on the way, one chart for each."""
    panels, tasks = [], run.tasks()
    for name, figures in run.benchmarks().items():
        suite = suite_of_record(name)
        shown = [figure for figure in figures if figure != "seconds"]
        headline, title = (shown, name) if suite is None else (suite.headline, suite.title)
        found = [(figure, run.series(names.benchmark_figure(name, figure))) for figure in headline]
        series = [
            Series(figure.rpartition("/")[2], _style(figure, tasks), points) for figure, points in found if points
        ]
        if series:
            chart = line_chart(series, Axis(short), f"{title} over the training steps", 360, 190)
            panels.append(Panel(name.replace("_", " "), "", "measured on the way", chart))
    return panels


def _style(figure: str, own: Collection[str]) -> str:
    """Tasks have their own colours."""
    task = figure.rpartition("/")[2]
    return tone(task) if task in TASKS or task in own else "single-line"


def _panel(
    run: RunRecord,
    title: str,
    metric: str,
    axis: Axis,
    write: Callable[[float], str],
    note: str,
    width: int = 520,
    height: int = 250,
) -> Panel:
    points = run.series(metric)
    latest = smooth(points)[-1:] if len(points) >= SMOOTH_FROM else points[-1:]
    chart = line_chart([Series("", "single-line", points)], axis, f"{title} over the training steps", width, height)
    return Panel(title, write(latest[0][1]) if latest else "", note, chart)
