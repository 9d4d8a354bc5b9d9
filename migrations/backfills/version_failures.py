"""`document_versions.failure` of what failed before there was such a column."""

from service.db.backfill import Backfill

BACKFILL = Backfill(
    name="version_failures",
    table="document_versions",
    key=("document_id", "number"),
    missing="(status = 'failed') is distinct from (failure is not null)",
    assign={
        "failure": "case when status = 'failed'"
        " then jsonb_build_object('code', error_code, 'message', coalesce(error_message, '')) end"
    },
    after="c3e8a2570b16",
    until="d4f09b183c27",
)
