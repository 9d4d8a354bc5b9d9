"""Every old row was looked at too: the check of `failure` is valid.

Phase: contract. In a transaction of its own, because it reads the whole table; reads and writes go on meanwhile.

Revision: e5a1b27c9d38
Revises: d4f09b183c27
"""

from collections.abc import Sequence

from alembic import op

from service.db.gates import gate

revision: str = "e5a1b27c9d38"
down_revision: str | Sequence[str] | None = "d4f09b183c27"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = "c3e8a2570b16"


def upgrade() -> None:
    gate(op, oldest_release="0.3.0")
    op.execute("set local statement_timeout = 0")  # It takes as long as the table is large, and nobody waits for it.
    op.execute("alter table document_versions validate constraint ck_document_versions_failed_with_failure")


def downgrade() -> None:
    """A valid check needs no way back."""
