"""Where a run's time went: a trace that Perfetto opens, made from the files of any run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands.trace import main
from data.rollout import EngineTimes, Rollout, WeightSpan
from data.sample import DrivingSample
from evaluation.pages.run_report import write_report
from evaluation.rollout_rows import read_rollouts, write_rollouts
from evaluation.run_record import METRICS_FILE, read_run, samples_path
from evaluation.step_panels import step_panels
from evaluation.time_parts import ENGINE_PARTS, TimePart, in_words, response_parts, step_parts
from rewards.group import Group, ScoredRollout
from rewards.score import Score

Captured = pytest.CaptureFixture[str]
SAMPLE = DrivingSample("q0", "scene", "frame", "planning", "open_ended", "What now?", "Stop.", {"front": "/f.png"})


def scored(name: str, engine: str, start: float, end: float, spans: tuple[WeightSpan, ...] = ()) -> ScoredRollout:
    rollout = Rollout(name, "q0", (1,), (7, 8), (-0.5, -0.5), "Stop.", "stop", 0, engine, start, end, 5, spans)
    if name == "a":
        times = EngineTimes(0.5, 0.25, 0.25, 1.5)
        return ScoredRollout(replace(rollout, times=times), Score(80.0), end + 0.5, end + 0.75)
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


def test_what_the_engine_did_for_a_response_lies_within_it(run: Path) -> None:
    engine = [event for event in slices(run) if event["pid"] != 1]
    parts = [event for event in engine if event["name"] in ENGINE_PARTS]
    assert [(one["name"], one["ts"], one["dur"]) for one in parts] == [
        ("prepare", 0, 500_000),
        ("queue", 1_000_000, 250_000),  # what was dropped, or is unknown, lies between
        ("prefill", 1_250_000, 250_000),
        ("decode", 1_500_000, 1_500_000),
    ]
    found = {event["args"]["request"]: event["args"] for event in engine if "request" in event["args"]}
    assert found["a"]["scored in (s)"] == 0.25
    assert found["b"]["scored in (s)"] is None


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


def test_what_a_step_and_a_response_are_made_of_is_said_of_every_part_that_was_measured(run: Path) -> None:
    (group,), _ = read_rollouts(samples_path(run, 1))
    panels = step_panels([group])
    parts = ("prepare_s", "decode_s", "wait_s", "score_s")
    assert [panels[f"response/{name}"] for name in parts] == [0.5, 1.5, 0.5, 0.25]

    found = step_parts(read_run(run))
    assert [(one.name, one.seconds, one.inner) for one in found][:3] == [
        ("learning", "4", False),
        ("pack", "0.5", True),
        ("forward", "1", True),
    ]
    assert found[-1] == TimePart("a whole step", "10", 1.0, False)
    assert response_parts(read_run(run)) == [], "this record has none"
    with (run / METRICS_FILE).open("a") as file:
        line = {
            "step": 3,
            "time": 600.0,
            "step_s": 8.0,
            "turns_s": 2.0,
            "response/prefill_s": 0.25,
            "response/score_s": 2,
        }
        file.write(json.dumps(line) + "\n")
    assert [(one.name, one.seconds) for one in response_parts(read_run(run))] == [("prefill", "0.25"), ("score", "2")]
    page = write_report(run).read_text()
    assert "<td>prefill</td><td>0.25</td>" in page
    assert "take turns with engines</small></td><td>2</td><td>20%</td>" in page
    assert in_words({"step_s": 9.43, "learn_s": 4.7, "sync_s": 1.6}) == "9.43 s (learn 4.7, sync 1.6)"
    assert in_words({}) == ""
