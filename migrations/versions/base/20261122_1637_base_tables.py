"""The tables, their row security, the searcher's views.

Phase: base, the state from which expand and contract branch off.

Revision: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import HALFVEC, SPARSEVEC
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# A sub-select becomes an InitPlan; nullif, because after one SET LOCAL the setting reads '' and not NULL.
CURRENT_TENANT = "(select nullif(current_setting('app.tenant_id', true), ''))::uuid"
IN_A_COLLECTION = "exists (select from collections c where c.id = collection_id)"
POLICIES = {
    "tenants": f"id = {CURRENT_TENANT}",
    "collections": f"tenant_id = {CURRENT_TENANT}",
    "documents": IN_A_COLLECTION,
    "document_versions": IN_A_COLLECTION,
    "chunks": IN_A_COLLECTION,
    "chunk_terms": IN_A_COLLECTION,
    "embeddings": IN_A_COLLECTION,
    "lexeme_frequencies": IN_A_COLLECTION,
}

FUNCTIONS = """
create function term_id(collection uuid, lexeme text) returns int
language sql immutable strict parallel safe
return ((('x' || left(md5(collection::text || lexeme), 8))::bit(32)::bigint) % 1000000000 + 1)::int;

-- What the index of a declared attribute holds of any document's value: a B-tree entry has at most 2,704 bytes, and the
-- index is shared by all collections, of which only the declaring ones refuse what is longer. Not strict, to be inlined.
create function indexed_value(value jsonb) returns jsonb
language sql immutable parallel safe
return case when jsonb_typeof(value) in ('string', 'number', 'boolean') and octet_length(value #>> '{}') <= 2000 then value end;

-- The one thing a request may ask before its tenant is known. Keys themselves can be read by nobody but the owner.
create function tenant_of_key(hash bytea) returns uuid
language sql stable security definer set search_path = public, pg_temp
return (select tenant_id from api_keys where key_hash = hash and revoked_at is null);
revoke execute on function tenant_of_key(bytea) from public;
grant execute on function tenant_of_key(bytea) to hybrid_application;
"""

# Who may write rows may not ANALYZE them, and owns nothing; MAINTAIN would also let it lock, cluster and rebuild. After a bulk
# load the planner knows nothing of the new rows until autovacuum comes by, and of a partitioned table as a whole never.
# Sorted, so that two workers do not wait for each other; what is locked is skipped, because somebody analyses it already.
ANALYZE = """
create function analyze_changed(share double precision, fewest int) returns text[]
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  stale text[];
  name text;
begin
  select array_agg(distinct coalesce(parent.relname, t.relname)::text order by coalesce(parent.relname, t.relname)::text)
  into stale
  from pg_stat_user_tables t
  left join pg_inherits i on i.inhrelid = t.relid
  left join pg_class parent on parent.oid = i.inhparent
  where t.schemaname = 'public'
    and coalesce(parent.relname, t.relname)
        in ('collections', 'documents', 'chunks', 'chunk_terms', 'embeddings', 'lexeme_frequencies')
    and t.n_mod_since_analyze > greatest(fewest, share * t.n_live_tup);
  foreach name in array coalesce(stale, '{}') loop
    execute format('analyze (skip_locked) %I', name);
  end loop;
  return coalesce(stale, '{}');
end $$
"""

# Inline vectors scan four to seven times faster than TOASTed ones; sparsevec and int[] may outgrow a page, so MAIN.
STORAGE = """
alter table embeddings alter embedding set storage plain;
alter table chunk_terms alter terms set storage main, alter bm25 set storage main;
alter table jobs set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.05);
"""

# Plain views of the owner, on purpose neither security_barrier nor security_invoker: the policy on `collections` is the gate,
# and every statement on them begins there (DESIGN, "Two doors to one database").
VIEWS = """
create view search_documents as select id, collection_id, external_id, indexed_version, chunk_count, title, source, tags,
  published_at, language, attributes from documents;
create view search_chunks as select id, document_id, ordinal, text, char_start, char_end, page from chunks;
create view search_terms as select chunk_id, collection_id, document_id, terms, bm25 from chunk_terms;
create view search_embeddings as select profile_id, chunk_id, collection_id, document_id, embedding from embeddings;
"""

GRANTS = """
grant select on tenants, embedding_profiles to hybrid_application;
grant select, insert, update, delete on collections, documents, document_versions, chunks, chunk_terms, embeddings,
  lexeme_frequencies, jobs to hybrid_application;
