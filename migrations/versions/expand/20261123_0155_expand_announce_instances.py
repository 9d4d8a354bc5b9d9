"""Instances announce their release, backfills keep their place, migrations that ran are listed.

Phase: expand. Old code knows none of the new tables; a column more at the end of a view changes no statement that names its own.

Revision: a31f5c0e7d42
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "a31f5c0e7d42"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = ("expand",)
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "instances",
        sa.Column("id", sa.Uuid(), sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_instances_uuid7"))),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('api', 'worker')", name=op.f("ck_instances_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
    )
    op.create_table(
        "release_floor",
        sa.Column("single", sa.Boolean(), sa.CheckConstraint("single", name=op.f("ck_release_floor_single"))),
        sa.Column("release", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("single", name=op.f("pk_release_floor")),
    )
    op.create_table(
        "applied_migrations",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_applied_migrations")),
    )
    op.create_table(
        "backfills",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("passes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("looked_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_backfills")),
    )
    op.execute("insert into applied_migrations (revision) values ('0001')")
    op.execute("grant select, insert, update, delete on instances to hybrid_application")
    op.execute("grant select on release_floor, applied_migrations, backfills to hybrid_application")
    op.execute(
        "create or replace view search_documents as select id, collection_id, external_id, indexed_version, chunk_count,"
        " title, source, tags, published_at, language, attributes, version, created_at, updated_at from documents"
    )


def downgrade() -> None:
    op.execute("drop view search_documents")
    op.execute(
        "create view search_documents as select id, collection_id, external_id, indexed_version, chunk_count, title,"
        " source, tags, published_at, language, attributes from documents"
    )
    op.execute("grant select on search_documents to hybrid_searcher")
    for name in ("backfills", "applied_migrations", "release_floor", "instances"):
        op.drop_table(name)
