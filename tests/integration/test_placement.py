"""Placement on three simulated nodes: bundles land where they should, and what cannot be placed is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from cluster.errors import PlacementError
from cluster.placement import Placement, place
from cluster.plan import Role, resource_plan
from recipe import Recipe

pytestmark = pytest.mark.slow

CPUS_PER_NODE = 4


def recipe(**parts: Any) -> Recipe:
    return Recipe(**({"run": {"name": "r"}} | parts))


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[None]:
    """A head for anyone and two nodes marked `train`, all on this machine; CPUs are numbers here."""
    store = {"object_store_memory": 100 * 2**20}
    simulated = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **store})
    for _ in range(2):
        simulated.add_node(num_cpus=CPUS_PER_NODE, resources={"train": 1}, **store)
    ray.init(address=simulated.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    simulated.shutdown()


@pytest.fixture
def placed(three_nodes: None) -> Iterator[Callable[..., Placement]]:
    """Places a recipe's plan and gives the bundles back after the test."""
    placements: list[Placement] = []

    def now(**parts: Any) -> Placement:
        placements.append(place(resource_plan(recipe(**parts)), timeout_s=300.0))
        return placements[-1]

    yield now
    for placement in placements:
        placement.release()
    wait_until_free()


def wait_until_free() -> None:
    deadline = time.monotonic() + 300.0
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "released bundles did not come back"
        time.sleep(0.1)


def marked_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if "train" in node["Resources"]}


class Witness:
    """Tells what it runs with, and where."""

    def resources(self) -> dict[str, float]:
        return ray.get_runtime_context().get_assigned_resources()

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


def nodes_of(placement: Placement, role: Role) -> list[str]:
    """The node of each bundle of a role, in index order."""
    nodes = placement_group_table(placement.groups[role])["bundles_to_node_id"]
    return [nodes[index] for index in range(len(nodes))]


def test_an_actor_runs_in_its_bundle_with_what_was_reserved(placed: Callable[..., Placement]) -> None:
    placement = placed(learner={"ranks": 2, "cpus": 0.5}, rollout={"cpus": 2})
    actor = ray.remote(Witness).options(**placement.options("learner", 1)).remote()
    assert ray.get(actor.resources.remote(), timeout=600)["CPU"] == 0.5
    assert ray.get(actor.node.remote(), timeout=600) == nodes_of(placement, "learner")[1]


def test_learners_share_one_node_and_everything_stays_on_marked_nodes(placed: Callable[..., Placement]) -> None:
    placement = placed(learner={"ranks": 3}, rollout={"engines": 4}, cluster={"learner_label": "train"})
    assert len(set(nodes_of(placement, "learner"))) == 1
    assert set(nodes_of(placement, "learner") + nodes_of(placement, "rollout")) <= marked_nodes()


def test_learners_that_no_node_can_hold_together_are_packed_on_several(placed: Callable[..., Placement]) -> None:
    placement = placed(learner={"ranks": 6}, cluster={"learner_label": "train"})
    assert set(nodes_of(placement, "learner")) == marked_nodes()


def test_a_bundle_larger_than_every_node_is_named_at_once(three_nodes: None) -> None:
    plan = resource_plan(recipe(rollout={"engines": 2, "cpus": CPUS_PER_NODE + 1}))
    with pytest.raises(
        PlacementError, match=r"rollout 0 \(5 CPU, 0 GPU\) cannot be placed: .* asks for 11 CPU and 0 GPU"
    ):
        place(plan, timeout_s=60.0)  # had it waited, it would say within how many seconds


def test_gpus_and_marks_that_no_node_has_are_named(three_nodes: None) -> None:
    with pytest.raises(PlacementError, match=r"learner 0 \(1 CPU, 1 GPU\) cannot be placed: .* node 0: . CPU, 0 GPU"):
        place(resource_plan(recipe(learner={"gpus": 1})), timeout_s=5.0)
    with pytest.raises(PlacementError, match=r"learner 0 .* on a node marked a100\) cannot be placed"):
        place(resource_plan(recipe(cluster={"learner_label": "a100"})), timeout_s=5.0)


def test_one_engine_too_many_is_the_one_that_is_named(three_nodes: None) -> None:
    engines = int(ray.cluster_resources()["CPU"])
    with pytest.raises(PlacementError, match=rf"rollout {engines - 1} "):
        place(resource_plan(recipe(rollout={"engines": engines})), timeout_s=5.0)


def test_what_others_hold_is_waited_for_and_then_named_and_nothing_stays_reserved(
    placed: Callable[..., Placement],
) -> None:
    others = placed(rollout={"engines": 9})
    with pytest.raises(PlacementError, match=r"learner 0 .* was not placed within 1 s .* still free .* node 0: 0 CPU"):
        place(resource_plan(recipe()), timeout_s=1.0)
    others.release()
    wait_until_free()


def test_nodes_that_may_still_join_are_waited_for(three_nodes: None) -> None:
    plan = resource_plan(recipe(learner={"gpus": 1}, cluster={"wait_for_nodes": True}))
    with pytest.raises(PlacementError, match=r"learner 0 .* was not placed within 1 s"):
        place(plan, timeout_s=1.0)
    wait_until_free()


def test_a_bundle_that_the_plan_lacks_is_no_option(placed: Callable[..., Placement]) -> None:
    with pytest.raises(KeyError, match="the plan has 1 learner bundles, there is no learner 1"):
        placed().options("learner", 1)
