"""A policy with action tokens, exported and served by the endpoint, drives the stand-in simulator through the agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.session import session
from policies.source import policy_source
from recipe import load_recipe
from serve.app import policy_endpoint
from serve.operations.listening import free_port
from tests.integration.conftest import ROOT

KEY = "a key that only this test knows"


@pytest.mark.fault
def test_a_served_policy_drives_the_stand_in_simulator(tmp_path: Path) -> None:
    given = [str(ROOT / "recipes/tiny_vla_rl.yaml"), f"run.root={tmp_path}", f"serve.port={free_port()}"]
    recipe = load_recipe([*given, "rollout.max_model_len=512", "rollout.max_tokens=2", "rollout.cpus=1"])
    source = Path(policy_source(recipe.policy, tmp_path, 0, ("What do you do?",)))
    run = tmp_path / "run"
    run.mkdir()
    source.rename(run / "policy")
    with session(recipe), policy_endpoint(run, recipe, KEY) as url:
        config = {
            "url": url,
            "model": recipe.run.name,
            "tokens": str(run / "policy/action_codebook.json"),
            "cameras": ["CAM_FRONT"],
            "size": [64, 36],
        }
        (tmp_path / "agent.json").write_text(json.dumps(config))
        agent, standin = ROOT / "docs/examples/bench2drive_agent.py", ROOT / "tests/bench2drive_standin.py"
        arguments = [str(agent), str(tmp_path / "agent.json"), str(tmp_path / "result.json")]
        environment = {"PATH": os.environ["PATH"], "SAVE_PATH": str(tmp_path / "saved"), "AUTODRIVERL_KEY": KEY}
        ran = subprocess.run(
            [sys.executable, str(standin), *arguments], capture_output=True, text=True, timeout=400, env=environment
        )
    assert ran.returncode == 0, ran.stderr
    counts = json.loads((tmp_path / "saved/RouteScenario_1711_rep0/agent.json").read_text())
    assert counts["plans"] > 10, ran.stdout
    assert (counts["unreadable"], counts["unanswered"]) == (0, 0), ran.stdout
