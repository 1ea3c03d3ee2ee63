"""The pages: who is signed in, sets of answers that people rate, and an index of the runs' samples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002_jobs"

TABLES = (
    "indexed_files",
    "run_samples",
    "rating_images",
    "rating_sets",
    "rating_annotators",
    "rating_items",
    "rating_ratings",
    "page_sessions",
)
"""In the order in which they are made."""


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.create_index("keys_by_age", ["tenant_id", "created_at", "digest"], unique=False)
    for make in (_samples, _sets, _ratings, _sessions):
        make()


def downgrade() -> None:
    """Go back."""
    for table in reversed(TABLES):
        op.drop_table(table)
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.drop_index("keys_by_age")


def _samples() -> None:
    op.create_table(
        "indexed_files",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("run", sa.String(length=255), nullable=False),
        sa.Column("step", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stamp", sa.String(length=60), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("run", "step"),
    )

    op.create_table(
        "run_samples",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("run", sa.String(length=255), nullable=False),
        sa.Column("step", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("row", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    with op.batch_alter_table("run_samples", schema=None) as batch_op:
        batch_op.create_index("run_samples_by_step", ["run", "step"], unique=False)
        batch_op.create_index("run_samples_by_task", ["run", "task", "value", "number"], unique=False)
        batch_op.create_index("run_samples_by_value", ["run", "value", "number"], unique=False)


def _sets() -> None:
    op.create_table(
        "rating_images",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=40), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )

    op.create_table(
        "rating_sets",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rubrics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
        ),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
    )
    with op.batch_alter_table("rating_sets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rating_sets_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "rating_annotators",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("set_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_number"],
            ["rating_sets.number"],
        ),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("set_number", "name"),
    )
    with op.batch_alter_table("rating_annotators", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rating_annotators_set_number"), ["set_number"], unique=False)


def _ratings() -> None:
    op.create_table(
        "rating_items",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("set_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("rubric", sa.String(length=200), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_number"],
            ["rating_sets.number"],
        ),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("set_number", "name"),
    )
    with op.batch_alter_table("rating_items", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rating_items_set_number"), ["set_number"], unique=False)

    op.create_table(
        "rating_ratings",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("item_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("annotator_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("revision", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("points", sa.JSON(), nullable=False),
        sa.Column("shown_at", sa.Float(), nullable=True),
        sa.Column("rated_at", sa.Float(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["annotator_number"],
            ["rating_annotators.number"],
        ),
        sa.ForeignKeyConstraint(
            ["item_number"],
            ["rating_items.number"],
        ),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("annotator_number", "place"),
        sa.UniqueConstraint("item_number", "annotator_number"),
    )


def _sessions() -> None:
    op.create_table(
        "page_sessions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("key_digest", sa.String(length=64), nullable=True),
        sa.Column("annotator_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["annotator_number"],
            ["rating_annotators.number"],
        ),
        sa.ForeignKeyConstraint(
            ["key_digest"],
            ["keys.digest"],
        ),
        sa.PrimaryKeyConstraint("digest"),
    )
    with op.batch_alter_table("page_sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_page_sessions_annotator_number"), ["annotator_number"], unique=False)
        batch_op.create_index(batch_op.f("ix_page_sessions_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_page_sessions_key_digest"), ["key_digest"], unique=False)
