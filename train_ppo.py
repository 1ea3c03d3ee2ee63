"""Reinforcement learning of a driving policy with a critic: PPO and A2C. The loop is that of `train_grpo.py`.

python train_ppo.py recipes/tiny_a2c.yaml [part.key=value ...] [--dry-run]
ray job submit --working-dir . -- python train_ppo.py recipes/tiny_a2c.yaml run.root=/absolute/path
"""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from commands.reinforce import reinforcement
from commands.script import command


def main(arguments: list[str]) -> int:
    """Run the recipe, all of its stages; the exit code."""
    return reinforcement("train_ppo.py", "RL fine-tuning of a driving VLM (PPO, A2C).", arguments, critic=True)


if __name__ == "__main__":
    command(main)
