"""The service's database, SQLite and PostgreSQL alike: migrations, the lease, a whole loop, backup and restore."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tinker
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from tinker import types

from benchmarks.stub_service import running, service_recipe, tiny_base
from serve.database.connection import Database, DatabaseError
from serve.database.tables import Base, Model, Request, Weights
from serve.operations.backup import BackupError, back_up, restore
from serve.operations.lease import LeaseHolder, LeaseLost
from serve.operations.metrics import ServiceMetrics
from serve.settings import TrainingServiceSettings
from serve.training.collection import Collector
from serve.training.places import Places
from tests.integration.postgres import postgres

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgres() as url:
        until = time.monotonic() + 30.0
        while True:
            try:
                Database(url).check()
                break
            except OperationalError:
                assert time.monotonic() < until
                time.sleep(0.2)
        yield url


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/service.db"
    found: str = request.getfixturevalue("cluster")
    with Database(found).engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    return found


def test_the_migrations_make_the_tables_that_the_code_expects(url: str) -> None:
    database = Database(url)
    database.upgrade()
    database.upgrade()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.close()


def test_a_database_of_a_newer_version_is_refused_by_name(url: str) -> None:
    database = Database(url)
    database.upgrade()
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="is of a newer version"):
        database.upgrade()
    database.close()


def test_only_who_holds_the_lease_may_write(url: str) -> None:
    database = Database(url)
    database.upgrade()
    first, second = LeaseHolder(database, 0.3), LeaseHolder(database, 30.0)
    assert first.take() is None
    assert second.take() == first.holder
    first.renew()
    time.sleep(0.4)  # it stopped answering
    assert second.take() is None
    with pytest.raises(LeaseLost, match="another server took over"):
        first.renew()
    second.release()
    assert first.take() is None
    database.close()


def datum() -> types.Datum:
    inputs: dict[str, Any] = {"target_tokens": [41, 42], "weights": [0.0, 1.0]}
    return types.Datum(model_input=types.ModelInput.from_ints([40, 41]), loss_fn_inputs=inputs)


def loss(policy: Any) -> float:
    return float(policy.forward([datum()], "cross_entropy").result().metrics["loss:sum"])


def test_a_loop_goes_on_after_backup_and_restore_into_another_kind_of_database(
    url: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = service_recipe(tmp_path / "first", base)
    monkeypatch.setenv("AUTODRIVERL_DATABASE", url)
    with running(recipe) as served:
        assert served.database.kind == url.partition(":")[0]
        key = served.key()
        policy = tinker.ServiceClient(base_url=served.url, api_key=key).create_lora_training_client(
            base_model=served.service.base, rank=4
        ).result()  # fmt: skip
        for _ in range(2):
            policy.forward_backward([datum()], "cross_entropy").result()
            policy.optim_step(types.AdamParams(learning_rate=0.1)).result()
        saved = policy.save_state("two").result().path
    backup = tmp_path / "backup"
    rows, files = back_up(Database(url), Path(recipe.run.folder), backup)
    assert rows > 5
    assert files >= 2
    with pytest.raises(BackupError, match="exists: name a folder that does not"):
        back_up(Database(url), Path(recipe.run.folder), backup)
    moved = service_recipe(tmp_path / "second", base)
    other = f"sqlite:///{tmp_path}/moved.db"
    target = Database(other)
    target.upgrade()
    assert restore(backup, target, Path(moved.run.folder)) == (rows, files)
    with pytest.raises(BackupError, match="is not empty"):
        restore(backup, target, Path(moved.run.folder))
    target.close()
    monkeypatch.setenv("AUTODRIVERL_DATABASE", other)
    with running(moved) as served:
        service = tinker.ServiceClient(base_url=served.url, api_key=key)
        again = service.create_training_client_from_state(saved).result()
        assert loss(again) == pytest.approx(0.8)


def test_what_is_old_is_collected_and_what_a_model_needs_is_not(
    url: str, base: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    recipe = service_recipe(tmp_path / "run", base, snapshot_steps=100)
    monkeypatch.setenv("AUTODRIVERL_DATABASE", url)
    with running(recipe) as served:
        service = tinker.ServiceClient(base_url=served.url, api_key=served.key())
        policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
        policy.forward_backward([datum()], "cross_entropy").result()
        policy.optim_step(types.AdamParams(learning_rate=0.1)).result()
        policy.save_state("kept", ttl_seconds=3600).result()
        database, metrics = served.database, ServiceMetrics()
        places = Places(recipe.run.folder)
        with database.writing() as session:
            session.execute(Weights.__table__.update().values(expires_at=1.0))  # type: ignore[attr-defined]
            session.execute(Request.__table__.update().values(ended_at=1.0))  # type: ignore[attr-defined]
        counts = Collector(database, places, TrainingServiceSettings(), metrics).collect()
        assert counts["weights"] == 1
        assert list(places.weights.iterdir()) == []
        with database.reading() as session:
            kept = session.scalar(
                select(func.count()).select_from(Request).where(Request.body.is_not(None), Request.learns)
            )
            model = session.scalars(select(Model)).one()
        assert (kept, model.snapshot) == (2, -1)
        served.service.training.forget(model.number)
        assert loss(policy) == pytest.approx(0.9)
