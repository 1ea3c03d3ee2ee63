"""The process that serves: Ray, learners, engines and the HTTP application on one machine, until a signal.

Started by `python -m serve.app`, which starts it again when it dies. SIGTERM drains it: what is under way ends, what
waits is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import uvicorn

from actors.supervision.settling import settle
from cluster.session import session
from commands.script import command
from recipe import load_recipe
from serve.application import make_application
from serve.assembly import assembled
from serve.operations.logs import tell, write_logs
from serve.operations.parent import die_with_parent
from serve.operations.patience import Patience
from serve.training.service import TrainingService

LOG_FILE = "service.log"


def main(arguments: list[str]) -> int:
    """Serve a recipe; the exit status."""
    die_with_parent(signal.SIGTERM)
    recipe = load_recipe(arguments)
    folder = Path(recipe.run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG_FILE).open("a", buffering=1) as file:
        write_logs(file)
        with session(recipe, dashboard=True):
            service = assembled(recipe)
            host, port = recipe.serve.host, recipe.serve.port
            application = make_application(service)
            config = uvicorn.Config(
                application, host=host, port=port, log_level="error", lifespan="off", access_log=False, http=Patience
            )
            asyncio.run(_serve(service, uvicorn.Server(config)))
    return 0


async def _serve(service: TrainingService, server: uvicorn.Server) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    await service.open()
    listening = asyncio.create_task(server.serve())
    for number in (signal.SIGINT, signal.SIGTERM):  # after uvicorn, which takes them too
        loop.add_signal_handler(number, ended.set)
    starting = asyncio.create_task(service.start())
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({listening, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        settle()
        server_address = f"http://{server.config.host}:{server.config.port}"
        print(f"serving {service.base_name} at {server_address}", flush=True)
        await asyncio.wait({listening, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if listening.done():
        listening.result()
        print(f"error: nothing listens at {server.config.host}:{server.config.port} any more", file=sys.stderr)
    tell("ending")
    await service.drain()
    server.should_exit = True
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(listening), 5.0)


if __name__ == "__main__":
    command(main)
