"""What a shell is offered at Tab: recipe files, keys, and the values that a key knows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from commands.completion import matching
from extension import ROOT
from recipe import load_recipe

ENDS = "\n"


def offered(line: str) -> list[str]:
    """What the script prints for a shell that completes the line, as argcomplete's own bash function asks it."""
    asked = {
        "_ARGCOMPLETE": "2",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_IFS": ENDS,
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
        "COMP_TYPE": "9",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    script = f"exec 8>&1; exec {sys.executable} train_grpo.py"
    shell = ["bash", "-c", script]
    done = subprocess.run(shell, cwd=ROOT, env=os.environ | asked, capture_output=True, text=True, timeout=300)
    return done.stdout.split(ENDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("python train_grpo.py recipes/tiny_closed", ["recipes/tiny_closed_loop.yaml"]),
        ("python train_grpo.py recipes/tiny.yaml rollout.max_e", ["rollout.max_engines="]),
        ("python train_grpo.py recipes/tiny.yaml rollout.in_flight=re", ["recompute"]),
        ("python train_grpo.py recipes/tiny.yaml --d", ["--dry-run"]),
    ],
)
def test_a_shell_is_offered_files_keys_values_and_flags(line: str, completions: list[str]) -> None:
    assert offered(line) == completions


@pytest.mark.parametrize("given", ["policy.lora.four_bit=", "rollout.in_flight=", "warm_start.schedule="])
def test_every_value_that_is_offered_is_taken(given: str) -> None:
    values = matching(given)
    assert len(values) >= 2
    for value in values:
        load_recipe(["recipes/tiny.yaml", "policy.lora={rank: 4}", value])


def test_keys_of_lists_and_of_nobody_are_not_offered() -> None:
    assert matching("evaluation.suites.") == []
    assert matching("nothing.") == []
    assert "run.steps=" in matching("run.")
