"""Supervised fine-tuning of a driving policy on the answers: the warm start of a recipe, on its own.

    python train_sft.py recipes/tiny.yaml warm_start.steps=200 run.name=warm [part.key=value ...] [--dry-run]

The policy it leaves in `<run>/policy` is a checkpoint folder for `policy.model`.
"""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from commands.script import command
from commands.supervise import supervise

if __name__ == "__main__":
    command(supervise)
