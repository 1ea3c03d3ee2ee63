"""Alembic's entry: runs the migrations of `versions/` over the connection that `Database.upgrade` hands it."""

from __future__ import annotations

from alembic import context

from serve.database.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
