"""Serve: `python -m serve.app` the training service, `python -m serve.app runs/<name>` a run's policy; until Ctrl-C.

The training service reads `recipes/service.yaml`, or the recipe that is named. The key that every request to a policy
must carry is taken from the environment variable that `serve.key_variable` names.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import ray
from ray import serve
from ray.serve import RunTarget
from ray.serve.schema import ApplicationStatus

from cluster.session import session
from commands.script import command
from recipe import Recipe, load_recipe
from serve.assembly import check_service_recipe, database_of
from serve.errors import ServeError
from serve.front import front, serves_at
from serve.operations.listening import LOOPBACK, check_port
from serve.operations.parent import keep_running
from serve.policy import application, read_key
from serve.settings import ServeSettings

SERVICE_RECIPE = "recipes/service.yaml"
POLL_S = 0.2
CONTROLLER = "SERVE_CONTROLLER_ACTOR"
HEAD_MARK = "node:__internal_head__"
"""Names that Ray gives to Serve's controller and to a resource of the head node."""


@contextmanager
def policy_endpoint(run_folder: Path, recipe: Recipe, key: str) -> Iterator[str]:
    """Serve `<run_folder>/policy` inside the block, on the connected Ray cluster; yields the base URL of the API.

    Raises:
        ServeError: the folder holds no policy, the port is taken, the cluster already serves something, or the
            endpoint did not come up in `rollout.start_timeout_s`.
        ExtensionError: the recipe's engine or its options are unknown.
    """
    policy = (run_folder / "policy").resolve()
    if not (policy / "config.json").is_file():
        raise ServeError(f"{policy} holds no policy (no config.json): name the folder of a run that has ended")
    settings = recipe.serve
    _refuse_second_endpoint()
    if _on_head_node():
        check_port(settings.host, settings.port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": serves_at(settings), "port": settings.port})
        target = RunTarget(application(policy, recipe, key))
        serve.run_many([target], wait_for_applications_running=False)
        _wait_until_running(recipe.rollout.start_timeout_s)
        if _on_head_node():
            _wait_until_answered(settings, recipe.rollout.start_timeout_s)
        yield f"http://{settings.host}:{settings.port}/v1"
    finally:
        serve.shutdown()


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C or SIGTERM; returns the exit status."""
    purpose = (
        "Serve the training service, or the policy of a finished run at an OpenAI-compatible address, until Ctrl-C."
    )
    parser = argparse.ArgumentParser(prog="python -m serve.app", description=purpose)
    parser.add_argument("what", nargs="?", help=f"a run's folder, or a service's recipe ({SERVICE_RECIPE} by default)")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value", help="such as serve.port=8001")
    options = parser.parse_intermixed_args(arguments)
    if options.what is None or "=" in options.what or options.what.endswith((".yaml", ".yml")):
        try:
            return _serve_training([one for one in (options.what, *options.overrides) if one is not None])
        except ServeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    run_folder = Path(options.what)
    if not (run_folder / "recipe.yaml").is_file():
        print(f"error: {run_folder} is not the folder of a run: it has no recipe.yaml", file=sys.stderr)
        return 2
    try:
        recipe = load_recipe([str(run_folder / "recipe.yaml"), *options.overrides])
        key = read_key(recipe, os.environ)
    except ServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        with session(recipe, variables=partial(front, settings=recipe.serve)):
            _end_by_signal()
            with policy_endpoint(run_folder, recipe, key) as url, suppress(KeyboardInterrupt):
                key_from = f"key: ${recipe.serve.key_variable}"
                print(f"serving {recipe.run.name} at {url} ({key_from}); Ctrl-C ends it", flush=True)
                while True:
                    time.sleep(3600.0)
    except ServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _serve_training(given: list[str]) -> int:
    """Run the training service in a process of its own, which is started again when it dies; the exit status."""
    named = given and given[0].endswith((".yaml", ".yml"))
    arguments = given if named else [SERVICE_RECIPE, *given]
    recipe = load_recipe(arguments)
    check_service_recipe(recipe)
    database_of(recipe, os.environ).upgrade()
    if not recipe.cluster.address and not os.environ.get("RAY_ADDRESS"):
        check_port(recipe.serve.host, recipe.serve.port)
    overrides = "".join(f" --set {one}" for one in arguments[1:])
    print(f"make a key: python -m serve.manage --recipe {arguments[0]}{overrides} key --tenant NAME", flush=True)
    return keep_running([sys.executable, "-m", "serve.server", *arguments])


def _wait_until_running(timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        application = serve.status().applications["default"]
        if application.status == ApplicationStatus.RUNNING:
            return
        said = application.message or ", ".join(d.message for d in application.deployments.values() if d.message)
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            raise ServeError(f"the endpoint failed to start: {said}")
        if time.monotonic() > deadline:
            raise ServeError(f"the endpoint did not start within {timeout_s:g} s (rollout.start_timeout_s): {said}")
        time.sleep(POLL_S)


def _wait_until_answered(settings: ServeSettings, timeout_s: float) -> None:
    """Wait until what listens for clients has learnt of the replica."""
    host = {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(settings.host, settings.host)
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"http://{host}:{settings.port}/healthz", timeout=10.0).status_code == 200:
                return
        if time.monotonic() > deadline:
            raise ServeError(
                f"nothing answers at {host}:{settings.port} within {timeout_s:g} s (rollout.start_timeout_s)"
            )
        time.sleep(POLL_S)


def _refuse_second_endpoint() -> None:
    """Ray Serve has one address per cluster and deletes other applications, so ours must be the first."""
    if any(actor["name"] == CONTROLLER for actor in ray.util.list_named_actors(all_namespaces=True)):
        raise ServeError("Ray Serve already runs on this cluster: end it (`serve shutdown`), or use another cluster")


def _on_head_node() -> bool:
    """Whether this process runs where the HTTP proxy will listen."""
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and HEAD_MARK in node["Resources"] for node in ray.nodes())


def _end_by_signal() -> None:
    """From here on SIGTERM, which Ray has taken over, ends what runs as Ctrl-C does, while it starts too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    command(main)
