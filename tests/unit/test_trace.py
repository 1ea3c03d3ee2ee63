"""Where a run's time went: a trace that Perfetto opens, made from the files of any run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands.trace import main
from data.rollout import Rollout, WeightSpan
from data.sample import DrivingSample
from evaluation.rollout_rows import read_rollouts, write_rollouts
from evaluation.run_record import METRICS_FILE, samples_path
from rewards.group import Group, ScoredRollout
from rewards.score import Score

Captured = pytest.CaptureFixture[str]
SAMPLE = DrivingSample("q0", "scene", "frame", "planning", "open_ended", "What now?", "Stop.", {"front": "/f.png"})


def scored(name: str, engine: str, start: float, end: float, spans: tuple[WeightSpan, ...] = ()) -> ScoredRollout:
    rollout = Rollout(name, "q0", (1,), (7, 8), (-0.5, -0.5), "Stop.", "stop", 0, engine, start, end, 5, spans)
    return ScoredRollout(rollout, Score(80.0), end + 0.5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two steps; in the first the responses of an engine overlap, and weights were swapped amid one."""
    spans = (WeightSpan(0, 0, 1), WeightSpan(1, 1, 2))
    first: tuple[ScoredRollout, ...] = (
        scored("a", "engine 0", 100.0, 103.0, spans),
        scored("b", "engine 0", 101.0, 102.0),
    )
    first += (scored("c", "engine 0", 102.5, 103.5), scored("d", "engine 1", 100.0, 101.0))
    (tmp_path / "samples").mkdir()
    about: dict[str, Any] = {"position": 0}
    write_rollouts(samples_path(tmp_path, 1), 1, [Group(SAMPLE, first)], about)
    write_rollouts(samples_path(tmp_path, 2), 2, [Group(SAMPLE, (scored("e", "engine 0", 110.0, 111.0),))], about)
    times = {"step_s": 10.0, "learn_s": 4.0, "sync_s": 1.0, "probe_s": 0.25, "pack_s": 0.5, "optimizer_s": 0.5}
    times |= {"forward_s": 1.0, "backward_s": 1.5, "gather_s": 0.125, "send_s": 0.25, "install_s": 0.5}
    lines = [{"step": step, "time": 100.0 + 10.0 * step, **times} for step in (1, 2)]
    lines.append({"step": 2, "time": 500.0, "benchmark/x/y": 1.0})  # measured later
    (tmp_path / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def slices(run: Path, *arguments: str) -> list[dict[str, Any]]:
    assert main([str(run), *arguments]) == 0
    events: list[dict[str, Any]] = json.loads((run / "trace.json").read_text())["traceEvents"]
    return [event for event in events if event["ph"] == "X"]


def test_no_two_slices_of_a_row_overlap_unless_one_holds_the_other(run: Path) -> None:
    rows: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in slices(run):
        rows.setdefault((event["pid"], event["tid"]), []).append(event)
    for own in rows.values():
        own.sort(key=lambda one: (one["ts"], -one["dur"]))
        for one, following in zip(own, own[1:], strict=False):
            end = one["ts"] + one["dur"]
            assert following["ts"] >= end or following["ts"] + following["dur"] <= end


def test_every_response_is_on_its_engine_with_the_weights_that_sampled_it(run: Path) -> None:
    found = {event["args"]["request"]: event for event in slices(run) if "request" in event["args"]}
    assert sorted(found) == ["a", "b", "c", "d", "e"]
    assert (found["a"]["ts"], found["a"]["dur"]) == (0, 3_000_000)
    assert found["a"]["args"]["weights"] == [[0, 0, 1], [1, 1, 2]]
    assert found["b"]["args"]["weights"] == 0
    assert found["a"]["pid"] != found["d"]["pid"]
    assert found["a"]["args"]["waited for scoring (s)"] == 0.5


def test_a_steps_parts_lie_within_it_and_end_with_the_publish(run: Path) -> None:
    named = {event["name"]: event for event in slices(run, "--steps", "1")}
    end = 10_000_000
    assert named["step 1"]["ts"] + named["step 1"]["dur"] == end
    assert named["publish"]["ts"] + named["publish"]["dur"] == end
    assert named["learn"]["ts"] + named["learn"]["dur"] == named["publish"]["ts"]
    assert named["pack"]["ts"] == named["learn"]["ts"]
    assert named["probe"]["dur"] == 250_000
    assert named["gather"]["ts"] == named["publish"]["ts"]
    assert named["send"]["ts"] == named["gather"]["ts"] + 125_000
    assert named["install"]["ts"] + named["install"]["dur"] == named["probe"]["ts"]
    assert named["install"]["tid"] != named["send"]["tid"]


def test_only_the_steps_that_are_asked_for(run: Path) -> None:
    assert [event["name"] for event in slices(run, "--steps", "2") if event["name"].startswith("step")] == ["step 2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--steps", "7-9"], "has no steps from 7 to 9 in metrics.jsonl"), ([], "is no folder: name the folder of a run")],
)
def test_what_cannot_be_traced_is_one_sentence(run: Path, arguments: list[str], said: str, capsys: Captured) -> None:
    folder = run if arguments else run / "nowhere"
    assert main([str(folder), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("given", ["x", "5-3", "3-"])
def test_a_range_that_is_none_is_refused(run: Path, given: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main([str(run), "--steps", given])
    assert "--steps" in capsys.readouterr().err


def test_weight_spans_are_read_back_as_they_were_written(run: Path) -> None:
    (group,), _ = read_rollouts(samples_path(run, 1))
    assert group.rollouts[0].rollout.weight_spans == (WeightSpan(0, 0, 1), WeightSpan(1, 1, 2))
    assert group.rollouts[1].rollout.weight_spans == ()
