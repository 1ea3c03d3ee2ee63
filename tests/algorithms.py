"""Algorithms by name and options, as a recipe makes them."""

from __future__ import annotations

from typing import Any

from policies.algorithms.registry import make_algorithm
from policies.settings import AlgorithmSettings


def algorithm(name: str = "grpo", **options: Any) -> Any:
    """The algorithm of a name."""
    return make_algorithm(AlgorithmSettings(name=name, options=options))
