"""Ray sessions: started here and taken down again without a trace, or joined, with errors that name the field."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.errors import SessionError
from cluster.session import session
from recipe import Recipe

pytestmark = pytest.mark.slow


class Witness:
    """Imports a module of this project and prints, as every actor may."""

    def tell(self) -> tuple[str, str | None]:
        import recipe

        print("the last words of an actor", flush=True)
        return recipe.__file__, os.environ.get("HF_HUB_OFFLINE")


@pytest.fixture
def short_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose path is short enough for Ray, in a process that no cluster claims."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder:
        yield Path(folder)


def recipe(**parts: Any) -> Recipe:
    return Recipe(**({"run": {"name": "r"}} | parts))


def test_ray_starts_here_knows_the_house_and_leaves_only_the_logs_of_a_failed_run(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "r").mkdir()
    wanted = recipe(run={"name": "r", "root": str(tmp_path)}, cluster={"temp_dir": str(short_folder)})

    def fail() -> None:
        with session(wanted):
            file, offline = ray.get(ray.remote(Witness).remote().tell.remote(), timeout=600)
            assert (Path(file), offline) == (Path(__file__).parents[2] / "recipe.py", "1")
            assert [child.name.startswith("adrl-") for child in short_folder.iterdir()] == [True]
            raise ValueError("the run fails")

    with pytest.raises(ValueError, match="the run fails") as caught:
        fail()
    assert not ray.is_initialized()
    assert list(short_folder.iterdir()) == []
    kept = tmp_path / "r" / "actor_logs"
    assert any("the last words of an actor" in log.read_text() for log in kept.iterdir())
    assert caught.value.__notes__ == [f"what the actors printed is kept in {kept}"]


def test_a_temp_folder_too_long_for_rays_sockets_is_refused(short_folder: Path) -> None:
    deep = short_folder / ("x" * 60)
    with (
        pytest.raises(SessionError, match="is too long for Ray's socket names"),
        session(recipe(cluster={"temp_dir": str(deep)})),
    ):
        pass
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at 127.0.0.1:1 \(cluster.address, RAY_ADDRESS\)"),
        ("127.0.0.1:head", "no Ray cluster answers at 127.0.0.1:head"),
        ("http://127.0.0.1:8265", "the job server's http:// address is for `ray job submit` alone"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_named(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, sentence: str
) -> None:
    with pytest.raises(SessionError, match=sentence), session(recipe(cluster={"address": address})):
        pass
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(SessionError, match=sentence), session(recipe()):
        pass
