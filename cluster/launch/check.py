"""`python -m cluster.launch.check [FILE ...] [--ready] [--recipe RECIPE]`: what is wrong with launch files, offline.

Without files it checks those of this project. `--ready` also counts what is still to be filled in (`REPLACE_...`), and
what this machine lacks to start them: credentials, the token, the key.
Exit status 0: nothing was found, 1: something was.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml

from cluster.launch.finding import Findings
from cluster.launch.kuberay import check_kuberay
from cluster.launch.node_group import NodeGroup, check_groups, check_plan
from cluster.launch.ray_up import check_ray_up
from cluster.launch.ready import kind_of, lacking
from cluster.launch.skypilot import check_skypilot
from cluster.plan import Plan, resource_plan
from recipe import RecipeError, load_stages

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHIPPED = tuple(sorted(HERE.rglob("*.yaml")))
"""The launch files of this project."""
NO_TRAINING = {"job.yaml", "service.yaml"}
"""Files that start no nodes for a training."""


def labelled_plans(recipes: Sequence[Path]) -> dict[str, Plan]:
    """The plans of the recipes that ask for labels, by the recipe's name."""
    plans = {}
    for path in recipes:
        for stage in load_stages([str(path)]):
            cluster = stage.cluster
            if cluster.learner_label or cluster.rollout_label or cluster.judge_label:
                plans[f"{path.name} ({stage.run.name})"] = resource_plan(stage)
    return plans


def check_file(path: Path, plans: dict[str, Plan]) -> Findings:
    """Everything that is wrong with a launch file, and what is still to be filled in."""
    findings = Findings(os.path.relpath(path))
    try:
        text = path.read_text()
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as error:
        findings.add("file", f"cannot be read: {error.strerror}")
        return findings
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        findings.add("file", _no_yaml(error))
        return findings
    if not documents or not all(isinstance(document, dict) for document in documents):
        findings.add("file", "holds no mapping")
        return findings
    findings.kind = kind_of(documents[0])
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("#"):
            findings.unfilled += [f"{findings.file}:{number}: {name}" for name in re.findall(r"REPLACE_[A-Z_]+", line)]
    groups = _groups(findings, documents)
    if path.name not in NO_TRAINING and not findings.faults:
        check_groups(findings, groups)
        for name, plan in plans.items():
            check_plan(findings, groups, name, plan)
    return findings


def _no_yaml(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """What is wrong with the text of a file, and on which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        where = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
        return f"is no YAML: {where}: {error.problem}; look at the indentation, quotes and brackets above it"
    return f"is no YAML: {' '.join(str(error).split())}"


def _groups(findings: Findings, documents: list[dict[str, Any]]) -> list[NodeGroup]:
    first = documents[0]
    if "apiVersion" in first:
        return check_kuberay(findings, documents, ray.__version__)
    if "available_node_types" in first or "provider" in first:
        return check_ray_up(findings, first)
    if "num_nodes" in first or "run" in first:
        return check_skypilot(findings, first)
    findings.add("file", "is no file for `ray up`, no manifest of KubeRay and no task of SkyPilot")
    return []


def _missing_here(kinds: Iterable[str]) -> list[str]:
    found = [sentence for kind in sorted(kinds) for sentence in lacking(kind, Path.home(), os.environ)]
    return list(dict.fromkeys(found))


def main(arguments: list[str] | None = None) -> int:
    """Check files and say what was found; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cluster.launch.check", description="Check launch files offline.")
    parser.add_argument("files", nargs="*", type=Path, help="those of cluster/launch without any")
    parser.add_argument(
        "--ready", action="store_true", help="also refuse what is still to be filled in, or missing here"
    )
    parser.add_argument(
        "--recipe", type=Path, help="whose nodes must be there; all in recipes/ that name labels without it"
    )
    options = parser.parse_args(arguments)
    try:
        plans = labelled_plans([options.recipe] if options.recipe else sorted((ROOT / "recipes").rglob("*.yaml")))
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = [check_file(path, plans) for path in options.files or SHIPPED]
    for findings in found:
        for sentence in findings.faults:
            print(f"error: {sentence}", file=sys.stderr)
        for place in findings.unfilled:
            print(f"yours to fill in: {place}", file=sys.stderr if options.ready else sys.stdout)
    missing = [] if not options.ready else _missing_here({one.kind for one in found if one.kind is not None})
    for sentence in missing:
        print(f"missing here: {sentence}", file=sys.stderr)
    faults = len(missing) + sum(len(one.faults) + (len(one.unfilled) if options.ready else 0) for one in found)
    print(f"{len(found)} launch files, held against {len(plans)} recipes that ask for labels: {faults or 'no'} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
