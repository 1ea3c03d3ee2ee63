"""MLflow as a tracker: a file of SQLite beside the runs, or a server. Imports mlflow when it starts."""

from __future__ import annotations

import importlib.util
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from actors.record.tracker import SampleRow, TrackedRun

PARAMETERS_AT_ONCE = 100
METRICS_AT_ONCE = 1000
LONGEST_PARAMETER = 6000
"""MLflow's own limits."""
KEPT_S = 10.0
"""Points of curves are handed over together about this often."""


class MlflowTracker:
    """A run of an MLflow experiment."""

    class Settings(BaseModel):
        """Where the run goes."""

        model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

        uri: str | None = None
        """The tracking server or database; None: `mlflow.db` beside the run folders (SQLite)."""
        experiment: str = "autodriverl"
        """The experiment."""

    def __init__(self, options: Settings, run: TrackedRun) -> None:
        """See `Tracker`."""
        self._options, self._run = options, run
        self._client: Any = None
        self._id = ""
        self._points: list[Any] = []
        self._handed = 0.0

    @staticmethod
    def lacking() -> str | None:
        """What is missing on this machine."""
        found = all(map(importlib.util.find_spec, ("mlflow", "sqlalchemy", "alembic")))
        said = "uv pip install --constraint constraints.txt --overrides overrides.txt '.[mlflow]'"
        return None if found else f"mlflow is not installed: {said}"

    def start(self) -> str:
        """See `Tracker`."""
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
        run, root = self._run, self._run.folder.parent
        own = self._options.uri is None
        client = self._client = MlflowClient(
            tracking_uri=f"sqlite:///{root / 'mlflow.db'}" if own else self._options.uri
        )
        experiment = client.get_experiment_by_name(self._options.experiment)
        files = (root / "mlflow-artifacts").as_uri() if own else None
        number = experiment.experiment_id if experiment else client.create_experiment(self._options.experiment, files)
        if run.known_as is not None:
            self._id = run.known_as
            client.set_terminated(self._id, "RUNNING")
            return self._id
        tags = {"autodriverl.folder": str(run.folder), "autodriverl.tags": ", ".join(run.tags)}
        self._id = client.create_run(number, run_name=run.name, tags=tags).info.run_id
        self._log_recipe()
        return self._id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`; values that are not finite are left out, which SQLite does not take.

        Many points at once cost MLflow little more than one: they are kept for some seconds.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points += [Metric(name, value, now, step) for name, value in values.items() if math.isfinite(value)]
        if len(self._points) >= METRICS_AT_ONCE or time.monotonic() - self._handed >= KEPT_S:
            self._hand_over()

    def _hand_over(self) -> None:
        points, self._points, self._handed = self._points, [], time.monotonic()
        for at in range(0, len(points), METRICS_AT_ONCE):
            self._client.log_batch(self._id, metrics=points[at : at + METRICS_AT_ONCE])

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        """See `Tracker`: a table in MLflow's own form, and a picture for each row."""
        folder = f"samples/step_{step:06d}"
        columns = ["task", "question", "truth", "response", "reward"]
        data = [[getattr(row, column) for column in columns] for row in rows]
        self._client.log_dict(self._id, {"columns": columns, "data": data}, f"{folder}/table.json")
        for number, row in enumerate(rows):
            if (picture := row.picture()) is not None:
                self._client.log_image(self._id, picture, f"{folder}/{number}.png")

    def close(self) -> None:
        """See `Tracker`."""
        if self._client is not None:
            self._hand_over()
            self._client.set_terminated(self._id)

    def _log_recipe(self) -> None:
        from mlflow.entities import Param

        given = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in _flat(self._run.recipe)]
        for at in range(0, len(given), PARAMETERS_AT_ONCE):
            self._client.log_batch(self._id, params=given[at : at + PARAMETERS_AT_ONCE])


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings by its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
