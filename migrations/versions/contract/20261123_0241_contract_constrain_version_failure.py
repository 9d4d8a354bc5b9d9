"""What failed says why in `failure`, from now on and for every new row.

Phase: contract. NOT VALID or not, the check refuses at once what release 0.2.0 would write without the trigger; hence the gate.

Revision: d4f09b183c27
Revises: 0001
"""

from collections.abc import Mapping, Sequence

from alembic import op

from service.db.gates import gate

revision: str = "d4f09b183c27"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = ("contract",)
depends_on: str | Sequence[str] | None = "c3e8a2570b16"

LINT_EXCEPTIONS: Mapping[str, str] = {
    "ban-drop-function": "only its own trigger calls it, which is dropped in the statement before",
}


def upgrade() -> None:
    gate(op, oldest_release="0.3.0", backfills=["version_failures"])
    op.execute("drop trigger copy_version_failure on document_versions")
    op.execute("drop function copy_version_failure()")
    # The next release writes `failure` alone, which the old check would refuse.
    op.drop_constraint(op.f("ck_document_versions_failed_with_error"), "document_versions", type_="check")
    op.create_check_constraint(
        op.f("ck_document_versions_failed_with_failure"),
        "document_versions",
        "(status = 'failed') = (failure is not null)",
        postgresql_not_valid=True,
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_document_versions_failed_with_failure"), "document_versions", type_="check")
    op.create_check_constraint(
        op.f("ck_document_versions_failed_with_error"),
        "document_versions",
        "(status = 'failed') = (error_code is not null)",
        postgresql_not_valid=True,
    )
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