revoke execute on function analyze_changed(double precision, int) from public;
grant execute on function analyze_changed(double precision, int) to hybrid_application;
grant select on collections, lexeme_frequencies, search_documents, search_chunks, search_terms, search_embeddings
  to hybrid_searcher;
"""


def execute_all(script: str) -> None:
    """One statement a call: asyncpg prepares each, and a prepared statement is a single one."""
    for statement in script.split(";\n"):
        if statement.strip():
            op.execute(statement)


def upgrade() -> None:
    op.create_table(
        "embedding_profiles",
        sa.Column(
            "id",
            sa.Uuid(),
            sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_embedding_profiles_uuid7")),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding_profiles")),
        sa.UniqueConstraint("name", name=op.f("uq_embedding_profiles_name")),
    )
    op.create_table(
        "jobs",
        sa.Column(
            "id",
            sa.Uuid(),
            sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_jobs_uuid7")),
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("collection_id", sa.Uuid(), nullable=True),
        sa.Column("document_id", sa.Uuid(), nullable=True),
        sa.Column(
            "payload",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default="10", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('queued', 'running', 'dead')", name=op.f("ck_jobs_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_claim", "jobs", ["kind", "run_at", "id"], unique=False, postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index(op.f("ix_jobs_collection_id_state"), "jobs", ["collection_id", "state"], unique=False)
    op.create_index(op.f("ix_jobs_document_id"), "jobs", ["document_id"], unique=False)
    op.create_index(
        "ix_jobs_lease", "jobs", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "uq_jobs_dedupe_key", "jobs", ["dedupe_key"], unique=True, postgresql_where=sa.text("state = 'queued'")
    )
    op.create_table(
        "tenants",
        sa.Column(
            "id",
            sa.Uuid(),
            sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_tenants_uuid7")),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column(
            "id",
            sa.Uuid(),
            sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_api_keys_uuid7")),
            nullable=False,
        ),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "collections",
        sa.Column(
            "id",
            sa.Uuid(),
            sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_collections_uuid7")),
            nullable=False,
        ),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column(
            "attributes",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("profile_id", sa.Uuid(), nullable=False),
        sa.Column("chunk_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("average_length", sa.Double(), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["profile_id"], ["embedding_profiles.id"], name=op.f("fk_collections_profile_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_collections_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
    )
    op.create_index(
        "uq_collections_tenant_id_name",
        "collections",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "documents",
        sa.Column(
            "id",
            sa.Uuid(),
            sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_documents_uuid7")),
            nullable=False,
        ),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("indexed_version", sa.Integer(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column(
            "attributes",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("chunk_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["collections.id"], name=op.f("fk_documents_collection_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("collection_id", "external_id", name=op.f("uq_documents_collection_id_external_id")),
        sa.UniqueConstraint("collection_id", "id", name=op.f("uq_documents_collection_id_id")),
    )
    op.create_index(
        op.f("ix_documents_attributes"),
        "documents",
        ["attributes"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
    )
    op.create_index(
        op.f("ix_documents_collection_id_published_at"), "documents", ["collection_id", "published_at"], unique=False
    )
    op.create_index(op.f("ix_documents_tags"), "documents", ["tags"], unique=False, postgresql_using="gin")
    op.create_table(
        "lexeme_frequencies",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("term", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("df", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name=op.f("fk_lexeme_frequencies_collection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("collection_id", "term", name=op.f("pk_lexeme_frequencies")),
    )
    op.create_table(
        "chunks",
        sa.Column(
            "id",
            sa.Uuid(),
            sa.CheckConstraint("uuid_extract_version(id) = 7", name=op.f("ck_chunks_uuid7")),
            nullable=False,
        ),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("char_start", sa.Integer(), nullable=False),
        sa.Column("char_end", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["collection_id", "document_id"],
            ["documents.collection_id", "documents.id"],
            name=op.f("fk_chunks_collection_id_document_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
        sa.UniqueConstraint("document_id", "ordinal", name=op.f("uq_chunks_document_id_ordinal")),
    )
    op.create_table(
        "document_versions",
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column(
            "attributes",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("blob_key", sa.Text(), nullable=True),
        sa.Column("vector", HALFVEC(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'failed') = (error_code is not null)", name=op.f("ck_document_versions_failed_with_error")
        ),
        sa.CheckConstraint("status in ('pending', 'indexed', 'failed')", name=op.f("ck_document_versions_status")),
        sa.CheckConstraint("num_nonnulls(text, blob_key) = 1", name=op.f("ck_document_versions_one_body")),
        sa.ForeignKeyConstraint(
            ["collection_id", "document_id"],
            ["documents.collection_id", "documents.id"],
            name=op.f("fk_document_versions_collection_id_document_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_id", "number", name=op.f("pk_document_versions")),
    )
    op.create_index(
        "ix_document_versions_unfinished",
        "document_versions",
        ["collection_id", "status", "document_id"],
        unique=False,
        postgresql_where=sa.text("status <> 'indexed'"),
    )
    op.create_table(
        "chunk_terms",
        sa.Column("chunk_id", sa.Uuid(), nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("terms", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("bm25", SPARSEVEC(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], name=op.f("fk_chunk_terms_chunk_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chunk_id", name=op.f("pk_chunk_terms")),
    )
    op.create_index(op.f("ix_chunk_terms_collection_id_epoch"), "chunk_terms", ["collection_id", "epoch"], unique=False)
    op.create_index(op.f("ix_chunk_terms_document_id"), "chunk_terms", ["document_id"], unique=False)
    op.create_index(op.f("ix_chunk_terms_terms"), "chunk_terms", ["terms"], unique=False, postgresql_using="gin")
    op.create_table(
        "embeddings",
        sa.Column("chunk_id", sa.Uuid(), nullable=False),
        sa.Column("profile_id", sa.Uuid(), nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("embedding", HALFVEC(), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], name=op.f("fk_embeddings_chunk_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["profile_id"], ["embedding_profiles.id"], name=op.f("fk_embeddings_profile_id")),
        sa.PrimaryKeyConstraint("chunk_id", "profile_id", name=op.f("pk_embeddings")),
        postgresql_partition_by="LIST (profile_id)",
    )
    op.create_index(op.f("ix_embeddings_collection_id"), "embeddings", ["collection_id"], unique=False)
    op.create_index(op.f("ix_embeddings_document_id"), "embeddings", ["document_id"], unique=False)
    for script in (FUNCTIONS, STORAGE, VIEWS):
        execute_all(script)
    op.execute(ANALYZE)
    for table, condition in POLICIES.items():
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"create policy tenant on {table} using ({condition}) with check ({condition})")
    execute_all(GRANTS)


def downgrade() -> None:
    for view in ("search_embeddings", "search_terms", "search_chunks", "search_documents"):
        op.execute(f"drop view {view}")
    op.execute("drop function tenant_of_key(bytea)")
    op.drop_index(op.f("ix_embeddings_document_id"), table_name="embeddings")
    op.drop_index(op.f("ix_embeddings_collection_id"), table_name="embeddings")
    op.drop_table("embeddings")
    op.drop_index(op.f("ix_chunk_terms_terms"), table_name="chunk_terms", postgresql_using="gin")
    op.drop_index(op.f("ix_chunk_terms_document_id"), table_name="chunk_terms")
    op.drop_index(op.f("ix_chunk_terms_collection_id_epoch"), table_name="chunk_terms")
    op.drop_table("chunk_terms")
    op.drop_index(
        "ix_document_versions_unfinished",
        table_name="document_versions",
        postgresql_where=sa.text("status <> 'indexed'"),
    )
    op.drop_table("document_versions")
    op.drop_table("chunks")
    op.drop_table("lexeme_frequencies")
    op.drop_index(op.f("ix_documents_tags"), table_name="documents", postgresql_using="gin")
    op.drop_index(op.f("ix_documents_collection_id_published_at"), table_name="documents")
    op.drop_index(
        op.f("ix_documents_attributes"),
        table_name="documents",
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
    )
    op.drop_table("documents")
    op.drop_index(
        "uq_collections_tenant_id_name", table_name="collections", postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.drop_table("collections")
    op.drop_index(op.f("ix_api_keys_tenant_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("tenants")
    op.drop_index("uq_jobs_dedupe_key", table_name="jobs", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("ix_jobs_lease", table_name="jobs", postgresql_where=sa.text("state = 'running'"))
    op.drop_index(op.f("ix_jobs_document_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_collection_id_state"), table_name="jobs")
    op.drop_index("ix_jobs_claim", table_name="jobs", postgresql_where=sa.text("state = 'queued'"))
    op.drop_table("jobs")
    op.drop_table("embedding_profiles")
    op.execute("drop function analyze_changed(double precision, int)")
    op.execute("drop function indexed_value(jsonb)")
    op.execute("drop function term_id(uuid, text)")
