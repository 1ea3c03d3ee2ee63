"""`python -m serve.manage rate new|list|link|export ...`: the scoring website's organiser without a browser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from data.errors import DataError
from evaluation.run_list import runs_in
from extension import nearest
from recipe import Recipe
from serve.database.connection import Database
from serve.database.page_tables import RatingSet
from serve.errors import ServiceError
from serve.rating.answers import drawn, from_lines, from_run
from serve.rating.export import check_whole, given_ratings, ratings_lines, scores_lines
from serve.rating.sets import DEFAULT_COUNT, make_set, new_link, standing
from serve.rating.sheet import OF_THE_TASK, ONE_SCORE
from serve.tenants.keys import tenant_named


def add_rating_commands(commands: Any) -> None:
    """Add `rate` to a command line."""
    rate = commands.add_parser("rate", help="sets of answers that people rate").add_subparsers(
        required=True, metavar="what"
    )
    new = rate.add_parser("new", help="make a set; its links are printed once and kept nowhere")
    new.add_argument("--tenant", required=True, help="whose it is; a new name makes a new tenant")
    new.add_argument("--name", required=True, help="for people")
    source = new.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", metavar="RUN[/EVALUATION]", help="a run below run.root")
    source.add_argument("--answers", type=Path, metavar="FILE", help="JSONL, one answer a line")
    new.add_argument("--annotators", required=True, help="three names or more, with commas between")
    new.add_argument("--count", type=int, default=DEFAULT_COUNT, help="answers drawn (%(default)s)")
    new.add_argument("--seed", type=int, default=0, help="of drawing and order (%(default)s)")
    new.add_argument(
        "--rubric", default=OF_THE_TASK, help=f"a rubric's name or file, {OF_THE_TASK!r} (each task's own) or "
        f"{ONE_SCORE!r} (one score from 0 to 100)",
    )  # fmt: skip
    new.add_argument("--url", help="where the pages are served, for the links (serve.host and serve.port)")
    new.set_defaults(do=_new)
    listed = rate.add_parser("list", help="the sets and how far they are")
    listed.set_defaults(do=_list)
    link = rate.add_parser("link", help="a new link for an annotator who lost theirs")
    link.add_argument("set_id", metavar="SET_ID", help="as `list` prints it")
    link.add_argument("annotator")
    link.add_argument("--url", help="as for new")
    link.set_defaults(do=_link)
    export = rate.add_parser("export", help="write ratings.jsonl and scores.jsonl for python -m evaluation.raters")
    export.add_argument("set_id", metavar="SET_ID", help="as `list` prints it")
    export.add_argument("folder", type=Path)
    export.add_argument("--partial", action="store_true", help="what there is, while ratings are missing")
    export.set_defaults(do=_export)


def _new(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    if options.answers is not None:
        try:
            text = options.answers.read_bytes()
        except OSError as error:
            raise DataError(f"{options.answers} cannot be read: {error.strerror}") from None
        answers, begin = from_lines(text, str(options.answers)), options.answers.resolve().parent
        source = f"the file {options.answers.name}"
    else:
        run, _, evaluation = options.run.partition("/")
        there = {folder.name: folder for folder in runs_in(recipe.run.folder.parent)}
        if run not in there:
            raise DataError(f"{recipe.run.folder.parent} holds no run {run} ({nearest(run, there)})")
        answers, begin = from_run(there[run], evaluation or None), there[run]
        source = f"the run {run}, {evaluation or 'its rollouts'}"
    if options.count < 1:
        raise ValueError("--count must be at least 1")
    with database.writing() as session:
        tenant_id = tenant_named(session, options.tenant).id
    made = make_set(
        database, tenant_id, options.name, drawn(answers, options.count, options.seed), options.annotators.split(","),
        seed=options.seed, rubric=options.rubric, source=source, paths_from=begin,
    )  # fmt: skip
    print(f"set {made.set_id}: {made.items} answers")
    for name, secret in made.secrets.items():
        print(f"{name}: {_address(options, recipe)}/rate/join/{secret}")
    return 0


def _list(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    with database.reading() as session:
        for found in session.scalars(select(RatingSet).order_by(RatingSet.number)):
            now = standing(session, found)
            rated = ", ".join(f"{name} {given} of {now.asked[name]}" for name, given in now.given.items())
            print(f"{found.id}  {found.name}  {now.items} answers  {rated}")
    return 0


def _link(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    with database.reading() as session:
        tenant_id = _named(session, options.set_id).tenant_id
    secret = new_link(database, tenant_id, options.set_id, options.annotator)
    print(f"{options.annotator}: {_address(options, recipe)}/rate/join/{secret}")
    return 0


def _export(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    with database.reading() as session:
        found = _named(session, options.set_id)
        if not options.partial:
            check_whole(session, found)
        texts = {
            "ratings.jsonl": ratings_lines(given_ratings(session, found)),
            "scores.jsonl": scores_lines(session, found),
        }
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (options.folder / name).write_text(text, encoding="utf-8")
    places = " ".join(str(options.folder / name) for name in texts)
    print(f"now: python -m evaluation.raters {places}")
    return 0


def _named(session: Session, set_id: str) -> RatingSet:
    found = session.scalar(select(RatingSet).where(RatingSet.id == set_id))
    if found is None:
        raise ServiceError(404, f"there is no set {set_id[:100]!r}: `rate list` prints them", "no_set")
    return found


def _address(options: argparse.Namespace, recipe: Recipe) -> str:
    return str(options.url or f"http://{recipe.serve.host}:{recipe.serve.port}").rstrip("/")
