"""How long BDD-OIA's metrics take: `python -m benchmarks.bdd_oia [--outputs 100000]`. Prints one JSON object.

Outputs are random: JSON objects, labelled pairs and free sentences in thirds, no two alike, one to three reasons each
in one of several wordings. `bdd_oia_100k_s` is the time from texts to figures (median of 3, process warm), and
`bdd_oia_100k_cpu_s` the processor's; `peak_rss_mib` is that of the whole process, the outputs included.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import time

from data.bdd_oia_words import ACTION_TEXTS, ACTIONS, REASONS
from evaluation.bdd_oia import Labels, score

_AROUND = ("{}", "{} ahead of us", "I see that {}", "{} near the crossing", "at this moment {}")


def outputs(count: int, seed: int = 0) -> tuple[dict[str, str], dict[str, Labels]]:
    """So many outputs and their samples' labels, by id."""
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


def measure(count: int = 100_000, repeats: int = 3) -> dict[str, float]:
    """The figures; seconds are scaled to 100,000 outputs."""
    said, true = outputs(count)
    score(dict(list(said.items())[:1000]), dict(list(true.items())[:1000]))
    times, processor = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        score(said, true, strict=True)
        times.append((time.perf_counter() - began) * 100_000 / count)
        processor.append((time.process_time() - began_cpu) * 100_000 / count)
    return {
        "bdd_oia_100k_s": round(statistics.median(times), 2),
        "bdd_oia_100k_cpu_s": round(statistics.median(processor), 2),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bdd_oia", description="Time of BDD-OIA's metrics.")
    parser.add_argument("--outputs", type=int, default=100_000)
    print(json.dumps(measure(parser.parse_args().outputs)))


if __name__ == "__main__":
    main()
