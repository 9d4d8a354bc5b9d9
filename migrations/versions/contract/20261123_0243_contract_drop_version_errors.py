"""The two columns that `failure` replaced.

Phase: contract. Release 0.4.0 neither reads nor writes them; 0.3.0 still does, and so the gate is closed while one runs.

Revision: f6c2d80e1a49
Revises: e5a1b27c9d38
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.gates import gate

revision: str = "f6c2d80e1a49"
down_revision: str | Sequence[str] | None = "e5a1b27c9d38"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = "c3e8a2570b16"


def upgrade() -> None:
    gate(op, oldest_release="0.4.0")
    op.drop_column("document_versions", "error_message")
    op.drop_column("document_versions", "error_code")


def downgrade() -> None:
    """The columns come back empty: what they said stands in `failure`."""
    op.add_column("document_versions", sa.Column("error_code", sa.Text(), nullable=True))
    op.add_column("document_versions", sa.Column("error_message", sa.Text(), nullable=True))
