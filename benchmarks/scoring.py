"""How long scoring takes and how much memory: 100,000 answers with DriveLM's language metrics, on one core.

    python -m benchmarks.scoring [--pairs 100000]

The texts are made up in the manner of DriveLM's important-object answers, 39 words and three objects on average, every
object with coordinates of its own; an answer keeps about 70 % of its reference's words. Prints, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from typing import Any

from data.sample import CAMERAS
from evaluation.language import language_scores

PAIRS = 100_000
SEED = 5
KEPT_SHARE = 0.7
COLOURS = ("black", "white", "red", "gray", "dark blue", "brown", "silver", "green")
THINGS = ("sedan", "SUV", "truck", "bus", "pedestrian", "traffic cone", "motorcycle", "green light", "barrier")
PLACES = ("front", "back", "front left", "front right", "back left", "back right")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="answers to score (default %(default)s)")
    print(json.dumps(drivelm_language(parser.parse_args().pairs)))


def drivelm_language(pairs: int = PAIRS) -> dict[str, Any]:
    """Seconds to score so many pairs, and the process's peak memory before and after."""
    answers, references = made_up(pairs)
    before = _peak_mib()
    began = time.perf_counter()
    scores = language_scores(answers, references)
    seconds = time.perf_counter() - began
    name = "drivelm_language_100k_s" if pairs == PAIRS else "drivelm_language_s"
    return {
        name: round(seconds, 1),
        "pairs": pairs,
        "words_per_text": round(sum(len(text.split()) for text in references) / pairs, 1),
        "peak_memory_mib": _peak_mib(),
        "peak_memory_before_mib": before,
        "bleu4": round(scores.bleu[3], 6),
        "rouge_l": round(scores.rouge_l, 6),
        "cider": round(scores.cider, 6),
    }


def made_up(pairs: int) -> tuple[list[str], list[str]]:
    """Answers and references."""
    draw = random.Random(SEED)
    references = [_reference(draw) for _ in range(pairs)]
    words = [word for text in references[:1000] for word in text.split()]
    answers = [
        " ".join(word if draw.random() < KEPT_SHARE else draw.choice(words) for word in text.split())
        for text in references
    ]
    return answers, references


def _reference(draw: random.Random) -> str:
    count = draw.randint(2, 4)
    things = [
        f"a {draw.choice(COLOURS)} {draw.choice(THINGS)} to the {draw.choice(PLACES)} of the ego vehicle"
        for _ in range(count)
    ]
    tags = [
        f"<c{number},{draw.choice(CAMERAS)},{draw.uniform(0, 1600):.1f},{draw.uniform(0, 900):.1f}>"
        for number in range(1, count + 1)
    ]
    return f"There is {_listed(things)}. The IDs of these objects are {_listed(tags)}."


def _listed(items: list[str]) -> str:
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
