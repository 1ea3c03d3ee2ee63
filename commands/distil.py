"""`prepare_data.py distil`: reasoning for the answers of DriveLM or other data, asked of a teacher model.

prepare_data.py distil --annotations FILE --image-root FOLDER --out reasoning.jsonl --url URL --model NAME
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data.errors import DataError
from data.faults import Faults, collected
from data.reasoning.reasoning import ReasoningFile
from data.reasoning.teacher import FRAME_SIZE, TeacherSettings, distil
from data.sample import DrivingSample
from data.source_arguments import add_format_arguments, add_format_choice, chosen_format, file_of, given_format
from rewards.settings import secret_of


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The arguments of `prepare_data.py distil`.

    Raises:
        ExtensionError: there is no format of that name.
    """
    default = TeacherSettings("", "")
    add_format_choice(parser, "drivelm", "the data")
    parser.add_argument("--out", type=Path, required=True, help="JSONL of records; an existing one is gone on with")
    parser.add_argument("--url", required=True, help="OpenAI-compatible endpoint, such as http://host:8000/v1")
    parser.add_argument("--model", required=True, help="name of the teacher model")
    parser.add_argument("--key-variable", default=default.key_variable, help="environment variable with the key")
    parser.add_argument("--attempts", type=int, default=default.attempts, help="most replies asked for on one sample")
    parser.add_argument("--concurrent", type=int, default=default.concurrent, help="requests at once")
    parser.add_argument("--temperature", type=float, default=default.temperature)
    parser.add_argument("--limit", type=int, default=None, help="only the first LIMIT samples")
    parser.add_argument("--no-images", action="store_true", help="send the text alone")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a sample is left without reasoning")
    add_format_arguments(parser, chosen_format(arguments, "drivelm"))


def run(arguments: argparse.Namespace) -> int:
    """`prepare_data.py distil`; the exit code.

    Raises:
        DataError: a number is not positive, the data cannot be read, or the teacher does not answer.
        ExtensionError: an option of the data is absent or does not fit.
    """
    if (secret := secret_of(arguments.url)) is not None:
        raise DataError(f"--url holds {secret}: leave it out, and put the key into ${arguments.key_variable}")
    for name in ("attempts", "concurrent", "limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise DataError(f"--{name} must be at least 1, got {value}")
    source, faults = given_format(arguments), Faults()
    images = arguments.out.parent / f"{arguments.out.stem}-images"
    loaded = collected(file_of(source, arguments), source.read(faults, images, 0), faults)
    print(loaded.summary, flush=True)
    teacher = TeacherSettings(
        url=arguments.url,
        model=arguments.model,
        key_variable=arguments.key_variable,
        attempts=arguments.attempts,
        concurrent=arguments.concurrent,
        temperature=arguments.temperature,
        image_size=None if arguments.no_images else FRAME_SIZE,
    )
    samples = loaded.samples[: arguments.limit]
    file = asyncio.run(distil(samples, teacher, arguments.out))
    print(summary(samples, file), flush=True)
    return 1 if arguments.strict and any(sample.id not in file.done for sample in samples) else 0


def summary(samples: Sequence[DrivingSample], file: ReasoningFile) -> str:
    """One line with what was kept by task, and what was dropped by reason."""
    done = file.done
    tasks = Counter(sample.task for sample in samples if sample.id in done)
    kept = ", ".join(f"{count} {task}" for task, count in tasks.items()) or "none"
    dropped = [f"{count} dropped for {reason}" for reason, count in file.dropped.items()]
    unreadable = [f"{len(file.unreadable)} unreadable lines"] if file.unreadable else []
    first = f"{sum(tasks.values())} of {len(samples)} samples with reasoning ({kept})"
    return "; ".join([first, *dropped, *unreadable])
