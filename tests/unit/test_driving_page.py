"""The part of a run's page that shows driving: what was mended and broken, moving, with nothing fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data.driving.actions import Action
from data.driving.codec import codec_of
from data.driving.environment import Driving, DrivingSettings
from data.driving.expert import expert_action
from data.driving.replay import replayed
from data.driving.world import World
from data.episode import Start
from data.rollout import Rollout
from evaluation.driving import driving_result, succeeded
from evaluation.pages.driving import driving_part
from evaluation.pages.run_report import write_report
from rewards.episode import Episode, Turn


def drive(start: Start, choose: Callable[[World], Action], seconds: float = 0.0) -> Episode:
    environment, episode = Driving(DrivingSettings()), Episode(start, 0)
    seen = environment.reset(start.scenario, start.seed)
    while True:
        said = choose(environment.world).text
        step = environment.step(said, seconds)
        sample = episode.sample(seen.question, {})
        rollout = Rollout(sample.id, sample.id, (1,), (2,), (0.0,), said, "stop", 0, "e", 0.0, 1.0)
        episode.turns.append(Turn(sample, rollout, dict(step.measures), step.events))
        if step.observation is None:
            outcome = environment.outcome()
            episode.record, episode.trace = outcome.record, outcome.trace
            return episode
        seen = step.observation


def on(_: World) -> Action:
    return Action("accelerate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tmp_path_factory.mktemp("driven")
    for name, choose in (("before", on), ("after", expert_action)):
        scenarios = [drive(Start(family, 1), choose) for family in ("cut_in", "bend")]
        families = [drive(Start("fog_crossing", 2), choose)]
        driving_result(name, 1, {"scenarios": scenarios, "families": families}).write(found)
    return found


def test_the_page_shows_the_same_scenario_before_and_after_and_needs_neither_script_nor_network(folder: Path) -> None:
    page = write_report(folder).read_text()
    assert "Driving score on 2 held-out scenarios: " in page
    assert "Mended: cut in 1" in page
    assert "animateTransform" in page
    assert "data:image/png;base64," in page
    assert "could not be shown" not in page
    assert "episodes score higher after RL than before" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_before_there_is_an_after_nothing_is_said_of_mended_episodes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "driving").mkdir()
    (tmp_path / "driving" / "before.json").write_bytes((folder / "driving" / "before.json").read_bytes())
    page = write_report(tmp_path).read_text()
    assert "<th>Turns</th>" in page
    assert "episodes score higher" not in page


def test_where_action_tokens_led_is_drawn(tmp_path: Path) -> None:
    codec = codec_of("driving")
    for name, seed in (("before", 3), ("after", 4)):
        environment, episode = Driving(DrivingSettings(codebook="driving")), Episode(Start("cut_in", 1), 0)
        environment.reset("cut_in", 1)
        said = (lambda world: codec.expert(world).text) if name == "after" else (lambda _: "<act_0120>")
        while environment.step(said(environment.world), 0.0).observation is not None:
            pass
        outcome = environment.outcome()
        episode.record, episode.trace = outcome.record, outcome.trace
        driving_result(name, seed, {"scenarios": [episode], "families": []}).write(tmp_path)
    part = driving_part(tmp_path)
    assert part is not None
    (shown,) = part["shown"]
    plans = episode.trace["plans"]
    assert str(shown.drives[1].animation).count("<circle") == len(plans) > 5


def test_what_changed_is_counted_by_episode(folder: Path) -> None:
    part = driving_part(folder)
    assert part is not None
    assert (part["measured"], part["broken"]) == (3, 0)
    assert part["mended"] == 2
    assert [name for name, _ in part["families"]][0] in ("cut_in", "bend", "fog_crossing")
    assert driving_part(folder.parent / "nowhere") is None


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_an_episode_is_driven_again_as_it_was(seconds: float) -> None:
    episode = drive(Start("van_child", 4), expert_action, seconds)
    *_, world = replayed(episode.trace)
    assert [round(value, 3) for value in world.trace[-1]] == episode.trace["path"][-1]
    assert len(world.trace) == len(episode.trace["path"])


def test_the_figures_are_those_of_bench2drive() -> None:
    result = driving_result(
        "x", 0, {"scenarios": [drive(Start("red_light", 0), on), drive(Start("bend", 0), expert_action)]}
    )
    part = result.parts["scenarios"]
    assert [succeeded(one) for one in result.episodes] == [False, True]
    assert part.driving_score == pytest.approx((70.0 + 100.0) / 2)
    assert part.success == 50.0
    assert part.collisions == 0.0
    assert part.comfort is not None
