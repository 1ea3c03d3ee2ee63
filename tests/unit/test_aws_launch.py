"""The AWS launch file: valid for Ray, guarded by a token, and of the size and with the marks the recipes ask for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.placement import first_unplaced
from cluster.plan import resource_plan
from recipe import load_recipe

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / "cluster" / "aws_a100.yaml"


@pytest.fixture
def launch() -> dict[str, Any]:
    return yaml.safe_load(LAUNCH_FILE.read_text())


def nodes_of(launch: dict[str, Any], *types: str) -> list[dict[str, float]]:
    groups = [launch["available_node_types"][name] for name in types]
    return [dict(group["resources"]) for group in groups for _ in range(group["max_workers"])]


def test_it_passes_rays_own_schema_with_rays_defaults_filled_in(launch: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(launch)))


def test_rays_schema_is_strict_enough_to_notice_a_misspelt_key(launch: dict[str, Any]) -> None:
    launch["available_node_types"]["trainer"]["min_worker"] = 2
    with pytest.raises(Exception, match="min_worker"):
        validate_config(prepare_config(launch))


def test_it_offers_sixteen_gpus_to_learners_and_engines_and_eight_to_the_judge(launch: dict[str, Any]) -> None:
    assert sum(node["GPU"] for node in nodes_of(launch, "trainer")) == 16
    assert sum(node["GPU"] for node in nodes_of(launch, "judge")) == 8
    assert launch["max_workers"] == len(nodes_of(launch, "trainer", "judge"))
    assert launch["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_the_papers_recipe_fits_on_its_training_and_judge_nodes_and_not_elsewhere(launch: dict[str, Any]) -> None:
    plan = resource_plan(load_recipe([str(ROOT / "recipes" / "driverx_grpo.yaml")]))
    training = (*plan.of("learner"), *plan.of("rollout"))
    assert sum(bundle.gpus for bundle in training) == 16
    assert first_unplaced(training, nodes_of(launch, "trainer")) is None
    assert first_unplaced(training, nodes_of(launch, "judge")) == training[0]
    assert sum(bundle.gpus for bundle in plan.of("judge")) == 8
    assert first_unplaced(plan.of("judge"), nodes_of(launch, "judge")) is None
    assert first_unplaced(plan.of("judge"), nodes_of(launch, "trainer")) is not None


def test_every_node_starts_with_token_authentication_and_a_private_token(launch: dict[str, Any]) -> None:
    for commands in (launch["head_start_ray_commands"], launch["worker_start_ray_commands"]):
        starts = [command for command in commands if "ray start" in command]
        assert starts
        assert all("export RAY_AUTH_MODE=token" in command for command in starts)
    assert launch["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in command for command in launch["setup_commands"])
    assert any("--dashboard-host=127.0.0.1" in command for command in launch["head_start_ray_commands"])


def test_no_node_is_a_spot_instance_and_idle_ones_are_given_back(launch: dict[str, Any]) -> None:
    groups = launch["available_node_types"].values()
    assert all("InstanceMarketOptions" not in group["node_config"] for group in groups)
    assert all(group["min_workers"] == 0 for group in groups)
    assert 0 < launch["idle_timeout_minutes"] <= 60


def test_the_files_it_mounts_are_in_the_repository(launch: dict[str, Any]) -> None:
    local = [path for path in launch["file_mounts"].values() if not path.startswith("~")]
    assert local
    assert all((ROOT / path).is_file() for path in local)
