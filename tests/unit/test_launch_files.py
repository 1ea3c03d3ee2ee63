"""The launch files: nothing is wrong with them, and a typo anywhere in them is noticed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cluster.launch.check import SHIPPED, check_file, labelled_plans, main
from cluster.plan import Plan

pytestmark = pytest.mark.slow  # bash reads the commands

ROOT = Path(__file__).parents[2]
NAMES = [str(path.relative_to(ROOT / "cluster/launch")) for path in SHIPPED]
A_KEY = re.compile(r'(?<![\w./~-])([A-Za-z~][\w./-]*)(?="?:(\s|$))')
A_NAME_OF_YOUR_OWN = re.compile(r"(trainer|rollout|judge)_[ah]100|REPLACE")


@cache
def plans() -> dict[str, Plan]:
    return labelled_plans(sorted((ROOT / "recipes").rglob("*.yaml")))


def faults(text: str, folder: Path, name: str) -> list[str]:
    path = folder / Path(name).name
    path.write_text(text)
    return check_file(path, plans()).faults


def typos(text: str) -> Iterator[tuple[str, str]]:
    """Each key of a file with a letter too many: a description and the text with it. Commands are no keys."""
    lines = text.splitlines()
    block: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and (indent > block or not line.strip()):
            continue
        block = indent if re.search(r"(: |- )[|>]-?$", line) else None
        code = line.partition(" #")[0] if not line.lstrip().startswith("#") else ""
        if re.match(r"\s*- (sudo|test|gcloud|mountpoint|chmod|uv|ray|--)", code):
            continue
        for key in A_KEY.finditer(code):
            if not A_NAME_OF_YOUR_OWN.search(key[1]):
                changed = line[: key.end()] + "x" + line[key.end() :]
                yield f"{number + 1}: {key[1]}", "\n".join([*lines[:number], changed, *lines[number + 1 :]])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wrong_with_a_launch_file(name: str, tmp_path: Path) -> None:
    assert faults((ROOT / "cluster/launch" / name).read_text(), tmp_path, name) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_typo_in_any_key_is_found(name: str, tmp_path: Path) -> None:
    text = (ROOT / "cluster/launch" / name).read_text()
    tried = dict(typos(text))
    assert len(tried) > 5
    assert [place for place, changed in tried.items() if not faults(changed, tmp_path, name)] == []


@pytest.mark.parametrize(
    ("name", "written", "instead", "said"),
    [
        ("aws.yaml", "p4de.24xlarge", "p4de.24xlarg", "did you mean p4de.24xlarge"),
        ("aws.yaml", "VolumeType: gp3", "VolumeType: gp9", "gp9 does not exist; did you mean gp3"),
        ("aws.yaml", 'role": trainer', 'role": trainr', "trainr does not exist; did you mean trainer"),
        ("aws.yaml", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=none", "anyone who reaches a port could run code"),
        ("aws.yaml", "STOP_WAIT_TIME_S=900", "STOP_WAIT_TIME_S=3", "must be 300 or more"),
        (
            "aws.yaml",
            "--dashboard-host=127.0.0.1",
            "--dashboard-host=0.0.0.0",
            "`--dashboard-host=127.0.0.1` is missing",
        ),
        ("aws.yaml", "--object-manager-port", "--object-manger-port", "did you mean --object-manager-port"),
        ("aws.yaml", "boto3==1.43.117", "boto3", "boto3 is not pinned"),
        ("aws.yaml", "max_workers: 3", "max_workers: 9", "9, but the groups start 3 nodes at most"),
        ("aws.yaml", "mountpoint -q /mnt/shared ||", "mountpoint -q /mnt/shared ||(", "bash cannot read this"),
        ("gcp.yaml", "a2-ultragpu-8g", "a2-ultragpu-9g", "did you mean a2-ultragpu-8g"),
        (
            "gcp.yaml",
            "provisioningModel: SPOT",
            "provisioningModel: SPOTTY",
            "SPOTTY does not exist; did you mean SPOT",
        ),
        ("gcp.yaml", "autoDelete: true", 'autoDelete: "yes"', "must be of type boolean"),
        ("azure.yaml", "priority: Spot", "priority: spot", "did you mean Spot"),
        ("azure.yaml", "osDiskSize: 500", 'osDiskSize: "500"', "must be of type int"),
        ("kuberay/cluster.yaml", "version: v2", "version: v1", "Input should be 'v2'"),
        ("kuberay/cluster.yaml", "storage: 2Ti", "storage: 2TB", "String should match pattern"),
        ("kuberay/cluster.yaml", '"2.60.0"', '"2.59.0"', "the images hold Ray"),
        ("kuberay/job.yaml", "driverx_grpo.yaml", "driverx_gpro.yaml", "does not exist in this repository"),
        ("kuberay/job.yaml", "wait_for_nodes", "wait_for_node", "wait_for_node"),
        ("kuberay/service.yaml", "serve.policy:policy", "serve.policy:polcy", "polcy"),
        ("skypilot.yaml", "disk_tier: best", "disk_tier: bestest", "must be one of high, ultra, best"),
        ("skypilot.yaml", "num_nodes: 3", "num_nodes: 2", "names 3 roles for 2 nodes"),
        ("skypilot.yaml", "num_nodes", "num_node", "task: num_node does not exist; did you mean num_nodes?"),
        ("aws.yaml", "max_workers: 3", "max_worker: 3", "file: unknown key max_worker (did you mean max_workers?)"),
        ("kuberay/cluster.yaml", "version: v2", "verson: v2", "autoscalerOptions.verson (did you mean version?)"),
        ("gcp.yaml", "cluster_name:", "cluster_name: [", "gcp.yaml: file: is no YAML: line "),
        ("skypilot.yaml", "A100-80GB: 8", "A100-80G: 8", "is none of A100-80GB"),
    ],
)
def test_what_is_wrong_is_said(name: str, written: str, instead: str, said: str, tmp_path: Path) -> None:
    text = (ROOT / "cluster/launch" / name).read_text()
    assert written in text
    assert said in "\n".join(faults(text.replace(written, instead), tmp_path, name))


def test_a_learner_on_spot_machines_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "cluster/launch/aws.yaml").read_text()
    spot = text.replace(
        "InstanceType: p4de.24xlarge",
        "InstanceType: p4de.24xlarge\n            InstanceMarketOptions: {MarketType: spot}",
    )
    assert "trainer must not be spot" in "\n".join(faults(spot, tmp_path, "aws.yaml"))


def test_too_few_nodes_for_a_recipe_are_named(tmp_path: Path) -> None:
    text = (ROOT / "cluster/launch/aws.yaml").read_text()
    fewer = text.replace('resources: {"CPU": 96, "GPU": 8}', 'resources: {"CPU": 96, "GPU": 4}')
    assert "driverx_grpo.yaml (driverx_grpo) does not fit: judge 0" in "\n".join(faults(fewer, tmp_path, "aws.yaml"))


def test_every_label_that_a_recipe_asks_for_is_looked_for_in_every_launch_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("run: {name: elsewhere}\ncluster: {learner_label: scorer}\n")
    assert main(["--recipe", str(recipe)]) == 1
    said = capsys.readouterr().err
    assert said.count("asks for nodes labelled scorer, which no group that can start has") == 5


def test_what_is_still_to_be_filled_in_is_named_and_counts_where_it_is_asked_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(ROOT / "cluster/launch/aws.yaml")
    assert main([file]) == 0
    assert "REPLACE_FILE_SYSTEM" in capsys.readouterr().out
    assert main([file, "--ready"]) == 1


def test_a_misspelt_key_is_reported_once(tmp_path: Path) -> None:
    text = (ROOT / "cluster/launch/aws.yaml").read_text()
    found = faults(text.replace("cluster_name:", "cluster_nam:"), tmp_path, "aws.yaml")
    assert [one.partition("file: ")[2] for one in found] == ["unknown key cluster_nam (did you mean cluster_name?)"]


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (found,) = check_file(tmp_path / "absent.yaml", plans()).faults
    assert found.endswith("absent.yaml: file: cannot be read: No such file or directory")


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "a: 1"])
def test_a_file_of_no_known_kind_is_one_sentence(text: str, tmp_path: Path) -> None:
    (found,) = faults(text, tmp_path, "own.yaml")
    assert found.startswith(str(Path(found.partition(":")[0])))
