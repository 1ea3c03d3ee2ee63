"""Made-up outputs of driving models with their truths, for measuring what scoring costs. No two are alike."""

from __future__ import annotations

import json
import random

from data.formats.bdd_oia_words import ACTION_TEXTS, ACTIONS, REASONS
from data.sample import CAMERAS
from evaluation.metrics.bdd_oia import Labels

KEPT_SHARE = 0.7
COLOURS = ("black", "white", "red", "gray", "dark blue", "brown", "silver", "green")
THINGS = ("sedan", "SUV", "truck", "bus", "pedestrian", "traffic cone", "motorcycle", "green light", "barrier")
PLACES = ("front", "back", "front left", "front right", "back left", "back right")

_AROUND = ("{}", "{} ahead of us", "I see that {}", "{} near the crossing", "at this moment {}")


def bdd_oia_outputs(count: int, seed: int = 0) -> tuple[dict[str, str], dict[str, Labels]]:
    """`count` outputs and their samples' labels, by id.

    JSON objects, labelled pairs and free sentences in thirds, one to three reasons each in one of several wordings.
    """
    rng = random.Random(seed)
    said: dict[str, str] = {}
    true: dict[str, Labels] = {}
    for number in range(count):
        actions = rng.sample(ACTIONS, rng.choice((1, 1, 1, 2)))
        reasons = rng.sample(range(len(REASONS)), rng.choice((1, 1, 2, 3)))
        words = ", and ".join(rng.choice(_AROUND).format(REASONS[bit].text) for bit in reasons)
        reason = f"{words}, seen {rng.randrange(10, 900) / 10} m away in frame {number}"
        names = [ACTION_TEXTS[action] for action in actions]
        if number % 3 == 0:
            fields = {"description": f"A street in frame {number}.", "action": names, "justification": reason}
            said[str(number)] = json.dumps(fields)
        elif number % 3 == 1:
            said[str(number)] = f"Action: {', '.join(names)}; Reason: {reason}"
        else:
            said[str(number)] = f"We should {names[0].lower()} because {reason}."
        true[str(number)] = Labels(frozenset(actions), frozenset(reasons))
    return said, true


def drivelm_pairs(count: int, seed: int = 5) -> tuple[list[str], list[str]]:
    """`count` answers and references in the manner of DriveLM's important-object answers.

    39 words and three objects on average, every object with coordinates of its own; an answer keeps about 70 % of its
    reference's words.
    """
    draw = random.Random(seed)
    references = [_reference(draw) for _ in range(count)]
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
