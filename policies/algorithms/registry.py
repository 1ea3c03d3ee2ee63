"""From a recipe's `algorithm` to the object that everything else asks."""

from __future__ import annotations

from extension import made
from policies.algorithms.algorithm import Algorithm
from policies.settings import ALGORITHMS, AlgorithmSettings


def make_algorithm(settings: AlgorithmSettings) -> Algorithm:
    """The algorithm of a name, with its options.

    Raises:
        ExtensionError: the name, the class behind it or an option cannot be used.
    """
    name, options = settings.name, settings.options
    algorithm: Algorithm = made(name, options, ALGORITHMS, Algorithm, "algorithm.name", "algorithm.options")
    return algorithm
