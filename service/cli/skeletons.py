"""What `service migrate new` writes."""

from string import Template

COLUMN = Template("alter table $table add column $column $type")

EXPAND = Template('''"""Expand: $words.

Phase: expand. A nullable column more: the release that runs neither reads nor writes it.

The rule: expand is additive and runs while the old code serves. An index is built CONCURRENTLY, in a revision of its own;
a constraint belongs in contract, also with NOT VALID, because it binds every new row at once.

Revision: $expand
"""

from collections.abc import Sequence

from alembic import op

revision: str = "$expand"
down_revision: str | Sequence[str] | None = $expand_down
branch_labels: str | Sequence[str] | None = $expand_label
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # ACCESS EXCLUSIVE on $table, for an instant: no row is read or written. A default must be a constant or now().
    op.execute("alter table $table add column $column $type")


def downgrade() -> None:
    # ACCESS EXCLUSIVE on $table, for an instant.
    op.execute("alter table $table drop column $column")
''')

BACKFILL = Template('''"""Backfill: $words.

SQL that is frozen with the history. It runs in batches beside everything else, once every instance writes the column.
"""

from service.db.backfill import Backfill

BACKFILL = Backfill(
    name="$slug",
    table="$table",
    key=$key,
    missing="$column is null",
    assign={"$column": $value},  # A stand-in: say which value an old row gets, from its other columns.
    after="$expand",
    until="$contract",
)
''')

CONTRACT = Template('''"""Contract: $words.

Phase: contract. Every instance writes the column, and the backfill is finished: the gate asks both before anything changes.

The rule: a constraint is added NOT VALID, and validated in a transaction of its own. What the new column replaces is dropped
by a later contract migration, behind a gate that waits for the release that no longer reads it.

Revision: $contract
"""

from collections.abc import Sequence

from alembic import op

from service.db.gates import gate

revision: str = "$contract"
down_revision: str | Sequence[str] | None = $contract_down
branch_labels: str | Sequence[str] | None = $contract_label
depends_on: str | Sequence[str] | None = "$expand"


def upgrade() -> None:
    gate(op, oldest_release="$release", backfills=["$slug"])
    # ACCESS EXCLUSIVE on $table, for an instant: no row is read, and from now on a new one must comply.
    # IF EXISTS, because what comes after the first commit may have been interrupted, and everything runs again.
    op.execute("alter table $table drop constraint if exists $constraint")
    op.execute("alter table $table add constraint $constraint check ($column is not null) not valid")
    with op.get_context().autocommit_block():
        # SHARE UPDATE EXCLUSIVE on $table while the whole table is read: reads and writes go on.
        op.execute("set statement_timeout = 0")
        op.execute("alter table $table validate constraint $constraint")
        op.execute("set statement_timeout = '60s'")
    # ACCESS EXCLUSIVE on $table, for an instant each: the valid CHECK proves it, and no row is read.
    op.execute("alter table $table alter column $column set not null")
    op.execute("alter table $table drop constraint $constraint")


def downgrade() -> None:
    op.execute("alter table $table alter column $column drop not null")
''')
