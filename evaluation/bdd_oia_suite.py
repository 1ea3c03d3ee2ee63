"""`evaluate.py bdd_oia`: F1 over actions and reasons from files. No torch, no ray."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from data.bdd_oia import ReasonOrder, read_labels
from data.bdd_oia_words import ACTIONS
from data.errors import DataError
from data.faults import CONFUSED, UNPAIRED, Faults, first_note
from evaluation.bdd_oia import Labels, score
from evaluation.file_scoring import add_predictions, merged, predictions_of, print_result
from evaluation.numbers import fixed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser, what="the frame's file_name")
    parser.add_argument("--actions", type=Path, required=True, help="BDD-OIA's *_actions.json")
    parser.add_argument("--reasons", type=Path, required=True, help="BDD-OIA's *_reasons.json")
    parser.add_argument(
        "--reason-order", choices=get_args(ReasonOrder), default="annotation", help="order of the 21 bits in the file"
    )


def run(options: argparse.Namespace) -> int:
    """Score; prints faults, a table and, last, one JSON object. The exit code.

    A frame without a reason, or without an action, is scored as the empty set that it is. Frames that confused the
    annotators are left out on both sides, also with `--strict`.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    faults, confused = Faults(options.strict), set[str]()
    truths: dict[str, Labels] = {}
    for name, actions, reasons in read_labels(options.actions, options.reasons, faults, options.reason_order):
        if len(ACTIONS) in actions:
            confused.add(name)
        elif reasons is None:
            faults.drop(UNPAIRED, name, f"{name} has actions, but no usable reasons")
        else:
            truths[name] = Labels(frozenset(ACTIONS[bit] for bit in actions), frozenset(reasons))
    if not truths:
        raise DataError(f"{options.actions} and {options.reasons} hold no usable frame{first_note(faults)}")
    predictions = predictions_of(options)
    texts = {id_: text for id_, text in predictions.texts.items() if id_ not in confused}
    result = score(texts, truths, strict=options.strict)
    rows = [
        (f"{what} {name}", fixed(value, 2))
        for what, scores in (("actions", result.actions), ("reasons", result.reasons))
        for name, value in (
            ("F1 all", scores.f1_all),
            ("mF1", scores.mf1),
            ("accuracy", scores.accuracy),
            ("exact match", scores.exact_match),
        )
    ]
    rows += [(f"outputs without a known {what}", f"{count:,}") for what, count in (
        ("action", result.no_known_action), ("reason", result.no_known_reason),
    )]  # fmt: skip
    rows.append(("frames left out: confused", f"{len(confused):,}"))
    print_result(result, rows, merged(predictions.faults), faults, **{CONFUSED: len(confused)})
    return 0
