"""Words that wait in a GIN index's pending list slow every search down until somebody merges them: the worker may, now.

Phase: expand. A function that no older release calls. Only the owner of an index may merge its list.

Revision: e5b7d0c94a28
Revises: c3e8a2570b16
"""

from collections.abc import Sequence

from alembic import op

revision: str = "e5b7d0c94a28"
down_revision: str | Sequence[str] | None = "c3e8a2570b16"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # An index that is being built, or was left behind invalid, has no list to merge.
    op.execute("""
        create function merge_pending() returns bigint
        language sql volatile security definer set search_path = public, pg_temp
        return (
          select coalesce(sum(gin_clean_pending_list(i.indexrelid::regclass)), 0)::bigint
          from pg_index i
          join pg_class c on c.oid = i.indexrelid
          join pg_am a on a.oid = c.relam
          where a.amname = 'gin' and i.indisvalid and c.relnamespace = 'public'::regnamespace
        )
    """)
    op.execute("revoke execute on function merge_pending() from public")
    op.execute("grant execute on function merge_pending() to hybrid_application")


def downgrade() -> None:
    op.execute("drop function merge_pending()")
