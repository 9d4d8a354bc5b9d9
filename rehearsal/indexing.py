"""A revision that builds an index concurrently, as docs/howto has it, in a copy of a release."""

import shutil
from pathlib import Path

from rehearsal.releases import Release
from rehearsal.unsafe import heads

MIGRATION = '''"""An index of titles.

Phase: expand. Planted by the rehearsal; built concurrently, so nobody waits.

Revision: {revision}
Revises: {below}
"""

from alembic import op

revision = "{revision}"
down_revision = "{below}"
branch_labels = None
depends_on = {beside!r}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_documents_planted", postgresql_concurrently=True, if_exists=True)
        op.create_index("ix_documents_planted", "documents", ["title"], postgresql_concurrently=True, if_not_exists=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_documents_planted", postgresql_concurrently=True, if_exists=True)
'''


def plant_index(release: Release, tree: Path) -> Path:
    shutil.copytree(release.tree, tree)
    head, beside = heads(release)
    text = MIGRATION.format(revision="f00dfeed0002", below=head, beside=beside)
    place = tree / "migrations" / "versions" / "expand" / "20990101_0000_expand_planted_index.py"
    place.write_text(text, encoding="utf-8")
    return tree
