"""`Tracker`: where curves and sample tables also go, beside the run folder; and what feeds all of a run's. No ray.

`run.trackers` names them: a built-in one or `module:Class`, each with its options. They are fed by a thread of their
own, so that a slow server costs no step; one that fails is reported in a sentence and left out, and the run goes on.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from PIL import Image
from pydantic import BaseModel

from data.errors import DataError, one_line
from data.images import open_image
from data.sample import CAMERAS
from extension import ExtensionError, resolve, validated
from recipe import Recipe
from rewards.group import Group, ScoredRollout

TRACKERS: Mapping[str, str] = {
    "wandb": "actors.record.wandb_tracker:WandbTracker",
    "mlflow": "actors.record.mlflow_tracker:MlflowTracker",
}
"""What `run.trackers` may name beside `module:Class`."""
SETTING = "run.trackers"
IDS_FILE = "trackers.json"
"""In the run folder: what each tracker calls the run, so that a run that is resumed goes on in the same place."""
CLOSE_S = 60.0
"""Longest wait at the end for what trackers still have to take."""
VIEW_WIDTH = 200
"""Pixels of one camera in the picture of a sample."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One response for a table of samples."""

    task: str
    question: str
    truth: str
    response: str
    reward: float | None
    """0-100; None where its score failed."""
    parts: dict[str, float]
    images: tuple[str, ...]
    """Paths, in the order in which the prompt shows them."""

    def picture(self) -> Image.Image | None:
        """Its views side by side in rows of three, small; None where none can be read."""
        views = []
        for path in self.images:
            try:
                view = open_image(path)
            except DataError:  # the run counts it elsewhere; a table goes without
                continue
            view.thumbnail((VIEW_WIDTH, VIEW_WIDTH))
            views.append(view)
        if not views:
            return None
        width, height = max(view.width for view in views), max(view.height for view in views)
        columns = min(3, len(views))
        sheet = Image.new("RGB", (columns * width, -(-len(views) // columns) * height))
        for number, view in enumerate(views):
            sheet.paste(view, (number % columns * width, number // columns * height))
        return sheet


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a tracker is given about the run when it begins."""

    name: str
    tags: tuple[str, ...]
    folder: Path
    recipe: dict[str, Any]
    known_as: str | None
    """What the tracker called it before it was resumed; None at the first start."""


class Tracker(Protocol):
    """A place for the curves of a run. All calls come from one thread; any may raise, which ends this tracker alone."""

    Settings: ClassVar[type[BaseModel]]
    """A pydantic model of its options. Forbid extra keys."""

    def __init__(self, options: Any, run: TrackedRun) -> None:
        """Remember; `start` connects."""
        ...

    def start(self) -> str:
        """Connect, and return what the run is called there, for `TrackedRun.known_as`."""
        ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve; steps may come again, and late."""
        ...

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        """Show some responses of a step."""
        ...

    def close(self) -> None:
        """Hand over what is left."""
        ...


def check_trackers(recipe: Recipe) -> dict[str, tuple[type[Any], Any]]:
    """The class and the options of every tracker that a recipe names; starts nothing.

    Raises:
        ExtensionError: a name, a package or an option cannot be had; one sentence.
    """
    found: dict[str, tuple[type[Any], Any]] = {}
    for name, options in recipe.run.trackers.items():
        tracker = resolve(name, TRACKERS, Tracker, SETTING)
        if (lacking := getattr(tracker, "lacking", lambda: None)()) is not None:
            raise ExtensionError(f"{SETTING} names {name}, and {lacking}")
        found[name] = (tracker, validated(tracker.Settings, options or {}, f"{SETTING}.{name}"))
    return found


class Trackers:
    """All trackers of a run, in a thread of their own."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Nothing is connected yet.

        Raises:
            ExtensionError: as `check_trackers`.
        """
        self._ids_path = folder / IDS_FILE
        self._ids: dict[str, str] = json.loads(self._ids_path.read_text()) if self._ids_path.is_file() else {}
        plain = recipe.model_dump(mode="json")
        self._trackers = {
            name: tracker(options, TrackedRun(recipe.run.name, recipe.run.tags, folder, plain, self._ids.get(name)))
            for name, (tracker, options) in check_trackers(recipe).items()
        }
        self._every, self._shown = recipe.run.samples_every, recipe.run.samples_shown
        self._todo: queue.Queue[Callable[[Any], None] | None] = queue.Queue()
        self._failures: queue.Queue[str] = queue.Queue()
        self._thread: threading.Thread | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve; returns at once."""
        kept = dict(values)
        self._ask(lambda tracker: tracker.scalars(step, kept))

    def samples(self, step: int, groups: Sequence[Group]) -> None:
        """Show some responses of a step, where one is due; returns at once."""
        if self._trackers and self._every and (step == 1 or step % self._every == 0):
            rows = shown_rows(groups, self._shown)
            self._ask(lambda tracker: tracker.samples(step, rows))

    def failures(self) -> list[str]:
        """Why trackers were left out since the last call, in sentences."""
        found = []
        while not self._failures.empty():
            found.append(self._failures.get())
        return found

    def close(self) -> None:
        """Hand over what is left, for at most a minute."""
        if self._thread is None:
            return
        self._todo.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._failures.put(f"trackers did not take everything within {CLOSE_S:.0f} s; the run folder holds it all")
        self._thread = None

    def _ask(self, call: Callable[[Any], None]) -> None:
        if not self._trackers:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._feed, name="trackers", daemon=True)
            self._thread.start()
        self._todo.put(call)

    def _feed(self) -> None:
        for name in list(self._trackers):
            self._guarded(name, partial(self._begin, name))
        while (call := self._todo.get()) is not None:
            for name in list(self._trackers):
                self._guarded(name, call)
        for name in list(self._trackers):
            self._guarded(name, lambda tracker: tracker.close())

    def _begin(self, name: str, tracker: Any) -> None:
        self._ids[name] = tracker.start()
        self._ids_path.write_text(json.dumps(self._ids))

    def _guarded(self, name: str, call: Callable[[Any], None]) -> None:
        """Call a tracker; one that fails, in whatever way its library does, is left out from then on."""
        try:
            call(self._trackers[name])
        except Exception as error:
            del self._trackers[name]
            said = one_line(f"{type(error).__name__}: {error}")[:300]
            self._failures.put(f"{SETTING}: {name} is left out from here on, the run folder holds it all ({said})")


def shown_rows(groups: Sequence[Group], count: int) -> list[SampleRow]:
    """The best and the worst response of groups in turn, as many as asked for."""
    rows: list[SampleRow] = []
    for group in groups[: -(-count // 2)]:
        scored = sorted(group.rollouts, key=lambda one: (one.score.failure is not None, -one.score.value))
        rows += [_row(group, one) for one in (scored[:1] + scored[1:][-1:])]
    return rows[:count]


def _row(group: Group, scored: ScoredRollout) -> SampleRow:
    sample, score = group.sample, scored.score
    option = sample.choices.get(sample.answer)
    return SampleRow(
        task=sample.task,
        question=sample.question,
        truth=sample.answer if option is None else f"{sample.answer}. {option}",
        response=scored.rollout.text,
        reward=None if score.failure is not None else score.value,
        parts=dict(score.parts),
        images=tuple(_in_order(sample.images)),
    )


def _in_order(images: Mapping[str, str]) -> Iterable[str]:
    known = [images[camera] for camera in CAMERAS if camera in images]
    return known or images.values()
