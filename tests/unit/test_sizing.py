"""The rows of docs/sizing.md are the fastest that fit, and what `cluster.plan` says of their overrides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import sizing
from cluster.facts import Facts, load_facts
from cluster.forecast import Assumptions, Forecast
from cluster.memory import GIB
from cluster.sizing import POLICIES, RECIPE, SIZES, Row, rows
from cluster.sizing_page import page
from cluster.sizing_page import sizing as command
from cluster.traced import PassShape, Traced
from recipe import load_recipe

SMALLEST, LARGEST = POLICIES[0], POLICIES[-1]


@pytest.fixture(scope="module")
def facts() -> Facts:
    return load_facts()


@pytest.fixture(scope="module")
def traced() -> Iterator[list[PassShape]]:
    """The shapes that were traced; each pass is said to add 8 GiB."""
    asked: list[PassShape] = []

    def trace(config: Any, policy: Any, shape: PassShape, **_: Any) -> Traced:
        asked.append(shape)
        return Traced(8 * GIB, 1)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cluster.traced.trace", trace)
        yield asked


@pytest.fixture(scope="module")
def of_the_smallest(facts: Facts, traced: list[PassShape]) -> list[Row]:
    return list(rows(facts, policies=[SMALLEST]))


def test_every_gpu_has_its_process(of_the_smallest: list[Row]) -> None:
    assert len(of_the_smallest) == 2 + 6 + 6
    for row in of_the_smallest:
        held = row.ranks + row.engines + row.judges * row.judge_gpus
        assert held == {"1": 2, "8": 8, "16 + 8": 24}[row.gpus], "of one GPU, each has a half"
        assert all(gib <= 80 * sizing.MARGIN for gib in row.peak_gib.values()) == (not row.misfits)


def test_a_row_is_what_the_planner_says_of_its_overrides(of_the_smallest: list[Row], facts: Facts) -> None:
    row = next(row for row in of_the_smallest if (row.gpus, row.learning, row.judge) == ("8", "LoRA", "32B"))
    forecast = Forecast(load_recipe([str(RECIPE), *row.overrides]), Assumptions(facts, {}))
    assert (round(forecast.times().step_s, 1), round(forecast.hours, 1)) == (row.step_s, row.hours)
    assert {role: round(held.total, 1) for role, held in forecast.memory().items()} == row.peak_gib
    assert forecast.plan.gpus == 8


def test_no_other_sharing_of_the_gpus_is_faster(of_the_smallest: list[Row], facts: Facts) -> None:
    row = next(row for row in of_the_smallest if (row.gpus, row.learning, row.judge) == ("8", "full", "7B"))
    for ranks in range(1, 7):
        overrides = (*row.overrides, f"learner.ranks={ranks}", f"rollout.engines={7 - ranks}")
        other = Forecast(load_recipe([str(RECIPE), *overrides]), Assumptions(facts, {}))
        assert round(other.times().step_s) >= round(row.step_s)


def test_a_pass_is_traced_once_for_all_rows_of_a_policy(of_the_smallest: list[Row], traced: list[PassShape]) -> None:
    assert 0 < len(traced) <= 2 * len(sizing.LEARNING), "for the recipe's rows, and for smaller ones"


def test_what_fits_nowhere_says_what_is_too_large(facts: Facts, traced: list[PassShape]) -> None:
    found = list(rows(facts, sizes=SIZES[:1], policies=[LARGEST]))
    full = next(row for row in found if row.learning == "full")
    assert full.misfits[0].startswith("learner and rollout 1")
    assert "does not fit: learner and rollout 1" in page(facts, found)


def test_the_page_has_a_table_for_each_size_and_a_line_for_each_row(of_the_smallest: list[Row], facts: Facts) -> None:
    made = page(facts, of_the_smallest)
    assert made.count(f"| {SMALLEST.name} |") == len(of_the_smallest)
    assert [line for line in made.splitlines() if line.startswith("## ")] == ["## 1 GPU", "## 8 GPUs", "## 16 + 8 GPUs"]


def test_the_json_line_has_every_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], of_the_smallest: list[Row]
) -> None:
    monkeypatch.setattr("cluster.sizing_page.rows", lambda facts: of_the_smallest)
    assert command(["--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["rows"]) == len(of_the_smallest)
    assert said["rows"][0]["overrides"]


def test_facts_that_are_no_table_are_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--facts", "/nowhere/facts.yaml"]) == 2
    assert "is no table of facts for the planner" in capsys.readouterr().err
