"""How fast the pages are when there is much to show: 10,000 keys, 100,000 samples, a set of 300 answers, all rated.

    python -m benchmarks.pages [--keys 10000] [--samples 100000] [--asked 50]

Every page is asked for over HTTP, on loopback, by one client, the first time and again; lists are asked for at their
beginning and far behind it. Prints one JSON line: the 99th percentile of each page in ms, the slowest of them, the same
in processor time of this process (server and client; it says more where others use the machine too), and the time in
which the samples were read in.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from sqlalchemy import insert, select, update

from actors.supervision.settling import settle
from benchmarks.loopback import on_loopback
from benchmarks.made_up_run import made_up_run
from serve.database.connection import Database
from serve.database.page_tables import Annotator, Rating, RatingItem
from serve.database.tables import Key
from serve.pages.application import pages_alone
from serve.pages.sample_index import SampleIndex
from serve.rating.answers import drawn, from_run
from serve.rating.sets import make_set
from serve.settings import ServeSettings
from serve.tenants.keys import make_key, tenant_named

ROWS_PER_STEP = 200
RUN = "grpo"
ANSWERS = 300
PEOPLE = ("ada", "bo", "cy")

COMPUTED_S = 600.0


def main(arguments: list[str]) -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--asked", type=int, default=50, help="times that each page is asked for (%(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(Path(folder), options.keys, options.samples, options.asked)))
    return 0


def measured(folder: Path, keys: int, samples: int, asked: int) -> dict[str, object]:
    """The figures, on a database of this size in a new folder."""
    root = folder / "runs"
    root.mkdir()
    made_up_run(root / RUN, scenes=8, steps=max(1, samples // ROWS_PER_STEP), rows_per_step=ROWS_PER_STEP)
    database = Database(f"sqlite:///{folder / 'service.db'}")
    database.upgrade()
    key = make_key(database, "lab", "laptop")
    _many_keys(database, keys)
    began = time.monotonic()
    SampleIndex(database).read_now(root / RUN)
    read_s = time.monotonic() - began
    set_id = _rated_set(database, root)
    settle()
    pages = pages_alone(database, root / "service", ServeSettings())
    with on_loopback(pages) as url, httpx.Client(base_url=url, timeout=60.0, follow_redirects=True) as client:
        page = client.get("/pages/sign-in").text
        token = re.search(r'name="token" value="(\w+)"', page)
        assert token is not None
        client.post("/pages/sign-in", data={"token": token[1], "key": key}).raise_for_status()
        paths = _paths(client, set_id)
        first = _p99s(client, paths["figures"], asked)  # while they are computed
        until = time.monotonic() + COMPUTED_S
        while "being computed" in client.get(paths["figures"]).text:
            if time.monotonic() > until:
                raise SystemExit(f"the figures of the set were not computed within {COMPUTED_S:g} s")
            time.sleep(0.2)
        figures = {"figures_at_first": first} | {name: _p99s(client, path, asked) for name, path in paths.items()}
    database.close()
    return {
        "keys": keys,
        "samples": samples,
        "asked": asked,
        "indexing_s": round(read_s, 1),
        "page_p99_ms": {name: wall for name, (wall, _) in figures.items()},
        "page_cpu_p99_ms": {name: cpu for name, (_, cpu) in figures.items()},
        "slowest_p99_ms": max(wall for wall, _ in figures.values()),
        "slowest_cpu_p99_ms": max(cpu for name, (_, cpu) in figures.items() if name != "figures_at_first"),
    }


def _paths(client: httpx.Client, set_id: str) -> dict[str, str]:
    """The pages by name; of lists a further page too."""
    paths = {
        "runs": "/pages/runs",
        "run": f"/pages/runs/{RUN}",
        "curves": f"/pages/runs/{RUN}/curves",
        "samples": f"/pages/runs/{RUN}/samples",
        "samples_far": f"/pages/runs/{RUN}/samples?after=70.0_1",
        "samples_of_a_task": f"/pages/runs/{RUN}/samples?task=planning",
        "samples_of_a_task_far": f"/pages/runs/{RUN}/samples?task=planning&after=70.0_1",
        "samples_masked": f"/pages/runs/{RUN}/samples?task=masked",
        "sample": f"/pages/runs/{RUN}/samples/777",
        "sample_image": f"/pages/runs/{RUN}/samples/777/images/0",
        "diff": f"/pages/runs/{RUN}/diff",
        "playground": f"/pages/playground?run={RUN}&sample=777",
        "models": "/pages/models",
        "files": "/pages/files",
        "keys": "/pages/keys",
        "sets": "/pages/rating",
        "set": f"/pages/rating/{set_id}",
        "figures": f"/pages/rating/{set_id}/figures",
        "disagreements": f"/pages/rating/{set_id}/disagreements",
        "ratings_export": f"/pages/rating/{set_id}/ratings.jsonl",
    }
    further = re.search(r'/pages/keys\?after=[^"]+', client.get("/pages/keys").text)
    if further is not None:
        paths["keys_far"] = further[0].replace("&#43;", "+")
    return paths


def _p99s(client: httpx.Client, path: str, asked: int) -> tuple[float, float]:
    """Of wall and of processor time, in ms."""
    wall, cpu = [], []
    for _ in range(asked):
        began, worked = time.perf_counter(), time.process_time()
        client.get(path).raise_for_status()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
    first, second = (round(float(np.percentile(seconds, 99)) * 1000, 1) for seconds in (wall, cpu))
    return first, second


def _many_keys(database: Database, count: int) -> None:
    with database.writing() as session:
        owner, now = tenant_named(session, "lab"), time.time()
        rows = [
            {"digest": f"{number:064d}", "tenant_id": owner.id, "name": f"key-{number}", "scopes": ["read"],
             "created_at": now - number, "expires_at": None, "revoked_at": None}
            for number in range(count)
        ]  # fmt: skip
        session.execute(insert(Key), rows)


def _rated_set(database: Database, root: Path) -> str:
    """A set that is rated whole."""
    with database.writing() as session:
        tenant_id = tenant_named(session, "lab").id
    answers = drawn(from_run(root / RUN, None), ANSWERS, seed=0)
    made = make_set(
        database, tenant_id, "Much", answers, PEOPLE, seed=0, rubric="score", source=RUN, paths_from=root
    )  # fmt: skip
    draw = random.Random(0)
    with database.writing() as session:
        for number in session.scalars(select(Rating.number).join(RatingItem).join(Annotator)).all():
            value = draw.randint(0, 100)
            given = {"value": value, "points": {"score": value}, "rated_at": time.time(), "seconds": 9.0, "revision": 1}
            session.execute(update(Rating).where(Rating.number == number).values(given))
    return made.set_id


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
