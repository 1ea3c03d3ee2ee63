"""Trackers beside TensorBoard: real W&B offline, real MLflow on SQLite, and what happens when one fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mlflow.tracking import MlflowClient
from PIL import Image
from pydantic import BaseModel

from actors.record.journal import Journal
from actors.record.tracker import SampleRow, TrackedRun, Trackers, check_trackers
from extension import ExtensionError, NoOptions
from recipe import Recipe, load_recipe
from rewards.group import Group
from tests.unit.test_journal import group, sample, scored

TINY = str(Path(__file__).parents[2] / "recipes" / "tiny.yaml")


class Listening:
    """Keeps what it is given."""

    Settings: ClassVar[type[BaseModel]] = NoOptions
    heard: ClassVar[list[Any]] = []

    def __init__(self, options: Any, run: TrackedRun) -> None:
        self.run = run

    def start(self) -> str:
        self.heard.append(("start", self.run.known_as))
        return "its-name"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.heard.append((step, dict(values)))

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        self.heard.append((step, rows))

    def close(self) -> None:
        self.heard.append("closed")


class Failing(Listening):
    """A server that is away."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        raise ConnectionError("nobody answers at http://tracker:5000")


class Hanging(Listening):
    """A server that never answers."""

    go_on = threading.Event()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.go_on.wait(20)


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe([TINY, f"run.root={folder}", "run.live_report_s=0", *overrides])


def groups(folder: Path) -> list[Group]:
    Image.new("RGB", (320, 180), "teal").save(folder / "front.png")
    asked = replace(sample(), images={"CAM_FRONT": str(folder / "front.png")})
    return [group(asked, scored(), scored("A", value=0.0))]


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    Listening.heard.clear()


NAMED = "tests.unit.test_trackers"


def test_a_tracker_of_ones_own_gets_curves_and_samples_and_goes_on_under_its_name(tmp_path: Path) -> None:
    given = recipe(tmp_path, f"run.trackers={{'{NAMED}:Listening': {{}}}}")
    for _ in range(2):
        with Journal(given, tmp_path) as journal:
            journal.record(10, groups(tmp_path), {"loss": 1.0})
    assert Listening.heard[0] == ("start", None)
    (step, values), (_, rows), closed = Listening.heard[1:4]
    assert (step, values["loss"], closed) == (10, 1.0, "closed")
    assert [row.reward for row in rows] == [100.0, 0.0]
    assert Listening.heard[4] == ("start", "its-name")


def test_a_tracker_that_fails_is_reported_once_and_the_run_goes_on(tmp_path: Path) -> None:
    with Journal(recipe(tmp_path, f"run.trackers={{'{NAMED}:Failing': {{}}}}"), tmp_path) as journal:
        for step in (1, 2, 3):
            journal.record(step, [], {"loss": 1.0})
    (alarm,) = [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
    assert alarm["kind"] == "tracker_left_out"
    assert "nobody answers at http://tracker:5000" in alarm["message"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_tracker_that_hangs_holds_up_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.record.tracker.CLOSE_S", 0.1)
    Hanging.go_on.clear()
    with Journal(recipe(tmp_path, f"run.trackers={{'{NAMED}:Hanging': {{}}}}"), tmp_path) as journal:
        for step in (1, 2, 3):
            journal.record(step, [], {"loss": 1.0})
        assert journal.step == 3
    Hanging.go_on.set()
    assert "did not take everything" in (tmp_path / "alarms.jsonl").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("run.trackers={wandbb: {}}", r"run\.trackers=wandbb is unknown \(did you mean wandb\?"),
        ("run.trackers.wandb.projekt=x", r"unknown key run\.trackers\.wandb\.projekt \(did you mean project\?\)"),
        ("run.trackers.mlflow.uri=[1]", r"run\.trackers\.mlflow\.uri"),
    ],
)
def test_what_is_wrong_with_a_tracker_is_one_sentence_before_anything_starts(
    tmp_path: Path, given: str, said: str
) -> None:
    with pytest.raises(ExtensionError, match=said):
        check_trackers(recipe(tmp_path, given))


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(ExtensionError, match=rf"{name} is not installed: .*\[{name}\]"):
            check_trackers(recipe(tmp_path, f"run.trackers.{name}={{}}"))


@pytest.mark.slow
def test_mlflow_keeps_curves_parameters_and_sample_tables_and_goes_on_after_a_resume(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    given = recipe(tmp_path, "run.name=mine", "run.tags=[first, signs]", "run.trackers.mlflow={}")
    for step in (10, 20):
        trackers = Trackers(given, folder)
        trackers.scalars(step, {"reward/mean": 50.0 + step, "kl": float("nan")})
        trackers.samples(step, groups(tmp_path))
        trackers.close()
        assert trackers.failures() == []
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("autodriverl")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "reward/mean")
    assert [(point.step, point.value) for point in history] == [(10, 60.0), (20, 70.0)]
    assert run.info.status == "FINISHED"
    assert (run.data.params["run.name"], run.data.tags["autodriverl.tags"]) == ("mine", "first, signs")
    files = {file.path for file in client.list_artifacts(run.info.run_id, "samples/step_000010")}
    assert files == {"samples/step_000010/table.json", "samples/step_000010/0.png", "samples/step_000010/1.png"}


@pytest.mark.slow
def test_wandb_without_a_key_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    trackers = Trackers(recipe(tmp_path, "run.trackers.wandb.project=driving"), tmp_path)
    trackers.scalars(10, {"reward/mean": 50.0})
    trackers.samples(10, groups(tmp_path))
    trackers.close()
    assert trackers.failures() == []
    (kept,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(kept.glob("*.wandb"))[0].stat().st_size > 0
    assert list(kept.rglob("*.table.json")), "the samples"
    assert list(kept.rglob("*.png")), "their images"
