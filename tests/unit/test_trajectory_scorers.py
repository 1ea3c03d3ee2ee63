"""Scorers of planned trajectories, and the open-loop benchmark of a model that writes tokens."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from commands import evaluate
from data.faults import Faults
from data.formats.nuscenes import read_trajectories
from data.sample import DrivingSample, Trajectory
from data.tokens.bins import Bins
from data.trajectory import waypoint_text
from rewards.errors import RewardError
from rewards.route import Router
from rewards.score import Score
from rewards.settings import RewardSettings

STRAIGHT = tuple((0.0, 4.0 * n, 0.0) for n in range(1, 7))
CAR_AHEAD = ((0.0, 12.5, 1.5708, 4.5, 1.9),)
OTHERS = ((),) * 2 + (CAR_AHEAD,) + ((),) * 3


def sample(**changed: Any) -> DrivingSample:
    trajectory = Trajectory((), STRAIGHT, "forward", others=OTHERS)
    given = {"trajectory": trajectory, "answer": waypoint_text(STRAIGHT)} | changed
    return DrivingSample("a", "s", "f", "planning", "coordinates", "Where?", images={}, **given)  # type: ignore[arg-type]


@pytest.fixture
def bins(tmp_path: Path) -> Path:
    futures = [tuple((0.3 * k * n, 1.0 * n * v, 0.0) for n in range(1, 7)) for k in (-2, 0, 2) for v in range(6)]
    Bins.fit([Trajectory((), future, "forward") for future in futures], 512)[0].write(tmp_path / "bins.json", {})
    return tmp_path / "bins.json"


def scores(answer: str, bins: Path | None = None, name: str = "trajectory_ade") -> Score:
    routes = [{"kind": "coordinates", "scorers": {name: 1.0}}]
    settings = RewardSettings.model_validate({"routes": routes, "trajectory_bins": str(bins) if bins else None})
    router = Router(settings)
    router.check_routes([sample()])
    return asyncio.run(router.score(sample(), answer, "stop"))


def test_the_nearer_to_what_was_driven_the_more_it_is_worth() -> None:
    values = [scores(waypoint_text([(x + off, y) for x, y, _ in STRAIGHT])).value for off in (0.0, 0.5, 1.5, 40.0)]
    assert values[0] == 100.0
    assert values[2] == pytest.approx(50.0)
    assert values == sorted(values, reverse=True)
    assert scores(waypoint_text([(1.5, y) for _, y, _ in STRAIGHT])).parts["trajectory_ade/metres"] == pytest.approx(
        1.5
    )


def test_whom_the_plan_meets_counts_unless_what_was_driven_meets_him_too() -> None:
    assert scores(waypoint_text(STRAIGHT), name="trajectory_collision").value == 100.0
    met = [(0.0, 2.0 * n) for n in range(1, 6)]
    assert scores(waypoint_text([*met, (0.0, 12.0)]), name="trajectory_collision").value == 100.0
    faster = [(0.0, 1.0), (0.0, 6.0), (0.3, 12.4), (0.0, 16.0), (0.0, 20.0), (0.0, 24.0)]
    beside = tuple((4.0, y, 0.0) for _, y, _ in STRAIGHT)
    driven_past = sample(trajectory=Trajectory((), beside, "forward", others=OTHERS))
    router = Router(RewardSettings.model_validate({"routes": [{"scorers": {"trajectory_collision": 1.0}}]}))
    score = asyncio.run(router.score(driven_past, waypoint_text(faster), "stop"))
    assert (score.value, score.parts["trajectory_collision/steps"]) == (0.0, 1.0)


def test_a_ride_that_jerks_is_less_comfortable() -> None:
    jerky = [(0.0, y) for y in (4.0, 4.5, 12.0, 12.5, 22.0, 22.5)]
    assert scores(waypoint_text(STRAIGHT), name="trajectory_comfort").value == 100.0
    assert scores(waypoint_text(jerky), name="trajectory_comfort").value < 40.0


def test_tokens_are_read_by_their_bins_and_what_is_no_plan_is_zero_under_its_reason(bins: Path) -> None:
    tokens = Bins.read(bins).encode(STRAIGHT)
    assert scores(f"<think>free road</think><answer>{tokens}</answer>", bins).value > 95.0
    for answer, reason in (
        ("I turn left.", "no_tokens"),
        (tokens[:48], "cut_off"),
        (f"so {tokens}", "text_beside_tokens"),
    ):
        score = scores(answer, bins)
        assert (score.value, score.failure) == (0.0, None)
        assert score.parts[f"trajectory_ade/unreadable_{reason}"] == 1.0


def test_a_sample_without_boxes_or_with_another_rate_is_refused_before_a_run(bins: Path) -> None:
    for name, trajectory in (
        ("trajectory_collision", Trajectory((), STRAIGHT, "forward")),
        ("trajectory_ade", Trajectory((), STRAIGHT, "forward", 0.1)),
        ("trajectory_comfort", Trajectory((), STRAIGHT[:5], "forward")),
    ):
        router = Router(RewardSettings.model_validate({"routes": [{"scorers": {name: 1.0}}]}))
        with pytest.raises(RewardError, match=f"to {name}, which needs a driven trajectory"):
            router.check_routes([sample(trajectory=trajectory)])
    routes = [{"scorers": {"trajectory_ade": 1.0}}]
    settings = RewardSettings.model_validate({"routes": routes, "trajectory_bins": "nowhere.json"})
    router = Router(settings)
    with pytest.raises(RewardError, match=r"reward.trajectory_bins: .* is no file of trajectory bins"):
        router.check_routes([sample()])


def entry(token: str, future: Any = STRAIGHT, **more: Any) -> dict[str, Any]:
    return {"scene_token": "s", "token": token, "sdc_planning": [[list(point) for point in future]], **more}


def test_answers_of_nuscenes_become_tokens_and_boxes_come_along(tmp_path: Path, bins: Path) -> None:
    boxes = [[], [], [{"category": "vehicle.car", "box": list(CAR_AHEAD[0])}], [], [], []]
    gap = [*STRAIGHT[:5], (0.0, 400.0, 0.0)]
    entries = [entry("a", future_boxes=boxes, images=[]), entry("b", gap, future_boxes=boxes, images=[])]
    (tmp_path / "way.json").write_text(json.dumps(entries))
    faults = Faults()
    (one,) = read_trajectories(tmp_path / "way.json", None, faults, bins=Bins.read(bins))
    assert one.answer == Bins.read(bins).encode(STRAIGHT)
    assert one.question.endswith("Reply with 6 points as tokens.")
    assert list(faults.dropped) == ["trajectory_gap"]


def test_open_loop_reads_tokens_under_both_protocols_and_counts_what_it_cannot_read(
    tmp_path: Path, bins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "way.json").write_text(json.dumps([entry(name) for name in "abc"]))
    tokens = Bins.read(bins).encode(STRAIGHT)
    said = {"a": tokens, "b": f"<think>I go on.</think><answer>{tokens}</answer>", "c": tokens[:48]}
    (tmp_path / "said.json").write_text(json.dumps(said))
    arguments = ["open_loop", "--answers", str(tmp_path / "way.json"), "--predictions", str(tmp_path / "said.json")]
    assert evaluate.main([*arguments, "--bins", str(bins)]) == 0
    out = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert out["scored"] == 2
    assert 0.0 < out["uniad"]["l2_mean"] < 0.15
    assert 0.0 < out["vad_stp3"]["l2_mean"] < 0.15
    assert out["faults"] == {"tokens_cut_off": 1, "unreadable_trajectory": 1}
    assert evaluate.main([*arguments, "--bins", str(tmp_path / "said.json")]) == 2
    assert "is no file of trajectory bins" in capsys.readouterr().err
