"""A file of answers for the scoring website, without a model: rendered scenes, right and wrong answers, two scores.

    python -m docs.examples.answers_to_rate FOLDER

The judges are two rules, ROUGE_L and BLEU against the reference.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from data.rendered.samples import rendered_samples
from rewards.text import bleu, rouge_l

SCENES = 6


def main(folder: Path) -> Path:
    """Write `answers.jsonl` and its images into a folder; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, draw = rendered_samples(folder / "scenes", SCENES, seed=0), random.Random(0)
    path = folder / "answers.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for sample in samples:
            others = [one.answer for one in samples if one.task == sample.task]
            answer = sample.answer if draw.random() < 0.5 else draw.choice(others)
            line = {
                "item": sample.id,
                "task": sample.task,
                "kind": sample.kind,
                "question": sample.question,
                "choices": sample.choices,
                "reference": sample.answer,
                "answer": answer,
                "images": sample.images,
                "scores": {"rouge_l": rouge_l(answer, sample.answer), "bleu": bleu(answer, sample.answer)},
            }
            file.write(json.dumps(line) + "\n")
    return path


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
