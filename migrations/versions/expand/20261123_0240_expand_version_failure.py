"""A version's failure is one value, `failure`, beside the two columns that it replaces.

Phase: expand. The column is nullable and no old statement names it. While release 0.2.0 still writes the old columns alone, a
trigger copies what it writes, so that no reader of the new one sees yesterday's failure.

Revision: c3e8a2570b16
Revises: b2c91d64f0a3
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "c3e8a2570b16"
down_revision: str | Sequence[str] | None = "b2c91d64f0a3"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "document_versions", sa.Column("failure", JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True)
    )
    # Only where the old columns change and the new one does not: what a newer release writes is left as it is.
    op.execute("""
        create function copy_version_failure() returns trigger language plpgsql as $$
        begin
          if (new.error_code, new.error_message) is distinct from (old.error_code, old.error_message)
             and new.failure is not distinct from old.failure then
            new.failure := case when new.error_code is not null
              then jsonb_build_object('code', new.error_code, 'message', coalesce(new.error_message, '')) end;
          end if;
          return new;
        end $$
    """)
    op.execute("""
        create trigger copy_version_failure before update of error_code, error_message on document_versions
        for each row execute function copy_version_failure()
    """)


def downgrade() -> None:
    op.execute("drop trigger copy_version_failure on document_versions")
    op.execute("drop function copy_version_failure()")
    op.drop_column("document_versions", "failure")
