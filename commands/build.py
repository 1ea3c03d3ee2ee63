"""`prepare_data.py build`: AutoDriveRL-Train, DriveLM-Hard, or their unfiltered counterpart, from scored samples.

Reads the samples, the scores that models earned on them and the frames to keep out; what is chosen is decided in
`data.filtering`. Sampling and judging, the costly part, is done before, by `evaluate.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from data.difficulty import HARD_BAND, TRAINING_BAND, TRAINING_FRAMES, K
from data.errors import DataError
from data.faults import Faults, first_note
from data.filtering import Constructed, hard_set, training_set, unfiltered_set
from data.formats.format import FORMATS, Format, frames_of, path_options
from data.frame_ids import NamedFrames
from data.jsonl import write_jsonl
from data.sample import DrivingSample
from data.source_arguments import (
    add_fault_arguments,
    add_format_arguments,
    add_format_choice,
    chosen_format,
    file_of,
    given_format,
    given_settings,
    show_notes,
)
from evaluation.construction.account import account
from evaluation.construction.record import (
    CONSTRUCTION_FILE,
    SAMPLES_FILE,
    Construction,
    ConstructionSettings,
    InputFile,
    is_up_to_date,
    read_construction,
    sha256_of,
    write_construction,
)
from evaluation.construction.score_table import BY_RULES, ModelScores, judge_of, read_scores, scored_by
from evaluation.pages.construction_report import write_construction_report
from evaluation.pages.page import REPORT_FILE
from evaluation.suites.record import ANSWERS_FILE, read_results

NamedFolder = tuple[str, Path]
FramesFile = tuple[Path, str | None]
"""A file and the name of its format; None: its content tells."""

_SETS = {
    "training": "frames of middling difficulty by one model, drawn at random, rare actions repeated (as AutoDriveRL)",
    "hard": "frames that several models find hard, none of them trained on (DriveLM-Hard)",
    "unfiltered": "frames and questions drawn from all, whatever their difficulty: what filtering is compared with",
}


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The arguments of the command: one subcommand for each set.

    Raises:
        ExtensionError: there is no format of that name.
    """
    kind = chosen_format(arguments, "jsonl")
    sets = parser.add_subparsers(dest="which", required=True, metavar="SET")
    for which, purpose in _SETS.items():
        one = sets.add_parser(which, help=purpose, description=purpose)
        add_format_choice(one, "jsonl", "SAMPLES, the samples that were scored")
        one.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
        one.add_argument("--overwrite", action="store_true", help="replace what FOLDER holds")
        files = "JSONL, DriveLM's, DriveBench's or DriveLMM-o1's JSON, or FORMAT=FILE of any that names frames"
        one.add_argument(
            "--exclude",
            type=_frames_file,
            nargs="+",
            action="extend",
            default=[],
            metavar="FILE",
            help=f"keep its frames out: {files}",
        )
        if which == "hard":
            one.add_argument("--training", type=_frames_file, required=True, metavar="FILE", help="what is trained on")
        if which != "unfiltered":
            _add_difficulty(one, HARD_BAND if which == "hard" else TRAINING_BAND)
        if which != "hard":
            one.add_argument("--frames", type=int, default=TRAINING_FRAMES, dest="draw", help="how many to draw")
            one.add_argument(
                "--questions", type=int, dest="asked", help="draw this many of the frames' questions (default: all)"
            )
            one.add_argument("--seed", type=int, default=0, help="of what is drawn and repeated")
        if which == "training":
            one.add_argument(
                "--rarest",
                type=float,
                default=0.0,
                metavar="SHARE",
                help="repeat questions until every action occurs at least SHARE times as often as the most frequent",
            )
        add_fault_arguments(one)
        add_format_arguments(one, kind, "SAMPLES")


