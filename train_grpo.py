"""Reinforcement learning of a driving policy: sample, score, learn, sync.

python train_grpo.py recipes/tiny.yaml [part.key=value ...] [--dry-run]
ray job submit --working-dir . -- python train_grpo.py recipes/tiny.yaml run.root=/absolute/path
"""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from commands.reinforce import reinforcement
from commands.script import command


def main(arguments: list[str]) -> int:
    """Run the recipe; the exit code."""
    return reinforcement("train_grpo.py", "RL fine-tuning of a driving VLM (GRPO).", arguments, critic=False)


if __name__ == "__main__":
    command(main)
