"""${message}

Phase: expand | contract (keep one and say why it is safe).

The rule, which `service migrate lint` checks (`service migrate new "words"` writes all three parts of a change):
- expand is additive and runs while the old code serves: nullable columns, new tables, an index CONCURRENTLY in an
  autocommit block of a revision of its own. No constraint on what is there, also not NOT VALID: it binds new rows at once.
- backfill is a command, batched and resumable, never a migration.
- contract runs once no running release uses what it removes; it names the expand revision it `depends_on`, and the first
  line of its upgrade() is a gate of service.db.gates.

Revision: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
