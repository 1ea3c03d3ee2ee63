"""Waypoints and motions as tokens: what is lost on the way there and back, and what cannot be read or fitted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.driving_tokens import main
from data.errors import DataError
from data.sample import Trajectory
from data.tokens.bins import Bins, trajectory_fault
from data.tokens.codebook import Codebook
from data.tokens.segments import Segment, cut, segment_between
from data.tokens.words import Unreadable, action_word, has_tokens, read_action, read_pairs


def arc(speed: float, curvature: float) -> Trajectory:
    """Three seconds at a steady speed; x to the right, y ahead."""
    points = []
    for number in range(1, 7):
        along = speed * 0.5 * number
        turned = curvature * along
        x = 0.0 if curvature == 0 else -(1 - math.cos(turned)) / curvature
        y = along if curvature == 0 else math.sin(turned) / curvature
        points.append((x, y, turned))
    return Trajectory((), tuple(points), "forward")


ARCS = [arc(speed, curvature) for speed in np.linspace(0, 15, 31) for curvature in (-0.05, -0.01, 0.0, 0.01, 0.05)]


@pytest.mark.parametrize("spacing", ["uniform", "quantile"])
def test_bins_lose_less_than_their_width_and_have_as_many_words_as_bins(spacing: str) -> None:
    bins, left_out = Bins.fit(ARCS, 512, "uniform" if spacing == "uniform" else "quantile")
    assert left_out == {}
    assert bins.count == 512
    assert len(set(bins.words)) == 1024
    assert bins.error_m(ARCS) < 0.15


@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-10, 60)), min_size=6, max_size=6))
def test_what_is_decoded_encodes_to_the_same_tokens(points: list[tuple[float, float]]) -> None:
    bins, _ = Bins.fit(ARCS, 64, "quantile")
    text = bins.encode(points)
    back = bins.decode(text)
    assert not isinstance(back, Unreadable)
    assert bins.encode(back) == text
    inside = [(x, y) for x, y in points if bins.x[0] <= x <= bins.x[-1] and bins.y[0] <= y <= bins.y[-1]]
    if len(inside) == 6:
        widest = max(max(np.diff(bins.x)), max(np.diff(bins.y)))
        assert all(math.dist(one, other) <= widest for one, other in zip(points, back, strict=True))


def test_trajectories_that_cannot_be_used_are_counted_and_the_rest_is_fitted() -> None:
    good = arc(8.0, 0.02)
    x, y, yaw = good.future[2]
    bad = [
        replace(good, future=(*good.future[:2], (x, math.nan, yaw), *good.future[3:])),
        replace(good, future=(*good.future[:2], (x, y + 100, yaw), *good.future[3:])),
        replace(good, interval_s=0.1),
        replace(good, future=good.future[:4]),
    ]
    bins, left_out = Bins.fit([*ARCS, *bad], 32)
    assert left_out == {"not_finite": 1, "gap": 1, "other_rate": 1, "cut_off": 1}
    assert bins == Bins.fit(ARCS, 32)[0]
    assert trajectory_fault(good) is None


@pytest.mark.parametrize("given_points", [[], [(1.0, 2.0)], [(0.0, 1.0), (0.0, 2.0)]])
def test_bins_of_nothing_of_one_point_or_of_one_axis_are_refused(given_points: list[tuple[float, float]]) -> None:
    futures = [Trajectory((), ((x, y, 0.0),) * 6, "forward") for x, y in given_points]
    with pytest.raises(DataError, match=r"bins need"):
        Bins.fit(futures)


def test_a_trajectory_that_is_not_whole_or_not_finite_has_no_tokens() -> None:
    bins, _ = Bins.fit(ARCS, 16)
    for points in ([(0.0, 1.0)] * 5, [(0.0, 1.0)] * 5 + [(math.nan, 1.0)]):
        with pytest.raises(DataError, match="6 finite points"):
            bins.encode(points)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Turn left.", "no_tokens"),
        ("<traj_x_000><traj_y_001>" * 5, "cut_off"),
        ("<traj_x_000><traj_y_001>" * 7, "out_of_order"),
        ("<traj_y_001><traj_x_000>" * 6, "out_of_order"),
        ("<traj_x_000><traj_y_016>" * 6, "unknown_token"),
        ("<act_0001>" * 12, "unknown_token"),
        ("I go <traj_x_000><traj_y_001>" + "<traj_x_000><traj_y_001>" * 5, "text_beside_tokens"),
    ],
)
def test_an_answer_that_is_no_trajectory_has_one_reason_and_one_sentence(text: str, reason: str) -> None:
    found = read_pairs(text, 6, 16)
    assert isinstance(found, Unreadable)
    assert found.reason == reason
    assert found.sentence


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert isinstance(read_pairs(text, 6, 16), Unreadable | list)
    found = read_action(text, 16)
    assert isinstance(found, Unreadable) or 0 <= found < 16
    assert has_tokens(text) or isinstance(found, Unreadable)


def test_the_last_motion_of_an_answer_counts_and_others_than_the_codebooks_are_refused() -> None:
    assert read_action("I slow down. <act_0003>", 8) == 3
    assert read_action("<act_0003> no, <act_0004>", 8) == 4
    for text, reason in (("I stop.", "no_tokens"), ("<act_0008>", "unknown_token"), ("<traj_x_001>", "unknown_token")):
        found = read_action(text, 8)
        assert isinstance(found, Unreadable)
        assert found.reason == reason


def drives(seed: int, count: int) -> list[Segment]:
    rng = np.random.default_rng(seed)
    rows = zip(rng.uniform(0, 5, count), rng.normal(0, 0.1, count), rng.normal(0, 0.05, count), strict=True)
    return [Segment(float(a), float(b), float(c), 0.0, float(a > 2), float(a < 1)) for a, b, c in rows]


def test_more_codes_lose_less_and_the_same_seed_gives_the_same_codes() -> None:
    fitted, held_out = drives(0, 3000), drives(1, 500)
    few, many = (Codebook.fit(fitted, count)[0].errors(held_out) for count in (16, 128))
    assert many.position_m < few.position_m
    assert many.covered > few.covered
    assert Codebook.fit(fitted, 16)[0].hash == Codebook.fit(fitted, 16)[0].hash


def test_a_codes_own_motion_has_its_token() -> None:
    book, _ = Codebook.fit(drives(0, 500), 32)
    for number, code in enumerate(book.codes):
        assert book.encode(code) == action_word(number)
        assert book.decode(f"I drive on. {action_word(number)}") == code
    with pytest.raises(DataError, match="no token"):
        book.encode(Segment(math.nan, 0.0, 0.0))


def test_fewer_segments_than_codes_are_refused_with_what_was_left_out() -> None:
    with pytest.raises(DataError, match="64 codes need as many segments that differ, and there are 20 of 20, 1 gap"):
        Codebook.fit([*drives(0, 20), Segment(90.0, 0.0, 0.0)], 64)


def recorded(rate: float, count: int) -> list[dict[str, float]]:
    return [{"time": n / rate, "x": 0.8 * n, "y": 0.0, "yaw": 0.0, "throttle": 0.5} for n in range(count)]


def test_records_are_cut_at_any_rate_that_makes_half_seconds_and_the_rest_is_counted() -> None:
    segments, left_out = cut([recorded(10, 11), recorded(20, 21)])
    assert [round(one.ahead, 6) for one in segments] == [4.0, 4.0, 8.0, 8.0]
    assert segments[0].throttle == pytest.approx(0.5)
    assert left_out == {}
    jump = recorded(10, 11)
    jump[7]["x"] = math.nan
    jump[10]["x"] = math.nan
    hole = [row for row in recorded(10, 16) if not 0.55 < row["time"] < 0.85]
    found, left_out = cut([jump, hole, recorded(7, 15), recorded(10, 1), recorded(10, 14)])
    assert len(found) == 1 + 1 + 2
    assert left_out == {"not_finite": 1, "gap": 1, "other_rate": 1, "one_point": 1, "cut_off": 2}


def test_a_segment_is_seen_from_where_it_began() -> None:
    segment = segment_between((1.0, 2.0, math.pi / 2), (1.0, 5.0, math.pi))
    assert (segment.ahead, segment.left, segment.turned) == pytest.approx((3.0, 0.0, math.pi / 2))


def test_files_are_sealed_another_kind_version_or_content_is_refused(tmp_path: Path) -> None:
    bins, _ = Bins.fit(ARCS, 16)
    book, _ = Codebook.fit(drives(0, 100), 8)
    bins.write(tmp_path / "bins.json", {})
    book.write(tmp_path / "book.json", {})
    assert Bins.read(tmp_path / "bins.json") == bins
    assert Codebook.read(tmp_path / "book.json").hash == book.hash
    with pytest.raises(DataError, match="holds action codebook, not trajectory bins"):
        Bins.read(tmp_path / "book.json")
    tree = json.loads((tmp_path / "book.json").read_text())
    tree["content"]["codes"][0][0] += 1.0
    (tmp_path / "changed.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="was changed after it was fitted"):
        Codebook.read(tmp_path / "changed.json")
    (tmp_path / "newer.json").write_text(json.dumps(tree | {"version": 9}))
    with pytest.raises(DataError, match="has version 9"):
        Codebook.read(tmp_path / "newer.json")
    (tmp_path / "cut.json").write_text('{"kind"')
    with pytest.raises(DataError, match="is no file of action codebook"):
        Codebook.read(tmp_path / "cut.json")


def test_the_command_fits_records_and_prepared_waypoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    with (tmp_path / "drives.jsonl").open("w") as file:
        for _ in range(20):
            speeds = np.abs(np.cumsum(rng.normal(0, 0.3, 60)) + 5)
            rows = [{"time": n / 10, "x": float(x), "y": 0.0, "yaw": 0.0} for n, x in enumerate(np.cumsum(speeds) / 10)]
            file.write(json.dumps({"rows": rows}) + "\n")
    given = ["actions", str(tmp_path / "book.json"), "--records", str(tmp_path / "drives.jsonl"), "--codes", "32"]
    assert main(given) == 0
    assert len(Codebook.read(tmp_path / "book.json").codes) == 32
    assert json.loads(capsys.readouterr().out)["held_out"]["position_m"] < 0.5
    assert main([*given[:-1], "4096"]) == 2
    assert "4096 codes need as many segments" in capsys.readouterr().err
    entries = [
        {"scene_token": "s", "token": str(n), "sdc_planning": [[list(point) for point in one.future]]}
        for n, one in enumerate(ARCS)
    ]
    (tmp_path / "prepared.json").write_text(json.dumps(entries))
    assert main(["trajectory", str(tmp_path / "bins.json"), "--annotations", str(tmp_path / "prepared.json")]) == 0
    assert json.loads(capsys.readouterr().out)["error_m"] < 0.15
    assert Bins.read(tmp_path / "bins.json").count == 512
