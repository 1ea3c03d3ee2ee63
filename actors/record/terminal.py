"""The live table of a run in a terminal, and one compact line per step where there is none (a job's log).

Shows what the journal hands it; computes nothing but the trend and the time left.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evaluation import run_record as names
from evaluation.time_parts import in_words

TREND_STEPS = 32
TREND_MARKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a metric, its name in words and in a log line, and how a value is written."""

    metric: str
    title: str
    short: str
    write: Callable[[float], str]


def _number(value: float) -> str:
    return f"{value:.1f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _small(value: float) -> str:
    return f"{value:.2g}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


ROWS = (
    Row(names.REWARD_MEAN, "reward", "reward", _number),
    Row(names.LENGTH_MEAN, "response length (tokens)", "length", _number),
    Row(names.OVERLONG_SHARE, "over-long responses", "overlong", _percent),
    Row(names.MASKED_ROLLOUTS, "masked rollouts", "masked", _count),
    Row("clip_share", "clip ratio", "clip", _percent),
    Row("kl", "KL to the reference", "kl", _small),
    Row(names.PROBE_GAP, "probe gap (engine/learner log-prob)", "probe gap", _small),
    Row(names.ROLLOUT_GAP, "rollout gap (engine/learner log-prob)", "rollout gap", _small),
    Row("tokens_per_s", "tokens/s", "tok/s", _count),
    Row("staleness", "staleness (versions)", "stale", _number),
)


def _rows(metrics: Iterable[str]) -> list[Row]:
    """The rows of a table of these metrics: the tasks of the data come after their mean."""
    tasks = [Row(names.task_reward(task), f"  {task}", task, _number) for task in names.tasks_of(metrics)]
    return [ROWS[0], *tasks, *ROWS[1:]]


class LiveTable:
    """The table of one run; draws itself anew on every `update`."""

    def __init__(self, run: str, steps: int, console: Console | None = None) -> None:
        """Prepare the table of a run of `steps` steps; nothing is drawn before the first update."""
        self._run, self._steps = run, steps
        self._console = console or Console()
        self._history: list[Mapping[str, float]] = []
        self._durations: list[float] = []
        self._last_update = time.monotonic()
        self._live: Live | None = None

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a finished step: in place in a terminal, as one more line elsewhere."""
        now = time.monotonic()
        self._durations.append(metrics.get("step_s", now - self._last_update))
        self._last_update = now
        self._history = [*self._history[1 - TREND_STEPS :], metrics]
        if not self._console.is_terminal:
            self._console.print(self._line(step), soft_wrap=True, highlight=False, markup=False)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self._table(step), refresh=True)

    def warn(self, message: str) -> None:
        """Say something above the table that should not be missed."""
        self._console.print(message, style="bold red", soft_wrap=True, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last state of the table on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _eta(self, step: int) -> str:
        left = statistics.median(self._durations[-TREND_STEPS:]) * max(self._steps - step, 0)
        return _duration(left)

    def _line(self, step: int) -> str:
        current = self._history[-1]
        shown = [f"{row.short} {row.write(current[row.metric])}" for row in _rows(current) if row.metric in current]
        took = [f"took {words}"] if (words := in_words(current)) else []
        return "  ".join([f"step {step}/{self._steps}", *shown, *took, f"eta {self._eta(step)}"])

    def _table(self, step: int) -> Table:
        current = self._history[-1]
        table = Table(
            title=f"{self._run} · step {step}/{self._steps} · {_duration(self._durations[-1])} a step · "
            f"{self._eta(step)} left",
            title_justify="left",
            caption=f"the last step: {words}" if (words := in_words(current)) else None,
            caption_justify="left",
        )
        table.add_column("metric")
        table.add_column("now", justify="right")
        table.add_column("change", justify="right", style="dim")
        table.add_column(f"last {len(self._history)} steps", no_wrap=True)
        for row in _rows({name: 0.0 for past in self._history for name in past}):
            if row.metric not in current:
                continue
            values = [past[row.metric] for past in self._history if math.isfinite(past.get(row.metric, math.nan))]
            change = values[-1] - values[0] if values else 0.0
            sign = "+" if change >= 0 else "-"
            style = "bold" if row.metric == names.REWARD_MEAN else ""
            now = row.write(current[row.metric])
            table.add_row(row.title, now, sign + row.write(abs(change)), trend(values), style=style)
        return table


def trend(values: Sequence[float]) -> Text:
    """The values as a row of block characters, the lowest lowest; a constant series lies flat."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(TREND_MARKS) - 1) / (high - low) if high > low else 0.0
    return Text("".join(TREND_MARKS[round((value - low) * scale)] for value in values), style="cyan")


def _duration(seconds: float) -> str:
    """`41 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
