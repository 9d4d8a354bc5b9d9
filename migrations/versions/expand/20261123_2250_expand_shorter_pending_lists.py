"""GIN's pending lists end at 1 MB instead of 4: every search of words reads what waits there, and its pages stay in the index.

Phase: expand. A setting of indexes; what is in the lists now is merged as before.

Revision: a9d3f7162c58
Revises: e5b7d0c94a28
"""

from collections.abc import Sequence

from alembic import op

revision: str = "a9d3f7162c58"
down_revision: str | Sequence[str] | None = "e5b7d0c94a28"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

LISTS = ("ix_chunk_terms_terms", "ix_documents_attributes", "ix_documents_tags")


def upgrade() -> None:
    for name in LISTS:
        op.execute(f"alter index {name} set (gin_pending_list_limit = 1024)")


def downgrade() -> None:
    for name in LISTS:
        op.execute(f"alter index {name} reset (gin_pending_list_limit)")
