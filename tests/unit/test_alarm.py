from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from pydantic import ValidationError

from rewards.alarm import Alarm, AlarmSettings, AlarmWatch, alarms

SETTINGS = AlarmSettings(judge_metric="judge", rule_metric="rule", length_metric="length")

Curve = Callable[[int], float]


def series(
    count: int, judge: Curve, rule: Curve, length: Curve = lambda step: 100.0, noise: float = 2.0, seed: int = 0
) -> list[dict[str, float | None]]:
    random = Random(seed)
    return [
        {
            "step": step,
            "judge": judge(step) + random.gauss(0, noise),
            "rule": rule(step) + random.gauss(0, noise),
            "length": length(step) + random.gauss(0, noise),
        }
        for step in range(count)
    ]


def flat(step: int) -> float:
    return 40.0


def kinds(steps: list[dict[str, float | None]]) -> list[str]:
    return [alarm.kind for alarm in alarms(steps, SETTINGS)]


@pytest.mark.parametrize(
    ("judge", "rule"),
    [
        (lambda step: 40.0 + 20 * (step >= 40), flat),
        (lambda step: 40.0 + 0.4 * step, flat),
        (lambda step: 40.0 + 0.4 * step, lambda step: 40.0 - 0.2 * step),
        (lambda step: 30.0 + 0.5 * step, lambda step: 30.0 + 0.5 * min(step, 50)),
    ],
    ids=["a jump", "a slow rise", "the rules fall", "both rise, then the judge alone"],
)
def test_a_judge_that_rises_without_the_rules_raises_the_alarm(judge: Curve, rule: Curve) -> None:
    found = alarms(series(100, judge, rule), SETTINGS)
    assert found
    assert {alarm.kind for alarm in found} == {"judge_without_rule"}


@pytest.mark.parametrize(
    ("judge", "rule"),
    [
        (flat, flat),
        (lambda step: 40.0 + 0.4 * step, lambda step: 40.0 + 0.4 * step),
        (lambda step: 40.0 + 0.4 * step, lambda step: 40.0 + 0.3 * step),
        (lambda step: 80.0 - 0.4 * step, flat),
        (flat, lambda step: 80.0 - 0.4 * step),
        (lambda step: 40.0 + 0.03 * step, flat),
    ],
    ids=["nothing happens", "both rise", "the rules lag", "the judge falls", "the rules fall", "less than min_rise"],
)
def test_a_judge_that_does_not_rise_or_rises_with_the_rules_raises_none(judge: Curve, rule: Curve) -> None:
    assert alarms(series(100, judge, rule), SETTINGS) == []


@pytest.mark.parametrize(
    "length",
    [lambda step: 100.0 + 60 * (step >= 40), lambda step: 100.0 + step, lambda step: 160.0 - 60 * (step >= 40)],
    ids=["a jump", "a slow drift", "a fall"],
)
def test_a_length_that_drifts_raises_the_alarm(length: Curve) -> None:
    assert set(kinds(series(100, flat, flat, length))) == {"length_drift"}


@pytest.mark.parametrize(
    "length",
    [flat, lambda step: 100.0 + 0.3 * step, lambda step: 100.0 + 100 * (step == 50), lambda step: 0.0],
    ids=["it stays", "less than min_drift", "one long step", "no words at all"],
)
def test_a_length_that_stays_raises_none(length: Curve) -> None:
    assert kinds(series(100, flat, flat, length, noise=0.0)) == []


def stepped(before: float, after: float) -> Curve:
    return lambda step: before if step < 10 else after


@pytest.mark.parametrize(("before", "after", "counts"), [(100, 150, True), (150, 100, True), (100, 149.9, False)])
def test_a_drift_of_exactly_the_setting_counts_both_ways(before: float, after: float, counts: bool) -> None:
    steps = series(20, flat, flat, stepped(before, after), noise=0.0)
    assert (kinds(steps) == ["length_drift"]) is counts


@pytest.mark.parametrize(("rise", "gain", "counts"), [(5, 0, True), (4.9, 0, False), (10, 2.4, True), (10, 2.5, False)])
def test_a_rise_of_exactly_the_settings_counts(rise: float, gain: float, counts: bool) -> None:
    steps = series(20, stepped(40, 40 + rise), stepped(40, 40 + gain), noise=0.0)
    assert (kinds(steps) == ["judge_without_rule"]) is counts


def test_rules_that_lag_behind_the_judge_in_noise_raise_an_alarm_in_under_one_run_of_twenty() -> None:
    lagging = [series(100, lambda step: 40 + 0.4 * step, lambda step: 40 + 0.3 * step, noise=5.0, seed=seed)
               for seed in range(100)]  # fmt: skip
    assert sum("judge_without_rule" in kinds(steps) for steps in lagging) < 5


