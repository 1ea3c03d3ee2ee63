"""Action tokens drive the world: the controller follows its plan, the expert masters every family by its tokens."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.driving.codec import AIMS, Manoeuvre, TokenCodec, aim, aim_text, book_of, codec_of, meant
from data.driving.controller import Controller
from data.driving.demonstrations import demonstrations, spoken_text
from data.driving.environment import Driving, DrivingSettings, question
from data.driving.expert import expert_action
from data.driving.families import FAMILIES, HELD_OUT, build_scenario
from data.driving.record import bench2drive_record
from data.driving.replay import replayed
from data.driving.world import MAX_STEER, STEP, STEPS, WHEELBASE, World
from data.episode import Start
from data.tokens.segments import Segment
from data.tokens.words import action_word
from evaluation.metrics.bench2drive import composed_score

ROOT = Path(__file__).parents[2]
TOKENS = DrivingSettings(codebook="driving")


def tokens() -> TokenCodec:
    codec = codec_of("driving")
    assert isinstance(codec, TokenCodec)
    return codec


def turn(world: World, manoeuvre: Manoeuvre) -> None:
    for _ in range(STEPS):
        if not world.over:
            world.drive(*manoeuvre.controls(world))


def test_the_controllers_file_is_python_of_the_simulators_age() -> None:
    source = (ROOT / "data/driving/controller.py").read_text()
    tree = ast.parse(source, feature_version=(3, 7))
    imported = {node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)}
    assert imported == {"math"}


@pytest.mark.parametrize("family", [*FAMILIES, *HELD_OUT])
def test_the_expert_masters_every_family_by_tokens(family: str) -> None:
    scores = []
    for seed in range(6):
        world = World.begin(build_scenario(family, seed))
        while not world.over:
            turn(world, tokens().expert(world))
        scores.append(composed_score(bench2drive_record(world)))
    assert sum(scores) / len(scores) > 85


@given(st.floats(1.0, 9.0), st.floats(-0.06, 0.06), st.sampled_from([0.0, 2.0, -3.0]))
def test_a_plan_is_driven_to_its_end(speed: float, curvature: float, acceleration: float) -> None:
    """Half a second of a steady curve and acceleration, repeated: the controller ends near where it should."""
    seconds = 0.5 if speed + acceleration * 0.5 > 0 else speed / -acceleration
    along = speed * seconds + acceleration * seconds**2 / 2
    turned = curvature * along
    chord = along if abs(turned) < 1e-6 else 2 * math.sin(turned / 2) / curvature
    target = (chord * math.cos(turned / 2), chord * math.sin(turned / 2))
    controller = Controller(WHEELBASE, MAX_STEER, 3.0, 8.0)
    x = y = yaw = 0.0
    controller.begin([target], (x, y, yaw), speed)
    for _ in range(5):
        steer, throttle, brake = controller.step((x, y, yaw), speed, 0.1)
        assert -1 <= steer <= 1
        assert 0 <= throttle <= 1
        assert 0 <= brake <= 1
        after = max(0.0, speed + (throttle * 3.0 - brake * 8.0) * 0.1)
        mean = (speed + after) / 2
        yaw += mean * math.tan(steer * MAX_STEER) / WHEELBASE * 0.1
        x, y, speed = x + mean * math.cos(yaw) * 0.1, y + mean * math.sin(yaw) * 0.1, after
    assert math.dist((x, y), target) < 0.25


def test_without_a_plan_it_brakes_and_a_plan_to_stand_holds_the_brake() -> None:
    controller = Controller(WHEELBASE, MAX_STEER, 3.0, 8.0)
    assert controller.step((0.0, 0.0, 0.0), 5.0, 0.1) == (0.0, 0.0, 1.0)
    controller.begin([(0.0, 0.0)], (0.0, 0.0, 0.0), 0.0)
    assert controller.step((0.0, 0.0, 0.0), 0.0, 0.1)[2] == 1.0


def test_six_points_that_turn_left_turn_the_wheel_left() -> None:
    controller = Controller(WHEELBASE, MAX_STEER, 3.0, 8.0)
    controller.begin([(2.0 * n, 0.05 * n * n) for n in range(1, 7)], (10.0, 5.0, 0.0), 4.0)
    assert controller.step((10.0, 5.0, 0.0), 4.0, 0.05)[0] > 0.0


def test_what_an_action_means_does_not_depend_on_brakes_that_lag_and_changes_nothing() -> None:
    world = World.begin(build_scenario("brake_lag", 1))
    before = (world.x, world.y, world.speed, world.time, len(world.trace))
    segment = meant(world, expert_action(world))
    assert (world.x, world.y, world.speed, world.time, len(world.trace)) == before
    world.scenario.lag = 0.0
    assert segment == meant(world, expert_action(world))


def test_the_dashboard_says_where_the_lane_leads_where_tokens_turn_the_wheel() -> None:
    world = World.begin(build_scenario("bend", 0))
    assert "Lane" not in question(world, DrivingSettings())
    assert aim_text(aim(world)) in question(world, TOKENS)
    world.yaw = math.radians(10)
    assert aim(world) == -10
    assert "Lane 10 right." in question(world, TOKENS)
    assert len(set(AIMS)) == 31
    assert "".join(spoken_text(TOKENS)).count("Lane 10 right.") == 2


def test_an_answer_without_a_token_is_an_event_and_what_was_said_before_goes_on() -> None:
    environment = Driving(TOKENS)
    environment.reset("bend", 0)
    hold = action_word(book_of("driving").nearest([Segment(4.0, 0.0, 0.0)])[0])
    assert environment.step(hold, 0.0).complete
    for text, reason in (("Brake, straight.", "no_tokens"), ("<act_9999>", "unknown_token")):
        step = environment.step(text, 0.0)
        assert [event.split(": ")[:2] for event in step.events] == [["unknown_action", reason]]
        assert environment.outcome().trace["actions"][-1] == hold


def test_a_drive_by_tokens_can_be_driven_again_from_its_trace() -> None:
    environment = Driving(TOKENS)
    environment.reset("lead_brakes", 3)
    while environment.step(tokens().expert(environment.world).text, 0.0).observation is not None:
        pass
    trace = environment.outcome().trace
    *_, world = replayed(trace)
    assert (world.x, world.y, world.time) == (environment.world.x, environment.world.y, environment.world.time)
    assert trace["codebook"] == "driving"
    assert len(trace["plans"]) == len(trace["actions"])
    x, y, to_x, to_y = trace["plans"][0]
    assert (x, y) == (0.0, 0.0)
    assert (to_x, to_y) == pytest.approx(trace["path"][STEPS][:2], abs=0.3), "it went where the token led"
    assert len(trace["controls"]) == round(world.time / STEP)


def test_demonstrations_say_tokens_and_think_before_them_where_asked(tmp_path: Path) -> None:
    starts = [Start("red_light", 0)]
    samples = demonstrations(tmp_path / "a", starts, TOKENS)
    assert all(sample.answer.startswith("<act_") for sample in samples)
    thinking = TOKENS.model_copy(update={"answer": "think"})
    (first, *_) = demonstrations(tmp_path / "b", starts, thinking)
    assert first.answer == f"{first.answer.partition('<')[0]}{samples[0].answer}"
    assert "So I do this:" in first.answer
