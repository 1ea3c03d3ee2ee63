"""Commands inside launch files: whether a shell can read them, and whether Ray and the scripts know their options."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

from ray.scripts.scripts import start

from cluster.launch.finding import Findings, unknown
from recipe import RecipeError, load_stages

ROOT = Path(__file__).resolve().parents[2]
START_OPTIONS = {option for parameter in start.params for option in parameter.opts if option.startswith("--")}


def check_shell(findings: Findings, place: str, command: str) -> None:
    """Note what bash cannot read, what `ray start` does not know, and what a training command gets wrong."""
    if said := _bash_says(command):
        findings.add(place, f"bash cannot read this: {said}")
        return
    for part in re.split(r"[;|&\n]+", command.replace("\\\n", " ")):
        words = _words(part)
        if words[:2] == ["ray", "start"] or words[:3] == ["until", "ray", "start"]:
            for option in (word.split("=")[0] for word in words if word.startswith("--")):
                if option not in START_OPTIONS:
                    findings.add(place, f"ray start: {unknown(option, START_OPTIONS)}")
        if "python" in words and any(word.endswith("train_grpo.py") for word in words):
            check_training(findings, place, words[words.index("python") :])
        if (pip := re.search(r"\bpip install (.*)", part)) is not None:
            for package in (word for word in pip[1].split() if not word.startswith("-")):
                if "==" not in package:
                    findings.add(place, f"{package} is not pinned: write {package}==VERSION")


def check_training(findings: Findings, place: str, words: list[str]) -> None:
    """Note what is wrong with `python train_grpo.py RECIPE key=value ...`: a missing file, an unknown key."""
    script, *arguments = words[1:]
    paths = [Path(word.removeprefix("/app/")) for word in (script, *arguments[:1])]
    for path in paths:
        if not (ROOT / path).is_file():
            findings.add(place, f"{path} does not exist in this repository")
            return
    overrides = [word for word in arguments[1:] if "=" in word and not word.startswith("-")]
    try:
        load_stages([str(ROOT / paths[1]), *overrides])
    except RecipeError as error:
        findings.add(place, str(error))


@cache
def _bash_says(command: str) -> str:
    """Why bash cannot read a command; empty where it can."""
    return subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, timeout=30).stderr.strip()


def _words(part: str) -> list[str]:
    try:
        return shlex.split(part)
    except ValueError:  # a quotation that goes over several parts; bash has read the whole
        return part.split()
