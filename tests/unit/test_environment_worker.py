"""The worker: what an environment does wrong is a fault of its own episode, under a name, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.driving.worker import EnvironmentWorker, Fault, Moved, Seen
from data.environment import Observation, Outcome, Step, environment_of
from data.episode import Start, StartOrder, measured_starts
from data.errors import DataError
from data.settings import EnvironmentSettings
from docs.examples.sums import Sums
from extension import ExtensionError, NoOptions

SHOWN = Observation("?", {"A": np.zeros((4, 6, 3), dtype=np.uint8)}, {"speed": 1.0})


def other(**changed: Any) -> Observation:
    fields = {"question": "?", "images": SHOWN.images, "state": SHOWN.state} | changed
    return Observation(**fields)


class Odd:
    """Goes wrong in its second step, in the way that the scenario names."""

    Settings = NoOptions
    measures = ("progress",)
    ways: dict[str, Callable[[], Step]] = {
        "raises": lambda: 1 / 0,  # type: ignore[dict-item, return-value]
        "size": lambda: Step(other(images={"A": np.zeros((4, 7, 3), dtype=np.uint8)})),
        "count": lambda: Step(other(images={})),
        "kind": lambda: Step(other(images={"A": np.zeros((4, 6, 3))})),
        "nan": lambda: Step(other(state={"speed": float("nan")})),
        "well": lambda: Step(None, {"progress": 1.0}),
        "endless": lambda: Step(SHOWN),
    }

    def __init__(self, settings: NoOptions) -> None:
        self.turn = 0

    def scenarios(self, *, held_out: bool) -> tuple[str, ...]:
        return tuple(self.ways)

    def reset(self, scenario: str, seed: int) -> Observation:
        if scenario == "unknown":
            raise DataError("there is no scenario unknown")
        self.scenario = scenario
        return None if scenario == "at_once" else SHOWN  # type: ignore[return-value]

    def step(self, response: str, seconds: float) -> Step:
        self.turn += 1
        return Step(SHOWN) if self.turn == 1 else self.ways[self.scenario]()

    def outcome(self) -> Outcome:
        return Outcome({"route_id": "x"}, {})


def settings(**given: Any) -> EnvironmentSettings:
    return EnvironmentSettings(name="tests.unit.test_environment_worker:Odd", weights={}, **given)


def moved_twice(folder: Path, scenarios: list[str], worker: EnvironmentWorker) -> dict[str, Any]:
    begun = worker.begin(str(folder), {name: Start(name, 0) for name in scenarios})
    found: dict[str, Any] = {key: one for key, one in begun.items() if isinstance(one, Fault)}
    for _ in range(2):
        found |= worker.move(str(folder), {key: ("x", 0.0) for key in begun if key not in found})
        found = {key: one for key, one in found.items() if not (isinstance(one, Moved) and one.seen is not None)}
    return found


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("raises", "raised: step raised ZeroDivisionError: division by zero"),
        ("size", r"other_images: A is \(4, 7, 3\), at first \(4, 6, 3\)"),
        ("count", "other_images: it shows none, at first A"),
        ("kind", r"other_images: A is float64 of \(4, 6, 3\), not uint8"),
        ("nan", "not_finite: its state holds speed=nan"),
        ("at_once", "ended_at_once: reset of at_once/0 gave NoneType"),
        ("unknown", "refused: there is no scenario unknown"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_the_other_episode_goes_on(
    tmp_path: Path, scenario: str, said: str
) -> None:
    found = moved_twice(tmp_path, [scenario, "well"], EnvironmentWorker(settings()))
    assert isinstance(found[scenario], Fault)
    assert __import__("re").match(said, found[scenario].why), found[scenario].why
    assert isinstance(found["well"], Moved)
    assert found["well"].seen is None
    assert found["well"].record == {"route_id": "x"}


def test_an_episode_of_a_worker_that_was_started_again_is_lost(tmp_path: Path) -> None:
    found = EnvironmentWorker(settings()).move(str(tmp_path), {"a": ("x", 0.0)})
    assert found["a"] == Fault("lost: the worker that held it was started again")


def test_an_episode_ends_after_the_most_turns(tmp_path: Path) -> None:
    worker = EnvironmentWorker(settings(max_turns=2))
    found = moved_twice(tmp_path, ["endless"], worker)
    assert isinstance(found["endless"], Moved)
    assert found["endless"].seen is None


def test_images_lie_in_files_by_episode_and_turn(tmp_path: Path) -> None:
    seen = EnvironmentWorker(EnvironmentSettings()).begin(str(tmp_path), {"k": Start("bend", 1)})["k"]
    assert isinstance(seen, Seen)
    assert [Path(path).name for path in seen.images.values()] == ["k-000-GRID.png"]
    assert seen.question == "Speed 7, limit 9. Ahead: nothing. What do you do?"


def test_a_weight_for_what_is_not_measured_is_refused() -> None:
    with pytest.raises(DataError, match=r"environment\.weights\.style: driving measures progress, collision"):
        environment_of(EnvironmentSettings(weights={"style": 1.0}))


def test_an_unknown_environment_or_option_is_refused() -> None:
    with pytest.raises(ExtensionError, match=r"environment\.name=drivin is unknown .*driving"):
        environment_of(EnvironmentSettings(name="drivin"))
    with pytest.raises(ExtensionError, match=r"environment\.options\.anser"):
        environment_of(EnvironmentSettings(options={"anser": "act"}))
    with pytest.raises(DataError, match="no scenario family 'moon'"):
        environment_of(EnvironmentSettings(options={"families": ["moon"]}))


def test_starts_are_drawn_in_turn_and_go_on_from_a_position() -> None:
    order = StartOrder(("a", "b", "c"), seed=1)
    ids = [sample.scene_id for sample in order.take(7)]
    assert ids[:4] == ["a/1010000", "b/1010000", "c/1010000", "a/1010001"]
    assert [sample.scene_id for sample in StartOrder(("a", "b", "c"), seed=1, position=4).take(3)] == ids[4:]
    measured = {start.id for start in measured_starts(("a", "b", "c"), 5, seed=1)}
    assert not measured & set(ids)


def test_the_example_of_a_text_task_is_an_environment_and_can_be_solved(tmp_path: Path) -> None:
    given = EnvironmentSettings(name="docs.examples.sums:Sums", weights={"right": 100.0, "call": -5.0})
    worker = EnvironmentWorker(given)
    worker.start()
    seen = worker.begin(str(tmp_path), {"k": Start("small", 1)})["k"]
    assert isinstance(seen, Seen)
    assert not seen.images
    goal = int(seen.question.split()[1].rstrip("."))
    answers = [f"add {min(9, goal)}", "done"] if goal <= 9 else []
    steps = [worker.move(str(tmp_path), {"k": (answer, 0.0)})["k"] for answer in answers]
    last = steps[-1]
    assert isinstance(last, Moved)
    assert last.measures["right"] == 1.0
    odd = Sums(Sums.Settings())
    odd.reset("small", 0)
    assert odd.step("sing", 0.0).events == ("unknown_action: 'sing' calls no tool",)
