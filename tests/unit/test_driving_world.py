"""The closed-loop world: it is the same for a seed, the expert masters it, and its score cannot be farmed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from data.driving.actions import ACTIONS, Action, read_action
from data.driving.cameras import look
from data.driving.environment import Driving, DrivingSettings
from data.driving.expert import expert_action
from data.driving.families import FAMILIES, HELD_OUT, HIDDEN, build_scenario
from data.driving.record import bench2drive_record
from data.driving.road import Road
from data.driving.road_users import RoadUser
from data.driving.sensing import dashboard
from data.driving.thoughts import thoughts
from data.driving.world import MAX_STEER, World, overlap
from data.errors import DataError
from data.sample import CAMERAS
from evaluation.metrics.bench2drive import composed_score, is_success

EVERY = (*FAMILIES, *HELD_OUT)
EPISODES = 20


def driven(family: str, seed: int, choose: Callable[[World], Action]) -> World:
    world = World.begin(build_scenario(family, seed))
    while not world.over:
        world.act(choose(world))
    return world


def score_of(world: World) -> float:
    return composed_score(bench2drive_record(world))


def test_there_are_twelve_families_and_more_and_some_are_held_out() -> None:
    assert len(EVERY) >= 12
    assert not set(FAMILIES) & set(HELD_OUT)
    assert HIDDEN & set(FAMILIES)
    assert HIDDEN & set(HELD_OUT)


@pytest.mark.parametrize("family", EVERY)
def test_the_expert_succeeds_in_nearly_every_episode(family: str) -> None:
    won = [is_success(bench2drive_record(driven(family, seed, expert_action))) for seed in range(EPISODES)]
    assert sum(won) >= 0.95 * EPISODES


def test_a_family_and_a_seed_give_the_same_episode_and_other_seeds_others() -> None:
    one, same, other = (driven("van_child", seed, expert_action) for seed in (3, 3, 4))
    assert one.trace == same.trace
    assert one.trace != other.trace


def test_an_unknown_family_is_one_sentence_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"no scenario family 'moon'; the families are bend, "):
        build_scenario("moon", 0)


def test_driving_on_without_looking_does_not_score_well() -> None:
    scores = [score_of(driven(family, seed, lambda _: Action("accelerate"))) for family in EVERY for seed in range(6)]
    assert float(np.mean(scores)) < 60


@pytest.mark.parametrize("family", ["bend", "van_child", "red_light"])
def test_standing_still_earns_nothing(family: str) -> None:
    world = World.begin(build_scenario(family, 0))
    world.speed = 0.0
    while not world.over:
        world.act(Action("brake hard"))
    assert world.late
    assert score_of(world) == 0.0


def test_circles_and_a_drive_back_earn_no_more_than_the_way_that_was_gained() -> None:
    world = World.begin(build_scenario("bend", 0))
    world.scenario.users.clear()
    while not world.over:
        world.drive(1.0 if world.speed < 3 else 0.0, MAX_STEER)
    assert score_of(world) < 25
    turned = World.begin(build_scenario("bend", 0))
    turned.scenario.users.clear()
    turned.yaw = math.pi
    while not turned.over:
        turned.drive(1.0, 0.0)
    assert score_of(turned) == 0.0


def test_braking_does_not_drive_backwards() -> None:
    world = World.begin(build_scenario("bend", 0))
    for _ in range(60):
        world.drive(-7.0, 0.0)
    assert world.speed == 0.0
    assert world.progress == max(world.progress, 0.0)
    before = world.s
    world.drive(-7.0, 0.0)
    assert world.s == before


def test_way_outside_the_corridor_counts_nothing() -> None:
    world = World.begin(build_scenario("crosswalk", 0))
    world.scenario.users.clear()
    while not world.over:
        world.drive(2.0, 0.25 if world.time < 2.0 else 0.0)
    assert world.progress < 0.7 * world.scenario.length
    assert any(event.kind == "off_road" for event in world.events)
    assert bench2drive_record(world)["infractions"]["outside_route_lanes"]


def test_random_actions_score_badly_and_break_nothing() -> None:
    rng = random.Random(0)
    scores = [score_of(driven(family, 1, lambda _: rng.choice(ACTIONS))) for family in EVERY]
    assert all(0.0 <= score <= 100.0 for score in scores)
    assert float(np.mean(scores)) < 80


def test_a_red_light_is_run_only_while_it_is_red() -> None:
    def world_at(green_at: float) -> World:
        world = World.begin(build_scenario("red_light", 0))
        assert world.scenario.light is not None
        world.scenario.light.green_at = green_at
        while not world.over:
            world.act(Action("accelerate"))
        return world

    assert [event.kind for event in world_at(60.0).events] == ["red_light"]
    assert not world_at(0.0).events


def test_boxes_overlap_as_they_lie_not_as_they_are_bounded() -> None:
    car = (0.0, 0.0, 0.0, 4.4, 1.85)
    assert overlap(car, (4.0, 0.0, 0.0, 4.4, 1.85))
    assert not overlap(car, (4.6, 0.0, 0.0, 4.4, 1.85))
    slanted = (3.0, 2.2, math.pi / 4, 4.4, 1.85)
    assert overlap(car, slanted) == overlap(slanted, car)
    assert not overlap(car, (2.9, 2.6, -math.pi / 4, 3.0, 0.4))


@pytest.mark.parametrize("road", [Road(), Road(20, 15, 1.0), Road(20, 15, -1.0)])
def test_a_place_on_the_road_is_found_again(road: Road) -> None:
    for s in (0.0, 19.0, 25.0, 40.0, 60.0):
        for d in (-3.0, 0.0, 3.0):
            x, y, _ = road.pose(s, d)
            assert road.place(x, y) == pytest.approx((s, d), abs=1e-6)
            many_s, many_d = road.places(np.array([x], dtype=np.float32), np.array([y], dtype=np.float32))
            assert (many_s[0], many_d[0]) == pytest.approx((s, d), abs=1e-3)


def test_what_stands_behind_a_van_is_not_drawn_and_what_runs_out_is() -> None:
    def shown(child_d: float | None) -> np.ndarray:
        world = World.begin(build_scenario("van_child", 0))
        world.scenario.users = [RoadUser("van", 14.0, -3.0)]
        if child_d is not None:
            world.scenario.users.append(RoadUser("child", 17.2, child_d))
        return look(world)["CAM_FRONT"]

    assert (shown(-3.4) == shown(None)).all()
    assert (shown(-0.5) != shown(None)).any()


def test_six_cameras_are_drawn_and_a_dark_one_is_black() -> None:
    world = World.begin(build_scenario("camera_dropout", 0))
    images = look(world)
    assert tuple(images) == CAMERAS
    assert {image.shape for image in images.values()} == {(36, 64, 3)}
    world.s = world.scenario.dark[0][0] + 1.0
    assert look(world)["CAM_FRONT"].max() == 0
    assert look(world)["CAM_BACK"].max() > 0


def test_actions_are_read_from_words_and_the_last_one_counts() -> None:
    for action in ACTIONS:
        assert read_action(action.text) == action
    assert read_action("I would brake, left. But no: ACCELERATE, straight.") == Action("accelerate", "straight")
    assert read_action("Brake hard, right.") == Action("brake hard", "right")
    assert read_action("turn the radio on") is None


def test_a_response_that_names_no_action_is_an_event_and_what_was_said_goes_on() -> None:
    environment = Driving(DrivingSettings())
    environment.reset("bend", 0)
    assert environment.step("Brake, straight.", 0.0).complete
    before = environment.world.speed
    step = environment.step("no idea", 0.0)
    assert not step.complete
    assert environment.world.speed < before
    assert any(event.startswith("unknown_action: 'no idea'") for event in step.events)


def test_a_thought_that_was_cut_off_is_not_complete_though_it_names_an_action() -> None:
    environment = Driving(DrivingSettings(answer="think"))
    environment.reset("bend", 0)
    assert not environment.step("I would Brake, left. But then", 0.0).complete
    assert environment.step("I would wait. Brake, left.", 0.0).complete
    assert environment.step("I would wait. BRAKE, left", 0.0).complete


def test_an_answer_that_comes_late_acts_late() -> None:
    speeds = []
    for seconds in (0.0, 0.3, 0.7):
        environment = Driving(DrivingSettings())
        environment.reset("bend", 0)
        environment.step("Brake hard, straight.", seconds)
        speeds.append(environment.world.speed)
    assert speeds[0] < speeds[1] < speeds[2]


def test_lagging_brakes_act_late() -> None:
    def after(lag: float) -> float:
        scenario = build_scenario("bend", 0)
        scenario.lag = lag
        world = World.begin(scenario)
        world.act(Action("brake hard"))
        return world.speed

    assert after(0.0) < after(0.3) < after(0.8)


def test_thoughts_name_only_what_can_be_seen_and_end_in_the_action() -> None:
    world = World.begin(build_scenario("van_child", 0))
    world.scenario.users = [RoadUser("van", 14.0, -3.0), RoadUser("child", 17.2, -3.4)]
    said = thoughts(world, Action("hold"))
    assert said == "I see a van. It stays out of my way. I keep my speed. So I do this:"
    assert read_action(f"{said} {Action('hold').text}") == Action("hold")
    world.scenario.users[1].d = -0.5
    assert thoughts(world, Action("brake hard")).startswith("I see a child. It is in my way. I stop.")


def test_the_dashboard_does_not_know_what_fog_and_a_dark_camera_hide() -> None:
    world = World.begin(build_scenario("fog_car", 0))
    world.scenario.users = [RoadUser("car", 16.0, 0.0)]
    world.scenario.fog = 4.0
    assert dashboard(world) == "nothing"
    world.scenario.fog = None
    assert dashboard(world) == "near"
    world.scenario.dark = ((-1.0, 50.0),)
    assert dashboard(world) == "nothing"