def run(options: argparse.Namespace) -> int:
    """Build; the exit code.

    Raises:
        DataError: an input cannot be used, nothing is left, or the folder holds something else.
    """
    out: Path = options.out.resolve()
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {options.out} is a file: name a folder")
    source = given_format(options)
    settings = _settings(options, source, out)
    inputs = _inputs(options, source)
    if not options.overwrite and is_up_to_date(out, settings, inputs):
        record = read_construction(out)
        if not (out / REPORT_FILE).exists():
            write_construction_report(out, record)
        print(f"{out} is up to date: the same inputs and settings built it")
    else:
        record = _build(options, source, settings, inputs, out)
    chosen = {"samples": record.result.samples, "frames": record.result.frames, "repeated": record.repeated}
    print(json.dumps({"folder": str(out), **chosen, "dropped": record.dropped}))
    return 0


def _build(
    options: argparse.Namespace,
    source: Format,
    settings: ConstructionSettings,
    inputs: Sequence[InputFile],
    out: Path,
) -> Construction:
    kept_out = [(role, path, frames_of(path, format_)) for role, (path, format_) in _left_out(options)]
    faults = Faults(options.strict)
    samples = tuple(source.read(faults, _made_images(out), 0))
    if not samples:
        raise DataError(f"{file_of(source, options)} holds no usable question{first_note(faults)}")
    by_id = {sample.id: sample for sample in samples}
    scores = [read_scores(name, folder, by_id, settings.repeats or K) for name, folder in _scores(options)]
    made = _choose(settings, samples, scores, kept_out)
    for role, path, frames in kept_out:
        _refuse_shared_images(made, role, path, frames)
    (out / CONSTRUCTION_FILE).unlink(missing_ok=True)  # until all of it is new, the folder holds no finished build
    write_jsonl(out / SAMPLES_FILE, made.samples)
    record = account(settings, inputs, samples, faults, made, scores, kept_out, sha256_of(out / SAMPLES_FILE))
    write_construction_report(out, record)
    write_construction(out, record)
    show_notes(Console(stderr=True), faults, options.faults)
    for note in _notes(record):
        print(f"note: {note}", file=sys.stderr)
    print(made.summary)
    if record.scores:
        print(f"scored by {_scorer(record)}")
    return record


def _choose(
    settings: ConstructionSettings,
    samples: Sequence[DrivingSample],
    scores: Sequence[ModelScores],
    kept_out: Sequence[tuple[str, Path, NamedFrames]],
) -> Constructed:
    table = {one.name: one.scores for one in scores}
    excluded = {frame for role, _, frames in kept_out if role == "--exclude" for frame in frames.ids}
    trained = {frame for role, _, frames in kept_out if role == "--training" for frame in frames.ids}
    draw, questions, seed = settings.frames or 0, settings.questions, settings.seed or 0
    repeats = settings.repeats or K
    if settings.which == "unfiltered":
        return unfiltered_set(samples, excluded, seed=seed, frames=draw, questions=questions)
    assert settings.band is not None
    if settings.which == "hard":
        return hard_set(
            samples,
            table,
            settings.models,
            trained,
            band=settings.band,
            benchmark_frames=excluded,
            answers_per_model=repeats,
        )
    return training_set(
        samples,
        table,
        settings.models[0],
        excluded,
        seed=seed,
        band=settings.band,
        frames=draw,
        questions=questions,
        rarest=settings.rarest or 0.0,
        answers_per_model=repeats,
    )


def _add_difficulty(parser: argparse.ArgumentParser, band: tuple[float, float]) -> None:
    parser.add_argument(
        "--scores",
        type=_named_folder,
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="a model, and the folder that evaluate.py left of its answers to SAMPLES; once for each model",
    )
    parser.add_argument(
        "--band", type=float, nargs=2, default=band, metavar=("LOW", "HIGH"), help="of D, ends included"
    )
    parser.add_argument("--repeats", type=int, default=K, help="answers to a question, of each model")


