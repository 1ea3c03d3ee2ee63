"""Every request of a run has a seed of its own, which depends on nothing but what is asked."""

from __future__ import annotations

from typing import cast

from actors.rollout.pool import EnginePool
from actors.supervision.supervisor import Supervisor
from data.rollout import GenerationRequest, SamplingSettings, seed_of
from data.sample import DrivingSample

SAMPLES = [
    DrivingSample(f"q{number}", "scene", "f", "behavior", "open_ended", "What now?", "Go.", {}) for number in range(3)
]
HOT = SamplingSettings(1.0, 4)


def pool(seed: int = 0, *, takes_seeds: bool = True) -> EnginePool:
    abilities = frozenset({"seeds"}) if takes_seeds else frozenset()
    return EnginePool(cast(Supervisor, None), 60.0, 1, abilities, seed)  # type: ignore[arg-type]


def by_question(requests: list[GenerationRequest]) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for request in requests:
        found.setdefault(request.sample.id, []).append(request.sampling.seed)
    return found


def test_neither_order_nor_what_was_asked_before_changes_a_seed() -> None:
    first = by_question(pool().requests(SAMPLES, 4, HOT, "step 3"))
    other = pool()
    other.requests(SAMPLES, 2, HOT, "step 2")
    assert by_question(other.requests(SAMPLES[::-1], 4, HOT, "step 3")) == first


def test_seeds_differ_between_responses_questions_occasions_and_runs() -> None:
    seeds = [
        request.sampling.seed
        for of_run, draw in ((0, "step 1"), (0, "step 2"), (1, "step 1"))
        for request in pool(of_run).requests([*SAMPLES, SAMPLES[0]], 4, HOT, draw)
    ]
    assert len(set(seeds)) == len(seeds) == 48
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds)


def test_a_request_is_called_by_its_seed_also_where_the_engine_takes_none() -> None:
    named = pool().requests(SAMPLES, 2, HOT, "step 1")
    assert [request.request_id for request in named] == [f"{request.sampling.seed:016x}" for request in named]
    without = pool(takes_seeds=False).requests(SAMPLES, 2, HOT, "step 1")
    assert [request.request_id for request in without] == [request.request_id for request in named]
    assert {request.sampling.seed for request in without} == {None}


def test_what_belongs_to_no_occasion_keeps_the_seed_it_is_given() -> None:
    probes = pool().requests(SAMPLES, 1, SamplingSettings(2.0, 4, seed=0))
    assert {request.sampling.seed for request in probes} == {0}
    assert len({request.request_id for request in probes}) == 3


def test_the_parts_of_a_seed_cannot_be_confused() -> None:
    assert seed_of(1, "1", "a", 0) != seed_of(11, "", "a", 0)
    assert seed_of(0, "a", "b\0c", 0) != seed_of(0, "a\0b", "c", 0)
