"""Administer a training service: `python -m serve.manage key|revoke|model|audit|pages|rate|collect|...`.

    python -m serve.manage key --tenant perception --name laptop [--scopes train,sample,read] [--quota models=4]

Works on the database directly, whether a server runs or not, except for `restore`, which needs an empty one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import uvicorn
from pydantic import ValidationError
from sqlalchemy import select

from actors.supervision.settling import settle
from commands.script import command
from evaluation.run_record import ADAPTER_FOLDER, POLICY_FOLDER, RECIPE_FILE
from recipe import Recipe, RecipeError, load_recipe
from serve.assembly import database_of
from serve.database.connection import Database, DatabaseError
from serve.database.tables import AuditEntry, Tenant, Weights
from serve.errors import ServeError, ServiceError
from serve.jobs.results import Found, add_weights, copied
from serve.operations.backup import BackupError, back_up, restore
from serve.operations.listening import check_port
from serve.operations.metrics import ServiceMetrics
from serve.pages.application import pages_alone
from serve.rating.command import add_rating_commands
from serve.tenants.audit import record
from serve.tenants.keys import SCOPES, make_key, revoke_keys
from serve.tenants.quotas import Quotas
from serve.training.collection import Collector
from serve.training.places import Places, remove

DEFAULT_RECIPE = "recipes/service.yaml"


def main(arguments: list[str]) -> int:
    """Do what a command line asks for; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        recipe = load_recipe([options.recipe, *options.set])
        database = database_of(recipe, os.environ)
        database.upgrade()
        done: int = options.do(options, recipe, database)
    except (RecipeError, DatabaseError, BackupError, ServeError, ServiceError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.manage", description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help=f"the service's recipe ({DEFAULT_RECIPE})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="part.key=value", help="an override, as often as needed"
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    key = commands.add_parser("key", help="make a key; it is printed once and kept nowhere")
    key.add_argument("--tenant", required=True, help="who it belongs to; a new name makes a new tenant")
    key.add_argument("--name", default="key", help="what the audit log calls it")
    key.add_argument("--scopes", default=",".join(SCOPES), help=f"of {', '.join(SCOPES)}")
    key.add_argument("--days", type=float, help="until it expires; left out: never")
    key.add_argument(
        "--quota", action="append", default=[], metavar="name=number", help=f"of {', '.join(Quotas.model_fields)}"
    )
    key.set_defaults(do=_key)
    gone = commands.add_parser("revoke", help="end a tenant's keys of one name")
    gone.add_argument("--tenant", required=True)
    gone.add_argument("--name", required=True)
    gone.set_defaults(do=_revoke)
    model = commands.add_parser("model", help="let a tenant talk to the adapter of a finished run of the same base")
    model.add_argument("run", type=Path, help="the run's folder")
    model.add_argument("--tenant", required=True)
    model.add_argument("--name", required=True, help="what the tenant calls it")
    model.set_defaults(do=_model)
    audit = commands.add_parser("audit", help="print the audit log, newest last")
    audit.add_argument("--last", type=int, default=50)
    audit.set_defaults(do=_audit)
    commands.add_parser("collect", help="remove what need not be kept").set_defaults(do=_collect)
    for name, do, about in (
        ("backup", _backup, "write database and checkpoints to a new folder"),
        ("restore", _restore, "read a backup into an empty database and folder"),
    ):
        sub = commands.add_parser(name, help=about)
        sub.add_argument("folder", type=Path)
        sub.set_defaults(do=do)
    shown = commands.add_parser("pages", help="serve the pages and the scoring website alone, until Ctrl-C")
    shown.set_defaults(do=_pages)
    add_rating_commands(commands)
    return parser


def _pages(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    host, port = recipe.serve.host, recipe.serve.port
    check_port(host, port)
    print(f"pages at http://{host}:{port}/pages; Ctrl-C ends them", flush=True)
    alone = pages_alone(database, recipe.run.folder, recipe.serve)
    settle()
    uvicorn.run(alone, host=host, port=port, log_level="error", lifespan="off", access_log=False)
    return 0


def _key(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    quotas = None
    if options.quota:
        given = dict(one.partition("=")[::2] for one in options.quota)
        try:
            quotas = Quotas.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"--quota {first['loc'][0]}: {first['msg']}") from None
    key = make_key(database, options.tenant, options.name, options.scopes.split(","), options.days, quotas)
    with database.writing() as session:
        record(session, "make_key", f"{options.tenant}/{options.name}", outcome=options.scopes)
    print(key)
    return 0


def _revoke(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    count = revoke_keys(database, options.tenant, options.name)
    if not count:
        raise ValueError(f"tenant {options.tenant!r} has no key named {options.name!r} that still works")
    with database.writing() as session:
        record(session, "revoke_key", f"{options.tenant}/{options.name}")
    print(f"{count} key(s) revoked; a running server refuses them within seconds")
    return 0


def _model(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    adapter, own = options.run / POLICY_FOLDER / ADAPTER_FOLDER, options.run / RECIPE_FILE
    if not adapter.is_dir() or not own.is_file():
        raise ValueError(f"{options.run} is no finished run with an adapter (no {POLICY_FOLDER}/{ADAPTER_FOLDER})")
    trained = load_recipe([str(own)]).policy
    if (trained.model, trained.revision) != (recipe.policy.model, recipe.policy.revision):
        raise ValueError(f"{options.run} trained {trained.model}, and the base here is {recipe.policy.model}")
    kept = copied(Found(0, adapter, final=True), Places(recipe.run.folder))
    if kept.rank > recipe.serve.training.max_rank:
        remove(kept.folder)
        raise ValueError(f"its rank {kept.rank} is above {recipe.serve.training.max_rank} (serve.training.max_rank)")
    with database.writing() as session:
        tenant = session.scalar(select(Tenant.id).where(Tenant.name == options.tenant))
        if tenant is None:
            raise ValueError(f"there is no tenant {options.tenant!r}: make a key first")
        if session.scalar(select(Weights.number).where(Weights.name == options.name)) is not None:
            raise ValueError(f"there is a model {options.name!r} already: take another name")
        add_weights(session, kept, tenant, options.run.resolve().name, options.name)
        record(session, "add_model", options.name, tenant_id=tenant)
    print(f"{options.tenant} can ask {options.name}")
    return 0


def _audit(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    with database.reading() as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(options.last)).all()
        for row in reversed(rows):
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.at))
            print(
                at,
                row.tenant_id or "-",
                row.key_name or "-",
                row.action,
                row.subject,
                row.outcome,
                row.request_id or "-",
            )
    return 0


def _collect(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    collector = Collector(database, Places(recipe.run.folder), recipe.serve.training, ServiceMetrics())
    print(", ".join(f"{name}: {count}" for name, count in collector.collect().items()))
    return 0


def _backup(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    rows, files = back_up(database, recipe.run.folder, options.folder)
    print(f"{rows} rows and {files} files are in {options.folder}")
    return 0


def _restore(options: argparse.Namespace, recipe: Recipe, database: Database) -> int:
    rows, files = restore(options.folder, database, recipe.run.folder)
    print(f"{rows} rows and {files} files were read from {options.folder}")
    return 0


if __name__ == "__main__":
    command(main)