def _named_folder(text: str) -> NamedFolder:
    name, equals, folder = text.partition("=")
    if not (name.strip() and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name.strip(), Path(folder)


def _frames_file(text: str) -> FramesFile:
    name, equals, file = text.partition("=")
    return (Path(file), name) if equals and (name in FORMATS or ":" in name) else (Path(text), None)


def _left_out(options: argparse.Namespace) -> list[tuple[str, FramesFile]]:
    """The files whose frames are kept out, each with the option that names it."""
    training = [("--training", options.training)] if options.which == "hard" else []
    return [*(("--exclude", file) for file in options.exclude), *training]


def _scores(options: argparse.Namespace) -> list[NamedFolder]:
    """The models and their folders, as given.

    Raises:
        DataError: a name is given twice, or a set that one model decides has several.
    """
    given: list[NamedFolder] = [] if options.which == "unfiltered" else options.scores
    twice = [name for name, count in Counter(name for name, _ in given).items() if count > 1]
    if twice:
        raise DataError(f"--scores names {twice[0]} twice: give every model a name of its own")
    if options.which == "training" and len(given) > 1:
        raise DataError("build training is decided by one model: give --scores once")
    return given


def _made_images(out: Path) -> Path:
    """Where images are that the format makes."""
    return out.parent / f"{out.name}-images"


def _settings(options: argparse.Namespace, source: Format, out: Path) -> ConstructionSettings:
    """What was asked for.

    Raises:
        DataError: a value does not fit; the option is named.
    """
    given = vars(options)
    own = given_settings(options)
    file = source.files().get("annotations", _made_images(out))
    root = getattr(own, "image_root", None) or (file.parent if file.is_file() else file)
    reader = own.model_dump(mode="json", exclude=set(path_options(type(own))), exclude_defaults=True)
    try:
        return ConstructionSettings(
            which=options.which,
            format=options.source,
            reader=reader | ({"strict": True} if options.strict else {}),
            images=Path(os.path.relpath(root.resolve(), out)).as_posix(),
            models=tuple(name for name, _ in _scores(options)),
            band=given.get("band"),
            frames=given.get("draw"),
            questions=given.get("asked"),
            rarest=given.get("rarest"),
            repeats=given.get("repeats"),
            seed=given.get("seed"),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"--{first['loc'][0]}: {first['msg']}, got {first['input']}") from None


def _inputs(options: argparse.Namespace, source: Format) -> tuple[InputFile, ...]:
    """Every file that the set depends on; images are known by their paths alone.

    Raises:
        DataError: one cannot be read, or some models were scored by others than the rest.
    """
    files: list[tuple[str, Path]] = [
        ("SAMPLES" if name == "annotations" else f"--{name.replace('_', '-')}", path)
        for name, path in source.files().items()
    ]
    judges = {name: judge_of(read_results(folder)) for name, folder in _scores(options)}
    if judges:
        scored_by(judges)
    files += [(f"--scores {name}", folder / ANSWERS_FILE) for name, folder in _scores(options)]
    files += [(role, path) for role, (path, _) in _left_out(options)]
    return tuple(InputFile(role=role, name=path.name, sha256=sha256_of(path)) for role, path in files)


def _refuse_shared_images(made: Constructed, role: str, path: Path, frames: NamedFrames) -> None:
    """One moment under two frame ids would be on both sides."""
    for sample in made.chosen:
        shared = next((image for image in sample.images.values() if image in frames.images), None)
        if shared is not None:
            raise DataError(
                f"frame {sample.frame_id} shows {shared}, which {role} {path} shows under another frame id: "
                f"give one moment one frame_id in both files"
            )


def _scorer(record: Construction) -> str:
    return scored_by({one.name: one.judge for one in record.scores})


def _notes(record: Construction) -> list[str]:
    """What one should know before the set is used."""
    settings, found = record.settings, record.chosen
    notes = []
    if settings.which != "hard" and not any(one.role == "--exclude" for one in record.left_out):
        notes.append("no --exclude: frames of a benchmark, such as DriveBench's, may be trained on")
    if record.scores and _scorer(record) == BY_RULES:
        notes.append("no judge scored the answers: D is by rules, which is not the paper's D")
    notes += [
        f"{one.role} {one.name} names {one.frames} frames, none of which the samples have"
        for one in record.left_out
        if not one.met
    ]
    if settings.frames is not None and found.frames < settings.frames:
        notes.append(f"{settings.frames:,} frames were asked for, {found.frames:,} were left")
    if settings.questions is not None and found.samples < settings.questions:
        notes.append(f"{settings.questions:,} questions were asked for, {found.samples:,} were left")
    notes += [
        f"{one.name}: {one.answers - sum(one.failures.values()):,} of {one.answers:,} answers have a score"
        for one in record.scores
        if one.failures
    ]
    return notes
