"""Placement on four simulated nodes: bundles land where they should, and what cannot be placed is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from cluster.errors import PlacementError
from cluster.placement import Placement, place
from cluster.plan import Role, resource_plan
from cluster.shared_storage import check_shared, visit
from recipe import Recipe

pytestmark = pytest.mark.slow

CPUS_PER_NODE = 4
STORE = {"object_store_memory": 100 * 2**20}


def recipe(**parts: Any) -> Recipe:
    return Recipe(**({"run": {"name": "r"}} | parts))


def labelled(role: str) -> dict[str, str]:
    return {"autodriverl/role": role}


@pytest.fixture(scope="module")
def simulated() -> Iterator[Cluster]:
    """A head for anyone, two trainers and one node for judges, all on this machine; CPUs and GPUs are numbers here."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **STORE})
    for role, gpus in (("trainer", 4), ("trainer", 4), ("judge", 2)):
        cluster.add_node(num_cpus=CPUS_PER_NODE, num_gpus=gpus, labels=labelled(role), **STORE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def placed(simulated: Cluster) -> Iterator[Callable[..., Placement]]:
    """Places a recipe's plan and gives the bundles back after the test."""
    placements: list[Placement] = []

    def now(**parts: Any) -> Placement:
        placements.append(place(resource_plan(recipe(**parts)), timeout_s=120.0))
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


def nodes_labelled(role: str) -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Labels"].get("autodriverl/role") == role}


class Witness:
    """Tells what it runs with, and where."""

    def resources(self) -> dict[str, float]:
        return ray.get_runtime_context().get_assigned_resources()

    def gpus(self) -> list[int]:
        return ray.get_gpu_ids()

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


def test_learners_share_one_node_and_everything_stays_on_nodes_with_its_label(
    placed: Callable[..., Placement],
) -> None:
    placement = placed(learner={"ranks": 3}, rollout={"engines": 4}, cluster={"learner_label": "trainer"})
    assert len(set(nodes_of(placement, "learner"))) == 1
    assert set(nodes_of(placement, "learner") + nodes_of(placement, "rollout")) <= nodes_labelled("trainer")


def test_learners_that_no_node_can_hold_together_are_packed_on_several(placed: Callable[..., Placement]) -> None:
    placement = placed(learner={"ranks": 6}, cluster={"learner_label": "trainer"})
    assert set(nodes_of(placement, "learner")) == nodes_labelled("trainer")


def test_a_judge_over_two_gpus_lies_whole_on_a_judge_node(placed: Callable[..., Placement]) -> None:
    judge = {"model": "tiny", "tensor_parallel": 2, "gpus": 2}
    placement = placed(reward={"judge": judge}, cluster={"learner_label": "trainer", "judge_label": "judge"})
    assert set(nodes_of(placement, "judge")) == nodes_labelled("judge")


def test_small_processes_leave_the_node_alone_that_a_large_engine_needs_whole(placed: Callable[..., Placement]) -> None:
    learners, engines = {"ranks": 4, "gpus": 1, "cpus": 0.5}, {"engines": 1, "gpus": 4, "tensor_parallel": 4}
    placement = placed(learner=learners, rollout=engines, cluster={"learner_label": "trainer"})
    assert set(nodes_of(placement, "learner")) | set(nodes_of(placement, "rollout")) == nodes_labelled("trainer")
    assert len(set(nodes_of(placement, "learner"))) == 1


def test_learner_and_engine_share_a_gpu_where_each_asks_for_half(placed: Callable[..., Placement]) -> None:
    engine = {"gpus": 0.5, "options": {"gpu_cache_gib": 8.0}}
    placement = placed(learner={"gpus": 0.5}, rollout=engine, cluster={"learner_label": "judge"})
    assert set(nodes_of(placement, "learner") + nodes_of(placement, "rollout")) == nodes_labelled("judge")


def test_an_engine_beside_a_learner_rank_has_its_very_gpu(placed: Callable[..., Placement]) -> None:
    options = {"sleep_mode": True, "gpu_cache_gib": 8.0}
    placement = placed(
        learner={"ranks": 2, "gpus": 0.5},
        rollout={"engines": 3, "gpus": 0.5, "on_learners": 2, "options": options},
        cluster={"learner_label": "trainer"},
    )
    actors = {
        (role, index): ray.remote(Witness).options(**placement.options(role, index)).remote()
        for role, count in (("learner", 2), ("rollout", 3))
        for index in range(count)
    }
    seen = {
        which: (ray.get(actor.node.remote(), timeout=600), *ray.get(actor.gpus.remote(), timeout=600))
        for which, actor in actors.items()
    }
    assert seen["learner", 0] == seen["rollout", 0]
    assert seen["learner", 1] == seen["rollout", 1]
    assert len({seen["learner", 0], seen["learner", 1], seen["rollout", 2]}) == 3


def refusal(timeout_s: float = 60.0, **parts: Any) -> str:
    """What is said of a recipe that cannot be placed; within how many seconds, where it was waited for."""
    with pytest.raises(PlacementError) as refused:
        place(resource_plan(recipe(**parts)), timeout_s)
    return str(refused.value)


def test_a_bundle_larger_than_every_node_is_named_at_once(simulated: Cluster) -> None:
    said = refusal(rollout={"engines": 2, "cpus": CPUS_PER_NODE + 1})
    assert said.startswith("rollout 0 (5 CPU, 0 GPU) cannot be placed: no node is as large, and one process")
    assert "the plan asks for 11 CPU and 0 GPU in all, the cluster has node 0: " in said


def test_an_engine_over_more_gpus_than_a_node_has_is_named_though_the_cluster_has_enough(simulated: Cluster) -> None:
    said = refusal(rollout={"gpus": 8, "tensor_parallel": 8})
    assert said.startswith("rollout 0 (1 CPU, 8 GPU) cannot be placed: no node is as large")


def test_a_label_that_no_node_has_is_named_with_what_to_change(simulated: Cluster) -> None:
    said = refusal(reward={"judge": {"model": "tiny"}}, cluster={"judge_label": "autodriverl/gpu=H100-80GB"})
    assert "judge 0 (1 CPU, 0 GPU on a node labelled autodriverl/gpu=H100-80GB) cannot be placed" in said
    assert "no node has the label autodriverl/gpu=H100-80GB: start nodes with `ray start --labels=" in said
    assert "set cluster.judge_label=null" in said


def test_a_node_with_the_label_but_too_small_is_distinguished_from_one_without_it(simulated: Cluster) -> None:
    said = refusal(learner={"gpus": 4}, cluster={"learner_label": "judge"})
    assert "no node is as large" in said
    assert said.count("not labelled judge") == 3


def test_one_engine_too_many_is_the_one_that_is_named(simulated: Cluster) -> None:
    engines = int(ray.cluster_resources()["CPU"])
    assert f"rollout {engines - 1} " in (said := refusal(rollout={"engines": engines}))
    assert "the bundles before it take what there is: ask for fewer processes, or add a node" in said


def test_what_others_hold_is_waited_for_and_then_named_and_nothing_stays_reserved(
    placed: Callable[..., Placement],
) -> None:
    others = placed(rollout={"engines": 13})
    said = refusal(1.0)
    assert said.startswith("learner 0 (1 CPU, 0 GPU) was not placed within 1 s (cluster.placement_timeout_s)")
    assert "still free on the cluster is node 0: 0 CPU" in said
    others.release()
    wait_until_free()


def test_nodes_that_may_still_join_are_waited_for(simulated: Cluster) -> None:
    said = refusal(1.0, learner={"gpus": 16}, cluster={"wait_for_nodes": True})
    assert said.startswith("learner 0 (1 CPU, 16 GPU) was not placed within 1 s")
    wait_until_free()


def test_a_node_that_joins_late_is_used_and_what_lay_on_it_moves_when_it_leaves(
    placed: Callable[..., Placement], simulated: Cluster
) -> None:
    def join() -> Any:
        return simulated.add_node(num_cpus=1, labels=labelled("late"), **STORE)

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(placed, rollout={"cpus": 1}, cluster={"rollout_label": "late", "wait_for_nodes": True})
        time.sleep(1.0)
        assert not waiting.done()
        first = join()
        placement = waiting.result(timeout=300)
    options = placement.options("rollout", 0) | {"max_restarts": -1, "max_task_retries": -1}
    actor = ray.remote(Witness).options(**options).remote()
    left = ray.get(actor.node.remote(), timeout=300)
    assert {left} == nodes_labelled("late")
    simulated.remove_node(first)
    second = join()
    assert ray.get(actor.node.remote(), timeout=300) != left
    ray.kill(actor)
    placement.release()
    simulated.remove_node(second)


def test_storage_that_every_node_sees_is_shared_and_nothing_stays_there(
    placed: Callable[..., Placement], tmp_path: Path
) -> None:
    check_shared(placed(cluster={"learner_label": "trainer"}), tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_storage_that_a_node_has_for_itself_is_named_before_anything_is_trained(
    placed: Callable[..., Placement], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = tmp_path / "of-the-other-node"
    apart.mkdir()

    def elsewhere(folder: str, token: str, node: str) -> str:
        return visit(str(apart), token, node)

    monkeypatch.setattr("cluster.shared_storage.visit", elsewhere)
    with pytest.raises(
        PlacementError, match=r"run\.root=.* is not shared: node .* mount the same storage on every node"
    ):
        check_shared(placed(cluster={"learner_label": "trainer"}), tmp_path)


def test_a_bundle_that_the_plan_lacks_is_no_option(placed: Callable[..., Placement]) -> None:
    with pytest.raises(KeyError, match="the plan has 1 learner bundles, there is no learner 1"):
        placed().options("learner", 1)