def test_no_alarm_is_raised_before_there_are_two_windows() -> None:
    steps = series(19, lambda step: 10.0 * (step >= 9), flat, noise=0.0)
    assert alarms(steps, SETTINGS) == []


def test_an_alarm_says_when_and_between_what() -> None:
    steps = series(40, lambda step: 40.0 + 20 * (step >= 20), flat, noise=0.0)
    (alarm,) = alarms(steps, SETTINGS)
    assert alarm.kind == "judge_without_rule"
    assert 20 <= alarm.step < 30
    assert "judge went from 40.0 to " in alarm.message
    assert f"against {alarm.step - 9}-{alarm.step}" in alarm.message


def test_a_change_raises_one_alarm_and_a_further_change_another() -> None:
    once = series(120, lambda step: 40.0 + 20 * (step >= 30), flat, noise=0.0)
    twice = series(120, lambda step: 20.0 + 20 * (step >= 30) + 20 * (step >= 80), flat, noise=0.0)
    assert len(alarms(once, SETTINGS)) == 1
    assert len(alarms(twice, SETTINGS)) == 2
    longer = series(120, flat, flat, lambda step: 100.0 + 100 * (step >= 30), noise=0.0)
    assert kinds(longer) == ["length_drift"]


def test_noise_alone_raises_an_alarm_in_under_one_run_of_fifty() -> None:
    # So large that min_rise and min_drift do not help: what holds it back is the standard error.
    found = [kinds(series(70, flat, flat, noise=40.0, seed=seed)) for seed in range(1000)]
    assert sum("judge_without_rule" in raised for raised in found) < 20
    assert sum("length_drift" in raised for raised in found) < 20


def test_a_step_without_a_measurement_is_left_out_and_counted() -> None:
    watch = AlarmWatch(SETTINGS)
    steps = series(60, lambda step: 40.0 + 20 * (step >= 30), flat, noise=0.0)
    for at, (name, lost) in enumerate([("judge", None), ("rule", math.nan), ("length", math.inf)]):
        steps[at * 5][name] = lost
    del steps[20]["judge"]
    found = [alarm for step in steps for alarm in watch.observe(step)]
    assert [alarm.kind for alarm in found] == ["judge_without_rule"]
    assert watch.skipped == {"judge_without_rule": 3, "length_drift": 1}


def test_a_step_that_comes_again_replaces_itself_and_those_after_it() -> None:
    steps = series(20, stepped(40, 60), flat, noise=0.0)
    assert alarms([*steps[:16], *steps[10:19]], SETTINGS) == []  # 25 steps were seen, 19 of them stand
    assert alarms([*steps[:16], *steps[10:]], SETTINGS) == alarms(steps, SETTINGS) != []


def test_a_watch_gives_the_same_alarms_as_the_whole_series() -> None:
    steps = series(120, lambda step: 20.0 + 0.6 * step, flat, lambda step: 100.0 + step)
    watch = AlarmWatch(SETTINGS)
    found: list[Alarm] = []
    for step in steps:
        found += watch.observe(step)
    assert found == alarms(steps, SETTINGS)
    assert {alarm.kind for alarm in found} == {"judge_without_rule", "length_drift"}


def test_metrics_without_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match="metrics without a step"):
        alarms([{"judge": 1.0}], SETTINGS)


@pytest.mark.parametrize("wrong", [{"window": 2}, {"lookback": 0}, {"errors": 0}, {"min_rise": 0}, {"widow": 5}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        AlarmSettings(**wrong)


def test_a_task_whose_reward_falls_raises_the_alarm_once_and_by_name() -> None:
    random = Random(1)
    steps: list[dict[str, float | None]] = [
        {
            "step": step,
            "reward/mean": 50.0 + random.gauss(0, 3),
            "reward/planning": 50.0 + random.gauss(0, 3),
            "reward/perception": (45.0 if step < 50 else 8.0) + random.gauss(0, 3),
        }
        for step in range(90)
    ]
    found = alarms(steps, SETTINGS)
    assert [alarm.kind for alarm in found] == ["reward_fall"]
    assert found[0].message.startswith("reward/perception fell from 4")
    assert found[0].step < 60


def test_a_reward_that_wavers_raises_no_alarm() -> None:
    random = Random(2)
    steps: list[dict[str, float | None]] = [
        {"step": step, "reward/mean": 50.0 + random.gauss(0, 12)} for step in range(200)
    ]
    assert alarms(steps, SETTINGS) == []
